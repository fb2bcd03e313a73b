"""Tracking as components of a pipeline: of callables, of spaCy, or of HealthChain.

Documents are known by what they have: spaCy's `doc.ents` and `len(doc)`, or HealthChain's
`.nlp.get_entities()`, `.nlp.get_tokens()` and `.fhir.problem_list`. A component returns the data as
it got it.
"""

import inspect
import logging
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any, TypeVar

from hc_orchestration.tracking.open_runs import enter, leave, open_runs, runs_here
from hc_orchestration.tracking.run import TrackedRun
from hc_orchestration.tracking.tracker import MLFlowTracker

D = TypeVar("D")
Extractor = Callable[[Any], float | None]
_RUN_KEY = "hc_tracked_run"
_log = logging.getLogger(__name__)


def _is_spacy(data: object) -> bool:
    return hasattr(data, "ents") and isinstance(getattr(data, "user_data", None), dict)


def _entities(data: Any) -> list[Any] | None:  # noqa: ANN401 - whatever goes through a pipeline
    if _is_spacy(data):
        return list(data.ents)
    get = getattr(getattr(data, "nlp", None), "get_entities", None)
    return None if get is None else list(get())


def _label(entity: Any) -> str:  # noqa: ANN401 - a spaCy span or a mapping
    found = entity.get("label") if isinstance(entity, Mapping) else entity.label_
    return str(found or "UNKNOWN")


def entity_labels(data: object) -> list[str] | None:
    """The label of each entity, or None if the data has no entities that could be counted."""
    found = _entities(data)
    return None if found is None else [_label(entity) for entity in found]


def _entity_count(data: object) -> float | None:
    found = _entities(data)
    return None if found is None else len(found)


def _token_count(data: Any) -> float | None:  # noqa: ANN401 - whatever goes through a pipeline
    if _is_spacy(data):
        return len(data)
    get = getattr(getattr(data, "nlp", None), "get_tokens", None)
    return None if get is None else len(get())


def _condition_count(data: object) -> float | None:
    problems = getattr(getattr(data, "fhir", None), "problem_list", None)
    return None if problems is None else len(problems)


DOCUMENT_COUNTS: Mapping[str, Extractor] = {
    "token_count": _token_count,
    "entity_count": _entity_count,
    "condition_count": _condition_count,
}
"""What can be counted of a document; None where it has no such thing, which is not zero."""


class Extraction:
    """Takes named numbers from a document; one that fails is warned of, and the rest is taken."""

    def __init__(self, extractors: Mapping[str, Extractor]) -> None:
        """Take what `extractors` return."""
        self._extractors = dict(extractors)
        self._warned: set[tuple[str, str]] = set()

    def metrics(self, data: object) -> Iterator[tuple[str, float]]:
        """Name and value of each; those that return None are left out."""
        for name, extractor in self._extractors.items():
            try:
                value = extractor(data)
                if value is not None:
                    yield name, float(value)
            except Exception as error:  # noqa: BLE001 - tracking never breaks a pipeline
                self._warn(name, type(error).__name__)

    def _warn(self, name: str, kind: str) -> None:
        """Say it once; the words of the exception are withheld, they may quote a note."""
        if (name, kind) not in self._warned:
            self._warned.add((name, kind))
            _log.warning("metric extractor %s raised %s; its metric is missing", name, kind)


class MLFlowComponent:
    """Logs metrics of each document that passes, and hands it on.

    They go into the run that a start component opened for the document, else into the tracker's
    current run, else nowhere. The step is the number of the document within the run. With the
    prefix before them: `call_count`; `elapsed_seconds` since the run began; `token_count`,
    `entity_count` and `condition_count` of what the document has; and the extractors' own.
    """

    def __init__(
        self,
        tracker: MLFlowTracker,
        track_predictions: bool = True,  # noqa: FBT001, FBT002 - a public signature
        track_timing: bool = True,  # noqa: FBT001, FBT002 - a public signature
        metric_extractors: Mapping[str, Extractor] | None = None,
        prefix: str = "pipeline",
    ) -> None:
        """Log by `tracker`.

        Args:
            tracker: Where to log.
            track_predictions: Whether to count tokens, entities and conditions.
            track_timing: Whether to log the time since the run began.
            metric_extractors: Metric name to a function of the document. One that raises or
                returns None logs nothing.
            prefix: Before each metric's name.
        """
        self._tracker = tracker
        self._times = track_timing
        self._prefix = prefix
        counts = DOCUMENT_COUNTS if track_predictions else {}
        self._extraction = Extraction({**counts, **(metric_extractors or {})})
        self.reset()

    def __call__(self, data: D) -> D:
        """Log what is known of `data`."""
        run = _run_of(data, self._tracker) or self._tracker.current_run()
        if run is not None:
            call = run.next_call(self._counter)
            metrics = {"call_count": float(call), **dict(self._extraction.metrics(data))}
            if self._times:
                metrics["elapsed_seconds"] = time.monotonic() - max(run.began, self._since)
            run.log_metrics({f"{self._prefix}.{k}": v for k, v in metrics.items()}, step=call)
        return data

    def reset(self) -> None:
        """Count and time from now on anew, in the run that is open too."""
        self._counter = object()
        self._since = time.monotonic()

    def log_pipeline_params(self, params: Mapping[str, object]) -> None:
        """Log params of the pipeline, with the prefix before them, into the current run.

        Raises:
            TrackingError: No run is active here.
        """
        self._tracker.log_params({f"{self._prefix}.{name}": v for name, v in params.items()})


