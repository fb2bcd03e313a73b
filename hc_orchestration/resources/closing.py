"""Closing evaluations whose Dagster run is over or whose process is gone: status is the truth."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from hc_orchestration.errors import TrackingError
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.storage.records import EvaluationRecord, Records, Status, StatusPart
from hc_orchestration.tracking.projection import MlflowProjection

_OPEN = (
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.NOT_STARTED,
)
_STATUS_OF_RUN = {
    Status.KILLED: dg.DagsterRunStatus.CANCELED,
    Status.FAILED: dg.DagsterRunStatus.FAILURE,
}


@dataclass(frozen=True, slots=True)
class DeadRun:
    """A Dagster run that says it is running while its process is gone."""

    run_id: str
    pid: int


def close_evaluation(
    records: Records,
    projection: MlflowProjection,
    record: EvaluationRecord,
    ended: Status | dg.DagsterRunStatus,
) -> None:
    """Write that an evaluation ended without saying so itself, and tell MLflow.

    MLflow being away changes nothing: the next synchronisation tells it.

    Args:
        records: Where the record is.
        projection: Writes to MLflow.
        record: The evaluation that is still open.
        ended: What it ends as, FAILED or KILLED, or how its Dagster run ended.
    """
    run_status = _STATUS_OF_RUN[ended] if isinstance(ended, Status) else ended
    killed = run_status is dg.DagsterRunStatus.CANCELED
    if killed:
        error_class, error = "RunCanceled", "its Dagster run was terminated"
    elif record.run is not None and record.run.process.gone:
        error_class, error = "ProcessDied", "the process that ran it is gone"
    else:
        error_class = "RunEnded"
        error = f"its Dagster run ended as {run_status.value} without closing it"
    part = StatusPart(
        status=Status.KILLED if killed else Status.FAILED,
        error_class=error_class,
        error=error,
        at=datetime.now(UTC),
    )
    records.append(record.evaluation_id, record.model_key, part)
    try:
        shown = projection.project(records.required(record.evaluation_id))
    except TrackingError:
        return
    records.append(record.evaluation_id, record.model_key, shown)


def evaluation_of_run(records: Records, run: dg.DagsterRun) -> EvaluationRecord | None:
    """The evaluation that a Dagster run still has open, or None."""
    key = run.tags.get("dagster/partition")
    if key is None:
        return None
    for record in records.of_model(key):
        if record.run and record.run.dagster_run_id == run.run_id:
            return record if record.state is Status.RUNNING else None
    return None


def dead_runs(instance: dg.DagsterInstance) -> list[DeadRun]:
    """Open Dagster runs of this machine whose process is gone.

    Dagster's code server notices when the process of a run dies, but not when it died with it. A
    run that was launched and has not begun has no process yet; Dagster gives it up after a while.
    """
    dead = []
    for run in instance.get_runs(filters=dg.RunsFilter(statuses=list(_OPEN))):
        process = ProcessIdentity.of_run(run.run_id, dict(run.tags))
        if process is not None and process.gone:
            dead.append(DeadRun(run.run_id, process.pid))
    return dead


def orphaned(
    instance: dg.DagsterInstance, records: Records
) -> Iterator[tuple[EvaluationRecord, Status | dg.DagsterRunStatus]]:
    """Evaluations that say RUNNING although their Dagster run is over or unknown, and its end."""
    for record in records.all():
        if record.run is None or record.state is not Status.RUNNING:
            continue
        run = instance.get_run_by_id(record.run.dagster_run_id)
        if run is None:
            if record.run.process.gone:
                yield record, Status.FAILED
        elif run.is_finished:
            yield record, run.status
