"""The report in a real Chromium, from disk: it fits, loads nothing and logs no error."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Browser

from hc_orchestration.reporting.report import render_report
from hc_orchestration.reporting.report_data import LabelSupport, ReportData
from hc_orchestration_tests.browser import browser
from hc_orchestration_tests.reporting.report_example import full_report

__all__ = ["browser"]
pytestmark = pytest.mark.integration
HOSTILE = "<img src=x onerror=alert(1)>"


def with_long_names() -> ReportData:
    data = full_report()
    renamed = tuple(replace(each, key=f"{each.key}-{'x' * 60}") for each in data.models)
    corpus = replace(data.corpus, gold=(*data.corpus.gold, LabelSupport("L" * 80, 3)))
    return replace(data, study=HOSTILE + "y" * 80, corpus=corpus, models=renamed)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("data", [full_report(), with_long_names()], ids=["usual", "long names"])
def test_page_fits_loads_nothing_and_logs_no_error(
    browser: Browser,
    tmp_path: Path,
    data: ReportData,
    width: int,
    scheme: Literal["light", "dark"],
) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_report(data), encoding="utf-8")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True
    )
    page = context.new_page()
    requests: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.on(
        "console",
        lambda message: complaints.append(message.text) if message.type == "error" else None,
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(file.as_uri())
    fits = page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
    styled = page.evaluate("getComputedStyle(document.body).marginTop")
    images = page.evaluate("document.images.length")
    context.close()
    assert fits
    assert styled == "0px"  # the policy let the page's own style in
    assert images == 0
    assert requests == [file.as_uri()]
    assert complaints == []


def test_dark_scheme_darkens_the_page(browser: Browser, tmp_path: Path) -> None:
    file = tmp_path / "report.html"
    file.write_text(render_report(full_report()), encoding="utf-8")
    colours = []
    for scheme in ("light", "dark"):
        page = browser.new_page(color_scheme=scheme)
        page.goto(file.as_uri())
        colours.append(page.evaluate("getComputedStyle(document.body).backgroundColor"))
        page.close()
    assert colours == ["rgb(247, 248, 249)", "rgb(18, 23, 27)"]
