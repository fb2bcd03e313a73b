"""The tracker and its runs on a real SQLite store: values, limits, batches, current runs."""

import asyncio
import csv
import json
import logging
import math
import multiprocessing
import pickle
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hc_orchestration.errors import ConfigurationError, TrackingError
from hc_orchestration.healthcare.contexts import HealthcareRunContext, PatientContext
from hc_orchestration.healthcare.guard import IdentifierError
from hc_orchestration.healthcare.provenance import check_provenance
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.tracking import run as run_module
from hc_orchestration.tracking import writer as writer_module
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration.tracking.config import LimitPolicy, MLFlowConfig, is_mlflow_available
from hc_orchestration.tracking.names import metric_name
from hc_orchestration.tracking.run import TrackedRun
from hc_orchestration.tracking.tracker import MLFlowTracker, shared_tracker

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

NOWHERE = "http://127.0.0.1:9"
OURS = frozenset({"hc.host", "hc.pid", "hc.process_started", "mlflow.runName"})


class Store:
    """A store that holds the runs of one test only, and what MLflow shows of it."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.uri = uri
        self.folder = folder
        self.mlflow = MlflowStore(uri, folder, "")

    def config(self, **settings: Any) -> MLFlowConfig:
        return MLFlowConfig(tracking_uri=self.uri, **{"experiment_name": "e", **settings})

    def tracker(self, **settings: Any) -> MLFlowTracker:
        return MLFlowTracker(self.config(**settings))

    @property
    def client(self) -> "MlflowClient":
        return open_client(self.mlflow)

    def runs(self) -> "list[Run]":
        client = self.client
        experiments = [experiment.experiment_id for experiment in client.search_experiments()]
        return sorted(client.search_runs(experiments), key=lambda run: run.info.run_name)

    def run(self) -> "Run":
        (only,) = self.runs()
        return only

    def points(self, run: "Run", name: str) -> list[tuple[int, float]]:
        history = self.client.get_metric_history(run.info.run_id, name)
        return sorted((point.step, point.value) for point in history)

    def files(self, run: "Run") -> set[str]:
        return {file.path for file in self.client.list_artifacts(run.info.run_id)}

    def text(self, run: "Run", name: str) -> str:
        path = self.client.download_artifacts(run.info.run_id, name)
        return Path(path).read_text(encoding="utf-8")

    def tags(self, run: "Run") -> dict[str, str]:
        return {name: value for name, value in run.data.tags.items() if name not in OURS}

    @contextmanager
    def failing(self, *tables: str) -> Iterator[None]:
        """The database fails every call that needs one of the tables."""
        self.execute("PRAGMA legacy_alter_table=ON", *(renamed(t, f"{t}_away") for t in tables))
        yield
        self.execute(*(renamed(f"{t}_away", t) for t in tables))

    def execute(self, *statements: str) -> None:
        """Run statements in the store's database."""
        with closing(sqlite3.connect(self.uri.removeprefix("sqlite:///"))) as database:
            for statement in statements:
                database.execute(statement)
            database.commit()


def renamed(table: str, name: str) -> str:
    return f"ALTER TABLE {table} RENAME TO {name}"


def set_up_store(tmp_path: Path, empty: Path, patch: pytest.MonkeyPatch) -> Store:
    """A SQLite store that is the default one."""
    shutil.copy(empty, tmp_path / "mlflow.db")
    made = Store(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path)
    make_default(made, patch)
    return made


def make_default(store: Store, patch: pytest.MonkeyPatch) -> None:
    """Make it the default store, in a process that has not warned of anything."""
    patch.setenv("HC_HOME", str(store.folder))
    patch.setenv("MLFLOW_TRACKING_URI", store.uri)
    patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    patch.setattr(run_module, "_said", set())


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return set_up_store(tmp_path, empty_mlflow, monkeypatch)


# Configuration


