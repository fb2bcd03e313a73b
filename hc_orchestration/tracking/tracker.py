"""Runs of the tracking API: opening, logging into and truly closing them, from any thread or task.

Only `MlflowClient` and explicit ids are used. The current run is a context variable, so threads and
asyncio tasks have their own; nothing happens at exit, and a run left open there says by its tags
which process is dead.
"""

import csv
import logging
import math
import os
import signal
import tempfile
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, Self, TextIO, TypeVar

from hc_orchestration.errors import TrackingError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.guard import redacted_error, screen_context
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.tracking.client import (
    MlflowStore,
    creation_lock,
    experiment_id,
    guarded,
    open_client,
)
from hc_orchestration.tracking.config import (
    DEFAULT_EXPERIMENT,
    Fitter,
    MLFlowConfig,
    OnUnavailable,
    is_mlflow_available,
    metric_value,
)
from hc_orchestration.tracking.names import LONGEST_PARAM, LONGEST_TAG, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")
Point = tuple[str, float, int, int]
"""Name, value, time (ms since the epoch), step."""

TRACKED = "tracked"
INFERENCE = "inference"
_BATCH = 500
_PARAMS_A_BATCH = 100
_SEND_EVERY_S = 5.0
_RETRY_AFTER_S = 30.0
_LOCK_WAIT_S = 5.0
_log = logging.getLogger(__name__)


class _Sections(threading.local):
    """Keeps the signal handlers and finalizers of a thread out of its own store calls.

    They run between two instructions of whatever the thread is doing. In the middle of a database
    transaction of the same thread, a second one would wait for itself.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def run(self, call: Callable[[], None]) -> None:
        """Call now, or as soon as the thread has left its section."""
        if self.depth:
            self._waiting.append(call)
        else:
            call()

    def leave(self) -> None:
        self.depth -= 1
        while not self.depth and self._waiting:
            self._waiting.popleft()()


_sections = _Sections()


class _Section:
    """Store calls of a thread that nothing of the same thread may begin in the middle of."""

    def __enter__(self) -> None:
        _sections.depth += 1

    def __exit__(self, *_: object) -> None:
        _sections.leave()


class SectionLock(_Section):
    """A reentrant lock that is a section too, so that no handler finds it taken by its thread."""

    def __init__(self) -> None:
        """Make it, open."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        """Wait for the lock."""
        super().__enter__()
        try:
            self._lock.acquire()
        except BaseException:
            super().__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        """Let go of the lock, then run what waited."""
        self._lock.release()
        super().__exit__()

    def try_enter(self, seconds: float = 0.0) -> bool:
        """Enter if the lock can be had within so many seconds; whoever has it calls `__exit__`."""
        super().__enter__()
        if self._lock.acquire(timeout=seconds):
            return True
        super().__exit__()
        return False


class _OpenRuns:
    """The open runs of this process; while there are any, SIGTERM closes them as KILLED.

    The handler is set only in the place of the default one, and only from the main thread, which is
    the only one that may. A process forked from this one inherits both, but none of the runs.
    """

    def __init__(self) -> None:
        self._runs: dict[str, TrackedRun] = {}
        self._lock = SectionLock()
        self._being_made = 0
        self._terminated = False
        self._dying = False

    def get(self, key: str) -> "TrackedRun | None":
        return self._runs.get(key)

    def keys(self) -> frozenset[str]:
        return frozenset(self._runs)

    def add(self, run: "TrackedRun") -> None:
        self._runs[run.key] = run

    @contextmanager
    def making_one(self) -> Iterator[None]:
        """A run is made inside; once the process is to die, its other threads wait here for it."""
        with self._lock:
            dying = self._dying
            self._being_made += not dying
        if dying:
            threading.Event().wait()
        try:
            yield
        finally:
            with self._lock:
                self._being_made -= 1

    def discard(self, run: "TrackedRun") -> None:
        self._runs.pop(run.key, None)
        self.relax()

    def watch(self) -> None:
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_signal)

    def relax(self) -> None:
        ours = _in_main_thread() and signal.getsignal(signal.SIGTERM) == self._on_signal
        if ours and not self._runs:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._terminated:  # asked a second time: no more waiting
            self._die()
        self._terminated = True
        _sections.run(self._close_and_die)

    def _close_and_die(self) -> None:
        with self._lock:
            self._dying = True
        until = time.monotonic() + _LOCK_WAIT_S
        while self._being_made and time.monotonic() < until:
            time.sleep(0.005)
        for run in list(self._runs.values()):
            if run.pid == os.getpid():
                run.terminate()
        self._die()

    def _die(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


open_runs = _OpenRuns()
_stack: ContextVar[tuple["TrackedRun", ...]] = ContextVar("hc_tracked_runs", default=())
_said: set[str] = set()
_sqlite_locks: dict[str, SectionLock] = {}


def runs_here() -> tuple["TrackedRun", ...]:
    """The open runs of this thread or task, the innermost last."""
    return tuple(run for run in _stack.get() if run.is_open)


def enter(run: "TrackedRun") -> None:
    """Make `run` the current one of this thread or task."""
    _stack.set((*runs_here(), run))


def leave(run: "TrackedRun") -> None:
    """Make `run` no longer a current one, whichever context it was entered in."""
    _stack.set(tuple(other for other in _stack.get() if other is not run))


class Scope:
    """The current runs of code that is left and entered again, such as a generator.

    They are current only between `with` and its end, so they never leak into the consumer; what
    the code itself leaves open is there again the next time.
    """

    def __init__(self, run: "TrackedRun") -> None:
        """The runs that are current now, and `run`."""
        self._inner = (*_stack.get(), run)
        self._outer: tuple[TrackedRun, ...] = ()

    def __enter__(self) -> None:
        """Make them current."""
        self._outer = _stack.get()
        _stack.set(self._inner)

    def __exit__(self, *_: object) -> None:
        """Make current again what was before."""
        self._inner = _stack.get()
        _stack.set(self._outer)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: MLflow's status, and tags that say why."""

    status: str
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, error: BaseException | None) -> "Ending":
        """FINISHED; FAILED for an exception; KILLED for what is raised to stop a program or task.

        A generator that its consumer closes early has finished, and says so. The words of a foreign
        exception are withheld: they may quote a note.
        """
        if error is None:
            return cls("FINISHED")
        if isinstance(error, GeneratorExit):
            return cls("FINISHED", {"hc.closed_early": "true"})
        tags = {"error.class": type(error).__name__}
        if not isinstance(error, Exception):  # KeyboardInterrupt, SystemExit, CancelledError
            return cls("KILLED", tags)
        return cls("FAILED", {**tags, "error.message": redacted_error(error)})


