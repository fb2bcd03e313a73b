"""The processes of a team's deployment, and what a test asks them."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.integration import team_daemon, team_location
from hc_orchestration_tests.integration.servers import answers, free_port
from hc_orchestration_tests.integration.test_backfill import BACKFILL, CHAIN, STATUS, graphql

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
SELECTOR = {
    "repositoryLocationName": "hc_orchestration",
    "repositoryName": "__repository__",
}
SWITCH_ON = """
mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) {
    __typename ... on Sensor { sensorState { id } } ... on PythonError { message }
  }
}
"""
SWITCH_OFF = """
mutation($id: String!) { stopSensor(id: $id) { __typename ... on PythonError { message } } }
"""
RELOAD = """
mutation { reloadRepositoryLocation(repositoryLocationName: "hc_orchestration") { __typename } }
"""
RUNS = """
query { runsOrError { ... on Runs { results { pipelineName status tags { key value } } } } }
"""
OVER = {"SUCCESS", "FAILURE", "CANCELED"}
HELD = "held-1.0"
HELD_MODEL = """
import pathlib, time

HERE = pathlib.Path(__file__).parent

class Held:
    def extract(self, texts):
        (HERE / "extracting").touch()
        while (HERE / "hold").exists():
            time.sleep(0.05)
        places = [text.find("asthma") for text in texts]
        return [[(at, at + 6, "DISEASE")] if at >= 0 else [] for at in places]

def make(options):
    return Held()
"""


def eventually(what: Callable[[], Any], seconds: float = 600) -> Any:
    """The first true answer; asked ever more seldom, as whoever answers has other work to do."""
    deadline, pause = time.monotonic() + seconds, 0.1
    while not (found := what()):
        assert time.monotonic() < deadline, f"nothing came within {seconds} s"
        time.sleep(pause)
        pause = min(1.5 * pause, 3.0)
    return found


@dataclass
class Team:
    """The processes of one deployment, each in a process group of its own."""

    folder: Path
    environment: dict[str, str]
    web_port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    sensors: dict[str, str] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def start(self, name: str, *arguments: str) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )

    def await_port(self, name: str, port: int) -> None:
        eventually(lambda: answers(port) or self.processes[name].poll() is not None)
        assert answers(port), (self.folder / f"{name}.log").read_text("utf-8")[-2_000:]

    def kill(self, name: str) -> None:
        """As a power cut: the service and all that it began."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait()

    def start_code(self) -> None:
        port = self.environment["DAGSTER_CODE_PORT"]
        where = ("-h", "127.0.0.1", "-p", port, "-m", team_location.__name__)
        self.start("code", "dagster", "code-server", "start", *where)
        self.await_port("code", int(port))

    def start_daemon(self) -> None:
        self.start("daemon", team_daemon.__name__, "run", "-w", str(DEPLOY / "workspace.yaml"))

    def start_webserver(self) -> None:
        where = ("-h", "127.0.0.1", "-p", str(self.web_port))
        self.start("webserver", "dagster_webserver", *where, "-w", str(DEPLOY / "workspace.yaml"))

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        return graphql(self.web_port, query, variables)

    def switch_on(self, sensor: str) -> None:
        answer = self.ask(SWITCH_ON, selector={**SELECTOR, "sensorName": sensor})["startSensor"]
        assert answer["__typename"] == "Sensor", answer
        self.sensors[sensor] = answer["sensorState"]["id"]

    def switch_off(self, sensor: str) -> None:
        answer = self.ask(SWITCH_OFF, id=self.sensors.pop(sensor))["stopSensor"]
        assert answer["__typename"] == "StopSensorMutationResult", answer

    def runs(self, job: str) -> list[dict[str, Any]]:
        """Status and tags of every run of a job."""
        runs = self.ask(RUNS)["runsOrError"]["results"]
        return [
            {"status": run["status"], **{tag["key"]: tag["value"] for tag in run["tags"]}}
            for run in runs
            if run["pipelineName"] == job
        ]

    def statuses(self, job: str) -> list[str]:
        return [run["status"] for run in self.runs(job)]

    def backfill(self, *keys: str) -> str:
        params = {
            "assetSelection": [{"path": [name]} for name in CHAIN],
            "partitionNames": list(keys),
        }
        launched = self.ask(BACKFILL, params=params)["launchPartitionBackfill"]
        assert launched["__typename"] == "LaunchBackfillSuccess", launched
        return str(launched["backfillId"])

    def backfill_status(self, backfill: str) -> str:
        return str(self.ask(STATUS, id=backfill)["partitionBackfillOrError"]["status"])

    def await_success(self, *backfills: str) -> None:
        """Wait until the backfills are over, each with success."""

        def over() -> bool:
            statuses = {self.backfill_status(backfill) for backfill in backfills}
            assert statuses <= {"REQUESTED", "COMPLETED_SUCCESS"}, statuses
            return statuses == {"COMPLETED_SUCCESS"}

        eventually(over, 900)

    def runs_of(self, backfill: str) -> list[tuple[str, str]]:
        """Model and status of each run of a backfill."""
        runs = self.ask(RUNS)["runsOrError"]["results"]
        tagged = [({tag["key"]: tag["value"] for tag in r["tags"]}, r["status"]) for r in runs]
        return sorted(
            (tags["dagster/partition"], status)
            for tags, status in tagged
            if tags.get("dagster/backfill") == backfill
        )

    def records(self, key: str) -> list[EvaluationRecord]:
        return Workspace(self.settings).records.of_model(key)

    def mlflow_runs(self, key: str) -> list[Any]:
        """The MLflow runs of a model's evaluations."""
        from mlflow import MlflowClient

        with pytest.MonkeyPatch.context() as login:
            for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
                login.setenv(name, self.environment[name])
            client = MlflowClient(tracking_uri=self.environment["MLFLOW_TRACKING_URI"])
            experiment = client.get_experiment_by_name("test-study")
            assert experiment
            of_model = f"tags.`hc.kind` = 'evaluation' and tags.`hc.model` = '{key}'"
            return list(client.search_runs([experiment.experiment_id], of_model))

    def catalogue(self, models: str) -> None:
        """Write the catalogue, and ask the location to read it again."""
        self.settings.catalogue.write_text(models, encoding="utf-8")
        answer = self.ask(RELOAD)["reloadRepositoryLocation"]
        assert answer["__typename"] == "WorkspaceLocationEntry", answer

    @contextmanager
    def held(self) -> Iterator[Path]:
        """The held model has new files, and waits in its extraction.

        Gives the file that it makes when it is there.
        """
        folder = self.settings.catalogue.parent
        hold, extracting = folder / "hold", folder / "extracting"
        extracting.unlink(missing_ok=True)
        hold.touch()
        (folder / "held_model.py").write_text(f"# {time.time()}{HELD_MODEL}", encoding="utf-8")
        try:
            yield extracting
        finally:
            hold.unlink()
