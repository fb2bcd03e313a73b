"""How evaluations begin again and end: retries, re-executions, interrupts, checks of others."""

import signal
import time
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from hc_orchestration import evaluate
from hc_orchestration.definitions import build_definitions
from hc_orchestration.errors import BusyStorageError, ModelError
from hc_orchestration.resources import evaluation, steps
from hc_orchestration.resources.closing import close_evaluation, evaluation_of_run
from hc_orchestration.resources.evaluation import EvaluationStep, evaluation_id
from hc_orchestration.resources.workspace import mlflow_projection
from hc_orchestration.runs import InProcessRuns
from hc_orchestration.settings import Settings
from hc_orchestration.storage.comparisons import ComparisonTable
from hc_orchestration.storage.records import CHAIN, CHECK_STEPS, EvaluationRecord, Records, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration_tests.conftest import RULER, TERMS
from hc_orchestration_tests.storage.parts import run_part
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs, only_record

Run = Callable[..., dg.ExecuteInProcessResult]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def own_job(settings: Settings, *more: Any, **options: Any) -> dg.JobDefinition:
    """The job over the chain, with more assets or options than ours has."""
    both = dg.Definitions.merge(build_definitions(settings), dg.Definitions(assets=list(more)))
    names = [*CHAIN, *(asset.key.to_user_string() for asset in more)]
    job = dg.define_asset_job("own", selection=dg.AssetSelection.assets(*names), **options)
    merged = dg.Definitions.merge(both, dg.Definitions(jobs=[job]))
    return merged.resolve_job_def("own")


def evaluate_model_in(home: str) -> dg.JobDefinition:
    """The job for Dagster to load by name; it keeps one for each argument."""
    assert home
    return build_definitions(Settings.from_environment()).resolve_job_def("evaluate_model")


def reexecutable() -> Any:
    """The job of this test's deployment, as re-executions need it."""
    home = str(Settings.from_environment().home)
    return dg.build_reconstructable_job(__name__, "evaluate_model_in", (home,))


def all_again(instance: dg.DagsterInstance, parent: str) -> dg.DagsterRun:
    """Re-execute every step of a run, as a button of Dagster's page does."""
    result = dg.execute_job(
        reexecutable(),
        instance=instance,
        reexecution_options=dg.ReexecutionOptions(parent_run_id=parent),
        run_config=QUIET,
        tags={"dagster/partition": TERMS},
    )
    assert result.success
    run = instance.get_run_by_id(result.run_id)
    assert run
    return run