_ABANDONED = Ending(
    "FAILED",
    {
        "error.class": "Abandoned",
        "error.message": "The run was started by a component and never ended: "
        "something between start and end raised.",
    },
)
_TERMINATED = Ending("KILLED", {"error.class": "SIGTERM"})


class _Connection:
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
        lock = _sqlite_locks.setdefault(store.tracking_uri, SectionLock()) if local else _Section()
        self._lock: _Section = lock
        self._pid = os.getpid()

    def call(self, call: "Callable[[MlflowClient], T]") -> T:
        """The result of a call.

        Raises:
            TrackingError: It failed.
        """
        with self._lock:
            if self._pid != os.getpid():
                self._after_fork()
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


class _History:
    """Thins long metrics: MLflow gets a chart, and an artifact has every point."""

    def __init__(self, limit: int | None) -> None:
        self._limit = limit
        self._series: dict[str, _Series] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._file: TextIO | None = None
        self._rows: Callable[[tuple[object, ...]], object]

    def series(self, name: str) -> _Series | None:
        return self._series.get(name)

    def new_series(self, name: str, mlflow_name: str) -> _Series:
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
        return [series.unsent for series in self._series.values() if series.unsent is not None]

    def file(self) -> Path | None:
        """The file with all points of the metrics that were thinned, complete."""
        if self._file is None:
            return None
        self._file.close()
        return Path(self._file.name)

    def remove(self) -> None:
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


class _Writer:
    """Sends what a run holds in batches, keeps what could not be sent, and says what is missing.

    What is held is guarded by `lock`, which is never kept during a store call: while one thread
    sends, the others go on, and it takes along what they add.
    """

    def __init__(self, connection: _Connection, run_id: str) -> None:
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
            self._retry_at = time.monotonic() + _RETRY_AFTER_S
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


