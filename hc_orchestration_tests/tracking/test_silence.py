"""A server that accepts connections and never answers: it is tried once, then left alone."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import dagster as dg
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.errors import TrackingError, TrackingTimeoutError
from hc_orchestration.resources.workspace import mlflow_projection
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking import silence
from hc_orchestration.tracking.client import HTTP_DEFAULTS, MlflowStore, open_client
from hc_orchestration.tracking.config import MLFlowConfig
from hc_orchestration.tracking.sync import lacking, synchronize
from hc_orchestration.tracking.tracker import MLFlowTracker
from hc_orchestration_tests.conftest import TERMS

Run = Callable[..., dg.ExecuteInProcessResult]


class SilentServer:
    """Takes every connection, reads, and says nothing."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.uri = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.taken: list[socket.socket] = []
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        while True:
            try:
                self.taken.append(self._listening.accept()[0])
            except OSError:
                return

    def close(self) -> None:
        self._listening.close()
        for connection in self.taken:
            connection.close()


@pytest.fixture
def silent(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentServer]:
    """The tracking server of the deployment; a call to it ends after a second, without a retry."""
    assert settings.home.is_dir()
    server = SilentServer()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    yield server
    server.close()


def run_all(settings: Settings) -> list[dg.ExecuteInProcessResult]:
    """The three jobs, one after the other."""
    definitions = build_definitions(settings)
    quiet = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    jobs = (("refresh_corpus", None), ("evaluate_model", TERMS), ("compare_models", None))
    with dg.DagsterInstance.get() as instance:
        return [
            definitions.resolve_job_def(job).execute_in_process(
                instance=instance, partition_key=key, raise_on_error=False, run_config=quiet
            )
            for job, key in jobs
        ]


def test_corpus_evaluation_and_comparison_together_wait_for_one_call(
    settings: Settings, silent: SilentServer
) -> None:
    assert all(result.success for result in run_all(Settings.from_environment()))

    assert len(silent.taken) == 1
    workspace = Workspace(settings)
    (record,) = workspace.records.of_model(TERMS)
    assert record.state is Status.FINISHED
    assert [untold.kind for untold in lacking(workspace)] == ["corpus", "comparison", "evaluation"]

    projection = mlflow_projection(settings.tracking_uri, workspace)  # another store: it answers
    assert len(synchronize(workspace, projection, ask_mlflow=False).projected) == 3


def test_a_synchronisation_asks_at_once_and_gives_up_after_one_call(
    settings: Settings, silent: SilentServer
) -> None:
    workspace = Workspace(settings)
    projection = mlflow_projection(silent.uri, workspace)
    for _ in range(2):
        with pytest.raises(TrackingError):
            projection.rows_shown("e")
    assert len(silent.taken) == 1

    projection.ask_at_once()
    with pytest.raises(TrackingTimeoutError, match="MLFLOW_HTTP_REQUEST_TIMEOUT"):
        projection.rows_shown("e")
    with pytest.raises(TrackingError, match=r"left alone until .* UTC\. `hc mlflow sync`"):
        projection.rows_shown("e")
    assert len(silent.taken) == 2


def test_the_server_is_tried_again_after_the_pause(
    settings: Settings, silent: SilentServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    projection = mlflow_projection(silent.uri, Workspace(settings))
    monkeypatch.setattr(silence, "PAUSE_S", 0.0)
    for _ in range(2):
        with pytest.raises(TrackingTimeoutError):
            projection.rows_shown("e")

    assert len(silent.taken) == 2


def test_tracked_code_runs_on_after_one_call(silent: SilentServer) -> None:
    tracker = MLFlowTracker(MLFlowConfig(tracking_uri=silent.uri))
    for _ in range(3):
        with tracker.start_run() as run:
            run.log_metric("m", 1)

    assert len(silent.taken) == 1


def test_a_server_that_refuses_is_not_left_alone(settings: Settings) -> None:
    store = MlflowStore("http://127.0.0.1:9", settings.home, "")
    with pytest.raises(TrackingError) as refused, store.silence.heeded():
        raise TrackingError

    assert not isinstance(refused.value, TrackingTimeoutError)
    with store.silence.heeded():
        pass


def test_another_server_is_not_meant(settings: Settings) -> None:
    silent = MlflowStore("http://me:hunter2@a:1", settings.home, "")
    with pytest.raises(TrackingTimeoutError), silent.silence.heeded():
        raise TrackingTimeoutError

    with pytest.raises(TrackingError), replace(silent, tracking_uri="http://a:1").silence.heeded():
        pass
    with replace(silent, tracking_uri="http://b:1").silence.heeded():
        pass


def test_a_call_ends_after_thirty_seconds_unless_the_environment_says_otherwise(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in HTTP_DEFAULTS:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "5")

    open_client(MlflowStore(settings.tracking_uri, settings.home, ""))

    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "15"
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "5"
    assert (
        int(HTTP_DEFAULTS["MLFLOW_HTTP_REQUEST_TIMEOUT"])
        * (1 + int(HTTP_DEFAULTS["MLFLOW_HTTP_REQUEST_MAX_RETRIES"]))
        == 30
    )