class MLFlowStartRunComponent:
    """Opens a run for each document; first in a pipeline that `MLFlowEndRunComponent` ends.

    The run belongs to the document, so that spaCy may have many under way at once. For other data,
    which components may replace, it is the current run of the thread or task too. If something
    raises on the way, the run ends as FAILED (`Abandoned`) when the document is no more, or when
    this component starts the next one in the same thread, unless the documents are spaCy's.
    """

    def __init__(
        self,
        tracker: MLFlowTracker,
        run_name: str | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Open runs by `tracker`, with this name and these tags."""
        self._tracker = tracker
        self._run_name = run_name
        self._tags = dict(tags or {})

    def __call__(self, data: D) -> D:
        """Open the run of `data`."""
        for left in runs_here():
            if left.opened_by is self:
                leave(left)
                left.abandon()
        run = self._tracker.open_run(self._run_name, self._tags)
        run.opened_by = self
        caller = inspect.currentframe()
        _attach(run, data, _Chain.of(caller.f_back if caller else None))
        return data


class MLFlowEndRunComponent:
    """Ends, as FINISHED, the run that a start component opened for a document."""

    def __init__(self, tracker: MLFlowTracker) -> None:
        """End runs of `tracker`."""
        self._tracker = tracker

    def __call__(self, data: D) -> D:
        """End the run of `data`."""
        run = _run_of(data, self._tracker) or self._started_here()
        if run is not None:
            _detach(run, data)
            run.close()
        return data

    def _started_here(self) -> TrackedRun | None:
        """The run of a document that another component replaced by a new one."""
        key = self._tracker.config.key
        return next(
            (
                run
                for run in reversed(runs_here())
                if isinstance(run.opened_by, MLFlowStartRunComponent) and run.config.key == key
            ),
            None,
        )


@dataclass(frozen=True, slots=True)
class _Chain:
    """The call that a start component is part of: an id, as a frame would keep the data alive."""

    thread: int
    frame: int
    code: CodeType | None

    @classmethod
    def of(cls, caller: FrameType | None) -> "_Chain":
        return cls(threading.get_ident(), id(caller), caller.f_code if caller else None)

    @property
    def is_running(self) -> bool:
        frame = sys._current_frames().get(self.thread)  # noqa: SLF001 - documented for this
        while frame is not None:
            if id(frame) == self.frame and frame.f_code is self.code:
                return True
            frame = frame.f_back
        return False


_run_keys: dict[int, str] = {}
"""Which run belongs to an object, by its id; removed before the id can be another object's."""


def _attach(run: TrackedRun, data: Any, chain: _Chain) -> None:  # noqa: ANN401 - any document
    spacy = _is_spacy(data)
    if spacy:
        data.user_data[_RUN_KEY] = run.key
    else:
        enter(run)
    try:
        finalizer = weakref.finalize(data, _gone, id(data), run.key, None if spacy else chain)
    except TypeError:  # a text, say: the next start closes its run
        return
    finalizer.atexit = False
    if not spacy:
        _run_keys[id(data)] = run.key


def _detach(run: TrackedRun, data: Any) -> None:  # noqa: ANN401 - any document
    if _is_spacy(data):
        data.user_data.pop(_RUN_KEY, None)
    _run_keys.pop(id(data), None)
    leave(run)


def _run_of(data: Any, tracker: MLFlowTracker) -> TrackedRun | None:  # noqa: ANN401 - any document
    key = data.user_data.get(_RUN_KEY) if _is_spacy(data) else _run_keys.get(id(data))
    run = None if key is None else open_runs.get(key)
    return run if run is not None and run.config.key == tracker.config.key else None


def _gone(data_id: int, key: str, chain: _Chain | None) -> None:
    """A document is no more: replaced if its chain is still running, else its run is abandoned."""
    if _run_keys.get(data_id) == key:
        del _run_keys[data_id]
    run = open_runs.get(key)
    if run is not None and (chain is None or not chain.is_running):
        run.abandon()
