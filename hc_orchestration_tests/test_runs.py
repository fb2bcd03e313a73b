"""Runs of this process: how they end, above all when somebody stops them."""

import importlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.runs import InProcessRuns, dagster_instance
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.calling import call, started

OPEN = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.CANCELING,
)
SLOW = "slow-1"
PRINTED = "Pt denies asthma attacks."
SLOW_PART = '''
"""A spaCy part that says that it has begun, and then takes its time."""

import os
import time
from pathlib import Path

from spacy.language import Language


@Language.factory("hc_tests_slow", assigns=["doc.ents"])
def make_slow(nlp, name):
    def slow(doc):
        Path(os.environ["SLOW_BEGUN"]).touch()
        time.sleep(120)
        return doc

    return slow
'''


@dg.op
def works() -> None:
    """Does nothing, well."""


@dg.op
def prints() -> None:
    """Prints, as a model's code may print what it reads."""
    print(PRINTED)  # noqa: T201


@dg.op
def fails() -> None:
    """Fails with a cause."""
    try:
        _raise(KeyError("inner"))
    except KeyError as error:
        message = "outer: words\nover lines"
        raise ValueError(message) from error


@dg.op
def is_interrupted() -> None:
    """Gets the signal of Ctrl-C while it works."""
    signal.raise_signal(signal.SIGINT)
    time.sleep(10)


@dg.op
def is_terminated() -> None:
    """Gets the signal of a service manager while it works."""
    signal.raise_signal(signal.SIGTERM)
    time.sleep(10)


def _raise(error: Exception) -> None:
    raise error


@pytest.fixture
def ephemeral() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as opened:
        yield opened


def runs_of(op: dg.OpDefinition, instance: dg.DagsterInstance) -> InProcessRuns:
    """Runs of a job `only` that consists of one op."""
    graph = dg.GraphDefinition(name="only", node_defs=[op])
    return InProcessRuns(dg.Definitions(jobs=[graph.to_job()]), instance)


def test_a_run_that_works_is_told_and_tagged_with_its_process(
    ephemeral: dg.DagsterInstance,
) -> None:
    outcome = runs_of(works, ephemeral).run("only")

    assert (outcome.success, outcome.error, outcome.interrupted) == (True, None, False)
    run = ephemeral.get_run_by_id(outcome.run_id)
    assert run
    assert run.status is dg.DagsterRunStatus.SUCCESS
    assert run.tags["hc.pid"] == str(os.getpid())


def test_a_run_that_fails_gives_the_words_of_its_first_cause_in_one_line(
    ephemeral: dg.DagsterInstance,
) -> None:
    outcome = runs_of(fails, ephemeral).run("only")

    assert (outcome.success, outcome.error, outcome.interrupted) == (False, "'inner'", False)
    run = ephemeral.get_run_by_id(outcome.run_id)
    assert run
    assert run.status is dg.DagsterRunStatus.FAILURE


def test_what_a_run_prints_is_said_once_and_kept_nowhere(
    settings: Settings, capfd: pytest.CaptureFixture[str]
) -> None:
    with dagster_instance() as instance:
        assert runs_of(prints, instance).run("only").success

    assert capfd.readouterr().out.count(PRINTED) == 1
    files = [path for path in settings.home.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if PRINTED.encode() in path.read_bytes()]


@pytest.mark.parametrize("op", [is_interrupted, is_terminated], ids=["SIGINT", "SIGTERM"])
def test_a_run_that_gets_a_signal_ends_interrupted_and_closed(
    ephemeral: dg.DagsterInstance, op: dg.OpDefinition
) -> None:
    before = signal.getsignal(signal.SIGTERM)
    outcome = runs_of(op, ephemeral).run("only")

    assert signal.getsignal(signal.SIGTERM) is before  # Dagster alone would leave its own
    assert (outcome.success, outcome.interrupted) == (False, True)
    run = ephemeral.get_run_by_id(outcome.run_id)
    assert run
    assert run.status not in OPEN


class StopsOutsideOfSteps:
    """Definitions whose job begins a Dagster run and is interrupted before any step."""

    def resolve_job_def(self, name: str) -> "StopsOutsideOfSteps":
        self.name = name
        return self

    def execute_in_process(self, instance: dg.DagsterInstance, **options: Any) -> None:
        status = dg.DagsterRunStatus.STARTED
        tags = options["tags"]
        instance.add_run(dg.DagsterRun(job_name=self.name, run_id="r1", tags=tags, status=status))
        raise KeyboardInterrupt


def test_a_run_that_is_stopped_outside_of_its_steps_is_closed(
    ephemeral: dg.DagsterInstance,
) -> None:
    of_others = ephemeral.add_run(dg.DagsterRun(job_name="other", run_id="r2"))

    with pytest.raises(KeyboardInterrupt):
        InProcessRuns(StopsOutsideOfSteps(), ephemeral).run("only")  # type: ignore[arg-type]

    closed = ephemeral.get_run_by_id("r1")
    untouched = ephemeral.get_run_by_id(of_others.run_id)
    assert closed
    assert untouched
    assert closed.status is dg.DagsterRunStatus.FAILURE
    assert untouched.status is dg.DagsterRunStatus.NOT_STARTED


def test_ctrl_c_while_the_corpus_is_read_evaluates_nothing(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hc_orchestration.corpora import ingest

    def interrupted(*_: object) -> None:
        signal.raise_signal(signal.SIGINT)
        time.sleep(10)

    monkeypatch.setattr(ingest, "read_source", interrupted)

    outcome = call("evaluate", "--json")

    assert (outcome.code, outcome.out) == (130, "")
    assert "stopped while the corpus was read; no model was evaluated" in outcome.err
    assert Workspace(settings).records.all() == []
    assert Workspace(settings).corpus.latest() is None


@pytest.fixture
def slow_model(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A catalogue with a slow spaCy pipeline; the file that it makes when it has begun."""
    import spacy

    folder = settings.catalogue.parent
    (folder / "slow_part.py").write_text(SLOW_PART, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    importlib.import_module("slow_part")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("SLOW_BEGUN", str(folder / "begun"))
    nlp = spacy.blank("en")
    nlp.add_pipe("hc_tests_slow")
    nlp.to_disk(folder / "slow")
    settings.catalogue.write_text(
        "models: [{name: slow, version: '1', loader: spacy, source: {path: slow}}]", "utf-8"
    )
    return folder / "begun"


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_hc_closes_everything_that_it_began(
    settings: Settings, slow_model: Path, instance: dg.DagsterInstance, number: signal.Signals
) -> None:
    from mlflow import MlflowClient

    with started("evaluate", "--json", first="import slow_part") as process:
        _wait_for(slow_model, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)

    assert process.returncode == 130, err
    assert "Traceback" not in err
    (model,) = json.loads(out)["models"]
    assert (model["key"], model["status"]) == (SLOW, "failed")
    assert instance.get_runs(filters=dg.RunsFilter(statuses=list(OPEN))) == []
    (record,) = Workspace(settings).records.of_model(SLOW)
    assert record.state is Status.KILLED
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    assert client.get_run(model["mlflow_run_id"]).info.status == "KILLED"


def _wait_for(file: Path, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 90
    while not file.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "the model never began"
        time.sleep(0.1)
