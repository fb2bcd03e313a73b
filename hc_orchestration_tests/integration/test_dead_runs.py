"""Processes really killed: what is left open is found, closed truly, and resumed."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable

import dagster as dg
import pytest

from hc_orchestration.doctor import examine
from hc_orchestration.sensors import closing_sensors
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import CATALOGUE, RULER
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs

pytestmark = pytest.mark.integration

Run = Callable[..., dg.ExecuteInProcessResult]
EVALUATE_SLOWLY = textwrap.dedent("""
    import sys, time
    import dagster as dg
    from spacy.language import Language

    @Language.component("slow", assigns=["doc.ents"])
    def slow(doc):
        time.sleep(60)
        return doc

    from hc_orchestration.definitions import defs
    from hc_orchestration.runs import InProcessRuns

    with dg.DagsterInstance.get() as instance:
        InProcessRuns(defs, instance).run("evaluate_model", "slow-1.0")
""")


@pytest.fixture
def half_way(settings: Settings, run_job: Run) -> subprocess.Popen[bytes]:
    """A process that is in the middle of extracting, its model asleep."""
    import spacy
    from spacy.language import Language

    Language.component("slow", func=lambda doc: doc, assigns=["doc.ents"])
    nlp = spacy.blank("en")
    nlp.add_pipe("slow")
    nlp.to_disk(settings.catalogue.parent / "slow")
    entry = "  - {name: slow, version: '1.0', loader: spacy, source: {path: slow}}\n"
    settings.catalogue.write_text(CATALOGUE + entry, encoding="utf-8")
    assert run_job("refresh_corpus").success
    process = subprocess.Popen(
        [sys.executable, "-c", EVALUATE_SLOWLY], env={**os.environ}, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 60
    while not _done(settings):
        assert process.poll() is None, "the process ended before it was killed"
        assert time.monotonic() < deadline, "the evaluation did not begin"
        time.sleep(0.1)
    time.sleep(1)
    return process


def _done(settings: Settings) -> bool:
    records = Workspace(settings).records.of_model("slow-1.0")
    return bool(records) and records[0].mlflow is not None


def _record(settings: Settings) -> EvaluationRecord:
    (record,) = Workspace(settings).records.of_model("slow-1.0")
    return record


def test_a_killed_process_is_found_and_closed_everywhere(
    settings: Settings, instance: dg.DagsterInstance, half_way: subprocess.Popen[bytes]
) -> None:
    assert examine(settings, repair=True) == []  # it lives: nothing to mend
    assert _record(settings).state is Status.RUNNING
    half_way.send_signal(signal.SIGKILL)
    half_way.wait()
    left = _record(settings)
    assert left.run
    run_id = left.run.dagster_run_id
    assert left.state is Status.RUNNING
    assert [run.info.status for run in mlflow_runs(settings)] == ["RUNNING"]

    findings = examine(settings, repair=False)
    assert [(f.subject, f.mended) for f in findings] == [(f"Dagster run {run_id}", False)]
    examine(settings, repair=True)

    run = instance.get_run_by_id(run_id)
    assert run
    assert run.status is dg.DagsterRunStatus.FAILURE
    closed = _record(settings)
    assert closed.state is Status.FAILED
    assert closed.status
    assert closed.status.error == "the process that ran it is gone"
    assert [run.info.status for run in mlflow_runs(settings)] == ["FAILED"]
    assert examine(settings, repair=False) == []


def test_a_terminated_process_closes_itself_as_killed(
    settings: Settings, instance: dg.DagsterInstance, half_way: subprocess.Popen[bytes]
) -> None:
    half_way.send_signal(signal.SIGTERM)
    half_way.wait(30)

    record = _record(settings)
    assert record.state is Status.KILLED
    assert [run.info.status for run in mlflow_runs(settings)] == ["KILLED"]
    assert record.run
    run = instance.get_run_by_id(record.run.dagster_run_id)
    assert run
    assert run.is_finished
    assert examine(settings, repair=False) == []


@pytest.mark.parametrize("status", [Status.FAILED, Status.KILLED])
def test_a_sensor_closes_what_a_dead_run_left_open(
    status: Status,
    settings: Settings,
    instance: dg.DagsterInstance,
    half_way: subprocess.Popen[bytes],
) -> None:
    half_way.kill()
    half_way.wait()
    left = _record(settings).run
    assert left

    event, run = _report(instance, left.dagster_run_id, status)
    name = "close_failed_evaluation" if status is Status.FAILED else "close_canceled_evaluation"
    definition = next(s for s in closing_sensors(settings) if s.name == name)
    context = dg.build_run_status_sensor_context(
        sensor_name=name, dagster_event=event, dagster_instance=instance, dagster_run=run
    )
    definition(context)

    assert _record(settings).state is status
    assert [run.info.status for run in mlflow_runs(settings)] == [status.value]
    assert RULER not in {record.model_key for record in Workspace(settings).records.all()}


def _report(
    instance: dg.DagsterInstance, run_id: str, status: Status
) -> tuple[dg.DagsterEvent, dg.DagsterRun]:
    """Tell Dagster how the run ended, as its monitoring would."""
    run = instance.get_run_by_id(run_id)
    assert run
    if status is Status.FAILED:
        event = instance.report_run_failed(run)
    else:
        instance.report_run_canceling(run)
        event = instance.report_run_canceled(run)
    run = instance.get_run_by_id(run_id)
    assert run
    return event, run
