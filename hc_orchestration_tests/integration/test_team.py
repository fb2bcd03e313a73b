"""A team's topology as processes: PostgreSQL, MLflow with login, S3, and Dagster in three parts.

Dagster is set up by `dagster.yaml` and `workspace.yaml` of deploy/, as `compose.yaml` does.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, RULER, STUDY, TERMS, write_notes
from hc_orchestration_tests.integration.servers import PASSWORD, USER, MlflowServer, free_port
from hc_orchestration_tests.integration.test_backfill import graphql

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("team")]

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
ADDED = "added-1.0"
ADDED_ENTRY = "  - {name: added, version: '1.0', loader: lexicon, source: {path: added.tsv}}\n"
SELECTOR = {
    "repositoryLocationName": "hc_orchestration",
    "repositoryName": "__repository__",
}
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""
SWITCH_ON = """
mutation($selector: SensorSelector!) {
  startSensor(sensorSelector: $selector) { __typename ... on PythonError { message } }
}
"""
RELOAD = """
mutation { reloadRepositoryLocation(repositoryLocationName: "hc_orchestration") { __typename } }
"""
RUNS = """
query { runsOrError { ... on Runs { results { pipelineName status tags { key value } } } } }
"""


def eventually(what: Callable[[], Any], seconds: float = 120) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, f"nothing came within {seconds} s"
        time.sleep(0.5)
    return found


def with_driver(uri: str) -> str:
    """The URI of a database with the driver that SQLAlchemy is to take."""
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Team:
    """The processes of one deployment, each in a process group of its own."""

    folder: Path
    environment: dict[str, str]
    web_port: int = field(default_factory=free_port)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def settings(self) -> Settings:
        return Settings.from_environment(self.environment)

    def start(self, name: str, *arguments: str, port: int | None = None) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.folder,
            )
        if port is not None:
            eventually(lambda: answers(port) or self.processes[name].poll() is not None)
            assert answers(port), (self.folder / f"{name}.log").read_text("utf-8")[-2_000:]

    def kill(self, name: str) -> None:
        """As a power cut: the service and all that it began."""
        os.killpg(self.processes[name].pid, signal.SIGKILL)
        self.processes.pop(name).wait()

    def start_code(self) -> None:
        port = self.environment["DAGSTER_CODE_PORT"]
        where = ("-h", "127.0.0.1", "-p", port, "-m", "hc_orchestration.definitions")
        self.start("code", "dagster", "code-server", "start", *where, port=int(port))

    def start_daemon(self) -> None:
        self.start("daemon", "hc_orchestration.daemon", "run", "-w", str(DEPLOY / "workspace.yaml"))

    def start_webserver(self) -> None:
        where = ("-h", "127.0.0.1", "-p", str(self.web_port))
        workspace = ("-w", str(DEPLOY / "workspace.yaml"))
        self.start("webserver", "dagster_webserver", *where, *workspace, port=self.web_port)

    def ask(self, query: str, **variables: Any) -> dict[str, Any]:
        return graphql(self.web_port, query, variables)

    def statuses(self, job: str) -> list[str]:
        runs = self.ask(RUNS)["runsOrError"]["results"]
        return [run["status"] for run in runs if run["pipelineName"] == job]

    def records(self, key: str) -> list[EvaluationRecord]:
        return Workspace(self.settings).records.of_model(key)

    def finished(self, key: str) -> bool:
        return any(record.state is Status.FINISHED for record in self.records(key))

    def add_model(self) -> None:
        """One more in the catalogue, which the location is asked to read again."""
        catalogue = self.settings.catalogue
        catalogue.write_text(CATALOGUE + ADDED_ENTRY, encoding="utf-8")
        answer = self.ask(RELOAD)["reloadRepositoryLocation"]
        assert answer["__typename"] == "WorkspaceLocationEntry", answer


@pytest.fixture(scope="module")
def s3() -> Iterator[None]:
    """An S3 store in a process of its own, with its address and keys in the environment."""
    port = free_port()
    patched = pytest.MonkeyPatch()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1",
    }.items():
        patched.setenv(name, value)
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    import boto3

    eventually(lambda: answers(port))
    boto3.client("s3").create_bucket(
        Bucket="hc-store", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}
    )
    yield
    process.kill()
    process.wait()
    patched.undo()


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], str]]:
    """Makes databases on a PostgreSQL of this module, and gives their URIs."""
    import pgserver

    server = pgserver.get_server(tmp_path_factory.mktemp("pg"), cleanup_mode="stop")

    def make(name: str) -> str:
        unique = f"{name}_{uuid.uuid4().hex[:8]}"
        server.psql(f"create database {unique};")
        return str(server.get_uri(unique))

    yield make
    server.cleanup()


@pytest.fixture(scope="module")
def team(
    tmp_path_factory: pytest.TempPathFactory,
    s3: None,
    databases: Callable[[str], str],
    rule_model: Path,
) -> Iterator[Team]:
    """All services, the sensors switched on."""
    del s3
    import shutil

    folder = tmp_path_factory.mktemp("team")
    data, dagster_home = folder / "data", folder / "home" / "dagster"
    data.mkdir()
    dagster_home.mkdir(parents=True)
    write_notes(data, NOTES)
    (data / "study.yaml").write_text(STUDY, encoding="utf-8")
    (data / "models.yaml").write_text(CATALOGUE, encoding="utf-8")
    (data / "terms.tsv").write_text("DISEASE\tasthma\nCHEMICAL\tmetformin\n", encoding="utf-8")
    (data / "added.tsv").write_text("DISEASE\tgout\n", encoding="utf-8")
    shutil.copytree(rule_model, data / "ruler")
    text = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")
    quick = text.replace("poll_interval_seconds: 30", "poll_interval_seconds: 2")
    (dagster_home / "dagster.yaml").write_text(quick, encoding="utf-8")
    mlflow = MlflowServer(
        tmp_path_factory.mktemp("mlflow"),
        with_driver(databases("mlflow")),
        artifacts="s3://hc-store/mlflow",
    )
    environment = {
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_POSTGRES_URL": with_driver(databases("dagster")),
        "DAGSTER_CODE_HOST": "127.0.0.1",
        "DAGSTER_CODE_PORT": str(free_port()),
        "HC_HOME": str(folder / "home"),
        "HC_STUDY": str(data / "study.yaml"),
        "HC_MODELS": str(data / "models.yaml"),
        "HC_STORAGE": "s3://hc-store/tables",
        "MLFLOW_TRACKING_URI": mlflow.uri,
        "MLFLOW_TRACKING_USERNAME": USER,
        "MLFLOW_TRACKING_PASSWORD": PASSWORD,
    }
    made = Team(folder, environment)
    try:
        mlflow.start()
        made.start_code()
        made.start_webserver()  # makes Dagster's schema before the daemon needs it
        made.start_daemon()
        for sensor in (
            "evaluate_after_corpus",
            "evaluate_new_models",
            "compare_after_evaluations",
        ):
            answer = made.ask(SWITCH_ON, selector={**SELECTOR, "sensorName": sensor})
            assert answer["startSensor"]["__typename"] == "Sensor", answer
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)
        mlflow.kill()


@pytest.fixture(scope="module")
def night(team: Team) -> Team:
    """The services after the first night."""
    params = {
        "selector": {**SELECTOR, "jobName": "refresh_corpus"},
        "executionMetadata": {"tags": [{"key": "hc.nightly", "value": "2026-01-02"}]},
    }
    launched = team.ask(LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    eventually(lambda: "SUCCESS" in team.statuses("compare_models"), 600)
    return team


def test_a_night_evaluates_every_present_model_and_compares_them(night: Team) -> None:
    for key in (TERMS, RULER):
        assert {record.state for record in night.records(key)} == {Status.FINISHED}
        assert all(record.projected for record in night.records(key))
    workspace = Workspace(night.settings)
    assert workspace.comparisons.latest().drop_nulls("rank").height == 2
    assert workspace.files.of_kind(".html")
    assert "hunter2" not in str(night.ask(RUNS))
    assert PASSWORD not in str(night.ask(RUNS))


def test_a_model_that_is_added_is_evaluated_once(night: Team) -> None:
    night.add_model()

    eventually(lambda: night.finished(ADDED), 600)

    assert len(night.records(ADDED)) == 1


def test_a_wrong_password_is_a_clear_failure_and_loses_nothing(night: Team) -> None:
    wrong = {**os.environ, **night.environment, "MLFLOW_TRACKING_PASSWORD": "not-the-password"}
    hc = str(Path(sys.executable).with_name("hc"))

    refused = subprocess.run(
        [hc, "mlflow", "sync", "--json"],
        env=wrong,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert refused.returncode == 1
    assert "Traceback" not in refused.stderr
    assert "not-the-password" not in refused.stdout + refused.stderr
    assert all(record.projected for record in night.records(TERMS))
