"""The comparison report, from stored evidence; note text only where the study allows it."""

from collections.abc import Callable
from typing import Any

import pytest

from hc_orchestration.resources.comparing import newest_report
from hc_orchestration.settings import Settings
from hc_orchestration_tests.conftest import NOTES, RULER, STUDY, TERMS

Run = Callable[..., Any]
HIDDEN = "privacy: {smallest_cell: 1}"
SHOWN = "privacy: {smallest_cell: 1, note_text_in_reports: true}"


@pytest.fixture
def report(settings: Settings, run_job: Run) -> Callable[[str], str]:
    """The report after both models were evaluated in a study with such a privacy section."""

    def made(privacy: str) -> str:
        settings.study.write_text(STUDY.replace(HIDDEN, privacy), encoding="utf-8")
        for job, key in (
            ("refresh_corpus", None),
            ("evaluate_model", TERMS),
            ("evaluate_model", RULER),
            ("compare_models", None),
        ):
            assert run_job(job, key).success
        return newest_report(settings).read_text(encoding="utf-8")

    return made


def test_report_tells_ranked_and_missing_models_and_no_note_text(
    report: Callable[[str], str],
) -> None:
    page = report(HIDDEN)

    assert page.index(TERMS) < page.index(RULER)
    assert "0.769" in page  # strict F1 of the term list: 2 · 5 / (7 + 6)
    assert "absent-1.0" in page
    assert not [note["note_id"] for note in NOTES if note["text"][:12] in page]


def test_report_marks_errors_in_context_where_the_study_allows_text(
    report: Callable[[str], str],
) -> None:
    assert "no gout" not in report(HIDDEN)
    page = report(SHOWN)
    assert "Long-standing" in page
    assert "asthma" in page