class TrackedRun:
    """A run; its log methods may be called from any thread until it ends.

    A run that MLflow could not take at the start is untracked: it has no id, and what is logged
    into it is dropped. When the store fails later, the run goes on, keeps what it could not send
    for the next batch, and one warning at the end says what is missing.

    Attributes:
        name: As shown by MLflow.
        run_id: MLflow's id, None when untracked.
        key: Of this process's own; an untracked run has one too.
        artifact_uri: Where its artifacts go, None when untracked.
        config: Of the tracker that opened it.
        pid: The process that opened it; no other one logs into it.
        began: `time.monotonic()` of its opening.
        opened_by: The component that opened it, None for a `with` or a decorator.
        before_end: Called once before it ends, also by SIGTERM, to log what is still held back.
    """

    def __init__(
        self,
        config: MLFlowConfig,
        fitter: Fitter,
        name: str | None,
        writer: _Writer | None = None,
        artifact_uri: str | None = None,
    ) -> None:
        """A run that is open; `MLFlowTracker.open_run` makes them."""
        self.name = name
        self.run_id = writer.run_id if writer else None
        self.key = uuid.uuid4().hex
        self.artifact_uri = artifact_uri
        self.config = config
        self.pid = os.getpid()
        self.began = time.monotonic()
        self.opened_by: object | None = None
        self.before_end: Callable[[], None] | None = None
        self._writer = writer
        self._lock = writer.lock if writer else SectionLock()
        self._is_open = True
        self._ended = threading.Event()
        self._fitter = fitter
        self._history = _History(config.metric_points)
        self._params: dict[str, str] = {}
        self._undefined: Counter[str] = Counter()
        self._calls: Counter[object] = Counter()

    @property
    def is_open(self) -> bool:
        """Whether it has not ended."""
        return self._is_open

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Log one value of a metric; see `log_metrics`."""
        self.log_metrics({name: value}, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics; they are sent in batches. Zero is a value, NaN and infinity are not.

        What is not finite is left out, and counted in the tag `hc.undefined_metrics`.

        Raises:
            TrackingError: The run has ended, or a value is no number.
        """
        self.hold(metrics=metrics, step=step)
        if self._writer is not None:
            self._writer.send_if_due()

    def log_param(self, name: str, value: object) -> None:
        """Log one param; see `log_params`."""
        self.log_params({name: value})

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params, and send them now.

        MLflow never changes a param. The same value again is nothing; another one becomes the tag
        `param.<name>`, with a warning.

        Raises:
            TrackingError: The run has ended, or the policy is to fail at MLflow's limits.
        """
        self.hold(params=params)
        self._send()

    def set_tag(self, name: str, value: object) -> None:
        """Set one tag, and send it now."""
        self.set_tags({name: value})

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags, and send them now.

        Raises:
            TrackingError: The run has ended, or the policy is to fail at MLflow's limits.
        """
        self.hold(tags=tags)
        self._send()

    def hold(
        self,
        metrics: Mapping[str, float] | None = None,
        step: int | None = None,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
    ) -> None:
        """Log with the next batch that is sent, and make no store call now.

        Raises:
            TrackingError: The run has ended, a value is no number, or the policy is to fail at
                MLflow's limits.
        """
        if (writer := self._usable()) is None:
            return
        at = (int(time.time() * 1000), int(step or 0))
        with self._lock:
            if metrics:
                for name, value in metrics.items():
                    self._add_metric(writer, name, metric_value(name, value), at)
            if params:
                for name, text in params.items():
                    self._add_param(writer, name, text)
            if tags:
                writer.tags |= self._fitter.tags(tags)

    def log_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Copy a file to the run's artifacts, into the folder `artifact_path`.

        Raises:
            TrackingError: The run has ended, or there is no such file.
        """
        path = _existing(local_path)
        self._artifact(path.name, lambda c, r: c.log_artifact(r, str(path), artifact_path))

    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Copy what is in a folder to the run's artifacts, into the folder `artifact_path`.

        Raises:
            TrackingError: The run has ended, or there is no such folder.
        """
        path = _existing(local_dir)
        self._artifact(path.name, lambda c, r: c.log_artifacts(r, str(path), artifact_path))

    def log_dict(self, dictionary: Mapping[str, Any], artifact_file: str) -> None:
        """Log values as a JSON (or, by the name's ending, YAML) artifact."""
        values = dict(dictionary)
        self._artifact(artifact_file, lambda c, r: c.log_dict(r, values, artifact_file))

    def log_text(self, text: str, artifact_file: str) -> None:
        """Log a text as an artifact."""
        self._artifact(artifact_file, lambda c, r: c.log_text(r, text, artifact_file))

    def log_healthcare_context(self, context: HealthcareRunContext) -> None:
        """Log cohort, purpose and sources as params, with the FHIR Provenance as an artifact.

        Raises:
            IdentifierError: The context looks as if it named a person; nothing of it is logged.
            ProvenanceError: It makes no valid Provenance.
        """
        refuse_identifiers(context)
        if self._usable() is None:
            return
        provenance = context.to_fhir_provenance().model_dump_json(exclude_none=True)
        self.log_params(context_params(context))
        self.log_dict(context.to_dict(), "healthcare_context.json")
        self.log_text(provenance, "fhir_provenance.json")

    def flush(self) -> None:
        """Send now what is held for the next batch; nothing once the run has ended."""
        if self._is_open:
            self._send()

    def next_call(self, counter: object) -> int:
        """How many times, this one included, `counter` has asked during this run."""
        with self._lock:
            self._calls[counter] += 1
            return self._calls[counter]

    @contextmanager
    def lifetime(self) -> Iterator[Self]:
        """End the run with the code inside, truthfully however that ends."""
        try:
            yield self
        except BaseException as error:
            self.close(error)
            raise
        self.close()

    def close(self, error: BaseException | None = None) -> None:
        """End the run: FINISHED, or what `error` makes it. A second call does nothing."""
        self._end(Ending.of(error))

    def abandon(self) -> None:
        """End, as FAILED, a run whose end will not come any more."""
        self._end(_ABANDONED)

    def terminate(self) -> None:
        """End, as KILLED, a run of a process that is about to die, unless a thread is stuck."""
        if not self._is_open:  # another thread is ending it
            self._ended.wait(_LOCK_WAIT_S)
        elif self._writer is None or self._writer.wait(_LOCK_WAIT_S):
            self._end(_TERMINATED)

    def _end(self, ending: Ending) -> None:
        _sections.run(partial(self._end_now, ending))

    def _end_now(self, ending: Ending) -> None:
        with self._lock:
            last, self.before_end = self.before_end, None
        if last is not None:
            try:
                last()
            except TrackingError as error:  # the run ends all the same
                _log.warning("run %s: %s", self.name, error)
        with _Section():
            with self._lock:
                if not self._is_open:
                    return
                self._is_open = False
                self._hold_last(ending)
            try:
                missing = self._write_end(ending)
            finally:
                self._ended.set()
                open_runs.discard(self)
        if missing:
            *things, reason = missing
            listed = ", ".join(things)
            _log.warning("run %s: MLflow lacks %s. %s", self.name, listed, reason)

    def _hold_last(self, ending: Ending) -> None:
        if (writer := self._writer) is None:
            return
        writer.metrics += self._history.unsent()
        writer.tags |= {k: shortened(value, LONGEST_TAG) for k, value in ending.tags.items()}
        if self._undefined:
            counts = ", ".join(f"{name} ({n})" for name, n in sorted(self._undefined.items()))
            writer.tags["hc.undefined_metrics"] = shortened(counts, LONGEST_TAG)

    def _write_end(self, ending: Ending) -> list[str]:
        """Send all that is left; returns what could not be sent, with the reason last."""
        writer = self._writer
        if writer is None or self.pid != os.getpid():
            return []
        if (path := self._history.file()) is not None:
            writer.artifact(path.name, lambda c: c.log_artifact(writer.run_id, str(path)))
        if renamed := self._fitter.renamed:
            file = "metric_names.json"
            writer.artifact(file, lambda c: c.log_dict(writer.run_id, renamed, file))
        self._history.remove()
        return writer.end(ending.status)

    def _usable(self) -> _Writer | None:
        """The writer, or None if what is logged here is dropped.

        Raises:
            TrackingError: The run has ended.
        """
        if not self._is_open:
            message = f"run {self.name}: it has ended; nothing more can be logged into it"
            raise TrackingError(message)
        if self.pid != os.getpid():
            _warn_once(
                "forked",
                "A run is not shared with other processes: what this worker process logs into the "
                "run of its parent is dropped. Start a run in the worker, or log in the parent.",
            )
            return None
        return self._writer

    def _add_metric(self, writer: _Writer, name: str, value: float, at: tuple[int, int]) -> None:
        if not math.isfinite(value):
            self._undefined[name] += 1
            return
        series = self._history.series(name)
        if series is None:
            series = self._history.new_series(name, self._fitter.name(name))
        point = (series.name, value, *at)
        if self._history.add(series, point):
            writer.metrics.append(point)

    def _add_param(self, writer: _Writer, name: str, value: object) -> None:
        fitted = self._fitter.name(name)
        text = self._fitter.value(name, value, LONGEST_PARAM)
        known = self._params.setdefault(fitted, text)
        if known is text:
            writer.params[fitted] = text
        elif known != text:
            _log.warning(
                "run %s: param %s has a value already, and MLflow changes none; the new one is "
                "the tag param.%s",
                self.name,
                name,
                name,
            )
            writer.tags |= self._fitter.tags({f"param.{name}": text})

    def _send(self) -> None:
        if self._writer is not None:
            self._writer.send()

    def _artifact(self, name: str, call: "Callable[[MlflowClient, str], None]") -> None:
        if (writer := self._usable()) is not None:
            writer.artifact(name, lambda client: call(client, writer.run_id))


