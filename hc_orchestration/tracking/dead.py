"""Closing tracked runs that say RUNNING while the process that opened them is gone."""

from functools import partial
from typing import TYPE_CHECKING

from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.tracking.client import MlflowStore, guarded, open_client

if TYPE_CHECKING:
    from mlflow.entities import Run

_KINDS = ("tracked", "inference")


def dead_tracked_runs(store: MlflowStore) -> "list[Run]":
    """Open runs of the tracking API whose process, on this machine, lives no more.

    Evaluations are not among them: their own records say how they ended.

    Raises:
        TrackingError: MLflow could not be reached.
    """
    client = open_client(store)
    experiments = [e.experiment_id for e in guarded(client.search_experiments)]
    found: list[Run] = []
    for kind in _KINDS:
        where = f"attributes.status = 'RUNNING' and tags.`hc.kind` = '{kind}'"
        runs = guarded(partial(client.search_runs, experiments, where, max_results=1_000))
        found += [run for run in runs if _gone(run)]
    return found


def close_tracked_runs(store: MlflowStore, runs: "list[Run]") -> None:
    """Set the runs to KILLED, saying why.

    Raises:
        TrackingError: MLflow could not be reached.
    """
    client = open_client(store)
    for run in runs:
        run_id = run.info.run_id
        guarded(partial(client.set_tag, run_id, "error.class", "ProcessDied"))
        guarded(partial(client.set_terminated, run_id, "KILLED"))


def _gone(run: "Run") -> bool:
    process = ProcessIdentity.from_tags(run.data.tags)
    return process is not None and process.gone
