"""Catching MLflow up with the records: after it was away, or after its database was lost."""

from collections.abc import Sequence
from dataclasses import dataclass

from hc_orchestration.errors import TrackingError
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.projection import MlflowProjection, Record


@dataclass(frozen=True, slots=True)
class Untold:
    """A record that MLflow could not be told of.

    Attributes:
        kind: evaluation, corpus or comparison.
        identity: The id of the record.
    """

    kind: str
    identity: str
    reason: str


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a synchronisation did.

    Attributes:
        projected: Ids of the records that MLflow lacked, wholly or in part, and has now.
        current: Records that it had already.
        failed: Records that it could not be told of.
    """

    projected: tuple[str, ...]
    current: int
    failed: tuple[Untold, ...]


def lacking(workspace: Workspace) -> list[Record]:
    """Records of which MLflow was not told everything, oldest first, by what we wrote down."""
    return [record for record in _known(workspace) if not record.projected]


def synchronize(
    workspace: Workspace, projection: MlflowProjection, *, ask_mlflow: bool
) -> SyncReport:
    """Tell MLflow what it lacks; what it has already is left as it is.

    Args:
        workspace: Holds the records.
        projection: The writer of the MLflow store.
        ask_mlflow: Look into MLflow for every record too, instead of trusting what we wrote down:
            finds the runs of a database that was lost.
    """
    known = _known(workspace)
    shown_rows = _rows_shown(projection, known) if ask_mlflow else None
    projected: list[str] = []
    failed: list[Untold] = []
    for record in known:
        complete = shown_rows is None or shown_rows.get(record.identity) == record.rows
        if record.projected and complete:
            continue
        try:
            shown = projection.project(record)
        except TrackingError as error:
            failed.append(Untold(record.kind, record.identity, str(error)))
            continue
        if isinstance(record, EvaluationRecord):
            workspace.records.append_shown(record, shown)
        else:
            workspace.materializations.append_shown(record, shown)
        projected.append(record.identity)
    current = len(known) - len(projected) - len(failed)
    return SyncReport(tuple(projected), current, tuple(failed))


def _known(workspace: Workspace) -> list[Record]:
    """Corpora and comparisons, then the evaluations that have begun; each oldest first."""
    begun = [record for record in reversed(workspace.records.all()) if record.run]
    return [*workspace.materializations.all(), *begun]


def _rows_shown(projection: MlflowProjection, known: Sequence[Record]) -> dict[str, int]:
    """What MLflow shows completely, looked up once for each experiment."""
    rows: dict[str, int] = {}
    for experiment in {record.experiment for record in known if record.experiment}:
        rows |= projection.rows_shown(experiment)
    return rows
