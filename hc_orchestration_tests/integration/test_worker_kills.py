"""Runs killed in each of their steps: nothing is half there, and the next goes on."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from hc_orchestration.doctor import examine
from hc_orchestration.settings import Settings
from hc_orchestration.storage.metrics import metrics_table
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, TERMS, write_notes
from hc_orchestration_tests.integration import stopped_run
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs

pytestmark = pytest.mark.integration

Run = Callable[..., dg.ExecuteInProcessResult]
UNDISTURBED = "undisturbed-1.0"
ENTRY = "  - {name: undisturbed, version: '1.0', loader: lexicon, source: {path: terms.tsv}}\n"
BATCH = 32
MORE = 3 * BATCH - len(NOTES)


@pytest.fixture
def batches(settings: Settings) -> Settings:
    """Three batches of notes, and one more model with the same terms."""
    more = [{"note_id": f"m{i}", "text": f"Asthma, visit {i}."} for i in range(MORE)]
    write_notes(settings.study.parent, [*NOTES, *more])
    settings.catalogue.write_text(CATALOGUE + ENTRY, encoding="utf-8")
    return settings


@pytest.fixture
def undisturbed(batches: Settings, run_job: Run) -> Settings:
    """The deployment after an evaluation of that model."""
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", UNDISTURBED).success
    return batches


def kill_at(place: str, reached: Path) -> None:
    """Begin a run in a process of its own and kill it when it has come to a place."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([stopped_run.__name__])
    process = context.Process(
        target=stopped_run.run_until, args=(dict(os.environ), TERMS, place, str(reached))
    )
    process.start()
    deadline = time.monotonic() + 120
    while not reached.exists():
        assert process.is_alive(), "the run ended before it came there"
        assert time.monotonic() < deadline, "the run did not come there"
        time.sleep(0.05)
    process.kill()
    process.join()


def left_by(workspace: Workspace, record: EvaluationRecord) -> tuple[int, bool, int, bool, int]:
    """Stored notes, and scores and Provenance each in its table and in the record."""
    scores = workspace.delta.scan(metrics_table(TERMS)).collect()
    notes = workspace.entities.version(TERMS)
    rows = 0 if notes is None else rows_of(workspace, TERMS).height
    return (
        rows,
        record.metrics is not None,
        scores.height,
        record.provenance is not None,
        len(workspace.records.heads(TERMS)),
    )


def rows_of(workspace: Workspace, key: str) -> pl.DataFrame:
    """Every row of a model, however often it stands there."""
    from hc_orchestration.storage.entities import entities_table

    rows = workspace.delta.scan(entities_table(key)).drop("model_fingerprint")
    return rows.sort("note_id").collect()


def scores_of(workspace: Workspace, key: str) -> pl.DataFrame:
    rows = workspace.delta.scan(metrics_table(key)).drop("evaluation_digest")
    return rows.sort(pl.all()).collect()


def test_runs_killed_in_every_step_leave_nothing_half_there(
    undisturbed: Settings, instance: dg.DagsterInstance, run_job: Run, tmp_path: Path
) -> None:
    """Each goes on where the one before it was killed; the last ends as if there had been none."""
    workspace = Workspace(undisturbed)
    for place, notes in (
        ("extraction", BATCH),
        ("metrics", 3 * BATCH),
        ("provenance", 3 * BATCH),
    ):
        kill_at(place, tmp_path / place)
        left = workspace.records.of_model(TERMS)[0]
        assert left.state is Status.RUNNING
        rows, has_metrics, scores, has_provenance, heads = left_by(workspace, left)
        assert rows == notes, place
        assert has_metrics == (place == "provenance") == (scores > 0), place
        assert (has_provenance, heads) == (False, 0), place

        assert any(finding.mended for finding in examine(undisturbed, repair=True))

        assert examine(undisturbed, repair=False) == []
        assert workspace.records.required(left.evaluation_id).state is Status.FAILED
    assert run_job("evaluate_model", TERMS).success

    finished, *closed = workspace.records.of_model(TERMS)
    (expected,) = workspace.records.of_model(UNDISTURBED)
    assert finished.state is Status.FINISHED
    extracted = [(r.extraction.reused, r.extraction.extracted) for r in closed if r.extraction]
    assert extracted == [(3 * BATCH, 0), (BATCH, 2 * BATCH)]  # only what was not stored, again
    assert finished.metrics
    assert expected.metrics
    assert finished.metrics.values == expected.metrics.values
    assert rows_of(workspace, TERMS).equals(rows_of(workspace, UNDISTURBED))
    assert scores_of(workspace, TERMS).equals(scores_of(workspace, UNDISTURBED))
    assert len(workspace.records.heads(TERMS)) == 1
    shown = [run.info.status for run in mlflow_runs(undisturbed) if run.info.run_name == TERMS]
    assert sorted(shown) == ["FAILED", "FAILED", "FAILED", "FINISHED"]
    assert all(run.is_finished for run in instance.get_runs())
    assert examine(undisturbed, repair=False) == []
