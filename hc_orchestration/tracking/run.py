"""A run and how it ended: what is logged into it from any thread, until it truly ends."""

import logging
import math
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from hc_orchestration.errors import TrackingError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.guard import redacted_error, screen_context
from hc_orchestration.tracking.config import Fitter, MLFlowConfig, metric_value
from hc_orchestration.tracking.context_params import context_params
from hc_orchestration.tracking.names import LONGEST_PARAM, LONGEST_TAG, shortened
from hc_orchestration.tracking.open_runs import LOCK_WAIT_S, open_runs
from hc_orchestration.tracking.sections import Section, SectionLock, sections
from hc_orchestration.tracking.writer import History, Writer

if TYPE_CHECKING:
    from mlflow import MlflowClient

_log = logging.getLogger(__name__)
_said: set[str] = set()


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
        writer: Writer | None = None,
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
        self._history = History(config.metric_points)
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
        screen_context(context)
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
            self._ended.wait(LOCK_WAIT_S)
        elif self._writer is None or self._writer.wait(LOCK_WAIT_S):
            self._end(_TERMINATED)

    def _end(self, ending: Ending) -> None:
        sections.run(partial(self._end_now, ending))

    def _end_now(self, ending: Ending) -> None:
        with self._lock:
            last, self.before_end = self.before_end, None
        if last is not None:
            try:
                last()
            except TrackingError as error:  # the run ends all the same
                _log.warning("run %s: %s", self.name, error)
        with Section():
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

    def _usable(self) -> Writer | None:
        """The writer, or None if what is logged here is dropped.

        Raises:
            TrackingError: The run has ended.
        """
        if not self._is_open:
            message = f"run {self.name}: it has ended; nothing more can be logged into it"
            raise TrackingError(message)
        if self.pid != os.getpid():
            warn_once(
                "forked",
                "A run is not shared with other processes: what this worker process logs into the "
                "run of its parent is dropped. Start a run in the worker, or log in the parent.",
            )
            return None
        return self._writer

    def _add_metric(self, writer: Writer, name: str, value: float, at: tuple[int, int]) -> None:
        if not math.isfinite(value):
            self._undefined[name] += 1
            return
        series = self._history.series(name)
        if series is None:
            series = self._history.new_series(name, self._fitter.name(name))
        point = (series.name, value, *at)
        if self._history.add(series, point):
            writer.metrics.append(point)

    def _add_param(self, writer: Writer, name: str, value: object) -> None:
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


def warn_once(cause: str, message: str) -> None:
    """Warn, unless this process has warned of the same cause."""
    if cause not in _said:
        _said.add(cause)
        _log.warning(message)
