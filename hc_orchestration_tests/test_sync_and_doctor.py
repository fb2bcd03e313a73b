"""`hc mlflow sync`, `hc doctor` and the sensor: what MLflow lacks is told once, and said."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import psutil
import pytest

from hc_orchestration.errors import TrackingError
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.sensors import mlflow_sync_sensor
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration_tests.calling import call_json
from hc_orchestration_tests.conftest import TERMS
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs

Run = Callable[..., dg.ExecuteInProcessResult]


@pytest.fixture
def untold(settings: Settings, run_job: Run) -> Settings:
    """A deployment with a corpus and an evaluation that went by while MLflow was away."""
    away = pytest.MonkeyPatch()

    def refuse(*_: object) -> None:
        message = "MLflow failed: it is away"
        raise TrackingError(message)

    away.setattr(MlflowProjection, "project", refuse)
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success
    away.undo()
    return settings


def untold_corpus(settings: Settings) -> str:
    """The id of the only corpus."""
    (record,) = Workspace(settings).materializations.all()
    return record.identity


def test_sync_tells_mlflow_once(untold: Settings) -> None:
    assert mlflow_runs(untold) == []
    (record,) = Workspace(untold).records.of_model(TERMS)

    code, told = call_json("mlflow", "sync")
    assert (code, told) == (
        0,
        {
            "projected": [untold_corpus(untold), record.evaluation_id],
            "current": 0,
            "failed": [],
            "promotions": {"projected": [], "failed": []},
        },
    )
    code, again = call_json("mlflow", "sync")
    assert (code, again["projected"], again["current"]) == (0, [], 2)
    for kind in ("corpus", "evaluation"):
        assert [run.info.status for run in mlflow_runs(untold, kind)] == ["FINISHED"]


def test_sync_while_mlflow_is_away_fails_and_says_of_what(
    untold: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        message = "MLflow failed: it is away"
        raise TrackingError(message)

    monkeypatch.setattr(MlflowProjection, "project", refuse)
    (record,) = Workspace(untold).records.of_model(TERMS)

    code, report = call_json("mlflow", "sync")

    assert code == 1
    reason = "MLflow failed: it is away"
    assert report["failed"] == [
        {"kind": "corpus", "corpus_id": untold_corpus(untold), "reason": reason},
        {"kind": "evaluation", "evaluation_id": record.evaluation_id, "reason": reason},
    ]


def test_doctor_names_what_mlflow_lacks_and_the_command_that_mends_it(untold: Settings) -> None:
    (record,) = Workspace(untold).records.of_model(TERMS)

    code, findings = call_json("doctor")
    assert code == 1
    assert [(f["subject"], f["remedy"]) for f in findings] == [
        (f"corpus {untold_corpus(untold)}", "hc mlflow sync"),
        (f"evaluation {record.evaluation_id} of {TERMS}", "hc mlflow sync"),
    ]
    call_json("mlflow", "sync")
    assert call_json("doctor") == (0, [])


def test_doctor_repairs_tracked_runs_of_dead_processes_only(settings: Settings) -> None:
    store = MlflowStore(settings.tracking_uri, settings.home, settings.mlflow_url)
    client = open_client(store)
    experiment = client.create_experiment("mine")
    living = ProcessIdentity.current()
    reused = ProcessIdentity(living.host, living.pid, living.started - 1000)
    elsewhere = ProcessIdentity("another-machine", living.pid, 1.0)
    runs = {
        name: client.create_run(
            experiment, tags={"hc.kind": "tracked", **process.as_tags()}
        ).info.run_id
        for name, process in (("living", living), ("dead", reused), ("elsewhere", elsewhere))
    }

    code, findings = call_json("doctor", "--repair")

    assert code == 0
    assert [(f["subject"], f["mended"]) for f in findings] == [(f"MLflow run {runs['dead']}", True)]
    assert {name: client.get_run(run).info.status for name, run in runs.items()} == {
        "living": "RUNNING",
        "dead": "KILLED",
        "elsewhere": "RUNNING",
    }


def test_doctor_says_when_mlflow_cannot_be_asked(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert settings.home.is_dir()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")

    code, findings = call_json("doctor")

    assert code == 1
    assert [f["subject"] for f in findings] == ["MLflow"]


def test_the_sensor_catches_up_and_then_has_nothing_to_do(untold: Settings) -> None:
    sensor = mlflow_sync_sensor(untold)

    with dg.build_sensor_context() as context:
        first = sensor(context)
        second = sensor(context)

    assert isinstance(first, dg.SkipReason)
    assert isinstance(second, dg.SkipReason)
    assert first.skip_message == "told MLflow of 2 records"
    assert second.skip_message == "MLflow shows every record"
    assert [run.info.status for run in mlflow_runs(untold)] == ["FINISHED"]


def test_a_process_is_known_by_its_start_not_only_by_its_number() -> None:
    living = ProcessIdentity.current()

    assert not living.gone
    assert ProcessIdentity(living.host, living.pid, living.started - 60).gone
    assert ProcessIdentity(living.host, 2**22 + 1, 0).gone
    assert not ProcessIdentity("another-machine", 2**22 + 1, 0).gone
    ended = subprocess.Popen([sys.executable, "-c", ""])
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    assert ProcessIdentity(living.host, ended.pid, 0).gone  # though it still has its number
    ended.wait()
    assert ProcessIdentity.from_tags({}) is None
    assert ProcessIdentity.from_tags({"hc.host": "h", "hc.pid": "7"}) == ProcessIdentity("h", 7, 0)


def test_a_refill_that_stopped_half_way_is_finished_by_the_next_one(untold: Settings) -> None:
    """The record says that MLflow has all; the run that is there says that it has not."""
    call_json("mlflow", "sync")
    (run,) = mlflow_runs(untold)
    client = open_client(MlflowStore(untold.tracking_uri, untold.home, untold.mlflow_url))
    client.delete_tag(run.info.run_id, "hc.rows")
    client.update_run(run.info.run_id, status="RUNNING")

    code, report = call_json("mlflow", "sync")

    assert code == 0
    assert len(report["projected"]) == 1
    assert [run.info.status for run in mlflow_runs(untold)] == ["FINISHED"]


def test_one_record_that_cannot_be_shown_does_not_keep_the_others(
    untold: Settings,
    run_job: Run,
) -> None:
    workspace = Workspace(untold)
    (record,) = workspace.records.of_model(TERMS)
    assert record.extraction
    shown = next(f for f in record.extraction.files if f.name == "entity_distribution.json")
    Path(workspace.files.location(shown)).unlink()
    (untold.catalogue.parent / "terms.tsv").write_text("DISEASE\tgout\n", encoding="utf-8")
    assert run_job("evaluate_model", TERMS).success

    code, report = call_json("mlflow", "sync")

    assert code == 1
    assert [failed["evaluation_id"] for failed in report["failed"]] == [record.evaluation_id]
    assert "no longer in the file store" in report["failed"][0]["reason"]
    assert report["current"] == 1
    assert len(report["projected"]) == 1
