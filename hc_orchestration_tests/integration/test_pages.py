"""Both pages of `hc ui` in a real Chromium: materialize by clicking, follow the link, compare."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest
from playwright.sync_api import Browser, Page, Response, expect

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.browser import PATIENCE_MS, browser
from hc_orchestration_tests.conftest import RULER, TERMS
from hc_orchestration_tests.integration.servers import answers, free_port
from hc_orchestration_tests.integration.team import eventually
from hc_orchestration_tests.integration.test_backfill import wait_until

__all__ = ["browser"]
pytestmark = pytest.mark.integration


@pytest.fixture
def pages(
    settings: Settings, run_job: Callable[..., dg.ExecuteInProcessResult]
) -> Iterator[tuple[str, str]]:
    """Addresses of the Dagster and MLflow pages; one model is evaluated already."""
    assert settings.home.is_dir()
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", RULER).success
    dagster_port, mlflow_port = free_port(), free_port()
    ports = ["--dagster-port", str(dagster_port), "--mlflow-port", str(mlflow_port)]
    process = subprocess.Popen(
        [str(Path(sys.executable).with_name("hc")), "ui", *ports],
        env={**os.environ},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(dagster_port) and answers(mlflow_port), 240, process)
        yield f"http://127.0.0.1:{dagster_port}", f"http://127.0.0.1:{mlflow_port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.fixture
def page(browser: Browser, tmp_path: Path) -> Iterator[Page]:
    """A page that keeps a picture of how it ended, and closes Dagster's greeting."""
    opened = browser.new_page(viewport={"width": 1500, "height": 950})
    opened.set_default_timeout(PATIENCE_MS)
    greeting = opened.get_by_text("Join the Dagster community")
    skip = opened.get_by_role("button", name="Skip")  # it may come behind a dialog, out of reach
    opened.add_locator_handler(greeting, lambda: skip.dispatch_event("click"))
    yield opened
    opened.screenshot(path=tmp_path / "end.png")
    opened.close()


def finished(settings: Settings) -> bool:
    """Whether the model was evaluated."""
    records = Workspace(settings).records.of_model(TERMS)
    return any(record.state is Status.FINISHED for record in records)


def launches(response: Response) -> bool:
    """Whether this is Dagster's answer to the request for runs."""
    return "/graphql" in response.url and "aunch" in (response.request.post_data or "")


def test_a_model_is_evaluated_by_clicking_and_compared_in_mlflow(
    settings: Settings, pages: tuple[str, str], page: Page, tmp_path: Path
) -> None:
    dagster, mlflow = pages

    page.goto(
        f"{dagster}/locations/hc_orchestration.definitions/jobs/evaluate_model",
        wait_until="domcontentloaded",
    )
    page.get_by_role("button", name="Materialize all").first.click()
    page.get_by_text("Select a partition or create one").click()
    page.locator("[role=menuitem],li,a").filter(has_text=TERMS).last.click()
    page.keyboard.press("Escape")
    page.screenshot(path=tmp_path / "launch.png")
    with page.expect_response(launches):  # the page must not be left before it was sent
        page.get_by_role("button", name="Launch 1 run").click()
    eventually(lambda: finished(settings), 600)  # an open page of a partition shows nothing new

    page.goto(
        f"{dagster}/assets/evaluation_metrics?view=partitions&partition={TERMS}",
        wait_until="domcontentloaded",
    )
    link = page.locator(f"a[href^='{mlflow}']").first
    expect(link).to_be_visible()
    expect(page.get_by_text("strict.f1", exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "metadata.png")
    address = str(link.get_attribute("href"))

    page.goto(address, wait_until="domcontentloaded")
    expect(page.get_by_text("healthcare.model_id").first).to_be_attached()
    expect(page.get_by_text("strict.f1", exact=True).first).to_be_attached()
    page.screenshot(path=tmp_path / "run.png")

    experiment = address.split("/experiments/")[1].split("/", maxsplit=1)[0]
    page.goto(f"{mlflow}/#/experiments/{experiment}/runs", wait_until="domcontentloaded")
    page.get_by_text(TERMS).first.wait_for()
    page.get_by_text(RULER).first.wait_for()
    page.get_by_label("Select all runs").click(force=True)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_text("Comparing 3 Runs from 1 Experiment")).to_be_visible()  # and corpus 1
    for key in (TERMS, RULER):
        expect(page.get_by_text(key, exact=True).first).to_be_attached()

    (record,) = Workspace(settings).records.of_model(TERMS)
    assert record.mlflow
    assert record.mlflow.run_id in address
