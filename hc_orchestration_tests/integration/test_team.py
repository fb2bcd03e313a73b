"""A team's topology as processes: PostgreSQL, MLflow with login, S3, and Dagster in three parts.

Dagster is set up by `dagster.yaml` and `workspace.yaml` of deploy/, as `compose.yaml` does, only
that its daemons and our sensors look more often.
"""

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.runs import make_dagster_stores
from hc_orchestration.storage.entities import entities_table
from hc_orchestration.storage.metrics import metrics_table
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, RULER, STUDY, TERMS, write_notes
from hc_orchestration_tests.integration.servers import (
    PASSWORD,
    USER,
    MlflowServer,
    ObjectStore,
    free_port,
)
from hc_orchestration_tests.integration.team import (
    DEPLOY,
    HELD,
    HELD_MODEL,
    OVER,
    RUNS,
    SELECTOR,
    Team,
    eventually,
)

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("team")]

ADDED, TWIN = "added-1.0", "twin-1.0"
ADDED_ENTRY = "  - {name: added, version: '1.0', loader: lexicon, source: {path: added.tsv}}\n"
LATER_ENTRIES = (
    ADDED_ENTRY
    + ADDED_ENTRY.replace("name: added", "name: twin")
    + """\
  - {name: held, version: '1.0', loader: 'held_model:make'}
"""
)
NIGHTLY = ("evaluate_after_corpus", "compare_after_evaluations")
QUICK = {
    "  poll_interval_seconds: 30": "  poll_interval_seconds: 5",
    "start_timeout_seconds: 180": "start_timeout_seconds: 60",
    "user_code_failure_retry_delay: 15": "user_code_failure_retry_delay: 2",
    "dequeue_interval_seconds: 2": "dequeue_interval_seconds: 1",
}
LAUNCH = """
mutation($params: ExecutionParams!) {
  launchPipelineExecution(executionParams: $params) {
    __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message }
  }
}
"""