def _existing(path: str | Path) -> Path:
    if not Path(path).exists():
        message = f"artifact {path}: there is no such file or folder"
        raise TrackingError(message)
    return Path(path)


def refuse_identifiers(context: HealthcareRunContext) -> None:
    """Screen a context; the moment of its recording is an exact date, but of nobody's.

    Raises:
        IdentifierError: It looks as if it named a person or a very small group.
    """
    screen_context(context.model_copy(update={"recorded": None}))


def context_params(context: HealthcareRunContext) -> dict[str, str]:
    """A healthcare context as MLflow params; what is not known is left out."""
    params: dict[str, object] = {
        "model_id": context.model_id,
        "model_version": context.version,
        "organization": context.organization,
        "purpose": context.purpose,
        "data_sources": "; ".join(context.data_sources),
        "regulatory_tags": "; ".join(context.regulatory_tags),
    }
    if (patients := context.patient_context) is not None:
        params |= {
            "patient_cohort": patients.cohort,
            "patient_age_range": patients.age_range,
            "patient_sample_size": patients.sample_size,
            "inclusion_criteria": "; ".join(patients.inclusion_criteria),
            "exclusion_criteria": "; ".join(patients.exclusion_criteria),
        }
    params |= {f"custom.{name}": value for name, value in context.custom_metadata.items()}
    known = {name: value for name, value in params.items() if value is not None and value != ""}
    return {f"healthcare.{name}": str(value) for name, value in known.items()}


