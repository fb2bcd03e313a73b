"""Opening an MLflow store: schema and experiment are made once, under a lock, before any writer."""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from filelock import FileLock

from hc_orchestration.errors import HcError, TrackingError, TrackingTimeoutError
from hc_orchestration.home import private_folder
from hc_orchestration.tracking.empty_database import begin_with_copy
from hc_orchestration.tracking.silence import Silence

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
HTTP_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
}
"""A silent server costs 30 s a call with these; with MLflow's own, 8 attempts of 120 s.

Our largest request, 500 metrics, takes a server a tenth of a second; who has a slower one sets the
variables. A server that is away for longer than one retry is caught up with later.
"""
_DESCRIPTION = (
    "Clinical NER models, kept by hc_orchestration. The tag `hc.kind` tells the runs apart: "
    "`evaluation` (one a model and corpus version; compare `strict.f1` with its support), `corpus` "
    "and `comparison` are kept up to date from the deployment's own records; `tracked` and "
    "`inference` are logged by code. The artifact `fhir_provenance.json` of an evaluation says "
    "what was evaluated on what."
)
_NOTE_TAG = "mlflow.note.content"
_SQLITE = "sqlite:///"


@dataclass(frozen=True, slots=True)
class MlflowStore:
    """Where to track.

    Attributes:
        tracking_uri: May hold credentials: never shown.
        home: Local artifacts and lock files go below it.
        url: Root of the MLflow web page, for links.
    """

    tracking_uri: str
    home: Path
    url: str

    @property
    def served(self) -> bool:
        """Whether a server writes it; else this process does, with SQL of its own."""
        return self.tracking_uri.startswith(("http:", "https:"))

    @property
    def silence(self) -> Silence:
        """Whether it was silent lately."""
        return Silence(self.tracking_uri, self.home)


def sqlite_file(tracking_uri: str) -> Path | None:
    """The file of a SQLite store, relative where the URI is; None for every other store."""
    if not tracking_uri.startswith(_SQLITE):
        return None
    return Path(tracking_uri.removeprefix(_SQLITE).partition("?")[0])


def open_client(store: MlflowStore) -> "MlflowClient":
    """A client of the store, whose schema exists from then on.

    Raises:
        TrackingError: The store cannot be reached.
    """
    client = load_mlflow()
    with creation_lock(store):
        if (database := sqlite_file(store.tracking_uri)) is not None:
            begin_with_copy(database)
        return guarded(lambda: client(tracking_uri=store.tracking_uri))


def load_mlflow() -> "type[MlflowClient]":
    """Import MLflow, which takes seconds, with what it reads from the environment set for us.

    Raises:
        TrackingError: It cannot be imported.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    for name, value in HTTP_DEFAULTS.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    # When a SQL store fails, MLflow logs the statement with its parameter values.
    logging.getLogger("mlflow.store").setLevel(logging.CRITICAL)

    def load() -> "type[MlflowClient]":
        from mlflow import MlflowClient

        return MlflowClient

    return guarded(load)


@contextmanager
def creation_lock(store: MlflowStore) -> Iterator[None]:
    """Held while something is looked for and made, so that two processes do not both make it.

    Whoever waited for one that found the server silent does not try it too.

    Raises:
        TrackingError: The server was silent lately.
    """
    with FileLock(private_folder(store.home / "locks") / "mlflow.lock"), store.silence.heeded():
        yield


def experiment_id(client: "MlflowClient", store: MlflowStore, name: str) -> str:
    """The id of the experiment, made if it is not there; a deleted one is restored.

    One that others made without a description gets ours.

    Raises:
        TrackingError: The store refused.
    """
    artifacts = None if store.served else (store.home / "mlflow-artifacts").as_uri()
    with creation_lock(store):
        found = guarded(lambda: client.get_experiment_by_name(name))
        if found is None:
            tags = {
                "mlflow.experimentKind": "custom_model_development",
                _NOTE_TAG: _DESCRIPTION,
            }
            return guarded(
                lambda: client.create_experiment(name, artifact_location=artifacts, tags=tags)
            )
        if found.lifecycle_stage == "deleted":
            guarded(lambda: client.restore_experiment(found.experiment_id))
        if _NOTE_TAG not in found.tags:
            guarded(lambda: client.set_experiment_tag(found.experiment_id, _NOTE_TAG, _DESCRIPTION))
        return str(found.experiment_id)


def guarded(call: Callable[[], T]) -> T:
    """The result of an MLflow call, its many exceptions turned into one of ours.

    Raises:
        TrackingTimeoutError: The store did not answer in time.
        TrackingError: The call failed; the message holds the exception's class, not its words,
            which may repeat a tracking URI with credentials.
    """
    try:
        return call()
    except TrackingError:
        raise
    except HcError as error:
        raise TrackingError(str(error)) from None
    except Exception as error:  # noqa: BLE001 - drivers and stores raise whatever they like
        if _timed_out(error):
            message = "MLflow did not answer in time (MLFLOW_HTTP_REQUEST_TIMEOUT, in seconds)."
            raise TrackingTimeoutError(message) from None
        code = getattr(error, "error_code", None)
        detail = f" ({code})" if isinstance(code, str) else ""
        message = f"MLflow failed: {type(error).__name__}{detail}. Is the tracking store reachable?"
        raise TrackingError(message) from None


def _timed_out(error: BaseException) -> bool:
    """Whether a time limit is at the bottom of what was raised."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, TimeoutError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