def failing_once(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let the first attempt to score fail."""
    real, left = steps.score, [error]

    def score(step: EvaluationStep) -> Any:
        if left:
            raise left.pop()
        return real(step)

    monkeypatch.setattr(steps, "score", score)


@pytest.mark.parametrize("error", [RuntimeError("once"), dg.RetryRequested(max_retries=1)])
def test_a_step_that_dagster_retries_ends_the_evaluation_as_finished(
    error: BaseException,
    settings: Settings,
    instance: dg.DagsterInstance,
    run_job: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_job("refresh_corpus")
    failing_once(monkeypatch, error)
    job = own_job(settings, op_retry_policy=dg.RetryPolicy(max_retries=1))

    assert job.execute_in_process(
        instance=instance, partition_key=TERMS, raise_on_error=False, run_config=QUIET
    ).success

    record = only_record(settings, TERMS)
    assert record.state is Status.FINISHED
    assert record.remaining == ()
    assert record.run
    assert record.run.attempt == 2
    assert [run.info.status for run in mlflow_runs(settings)] == ["FINISHED"]


def test_a_step_that_asked_for_a_retry_too_often_fails_the_evaluation(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("refresh_corpus")
    failing_once(monkeypatch, dg.RetryRequested(max_retries=0))

    assert not run_job("evaluate_model", TERMS).success

    assert only_record(settings, TERMS).state is Status.FAILED


def test_a_fault_that_passes_is_tried_again_in_the_same_run(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("refresh_corpus")
    monkeypatch.setattr(evaluation, "_RETRY_AFTER_S", 0)
    failing_once(monkeypatch, BusyStorageError("others kept writing"))

    assert run_job("evaluate_model", TERMS).success

    record = only_record(settings, TERMS)
    assert (record.state, record.run and record.run.attempt) == (Status.FINISHED, 2)


def test_a_fault_of_the_model_is_not_tried_again(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("refresh_corpus")
    failing_once(monkeypatch, ModelError("the model raised"))

    assert not run_job("evaluate_model", TERMS).success

    record = only_record(settings, TERMS)
    assert (record.state, record.run and record.run.attempt) == (Status.FAILED, 1)


def stop(*_: object) -> None:
    """Get the signal of Ctrl-C."""
    signal.raise_signal(signal.SIGINT)
    time.sleep(10)


def test_an_interrupt_while_a_step_begins_is_recorded(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("refresh_corpus")
    monkeypatch.setattr(EvaluationStep, "begin", stop)

    assert not run_job("evaluate_model", TERMS).success

    assert only_record(settings, TERMS).state is Status.KILLED


def test_what_telling_mlflow_raises_does_not_hide_an_interrupt(
    settings: Settings, instance: dg.DagsterInstance, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_job("refresh_corpus")

    real = MlflowProjection.project

    def project(projection: MlflowProjection, record: EvaluationRecord) -> Any:
        if record.state is Status.RUNNING:
            return real(projection, record)
        message = "partially initialized module 'mlflow'"
        raise AttributeError(message)

    monkeypatch.setattr(steps, "extract", stop)
    monkeypatch.setattr(MlflowProjection, "project", project)

    outcome = InProcessRuns(build_definitions(settings), instance).run("evaluate_model", TERMS)

    assert outcome.interrupted
    assert "partially" not in (outcome.error or "")
    assert only_record(settings, TERMS).state is Status.KILLED


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_whose_exception_was_replaced_still_interrupts(
    number: signal.Signals,
    settings: Settings,
    run_job: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run_job("refresh_corpus")
    tried = []

    def swallowed(step: EvaluationStep, _: object) -> None:
        tried.append(step.key)
        try:
            signal.raise_signal(number)
            time.sleep(10)
        except BaseException:  # noqa: BLE001
            tried.append("interrupted")
        message = "something else"
        raise ModelError(message)

    monkeypatch.setattr(steps, "extract", swallowed)

    report = evaluate.run_evaluation(settings, [TERMS, RULER], say=str)

    assert tried == [TERMS, "interrupted"]
    assert (report.interrupted, report.failed) == (True, True)
    assert [model.key for model in report.models] == [TERMS]
    assert only_record(settings, TERMS).state is Status.FAILED


def test_an_interrupt_that_no_step_recorded_is_closed_as_killed(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "extract", stop)
    monkeypatch.setattr(EvaluationStep, "fail", lambda *_: None)

    report = evaluate.run_evaluation(settings, [TERMS, RULER], say=str)

    assert report.interrupted
    assert [model.key for model in report.models] == [TERMS]
    assert only_record(settings, TERMS).state is Status.KILLED
    assert [run.info.status for run in mlflow_runs(settings)] == ["KILLED"]


def test_a_failure_that_no_step_recorded_is_closed_as_failed_and_says_so_truly(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(steps, "extract", lambda *_: 1 / 0)
    monkeypatch.setattr(EvaluationStep, "fail", lambda *_: None)

    report = evaluate.run_evaluation(settings, [TERMS], say=str)

    assert (report.interrupted, report.failed) == (False, True)
    record = only_record(settings, TERMS)
    assert record.state is Status.FAILED
    assert record.status
    assert record.status.error == "its Dagster run ended as FAILURE without closing it"
    assert [run.info.status for run in mlflow_runs(settings)] == ["FAILED"]


def test_a_finished_run_executed_again_is_an_evaluation_of_its_own(
    settings: Settings, instance: dg.DagsterInstance, run_job: Run
) -> None:
    run_job("refresh_corpus")
    first = run_job("evaluate_model", TERMS)
    before = only_record(settings, TERMS)

    again = all_again(instance, first.run_id)

    assert again.root_run_id == first.run_id
    second, kept = Workspace(settings).records.of_model(TERMS)
    assert kept == before
    assert second.evaluation_id == evaluation_id(again.run_id, TERMS)
    assert second.state is Status.FINISHED
    assert second.remaining == ()
    assert len(mlflow_runs(settings)) == 2


def test_the_failed_repetition_of_a_finished_run_is_gone_on_with(
    settings: Settings,
    instance: dg.DagsterInstance,
    run_job: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From failure, of a re-execution of a finished run: that re-execution's evaluation goes on."""
    run_job("refresh_corpus")
    first = run_job("evaluate_model", TERMS)
    with monkeypatch.context() as broken:
        broken.setattr(steps, "score", lambda _: 1 / 0)
        failed = dg.execute_job(
            reexecutable(),
            instance=instance,
            reexecution_options=dg.ReexecutionOptions(parent_run_id=first.run_id),
            run_config=QUIET,
            tags={"dagster/partition": TERMS},
        )
    assert not failed.success

    healed = dg.execute_job(
        reexecutable(),
        instance=instance,
        reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, instance),
        run_config=QUIET,
        tags={"dagster/partition": TERMS},
    )

    assert healed.success
    states = {r.evaluation_id: r.state for r in Workspace(settings).records.of_model(TERMS)}
    assert states == {
        evaluation_id(first.run_id, TERMS): Status.FINISHED,
        evaluation_id(failed.run_id, TERMS): Status.FINISHED,
    }