def _warn_once(cause: str, message: str) -> None:
    if cause not in _said:
        _said.add(cause)
        _log.warning(message)


class MLFlowTracker:
    """Opens runs in one experiment of one store, and logs into the current one."""

    def __init__(self, config: MLFlowConfig | None = None) -> None:
        """Track as `config` says; nothing is opened before the first run."""
        self.config = config or MLFlowConfig()
        self._lock = SectionLock()
        self._connection: _Connection | None = None
        self._next_try = 0.0

    @classmethod
    def from_config(cls, config: MLFlowConfig) -> Self:
        """A tracker for `config`."""
        return cls(config)

    def __reduce__(self) -> tuple[type[Self], tuple[MLFlowConfig]]:
        """Pickled (as spaCy does for worker processes) as its configuration."""
        return type(self), (self.config,)

    @contextmanager
    def start_run(
        self,
        run_name: str | None = None,
        tags: Mapping[str, object] | None = None,
        nested: bool = False,  # noqa: FBT001, FBT002 - MLflow's own signature
        description: str | None = None,
    ) -> Iterator[TrackedRun]:
        """A run as long as the code inside, and the current one there.

        Inside another run of the same experiment it becomes that one's child, and the other goes on
        afterwards; so it does inside a run of another experiment of the store if `nested`.

        Args:
            run_name: Shown by MLflow, which makes one up by default.
            tags: Beside those of the configuration.
            nested: Whether to become a child also of a run in another experiment.
            description: Markdown, shown at the top of the run's page.

        Yields:
            The run, with the same log methods, which also work in other threads.

        Raises:
            TrackingError: The store is away and the configuration says that this is an error.
        """
        note = {"mlflow.note.content": description} if description else {}
        run = self.open_run(run_name, {**note, **(tags or {})}, nested=nested)
        with run.lifetime():
            enter(run)
            try:
                yield run
            finally:
                leave(run)

    def open_run(
        self,
        run_name: str | None = None,
        tags: Mapping[str, object] | None = None,
        *,
        nested: bool = False,
        kind: str = TRACKED,
    ) -> TrackedRun:
        """A run that its caller closes, and makes the current one if it is to be.

        Raises:
            TrackingError: The store is away and the configuration says that this is an error.
        """
        all_tags = {
            **self.config.tags,
            **self._parent_tag(nested=nested),
            **(tags or {}),
            **ProcessIdentity.current().as_tags(),
            "hc.kind": kind,
        }
        fitter = Fitter(self.config.limits)
        fitted = fitter.tags(all_tags)
        if (connection := self._connected()) is not None:
            open_runs.watch()
            try:
                return self._create(connection, fitter, run_name, fitted)
            except TrackingError as error:
                self._unavailable(str(error))
            finally:
                open_runs.relax()
        return TrackedRun(self.config, fitter, run_name)

    def current_run(self) -> TrackedRun | None:
        """The innermost open run of this thread or task in the tracker's experiment, if any."""
        mine = [run for run in runs_here() if run.config.key == self.config.key]
        return mine[-1] if mine else None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Log one value of a metric into the current run; see `TrackedRun.log_metrics`."""
        self._active().log_metric(name, value, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics into the current run; see `TrackedRun.log_metrics`."""
        self._active().log_metrics(metrics, step)

    def log_param(self, name: str, value: object) -> None:
        """Log one param into the current run; see `TrackedRun.log_params`."""
        self._active().log_param(name, value)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params into the current run; see `TrackedRun.log_params`."""
        self._active().log_params(params)

    def set_tag(self, name: str, value: object) -> None:
        """Set one tag of the current run."""
        self._active().set_tag(name, value)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the current run."""
        self._active().set_tags(tags)

    def log_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Copy a file to the artifacts of the current run."""
        self._active().log_artifact(local_path, artifact_path)

    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Copy what is in a folder to the artifacts of the current run."""
        self._active().log_artifacts(local_dir, artifact_path)

    def log_dict(self, dictionary: Mapping[str, Any], artifact_file: str) -> None:
        """Log values as a JSON artifact of the current run."""
        self._active().log_dict(dictionary, artifact_file)

    def log_text(self, text: str, artifact_file: str) -> None:
        """Log a text as an artifact of the current run."""
        self._active().log_text(text, artifact_file)

    def log_healthcare_context(self, context: HealthcareRunContext) -> None:
        """Log a healthcare context into the current run; see `TrackedRun`."""
        self._active().log_healthcare_context(context)

    def get_run_id(self) -> str | None:
        """MLflow's id of the current run; None without one, or when it is untracked."""
        run = self.current_run()
        return None if run is None else run.run_id

    def get_artifact_uri(self) -> str | None:
        """Where the artifacts of the current run are; None without one, or when untracked."""
        run = self.current_run()
        return None if run is None else run.artifact_uri

    def get_experiment_id(self) -> str:
        """MLflow's id of the experiment, which is made if it is not there.

        Raises:
            TrackingError: The store cannot be reached.
        """
        return self._open_store().experiment

    def list_experiments(self) -> list[dict[str, Any]]:
        """The experiments of the store as plain values.

        Raises:
            TrackingError: The store cannot be reached.
        """
        found = self._open_store().call(lambda client: client.search_experiments())
        return [
            {
                "experiment_id": experiment.experiment_id,
                "name": experiment.name,
                "artifact_location": experiment.artifact_location,
                "tags": dict(experiment.tags),
            }
            for experiment in found
        ]

    def list_runs(self, filter_string: str = "", max_results: int = 100) -> list[dict[str, Any]]:
        """The newest runs of the experiment as plain values.

        Args:
            filter_string: In MLflow's search language, such as `attributes.status = 'FAILED'`.
            max_results: At most so many.

        Raises:
            TrackingError: The store cannot be reached.
        """
        store = self._open_store()
        found = store.call(
            lambda client: client.search_runs([store.experiment], filter_string, 1, max_results)
        )
        return [
            {
                "run_id": run.info.run_id,
                "run_name": run.info.run_name,
                "status": run.info.status,
                "start_time": run.info.start_time,
                "end_time": run.info.end_time,
                "params": dict(run.data.params),
                "metrics": dict(run.data.metrics),
                "tags": dict(run.data.tags),
            }
            for run in found
        ]

    def _active(self) -> TrackedRun:
        if (run := self.current_run()) is not None:
            return run
        message = (
            f"no run of experiment {self.config.experiment_name!r} is active here. Log inside "
            "`with tracker.start_run() as run:`; in another thread, call the methods of `run`."
        )
        raise TrackingError(message)

    def _parent_tag(self, *, nested: bool) -> dict[str, str]:
        """Names the innermost open run of the experiment (if `nested`, of the store)."""
        for run in reversed(runs_here()):
            same_store = run.config.tracking_uri == self.config.tracking_uri
            same = run.config.key == self.config.key or (nested and same_store)
            if same and run.run_id is not None:
                return {"mlflow.parentRunId": run.run_id}
        return {}

    def _connected(self) -> _Connection | None:
        """The open store, or None while it is away and that is no error."""
        strict = self.config.on_unavailable is OnUnavailable.ERROR
        if not strict and time.monotonic() < self._next_try:
            return None
        try:
            return self._open_store()
        except TrackingError as error:
            self._unavailable(str(error))
            return None

    def _open_store(self) -> _Connection:
        with self._lock:
            if not is_mlflow_available():
                message = "mlflow is not installed (pip install mlflow)."
                raise TrackingError(message)
            if self._connection is None:
                self._connection = _Connection(self.config.store, self.config)
            return self._connection

    def _unavailable(self, reason: str) -> None:
        """Warn once a process, or raise; then the store is left alone for a while.

        Raises:
            TrackingError: The configuration says so.
        """
        if self.config.on_unavailable is OnUnavailable.ERROR:
            raise TrackingError(reason) from None
        self._next_try = time.monotonic() + _RETRY_AFTER_S
        _warn_once(
            f"unavailable {self.config.tracking_uri}",
            f"Runs are not tracked: {reason} Your code runs all the same; the store is tried again "
            f"every {_RETRY_AFTER_S:.0f} s.",
        )

    def _create(
        self, connection: _Connection, fitter: Fitter, name: str | None, tags: dict[str, str]
    ) -> TrackedRun:
        with self._lock, open_runs.making_one():  # SIGTERM waits for the run to be in the list
            made = connection.call(
                lambda client: client.create_run(connection.experiment, run_name=name, tags=tags)
            ).info
            writer = _Writer(connection, made.run_id)
            run = TrackedRun(self.config, fitter, made.run_name, writer, made.artifact_uri)
            open_runs.add(run)
            return run


_shared: dict[tuple[str, str], MLFlowTracker] = {}
_shared_lock = SectionLock()


def shared_tracker(experiment: str | None = None, tracking_uri: str | None = None) -> MLFlowTracker:
    """The process's one tracker for a store and an experiment, so that it is opened once."""
    stored = {} if tracking_uri is None else {"tracking_uri": tracking_uri}
    config = MLFlowConfig(experiment_name=experiment or DEFAULT_EXPERIMENT, **stored)
    with _shared_lock:
        return _shared.setdefault(config.key, MLFlowTracker(config))