def with_driver(uri: str) -> str:
    """The URI of a database with the driver that SQLAlchemy is to take."""
    return uri.replace("postgresql://", "postgresql+psycopg2://", 1)


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """An S3 store, with its address and keys in the environment."""
    with ObjectStore(tmp_path_factory.mktemp("s3"), "hc-store").in_environment():
        yield


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
    """All services."""
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
    (data / "held_model.py").write_text(HELD_MODEL, encoding="utf-8")
    text = (DEPLOY / "dagster.yaml").read_text(encoding="utf-8")
    for usual, quick in QUICK.items():
        assert usual in text, usual
        text = text.replace(usual, quick)
    (dagster_home / "dagster.yaml").write_text(text, encoding="utf-8")
    mlflow = MlflowServer(
        tmp_path_factory.mktemp("mlflow"),
        with_driver(databases("mlflow")),
        artifacts="s3://hc-store/mlflow",
    )
    environment = {
        "DAGSTER_HOME": str(dagster_home),
        "DAGSTER_POSTGRES_URL": with_driver(databases("dagster")),
        "DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS": "1",
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
        mlflow.launch()
        make_schema(environment)
        made.start_code()
        made.start_webserver()
        made.start_daemon()
        made.await_port("webserver", made.web_port)
        mlflow.await_health()
        yield made
    finally:
        for name in list(made.processes):
            made.kill(name)
        mlflow.kill()


def make_schema(environment: dict[str, str]) -> None:
    """Make Dagster's tables once, so that its three parts do not race to make them."""
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        make_dagster_stores()


@pytest.fixture(scope="module")
def night(team: Team) -> Team:
    """The services after the first night; no sensor begins work any more."""
    for sensor in NIGHTLY:
        team.switch_on(sensor)
    params = {
        "selector": {**SELECTOR, "jobName": "refresh_corpus"},
        "executionMetadata": {"tags": [{"key": "hc.nightly", "value": "2026-01-02"}]},
    }
    launched = team.ask(LAUNCH, params=params)["launchPipelineExecution"]
    assert launched["__typename"] == "LaunchRunSuccess", launched

    eventually(lambda: team.statuses("compare_models") == ["SUCCESS"], 600)
    for sensor in NIGHTLY:
        team.switch_off(sensor)
    return team


@pytest.fixture(scope="module")
def added(night: Team) -> Team:
    """One more model in the catalogue, which the sensor has had evaluated."""
    night.catalogue(CATALOGUE + ADDED_ENTRY)
    night.switch_on("evaluate_new_models")
    eventually(lambda: night.records(ADDED))
    night.switch_off("evaluate_new_models")

    eventually(lambda: [r.state for r in night.records(ADDED)] == [Status.FINISHED], 600)
    return night


@pytest.fixture(scope="module")
def by_hand(added: Team) -> Team:
    """More models, which nobody has evaluated yet.

    Dagster's daemon looks once a minute whether the definitions have changed, and ends a backfill
    of a partition that it does not know yet: a new daemon knows it at once.
    """
    added.catalogue(CATALOGUE + LATER_ENTRIES)
    added.kill("daemon")
    added.start_daemon()
    return added


def nothing_open(team: Team) -> bool:
    return {run["status"] for run in team.ask(RUNS)["runsOrError"]["results"]} <= OVER


def evaluations(team: Team, *keys: str) -> dict[str, int]:
    """How many evaluations of each model there are; all finished, and each thing there once.

    A sensor that told MLflow of a record while a run did leaves it to `mlflow_sync` to tell it all.
    """
    eventually(lambda: nothing_open(team))
    workspace = Workspace(team.settings)
    eventually(lambda: all(record.projected for key in keys for record in team.records(key)))
    counts = {}
    for key in keys:
        records = workspace.records.of_model(key)
        assert {record.state for record in records} <= {Status.FINISHED}
        for table in (entities_table(key), metrics_table(key)):
            rows = workspace.delta.scan(table).select(table.keys).collect()
            assert rows.is_unique().all(), table.path
        shown = team.mlflow_runs(key)
        assert {run.info.status for run in shown} <= {"FINISHED"}
        identities = sorted(run.data.tags["hc.evaluation_id"] for run in shown)
        assert identities == sorted(record.evaluation_id for record in records)
        counts[key] = len(records)
    return counts


def result(team: Team, key: str) -> dict[str, Any]:
    """What two evaluations of a model have made, ids, times and its name aside."""
    workspace = Workspace(team.settings)
    records = workspace.records.of_model(key)
    entities, scores = (
        workspace.delta.scan(table).drop(identity).collect()
        for table, identity in (
            (entities_table(key), "model_fingerprint"),
            (metrics_table(key), "evaluation_digest"),
        )
    )
    times = ("seconds", "notes_per_second")
    return {
        "entities": entities.sort("note_id").to_dicts(),
        "scores": scores.sort(metrics_table(key).keys[1:]).to_dicts(),
        "unchanged": [record.metrics and record.metrics.inputs_unchanged for record in records],
        "provenance": len({r.provenance.file.sha256 for r in records if r.provenance}),
        "shown": [
            {name: value for name, value in run.data.metrics.items() if name not in times}
            for run in team.mlflow_runs(key)
        ],
    }


def test_a_night_evaluates_every_present_model_and_compares_them(night: Team) -> None:
    for key in (TERMS, RULER):
        assert {record.state for record in night.records(key)} == {Status.FINISHED}
    # `mlflow_sync` tells the rest where a sensor and a run told MLflow of a record at once.
    eventually(lambda: all(r.projected for key in (TERMS, RULER) for r in night.records(key)))
    workspace = Workspace(night.settings)
    assert workspace.comparisons.latest().drop_nulls("rank").height == 2
    assert workspace.files.of_kind(".html")
    assert "hunter2" not in str(night.ask(RUNS))
    assert PASSWORD not in str(night.ask(RUNS))


def test_a_model_that_is_added_is_evaluated_once(added: Team) -> None:
    assert len(added.records(ADDED)) == 1


def test_backfills_of_one_model_at_once_outlive_the_daemon(by_hand: Team) -> None:
    """The other model of the same terms is evaluated once before and once now: no difference."""
    with by_hand.held() as extracting:
        backfill, again = by_hand.backfill(HELD, TWIN, ADDED), by_hand.backfill(TWIN)
        eventually(extracting.exists)
        by_hand.kill("daemon")
        assert by_hand.backfill_status(backfill) == "REQUESTED"

    by_hand.start_daemon()

    by_hand.await_success(backfill, again)
    assert by_hand.runs_of(backfill) == [(key, "SUCCESS") for key in (ADDED, HELD, TWIN)]
    assert by_hand.runs_of(again) == [(TWIN, "SUCCESS")]
    assert evaluations(by_hand, HELD, TWIN, ADDED) == {HELD: 1, TWIN: 2, ADDED: 2}
    assert result(by_hand, TWIN) == result(by_hand, ADDED)


def test_a_backfill_outlives_the_code_server(by_hand: Team) -> None:
    """The runs that died with it are found and run again; they are the same evaluations."""
    models = (HELD, TERMS)
    before = evaluations(by_hand, *models)
    with by_hand.held() as extracting:
        backfill = by_hand.backfill(*models)
        eventually(extracting.exists)
        by_hand.kill("code")

    by_hand.start_code()

    by_hand.await_success(backfill)
    runs = by_hand.runs_of(backfill)
    assert [status for key, status in runs if key == HELD] == ["FAILURE", "SUCCESS"]
    assert sorted(key for key, status in runs if status == "SUCCESS") == sorted(models)
    assert evaluations(by_hand, *models) == {key: before[key] + 1 for key in models}


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