def test_the_open_evaluation_of_a_run_is_found_under_either_id(settings: Settings) -> None:
    records = Workspace(settings).records
    run = dg.DagsterRun(
        job_name="own",
        run_id="again",
        root_run_id="root",
        parent_run_id="root",
        tags={"dagster/partition": TERMS},
    )
    assert evaluation_of_run(records, run) is None
    for begun_by in ("root", "again"):
        identity = evaluation_id(begun_by, TERMS)
        records.append(identity, TERMS, run_part(dagster_run_id="again"))
        found = evaluation_of_run(records, run)
        assert found
        assert found.evaluation_id == identity


def test_an_asset_of_others_whose_name_begins_like_ours_is_not_waited_for(
    settings: Settings, instance: dg.DagsterInstance, run_job: Run
) -> None:
    run_job("refresh_corpus")
    models = dg.StaticPartitionsDefinition([TERMS, RULER, "absent-1.0"])

    @dg.asset(partitions_def=models, deps=["provenance"])
    def provenance_poster() -> None:
        """Shows the resource to the team."""

    job = own_job(settings, provenance_poster)

    assert job.execute_in_process(
        instance=instance, partition_key=TERMS, raise_on_error=False, run_config=QUIET
    ).success
    record = only_record(settings, TERMS)
    assert record.state is Status.FINISHED
    assert record.run
    assert set(record.run.planned) == {*CHAIN, *CHECK_STEPS}


def test_the_steps_are_those_of_the_definitions(settings: Settings) -> None:
    job = build_definitions(settings).resolve_job_def("evaluate_model")

    assert {node.name for node in job.graph.nodes} == {*CHAIN, *CHECK_STEPS}


def test_only_a_dead_process_is_said_to_be_gone(settings: Settings) -> None:
    workspace = Workspace(settings)
    projection = mlflow_projection(settings.tracking_uri, workspace)

    def closed(records: Records, ended: Status | dg.DagsterRunStatus) -> EvaluationRecord:
        identity = f"e-{ended.value}-{type(ended).__name__}"
        from hc_orchestration.processes import ProcessIdentity

        part = run_part(process=ProcessIdentity.current())
        records.append(identity, TERMS, part)
        close_evaluation(records, projection, records.required(identity), ended)
        return records.required(identity)

    words = {
        ended: closed(workspace.records, ended).status
        for ended in (Status.FAILED, Status.KILLED, dg.DagsterRunStatus.SUCCESS)
    }
    told = {str(ended): (part.status, part.error) for ended, part in words.items() if part}
    assert told == {
        "FAILED": (Status.FAILED, "its Dagster run ended as FAILURE without closing it"),
        "KILLED": (Status.KILLED, "its Dagster run was terminated"),
        "DagsterRunStatus.SUCCESS": (
            Status.FAILED,
            "its Dagster run ended as SUCCESS without closing it",
        ),
    }


def test_the_look_at_mlflow_comes_after_everything_else(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MLflow refuses the last status only: the check must not have looked before."""
    from hc_orchestration.errors import TrackingError

    run_job("refresh_corpus")
    real = MlflowProjection.project

    def refusing(projection: MlflowProjection, record: EvaluationRecord) -> Any:
        if record.state is Status.FINISHED:
            message = "no MLflow"
            raise TrackingError(message)
        return real(projection, record)

    monkeypatch.setattr(MlflowProjection, "project", refusing)

    result = run_job("evaluate_model", TERMS)

    checks = [(e.check_name, e.passed) for e in result.get_asset_check_evaluations()]
    assert result.success
    assert checks[-3:] == [
        ("provenance_valid", True),
        ("provenance_chain", True),
        ("mlflow_up_to_date", False),
    ]
    assert len(checks) == 6
    assert only_record(settings, TERMS).state is Status.FINISHED


def test_a_failed_comparison_fails_the_report(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ComparisonTable, "append", lambda *_: 1 / 0)

    report = evaluate.run_evaluation(settings, [TERMS], say=str)

    assert [model.status for model in report.models] == [evaluate.EVALUATED]
    assert report.failed
    assert report.comparison_error
