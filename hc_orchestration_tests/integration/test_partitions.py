"""A backfill of four partitions at once, each a process, on a store that nobody has used yet.

What MLflow shows then is exact: one run a partition, its status, name, tags, params, and how many
points each metric has; on SQLite and on a server with login on PostgreSQL.
"""

import multiprocessing
import os
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.evaluation_view import evaluation_view
from hc_orchestration_tests.conftest import ABSENT, CATALOGUE, RULER, TERMS
from hc_orchestration_tests.integration import partition_run
from hc_orchestration_tests.integration.test_mlflow_projection import deployment

__all__ = ["deployment"]

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("mlflow_server")]

ADDED = "added-1.0"
MODELS = (TERMS, RULER, ADDED, ABSENT)
BOOKKEEPING = {"hc.kind", "hc.evaluation_id", "hc.rows", "hc.files", "mlflow.runName"}


@pytest.fixture
def unused(deployment: tuple[Settings, str]) -> tuple[Settings, str]:
    """Four models and a stored corpus; no experiment, and no database where that is a file."""
    settings, study = deployment
    entry = "  - {name: added, version: '1.0', loader: lexicon, source: {path: added.tsv}}\n"
    settings.catalogue.write_text(CATALOGUE + entry, encoding="utf-8")
    (settings.catalogue.parent / "added.tsv").write_text("DISEASE\tgout\n", encoding="utf-8")
    (settings.home / "mlflow.db").unlink()
    workspace = Workspace(settings)
    workspace.corpus.ingest(workspace.new_ingestion)
    with (
        dg.DagsterInstance.get()
    ):  # Dagster's own storage is there: somebody asked for the backfill
        return settings, study


def backfill() -> None:
    """Run the partitions at once."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([partition_run.__name__])
    processes = [
        context.Process(target=partition_run.run_partition, args=(dict(os.environ), key, "b1"))
        for key in MODELS
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * len(MODELS)


def all_runs(settings: Settings, study: str) -> list[Any]:
    """Every run of the study, deleted ones too."""
    from mlflow import MlflowClient
    from mlflow.entities import ViewType

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name(study)
    assert experiment
    return list(client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL))


def points(settings: Settings, run: Any) -> dict[str, int]:
    """How many points each metric of a run has."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    names = run.data.metrics
    return {name: len(client.get_metric_history(run.info.run_id, name)) for name in names}


def test_four_partitions_at_once_are_four_runs_that_share_nothing(
    unused: tuple[Settings, str],
) -> None:
    settings, study = unused
    backfill()

    runs = all_runs(settings, study)
    states = {run.info.run_name: (run.info.status, run.info.lifecycle_stage) for run in runs}
    assert len(runs) == len(MODELS)
    assert states == {
        **dict.fromkeys((TERMS, RULER, ADDED), ("FINISHED", "active")),
        ABSENT: ("FAILED", "active"),
    }
    assert {run.data.tags["dagster.backfill"] for run in runs} == {"b1"}
    assert len({run.data.tags["dagster_run_id"] for run in runs}) == len(MODELS)
    by_key = {run.data.tags["dagster.partition_key"]: run for run in runs}
    assert by_key[TERMS].data.metrics["strict.f1"] == pytest.approx(10 / 13)
    assert by_key[ADDED].data.metrics["strict.recall"] == pytest.approx(2 / 7)
    assert "strict.f1" not in by_key[RULER].data.metrics
    assert by_key[ABSENT].data.tags["error.class"] == "ModelNotInstalledError"
    for key in MODELS:
        _shows_its_record_exactly(settings, by_key[key], key)


def _shows_its_record_exactly(settings: Settings, run: Any, key: str) -> None:
    (record,) = Workspace(settings).records.of_model(key)
    wanted = evaluation_view(record, settings.dagster_url)
    assert run.data.params == wanted.params
    assert run.data.metrics == {
        **wanted.metrics,
        **{name: run.data.metrics[name] for name in run.data.metrics if name.startswith("doc_")},
    }
    assert wanted.tags.items() <= run.data.tags.items()
    left = set(run.data.tags) - set(wanted.tags) - BOOKKEEPING
    assert left - {"mlflow.user"} == ({"hc.per_note"} if wanted.per_note else set())
    by_step = dict.fromkeys(("doc_entity_count", "doc_text_length"), 6) if wanted.per_note else {}
    assert points(settings, run) == {**dict.fromkeys(wanted.metrics, 1), **by_step}