def test_defaults_are_a_database_in_hc_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HC_HOME", str(tmp_path))

    config = MLFlowConfig()

    assert config.tracking_uri == f"sqlite:///{tmp_path / 'mlflow.db'}"
    assert (config.experiment_name, config.tags) == ("hc-default", {})
    assert config.store.home == tmp_path


@pytest.mark.parametrize("folder", ["mlruns", "./mlruns", "/a/mlruns", "file:///a", "C:\\a"])
def test_a_folder_as_store_is_refused_with_the_remedy(folder: str) -> None:
    with pytest.raises(ConfigurationError, match="sqlite:///mlflow"):
        MLFlowConfig(tracking_uri=folder)


@pytest.mark.parametrize("uri", ["sqlite:///a.db", "postgresql://h/d", "https://h", "databricks"])
def test_databases_and_servers_are_stores(uri: str) -> None:
    assert MLFlowConfig(tracking_uri=uri).tracking_uri == uri


def test_credentials_are_not_shown() -> None:
    assert "hunter2" not in repr(MLFlowConfig(tracking_uri="https://me:hunter2@host"))


def test_a_field_is_checked_when_it_is_set_too() -> None:
    config = MLFlowConfig(tracking_uri="sqlite:///a.db")
    with pytest.raises(ConfigurationError, match="folder"):
        config.tracking_uri = "mlruns"
    with pytest.raises(ValueError, match="extra"):
        MLFlowConfig(experiment="e")  # type: ignore[call-arg]


