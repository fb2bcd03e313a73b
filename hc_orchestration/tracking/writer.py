"""Writing a run into its store: the connection, the thinned history, and the batched writer."""

import csv
import os
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, TypeVar

from hc_orchestration.errors import TrackingError
from hc_orchestration.tracking.client import (
    MlflowStore,
    creation_lock,
    experiment_id,
    guarded,
    open_client,
)
from hc_orchestration.tracking.config import MLFlowConfig
from hc_orchestration.tracking.sections import Section, SectionLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
Point = tuple[str, float, int, int]
"""Name, value, time (ms since the epoch), step."""

RETRY_AFTER_S = 30.0
_BATCH = 500
_PARAMS_A_BATCH = 100
_SEND_EVERY_S = 5.0
_sqlite_locks: dict[str, SectionLock] = {}


class Connection:
    """An open store and the id of an experiment in it."""

    def __init__(self, store: MlflowStore, config: MLFlowConfig) -> None:
        """Open the store; schema and experiment exist from then on.

        Raises:
            TrackingError: The store cannot be reached.
        """
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        try:
            store.home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._client = open_client(store)
            if config.artifact_location is not None:
                self._make_experiment(store, config.experiment_name, config.artifact_location)
            self.experiment = experiment_id(self._client, store, config.experiment_name)
        except OSError as error:
            message = f"MLflow: {store.home} cannot be written ({type(error).__name__})."
            raise TrackingError(message) from None
        # SQLite takes one writer; others would wait in its busy loop, and in the end fail.
        local = store.tracking_uri.startswith("sqlite:")
        lock = _sqlite_locks.setdefault(store.tracking_uri, SectionLock()) if local else Section()
        self._lock: Section = lock
        self._silence = store.silence
        self._pid = os.getpid()

    def call(self, call: "Callable[[MlflowClient], T]") -> T:
        """The result of a call.

        Raises:
            TrackingError: It failed.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._after_fork()
            with self._silence.heeded():
                return guarded(lambda: call(self._client))

    def _after_fork(self) -> None:
        """Forget database connections that the parent process still uses."""
        store = self._client._tracking_client.store  # noqa: SLF001 - MLflow offers no other way
        if (engine := getattr(store, "engine", None)) is not None:
            engine.dispose(close=False)
        self._pid = os.getpid()

    def _make_experiment(self, store: MlflowStore, name: str, location: str) -> None:
        uri = location if "://" in location else Path(location).absolute().as_uri()
        with creation_lock(store):
            if guarded(lambda: self._client.get_experiment_by_name(name)) is None:
                guarded(lambda: self._client.create_experiment(name, artifact_location=uri))


class _Series:
    """The points of one metric: how many there were, and the last one if it was not sent."""

    __slots__ = ("count", "first", "name", "unsent")

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = 0
        self.first: list[Point] = []
        self.unsent: Point | None = None


class History:
    """Thins long metrics: MLflow gets a chart, and an artifact has every point."""

    def __init__(self, limit: int | None) -> None:
        """Thin a metric beyond `limit` points; none is thinned if it is None."""
        self._limit = limit
        self._series: dict[str, _Series] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._file: TextIO | None = None
        self._rows: Callable[[tuple[object, ...]], object]

    def series(self, name: str) -> _Series | None:
        """The points of a metric, None before its first one."""
        return self._series.get(name)

    def new_series(self, name: str, mlflow_name: str) -> _Series:
        """Begin a metric, which MLflow knows as `mlflow_name`."""
        made = self._series[name] = _Series(mlflow_name)
        return made

    def add(self, series: _Series, point: Point) -> bool:
        """Whether to send the point now: the first `limit`; then every 2nd, every 4th and so on."""
        series.count += 1
        if self._limit is None:
            return True
        if series.count <= self._limit:
            series.first.append(point)
            return True
        self._write(series.first, point)
        stride = 1 << ((series.count - 1) // self._limit).bit_length()
        sent = series.count % stride == 0
        series.unsent = None if sent else point
        return sent

    def unsent(self) -> list[Point]:
        """The last points of the metrics where they were not sent."""
        return [series.unsent for series in self._series.values() if series.unsent is not None]

    def file(self) -> Path | None:
        """The file with all points of the metrics that were thinned, complete."""
        if self._file is None:
            return None
        self._file.close()
        return Path(self._file.name)

    def remove(self) -> None:
        """Remove the file."""
        if self._folder is not None:
            self._folder.cleanup()

    def _write(self, first: list[Point], point: Point) -> None:
        if self._file is None:
            self._folder = tempfile.TemporaryDirectory(prefix="hc-metrics-")
            path = Path(self._folder.name) / "metric_history.csv"
            self._file = path.open("w", encoding="utf-8", newline="")
            self._rows = csv.writer(self._file).writerow
            self._rows(("name", "value", "time_ms", "step"))
        for earlier in first:
            self._rows(earlier)
        first.clear()
        self._rows(point)


class Writer:
    """Sends what a run holds in batches, keeps what could not be sent, and says what is missing.

    What is held is guarded by `lock`, which is never kept during a store call: while one thread
    sends, the others go on, and it takes along what they add.
    """

    def __init__(self, connection: Connection, run_id: str) -> None:
        """Hold what is logged into the run `run_id`, and send it through `connection`."""
        self._connection = connection
        self.run_id = run_id
        self.lock = SectionLock()
        self.metrics: list[Point] = []
        self.params: dict[str, str] = {}
        self.tags: dict[str, str] = {}
        self._sending = SectionLock()
        self._missing: list[str] = []
        self._failure = ""
        self._sent_at = time.monotonic()
        self._retry_at = 0.0

    def send_if_due(self) -> None:
        """Send a full batch, or what has waited for some seconds."""
        if len(self.metrics) >= _BATCH or time.monotonic() - self._sent_at > _SEND_EVERY_S:
            self.send()

    def send(self) -> None:
        """Send what there is, unless another thread does or the store has just failed."""
        if time.monotonic() >= self._retry_at and self._sending.try_enter():
            try:
                self._send_all()
            finally:
                self._sending.__exit__()

    def artifact(self, name: str, call: "Callable[[MlflowClient], None]") -> None:
        """Send an artifact, or note that it is missing."""
        try:
            self._connection.call(call)
        except TrackingError as error:
            self._failure = str(error)
            self._missing.append(f"artifact {name}")

    def wait(self, seconds: float) -> bool:
        """Whether no thread was sending any more within so many seconds."""
        free = self._sending.try_enter(seconds)
        if free:
            self._sending.__exit__()
        return free

    def end(self, status: str) -> list[str]:
        """Send the rest and the status; returns what is missing, with the reason last."""
        with self._sending:
            self._send_all()
        try:
            self._connection.call(lambda client: client.set_terminated(self.run_id, status))
        except TrackingError as error:
            self._failure = str(error)
            self._missing.append(f"status {status}")
        if self.metrics:
            self._missing.append(f"{len(self.metrics)} metric points")
        self._missing += [f"param {name}" for name in self.params]
        self._missing += [f"tag {name}" for name in self.tags]
        return [*self._missing, self._failure] if self._missing else []

    def _send_all(self) -> None:
        try:
            while self.metrics or self.params or self.tags:
                self._send_batch()
        except TrackingError as error:
            self._failure = str(error)
            self._retry_at = time.monotonic() + RETRY_AFTER_S
        self._sent_at = time.monotonic()

    def _send_batch(self) -> None:
        """Send at most one batch; what was sent is let go only then, whatever is raised before."""
        from mlflow.entities import Metric, Param, RunTag

        with self.lock:
            metrics = self.metrics[:_BATCH]
            params = dict(islice(self.params.items(), _PARAMS_A_BATCH))
            tags = dict(islice(self.tags.items(), _PARAMS_A_BATCH))
        self._connection.call(
            lambda client: client.log_batch(
                self.run_id,
                metrics=[Metric(*point) for point in metrics],
                params=[Param(*item) for item in params.items()],
                tags=[RunTag(*item) for item in tags.items()],
            )
        )
        with self.lock:
            del self.metrics[: len(metrics)]
            for name in params:
                del self.params[name]
            for name, value in tags.items():
                if self.tags[name] == value:  # else it was set anew meanwhile
                    del self.tags[name]
