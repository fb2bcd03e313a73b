"""Catching MLflow up with the records: after it was away, or after its database was lost."""

from dataclasses import dataclass

from hc_orchestration.errors import TrackingError
from hc_orchestration.storage.records import EvaluationRecord, Records
from hc_orchestration.tracking.projection import MlflowProjection


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a synchronisation did.

    Attributes:
        projected: Evaluations that MLflow lacked, wholly or in part, and has now.
        current: Evaluations that it had already.
        failed: Evaluation id and reason of those that it could not be told.
    """

    projected: tuple[str, ...]
    current: int
    failed: tuple[tuple[str, str], ...]


def lacking(records: Records) -> list[EvaluationRecord]:
    """Records of which MLflow was not told everything, oldest first, by what we wrote down."""
    return [record for record in reversed(records.all()) if record.run and not record.projected]


def synchronize(records: Records, projection: MlflowProjection, *, ask_mlflow: bool) -> SyncReport:
    """Tell MLflow what it lacks; what it has already is left as it is.

    Args:
        records: The evaluation records.
        projection: The writer of the MLflow store.
        ask_mlflow: Look into MLflow for every evaluation too, instead of trusting what we wrote
            down: finds the runs of a database that was lost.
    """
    known = [record for record in reversed(records.all()) if record.run]
    shown_rows = _rows_shown(projection, known) if ask_mlflow else None
    projected: list[str] = []
    failed: list[tuple[str, str]] = []
    for record in known:
        complete = shown_rows is None or shown_rows.get(record.evaluation_id) == record.rows
        if record.projected and complete:
            continue
        try:
            shown = projection.project(record)
        except TrackingError as error:
            failed.append((record.evaluation_id, str(error)))
            continue
        records.append(record.evaluation_id, record.model_key, shown)
        projected.append(record.evaluation_id)
    current = len(known) - len(projected) - len(failed)
    return SyncReport(tuple(projected), current, tuple(failed))


def _rows_shown(projection: MlflowProjection, known: list[EvaluationRecord]) -> dict[str, int]:
    """What MLflow shows completely, looked up once for each experiment."""
    rows: dict[str, int] = {}
    for experiment in {record.run.experiment for record in known if record.run}:
        rows |= projection.rows_shown(experiment)
    return rows