def test_importing_the_package_and_its_api_loads_neither_mlflow_nor_spacy() -> None:
    code = (
        "import sys, hc_orchestration.tracking as t; "
        "[getattr(t, name) for name in t.__all__]; t.is_mlflow_available(); "
        "sys.exit(bool({'mlflow', 'spacy', 'dagster', 'polars'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_what_the_package_does_not_have_is_an_attribute_error() -> None:
    import hc_orchestration.tracking as package

    assert all(hasattr(package, name) for name in package.__all__)
    with pytest.raises(AttributeError, match="track_everything"):
        _ = package.track_everything


# Values


def test_a_run_shows_what_was_logged(store: Store, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alpha")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "b.txt").write_text("beta")
    tracker = store.tracker(tags={"team": "nlp"})

    with tracker.start_run("first", {"stage": 1}, description="*note*") as run:
        tracker.log_params({"size": 3, "on": True})
        tracker.log_param("one", 1)
        tracker.log_metrics({"a": 0, "b": 2.5}, step=4)
        tracker.log_metric("a", 1, step=5)
        tracker.set_tags({"x": "y"})
        tracker.set_tag("z", 1)
        tracker.log_artifact(tmp_path / "a.txt")
        tracker.log_artifacts(str(tmp_path / "folder"), "sub")
        tracker.log_dict({"k": [1]}, "d.json")
        tracker.log_text("word", "t/t.txt")
        assert tracker.current_run() is run
        assert (tracker.get_run_id(), tracker.get_artifact_uri()) == (run.run_id, run.artifact_uri)

    shown = store.run()
    assert (shown.info.run_id, shown.info.run_name) == (run.run_id, "first")
    assert shown.info.status == "FINISHED"
    assert shown.info.experiment_id == tracker.get_experiment_id()
    assert shown.data.params == {"size": "3", "on": "True", "one": "1"}
    assert store.points(shown, "a") == [(4, 0.0), (5, 1.0)]
    assert store.points(shown, "b") == [(4, 2.5)]
    assert store.tags(shown) == {
        "team": "nlp",
        "stage": "1",
        "mlflow.note.content": "*note*",
        "x": "y",
        "z": "1",
        "hc.kind": "tracked",
    }
    assert ProcessIdentity.from_tags(shown.data.tags) is not None
    assert not ProcessIdentity.from_tags(shown.data.tags).gone  # type: ignore[union-attr]
    assert store.files(shown) == {"a.txt", "sub", "d.json", "t"}
    assert store.text(shown, "sub/b.txt") == "beta"
    assert json.loads(store.text(shown, "d.json")) == {"k": [1]}
    assert tracker.current_run() is None
    assert (tracker.get_run_id(), tracker.get_artifact_uri()) == (None, None)


def test_runs_and_experiments_are_listed_as_plain_values(store: Store) -> None:
    tracker = MLFlowTracker.from_config(store.config())
    with tracker.start_run("one"):
        tracker.log_params({"p": 1})
        tracker.log_metric("m", 2)

    (experiment,) = [e for e in tracker.list_experiments() if e["name"] == "e"]
    (run,) = tracker.list_runs()

    assert experiment["experiment_id"] == tracker.get_experiment_id()
    assert (run["run_name"], run["status"]) == ("one", "FINISHED")
    assert (run["params"], run["metrics"]) == ({"p": "1"}, {"m": 2.0})
    assert tracker.list_runs("attributes.status = 'FAILED'") == []


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("log_metric", ("a", 1)),
        ("log_metrics", ({"a": 1},)),
        ("log_param", ("a", 1)),
        ("log_params", ({"a": 1},)),
        ("set_tag", ("a", 1)),
        ("set_tags", ({"a": 1},)),
        ("log_artifact", ("a",)),
        ("log_artifacts", ("a",)),
        ("log_dict", ({}, "a")),
        ("log_text", ("", "a")),
        ("log_healthcare_context", (HealthcareRunContext(model_id="m", version="1"),)),
    ],
)
def test_logging_without_a_run_says_how_to_have_one(
    store: Store, method: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(TrackingError, match=r"no run of experiment 'e'.*start_run"):
        getattr(store.tracker(), method)(*arguments)


def test_logging_after_the_end_is_an_error(store: Store) -> None:
    with store.tracker().start_run("over") as run:
        pass
    with pytest.raises(TrackingError, match="run over: it has ended"):
        run.log_metric("a", 1)
    run.flush()
    run.close()
    assert store.run().info.status == "FINISHED"


def test_an_artifact_that_is_not_there_is_the_callers_error(store: Store) -> None:
    with store.tracker().start_run() as run, pytest.raises(TrackingError, match="no such file"):
        run.log_artifact("nowhere.txt")


def test_a_param_logged_again_becomes_a_tag_when_it_differs(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    with store.tracker().start_run("r") as run:
        run.log_params({"size": 3, "same": "x"})
        run.log_params({"size": 4, "same": "x"})

    shown = store.run()
    assert shown.data.params == {"size": "3", "same": "x"}
    assert shown.data.tags["param.size"] == "4"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "param.size" in caplog.text


def test_undefined_metrics_are_left_out_and_counted(store: Store) -> None:
    with store.tracker().start_run() as run:
        run.log_metrics({"f1": math.nan, "loss": math.inf, "zero": 0.0})
        run.log_metric("loss", -math.inf)
        run.log_metric("loss", 10**400)

    shown = store.run()
    assert shown.data.metrics == {"zero": 0.0}
    assert shown.data.tags["hc.undefined_metrics"] == "f1 (1), loss (3)"


@pytest.mark.parametrize("value", ["1.0", None, [1]])
def test_a_metric_that_is_no_number_is_an_error(store: Store, value: Any) -> None:
    with store.tracker().start_run() as run, pytest.raises(TrackingError, match="metric a: a "):
        run.log_metric("a", value)


# MLflow's limits

REFUSED = "f1.label.Age (>65)"


def test_limits_are_met_by_shortening_and_a_map_of_names(store: Store) -> None:
    with store.tracker().start_run() as run:
        run.log_metrics({REFUSED: 1, "val/loss": 2, "n" * 300: 3})
        run.log_params({"long": "p" * 7_000, "a%b": "c"})
        run.set_tags({"long": "t" * 9_000})

    shown = store.run()
    slug, long = metric_name(REFUSED), metric_name("n" * 300)
    assert shown.data.metrics == {slug: 1.0, "val/loss": 2.0, long: 3.0}
    assert len(shown.data.params["long"]) == 6_000
    assert shown.data.params["long"].endswith(" … (shortened)")
    assert len(shown.data.tags["long"]) == 8_000
    assert json.loads(store.text(shown, "metric_names.json")) == {
        slug: REFUSED,
        long: "n" * 300,
        metric_name("a%b"): "a%b",
    }


def test_a_slash_that_makes_an_unusual_path_is_rewritten(store: Store) -> None:
    names = ["/a", "a//b", "a/../b", "."]
    with store.tracker().start_run() as run:
        run.log_metrics(dict.fromkeys(names, 1.0))

    assert len(store.run().data.metrics) == len(names)


@pytest.mark.parametrize(
    ("method", "values"),
    [
        ("log_metrics", {REFUSED: 1}),
        ("log_metrics", {"n" * 251: 1}),
        ("log_params", {"long": "p" * 6_001}),
        ("set_tags", {"long": "t" * 8_001}),
        ("set_tags", {"": "empty"}),
    ],
)
def test_limits_are_errors_when_the_policy_says_so(
    store: Store, method: str, values: dict[str, Any]
) -> None:
    tracker = store.tracker(limits=LimitPolicy.FAIL)
    with tracker.start_run() as run:
        with pytest.raises(TrackingError):
            getattr(run, method)(values)
        run.log_params({"long": "p" * 6_000})
        run.set_tags({"long": "t" * 8_000})

    assert store.run().info.status == "FINISHED"


# Batches


def test_metrics_go_out_in_batches_of_500_and_params_of_100(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    sizes: list[tuple[int, int, int]] = []
    log_batch = MlflowClient.log_batch

    def counting(self: MlflowClient, run_id: str, **batch: Any) -> None:
        sizes.append((len(batch["metrics"]), len(batch["params"]), len(batch["tags"])))
        log_batch(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", counting)
    with store.tracker(metric_points=None).start_run() as run:
        for step in range(1_200):
            run.log_metric("m", step, step)
        run.log_params({f"p{n}": n for n in range(150)})

    assert sizes == [(500, 0, 0), (500, 0, 0), (200, 100, 0), (0, 50, 0)]
    assert len(store.points(store.run(), "m")) == 1_200
    assert len(store.run().data.params) == 150


def test_what_waits_for_seconds_goes_out_with_the_next_call(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer_module, "_SEND_EVERY_S", 0.0)
    with store.tracker().start_run() as run:
        run.log_metric("m", 1)
        assert store.run().data.metrics == {"m": 1.0}


def test_a_long_metric_is_thinned_in_the_chart_and_whole_in_the_artifact(store: Store) -> None:
    with store.tracker(metric_points=10).start_run() as run:
        for step in range(1, 46):
            run.log_metric("long", step, step)
        run.log_metric("short", 1)

    shown = store.run()
    first, second, fourth, eighth = range(1, 11), range(12, 21, 2), range(24, 41, 4), []
    steps = [step for step, _ in store.points(shown, "long")]
    assert steps == [*first, *second, *fourth, *eighth, 45]
    assert shown.data.metrics == {"long": 45.0, "short": 1.0}
    rows = list(csv.DictReader(store.text(shown, "metric_history.csv").splitlines()))
    assert [(row["name"], int(row["step"])) for row in rows] == [("long", n) for n in range(1, 46)]


# Context


CONTEXT = HealthcareRunContext.from_model_config(
    "clinical-ner",
    "1.0.0",
    organization="Lab",
    purpose="Find out",
    data_sources=["ehr", "mimic"],
    regulatory_tags=["HIPAA"],
    custom_metadata={"site": "north"},
    patient_context=PatientContext(
        cohort="Inpatients",
        age_range="18-90",
        sample_size=500,
        inclusion_criteria=["Admitted", "English"],
        exclusion_criteria=["Pediatric"],
    ),
)


def test_a_healthcare_context_becomes_params_and_a_valid_provenance(store: Store) -> None:
    tracker = store.tracker()
    with tracker.start_run():
        tracker.log_healthcare_context(CONTEXT)

    shown = store.run()
    assert shown.data.params == {
        "healthcare.model_id": "clinical-ner",
        "healthcare.model_version": "1.0.0",
        "healthcare.organization": "Lab",
        "healthcare.purpose": "Find out",
        "healthcare.data_sources": "ehr; mimic",
        "healthcare.regulatory_tags": "HIPAA",
        "healthcare.patient_cohort": "Inpatients",
        "healthcare.patient_age_range": "18-90",
        "healthcare.patient_sample_size": "500",
        "healthcare.inclusion_criteria": "Admitted; English",
        "healthcare.exclusion_criteria": "Pediatric",
        "healthcare.custom.site": "north",
    }
    assert json.loads(store.text(shown, "healthcare_context.json")) == CONTEXT.to_dict()
    provenance = json.loads(store.text(shown, "fhir_provenance.json"))
    check_provenance(provenance)
    assert provenance["agent"][0]["who"]["display"] == "clinical-ner 1.0.0"
    assert [entity["what"]["display"] for entity in provenance["entity"]] == [
        "ehr",
        "mimic",
        "Inpatients",
    ]


def test_the_provenance_of_a_context_is_a_fhir_model_with_its_own_time() -> None:
    recorded = {"recorded": "2025-01-19T10:30:00Z"}
    context = HealthcareRunContext.model_validate({"model_id": "m", "version": "1", **recorded})

    provenance = context.to_fhir_provenance()

    assert json.loads(provenance.json())["recorded"] == "2025-01-19T10:30:00Z"
    assert provenance.model_dump()["resourceType"] == "Provenance"
    assert context.to_dict() == {
        "model_id": "m",
        "version": "1",
        "data_sources": [],
        "regulatory_tags": [],
        **recorded,
    }


def test_a_context_of_which_little_is_known_has_a_valid_provenance_too() -> None:
    provenance = json.loads(
        HealthcareRunContext(model_id="m", version="1").to_fhir_provenance().model_dump_json()
    )
    check_provenance(provenance)
    assert provenance["target"][0]["display"] == "output of m 1"
    assert not {"entity", "meta"} & provenance.keys()


def test_a_context_that_names_a_person_is_refused_whole(store: Store) -> None:
    named = CONTEXT.model_copy(update={"purpose": "Ask jane.doe@example.org"})
    dated = CONTEXT.model_copy(update={"recorded": datetime(2025, 1, 19, 10, 30, tzinfo=UTC)})
    with store.tracker().start_run() as run:
        with pytest.raises(IdentifierError, match="purpose: e-mail"):
            run.log_healthcare_context(named)
        assert store.run().data.params == {}
        run.log_healthcare_context(dated)

    assert store.run().data.params["healthcare.purpose"] == "Find out"


# Current runs


def test_a_run_inside_another_is_its_child_only_in_the_same_experiment(store: Store) -> None:
    first, twin = store.tracker(), store.tracker()
    other = store.tracker(experiment_name="other")
    with first.start_run("parent") as parent:
        with twin.start_run("child"), other.start_run("stranger"):
            pass
        with other.start_run("invited", nested=True) as invited:
            assert first.current_run() is parent
            assert other.current_run() is invited
        with pytest.raises(TrackingError, match="'other'"):
            other.log_metric("a", 1)

    parents = {run.info.run_name: run.data.tags.get("mlflow.parentRunId") for run in store.runs()}
    assert parents == {
        "parent": None,
        "child": parent.run_id,
        "stranger": None,
        "invited": parent.run_id,
    }


def test_a_tracker_of_the_same_experiment_sees_the_run(store: Store) -> None:
    with store.tracker().start_run():
        store.tracker().log_metric("m", 1)
    assert store.run().data.metrics == {"m": 1.0}


def test_a_thread_has_no_run_of_another_but_may_use_the_object(store: Store) -> None:
    tracker = store.tracker()
    seen: list[TrackedRun | None] = []

    def work(run: TrackedRun) -> None:
        seen.append(tracker.current_run())
        run.log_metric("from_thread", 1)

    with tracker.start_run() as run:
        thread = threading.Thread(target=work, args=(run,))
        thread.start()
        thread.join()

    assert seen == [None]
    assert store.run().data.metrics == {"from_thread": 1.0}


def test_a_task_that_outlives_the_run_it_began_in_has_none(store: Store) -> None:
    tracker = store.tracker()

    async def late(over: asyncio.Event) -> None:
        await over.wait()
        assert tracker.current_run() is None
        with tracker.start_run("late"):
            pass

    async def main() -> None:
        over = asyncio.Event()
        with tracker.start_run("early"):
            task = asyncio.create_task(late(over))
        over.set()
        await task

    asyncio.run(main())

    early, late_run = store.runs()
    assert (early.info.run_name, late_run.info.run_name) == ("early", "late")
    assert "mlflow.parentRunId" not in late_run.data.tags


def _in_a_worker(uri: str) -> None:
    tracker = shared_tracker("e", uri)
    tracker.log_metric("lost", 1)
    with tracker.start_run("worker"):
        tracker.log_metric("kept", 1)


def test_a_forked_process_opens_runs_of_its_own_but_does_not_share_one(store: Store) -> None:
    tracker = shared_tracker("e", store.uri)
    with tracker.start_run("main") as run:
        worker = multiprocessing.get_context("fork").Process(target=_in_a_worker, args=(store.uri,))
        worker.start()
        worker.join()
        run.log_metric("mine", 1)

    main, child = store.runs()
    assert worker.exitcode == 0
    assert (main.info.status, child.info.status) == ("FINISHED", "FINISHED")
    assert (main.data.metrics, child.data.metrics) == ({"mine": 1.0}, {"kept": 1.0})
    assert main.data.tags["hc.pid"] != child.data.tags["hc.pid"]
    assert child.data.tags["mlflow.parentRunId"] == run.run_id


def test_a_tracker_is_pickled_as_its_configuration(store: Store) -> None:
    tracker = store.tracker(tags={"a": "b"})
    tracker.get_experiment_id()
    assert pickle.loads(pickle.dumps(tracker)).config == tracker.config  # noqa: S301 - our own


def test_the_tracker_of_a_store_and_an_experiment_is_made_once(store: Store) -> None:
    assert shared_tracker("e", store.uri) is shared_tracker("e", store.uri)
    assert shared_tracker("e", store.uri) is not shared_tracker("f", store.uri)


# The store


def test_a_new_store_is_made_with_its_folder_and_artifacts_beside_it(tmp_path: Path) -> None:
    """Slow: the one test of these that makes a schema."""
    folder = tmp_path / "not" / "there"
    tracker = MLFlowTracker(MLFlowConfig(tracking_uri=f"sqlite:///{folder / 'm.db'}"))
    with tracker.start_run():
        tracker.log_text("t", "t.txt")

    (experiment,) = [e for e in tracker.list_experiments() if e["name"] == "hc-default"]
    assert experiment["artifact_location"] == (folder / "mlflow-artifacts").as_uri()
    assert list(folder.rglob("t.txt"))


def test_a_new_experiment_keeps_its_artifacts_where_the_configuration_says(
    store: Store, tmp_path: Path
) -> None:
    place = tmp_path / "elsewhere"
    for tracker in (store.tracker(artifact_location=str(place)), store.tracker()):
        with tracker.start_run():
            tracker.log_text("t", "t.txt")

    assert len(list(place.rglob("t.txt"))) == 2


def test_without_mlflow_runs_are_untracked_with_one_warning(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert not is_mlflow_available()
    tracker = store.tracker()

    for _ in range(3):
        with tracker.start_run("r") as run:
            tracker.log_metric("m", 1)
            tracker.log_params({"p": 1})
            tracker.log_dict({}, "d.json")
            tracker.log_healthcare_context(CONTEXT)
            assert tracker.get_run_id() is None
            run.flush()

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "mlflow is not installed" in caplog.text

    strict = store.tracker(on_unavailable="error")
    with pytest.raises(TrackingError, match="mlflow is not installed"):
        strict.open_run()


def test_a_folder_that_cannot_be_written_is_a_store_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run_module, "_said", set())
    (tmp_path / "file").write_text("no folder")
    tracker = MLFlowTracker(MLFlowConfig(tracking_uri=f"sqlite:///{tmp_path / 'file' / 'm.db'}"))
    with tracker.start_run() as run:
        assert run.run_id is None
    assert "cannot be written (FileExistsError)" in caplog.text


def test_a_store_that_comes_back_is_used_again(
    store: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = store.tracker()
    tracker.get_experiment_id()
    with store.failing("runs"), tracker.start_run("missed"):
        pass
    with tracker.start_run("still missed"):
        pass
    monkeypatch.setattr(tracker, "_next_try", 0.0)
    with tracker.start_run("back"):
        pass

    assert store.run().info.run_name == "back"
    assert caplog.text.count("Runs are not tracked") == 1


def test_a_thread_that_sends_holds_up_no_other(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow import MlflowClient

    slow, sending, go_on = MlflowClient.log_batch, threading.Event(), threading.Event()

    def log_batch(self: MlflowClient, run_id: str, **batch: Any) -> None:
        sending.set()
        assert go_on.wait(10)
        slow(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", log_batch)
    with store.tracker().start_run() as run:
        thread = threading.Thread(target=run.log_params, args=({"p": 1},))
        thread.start()
        assert sending.wait(10)
        run.log_metric("m", 1)
        run.set_tag("t", "u")
        go_on.set()
        thread.join()

    shown = store.run()
    assert (shown.data.params, shown.data.metrics) == ({"p": "1"}, {"m": 1.0})
    assert shown.data.tags["t"] == "u"


def test_a_finalizer_in_the_middle_of_a_store_call_waits_for_its_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite, ending another run inside a transaction of the same thread would hang."""
    from mlflow import MlflowClient

    tracker = store.tracker()
    dropped = tracker.open_run("dropped")
    log_batch = MlflowClient.log_batch
    open_in_between: list[bool] = []

    def collecting(self: MlflowClient, run_id: str, **batch: Any) -> None:
        if run_id != dropped.run_id:
            dropped.abandon()
            open_in_between.append(dropped.is_open)
        log_batch(self, run_id, **batch)

    monkeypatch.setattr(MlflowClient, "log_batch", collecting)
    with tracker.start_run("other") as run:
        run.log_params({"p": 1})
        assert not dropped.is_open
    assert open_in_between[0]

    assert [shown.info.status for shown in store.runs()] == ["FAILED", "FINISHED"]


def test_what_the_end_of_a_run_lacks_is_one_warning(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    tracker = store.tracker()
    with caplog.at_level(logging.WARNING), tracker.start_run("r") as run:
        run.log_metric("m", 1)
        with store.failing("metrics"):
            run.log_params({"p": 1})
            run.set_tags({"t": 1})
            run.close()

    assert "run r: MLflow lacks 1 metric points, param p, tag t. MLflow failed" in caplog.text
    assert [r.name for r in caplog.records].count(run_module.__name__) == 1
    assert store.run().info.status == "FINISHED"
