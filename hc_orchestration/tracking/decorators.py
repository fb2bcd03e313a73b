"""Tracking of functions and pipelines as they are: decorators, and a wrapper for production.

A call is a run. Coroutines, generators and async generators are tracked over their real life: until
awaited, exhausted or closed. The few store calls at the beginning and the end of a coroutine's run
are made in its own thread, so they take the event loop's time.
"""

import functools
import inspect
import io
import itertools
import logging
import math
import time
import weakref
from collections import Counter
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.guard import screen_context
from hc_orchestration.tracking.components import DOCUMENT_COUNTS, Extraction, entity_labels
from hc_orchestration.tracking.config import PIPELINES_EXPERIMENT, MLFlowConfig
from hc_orchestration.tracking.open_runs import Scope
from hc_orchestration.tracking.run import TrackedRun
from hc_orchestration.tracking.sections import SectionLock
from hc_orchestration.tracking.tracker import INFERENCE, MLFlowTracker, shared_tracker

P = ParamSpec("P")
R = TypeVar("R")
_TEXT = (str, bytes)
_log = logging.getLogger(__name__)


def track_model(  # noqa: PLR0913, PLR0917 - a public signature
    experiment: str | None = None,
    run_name: str | None = None,
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
    log_params: Mapping[str, object] | None = None,
    auto_log_time: bool = True,  # noqa: FBT001, FBT002 - a public signature
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make each call of a function a run.

    The run has the params `function_name` and `function_module`, the metric
    `execution_time_seconds`, and the tag `status` (success, failed or killed) beside MLflow's own
    status. Functions, coroutines, generators and async generators may be decorated.

    Args:
        experiment: MLflow experiment; `hc-default` by default.
        run_name: The function's name by default.
        tracking_uri: The store; that of the settings by default.
        tags: Given to every run.
        log_params: Given to every run.
        auto_log_time: Whether to log the time.
    """
    recipe = _Recipe(
        tracker=functools.partial(shared_tracker, experiment, tracking_uri),
        run_name=run_name,
        tags=dict(tags or {}),
        params=dict(log_params or {}),
        seconds="execution_time_seconds" if auto_log_time else None,
        names_function=True,
    )
    return functools.partial(_decorated, recipe=recipe)


def track_pipeline(  # noqa: PLR0913, PLR0917 - a public signature
    experiment: str | None = None,
    run_name: str | None = None,
    tracking_uri: str | None = None,
    tags: Mapping[str, str] | None = None,
    log_input_shape: bool = True,  # noqa: FBT001, FBT002 - a public signature
    log_output_shape: bool = True,  # noqa: FBT001, FBT002 - a public signature
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Make each call of a function that processes a batch a run.

    The run has the metric `pipeline_execution_seconds`, and `input_count` and `output_count`
    (`input_length` and `output_length` for a text). The input is the first argument (after `self`),
    however it is passed; a generator or other iterator is counted as it is consumed. The items of a
    decorated generator are counted too, but not those of a generator that a function returns: its
    run is over by then.

    Args:
        experiment: MLflow experiment; `hc-pipelines` by default.
        run_name: The function's name by default.
        tracking_uri: The store; that of the settings by default.
        tags: Given to every run.
        log_input_shape: Whether to count the input.
        log_output_shape: Whether to count the output.
    """
    recipe = _Recipe(
        tracker=functools.partial(shared_tracker, experiment or PIPELINES_EXPERIMENT, tracking_uri),
        run_name=run_name,
        tags=dict(tags or {}),
        seconds="pipeline_execution_seconds",
        counts_input=log_input_shape,
        counts_output=log_output_shape,
    )
    return functools.partial(_decorated, recipe=recipe)


@dataclass(frozen=True, slots=True)
class _Recipe:
    """What the run of a decorated function holds."""

    tracker: Callable[[], MLFlowTracker]
    run_name: str | None
    tags: Mapping[str, str]
    params: Mapping[str, object] = field(default_factory=dict)
    seconds: str | None = None
    names_function: bool = False
    counts_input: bool = False
    counts_output: bool = False


def _decorated(function: Callable[P, R], *, recipe: _Recipe) -> Callable[P, R]:
    """The function, each call of which is tracked, and which is of the same sort as before."""
    plain = inspect.isroutine(function) or isinstance(function, functools.partial)
    code = function if plain else type(function).__call__
    sorts: list[tuple[Callable[[Any], bool], Callable[..., Any]]] = [
        (inspect.isasyncgenfunction, _tracked_async_generator),
        (inspect.iscoroutinefunction, _tracked_coroutine),
        (inspect.isgeneratorfunction, _tracked_generator),
    ]
    wrap = next((wrap for is_sort, wrap in sorts if is_sort(code)), _tracked_function)
    plan = _Plan(recipe, function)
    return cast("Callable[P, R]", functools.wraps(function)(wrap(plan)))


class _Plan:
    """A decorated function and how its calls are tracked."""

    def __init__(self, recipe: _Recipe, function: Callable[..., Any]) -> None:
        self.recipe = recipe
        self.function = function
        self.name = getattr(function, "__name__", type(function).__name__)
        self._signature = inspect.signature(function)
        self._first = _first_argument(self._signature)

    @contextmanager
    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> "Iterator[_Call]":
        """A call as a run, which ends as the code inside ends; counts and times are logged."""
        run = self.recipe.tracker().open_run(self.recipe.run_name or self.name, self.recipe.tags)
        call = _Call(self, run)
        with run.lifetime():
            run.hold(params=self._params())
            try:
                call.arguments = self._counted(call, args, kwargs)
                yield call
            except GeneratorExit:
                call.log_end("success")
                raise
            except Exception:
                call.log_end("failed")
                raise
            except BaseException:
                call.log_end("killed")
                raise
            call.log_end("success")

    def _params(self) -> dict[str, object]:
        if not self.recipe.names_function:
            return dict(self.recipe.params)
        module = getattr(self.function, "__module__", None)
        names = {"function_name": self.name, "function_module": module}
        return {**names, **self.recipe.params}

    def _counted(
        self, call: "_Call", args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments of the call, its input counted or (an iterator) wrapped to be counted."""
        if not self.recipe.counts_input or self._first is None:
            return args, kwargs
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the function itself will say what is wrong
            return args, kwargs
        if self._first in bound.arguments:
            bound.arguments[self._first] = call.input(bound.arguments[self._first])
        return bound.args, bound.kwargs


def _first_argument(signature: inspect.Signature) -> str | None:
    """The name of the first parameter that a caller gives a value for."""
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name in {"self", "cls"}:
        parameters = parameters[1:]
    if not parameters or parameters[0].kind is inspect.Parameter.VAR_KEYWORD:
        return None
    return parameters[0].name


class _Call:
    """One call of a decorated function: its run, its counts and its time."""

    def __init__(self, plan: _Plan, run: TrackedRun) -> None:
        self.run = run
        self.arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._recipe = plan.recipe
        self._function = plan.function
        self._counts: dict[str, int] = {}
        self._consumed: _CountedIterator | _CountedAsyncIterator | None = None
        self._began = time.perf_counter()

    def begin(self) -> Any:  # noqa: ANN401 - whatever the function returns
        args, kwargs = self.arguments
        return self._function(*args, **kwargs)

    def input(self, value: object) -> object:
        """The input, counted; an iterator in a wrapper that counts what is consumed."""
        if isinstance(value, Iterator) and not isinstance(value, io.IOBase):
            self._consumed = _CountedIterator(value)
            return self._consumed
        if isinstance(value, AsyncIterator):
            self._consumed = _CountedAsyncIterator(value)
            return self._consumed
        self._counts |= _size("input", value)
        return value

    def output(self, value: object) -> None:
        """Count what a function returned."""
        if self._recipe.counts_output:
            self._counts |= _size("output", value)

    def yielded(self) -> None:
        """Count an item of a generator."""
        self._counts["output_count"] += 1

    def yields(self) -> None:
        """Say that the function is a generator, whose items are counted."""
        self._counts["output_count"] = 0

    def log_end(self, status: str) -> None:
        metrics: dict[str, float] = dict(self._counts)
        if not self._recipe.counts_output:
            metrics.pop("output_count", None)
        if self._consumed is not None:
            metrics["input_count"] = self._consumed.count
        if self._recipe.seconds is not None:
            metrics[self._recipe.seconds] = time.perf_counter() - self._began
        self.run.log_metrics(metrics)
        if self._recipe.names_function:
            self.run.hold(tags={"status": status})


def _size(what: str, value: object) -> dict[str, int]:
    if isinstance(value, _TEXT):
        return {f"{what}_length": len(value)}
    if isinstance(value, Collection):
        return {f"{what}_count": len(value)}
    return {}


class _Consumed:
    """What an iterator given to a function has handed out; the rest of it is as it was."""

    def __init__(self, counted: object) -> None:
        self._counted = counted
        self.count = 0

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the iterator has
        return getattr(self._counted, name)


class _CountedIterator(_Consumed):
    _counted: Iterator[Any]

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:  # noqa: ANN401 - whatever the iterator yields
        item = next(self._counted)
        self.count += 1
        return item


class _CountedAsyncIterator(_Consumed):
    _counted: AsyncIterator[Any]

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:  # noqa: ANN401 - whatever the iterator yields
        item = await anext(self._counted)
        self.count += 1
        return item


def _tracked_function(plan: _Plan) -> Callable[..., Any]:
    def tracked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
        with plan.call(args, kwargs) as call, Scope(call.run):
            result = call.begin()
            call.output(result)
            return result

    return tracked


def _tracked_coroutine(plan: _Plan) -> Callable[..., Any]:
    async def tracked(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the function's own
        with plan.call(args, kwargs) as call, Scope(call.run):
            result = await call.begin()
            call.output(result)
            return result

    return tracked


def _tracked_generator(plan: _Plan) -> Callable[..., Any]:
    def tracked(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:  # noqa: ANN401
        with plan.call(args, kwargs) as call:
            call.yields()
            return (yield from _items(call))

    return tracked


def _items(call: _Call) -> Generator[Any, Any, Any]:
    """What `yield from` does, with the run current only while the generator itself runs."""
    scope = Scope(call.run)
    with scope:
        inner = call.begin()
    resume = functools.partial(next, inner)
    while True:
        try:
            with scope:
                item = resume()
        except StopIteration as stop:
            return stop.value
        call.yielded()
        try:
            sent = yield item
        except GeneratorExit:
            with scope:
                inner.close()
            raise
        except BaseException as error:  # noqa: BLE001 - thrown in by the consumer, as by `throw`
            resume = functools.partial(inner.throw, error)
        else:
            resume = functools.partial(inner.send, sent)


def _tracked_async_generator(plan: _Plan) -> Callable[..., Any]:
    async def tracked(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:  # noqa: ANN401
        with plan.call(args, kwargs) as call:
            call.yields()
            scope = Scope(call.run)
            with scope:
                inner = call.begin()
            resume = functools.partial(inner.asend, None)
            while True:
                try:
                    with scope:
                        item = await resume()
                except StopAsyncIteration:
                    return
                call.yielded()
                try:
                    sent = yield item
                except GeneratorExit:
                    with scope:
                        await inner.aclose()
                    raise
                except BaseException as error:  # noqa: BLE001 - thrown in by the consumer
                    resume = functools.partial(inner.athrow, error)
                else:
                    resume = functools.partial(inner.asend, sent)

    return tracked


class TrackedPipeline:
    """A pipeline that is tracked without being changed.

    Without `aggregate_every` each call is a run, as suits an experiment. With it the wrapper is one
    run of kind `inference` for as long as it lives: after every so many documents one batch goes to
    MLflow, so traffic does not become server calls. Call `close`, or use `with`, to send the rest.

    The batch has, at step 1, 2 and so on: `documents` (those that raised included), `errors`,
    `entities`, `entities.label.<label>` and, of those that did not raise, `latency_p50_ms` and
    `latency_p95_ms` (nearest rank). Documents of `pipe` come out in batches; their latency is the
    time between two results.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - a public signature
        self,
        pipeline: Callable[..., Any],
        config: MLFlowConfig | None = None,
        run_name_prefix: str = "pipeline-run",
        aggregate_every: int | None = None,
        context: HealthcareRunContext | None = None,
        model_fingerprint: str | None = None,
    ) -> None:
        """Wrap `pipeline`.

        Args:
            pipeline: Anything callable; one with `pipe`, such as spaCy's, streams by it.
            config: Where to track; the experiment `hc-pipelines` by default.
            run_name_prefix: Runs are named by it and a number; the aggregated one by it alone.
            aggregate_every: After how many documents a batch is sent.
            context: Logged into each run.
            model_fingerprint: Logged into each run as a param and a tag.

        Raises:
            ConfigurationError: `aggregate_every` is not positive.
            IdentifierError: The context looks as if it named a person.
        """
        if context is not None:
            screen_context(context)
        if aggregate_every is not None and aggregate_every < 1:
            message = "aggregate_every: give a positive number of documents, or leave it out"
            raise ConfigurationError(message)
        self._pipeline = pipeline
        self._tracker = MLFlowTracker(config or MLFlowConfig(experiment_name=PIPELINES_EXPERIMENT))
        self._subject = _Subject(run_name_prefix, context, model_fingerprint)
        self._numbers = itertools.count(1)
        self._extraction = Extraction(DOCUMENT_COUNTS)
        self._traffic: _Traffic | None = None
        if aggregate_every is not None:
            self._traffic = _Traffic(self._tracker, self._subject, aggregate_every)
            # Dropped without `close`, it still ends; but not at exit, when MLflow may be gone.
            weakref.finalize(self, self._traffic.close).atexit = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401 - the pipeline's own
        """What the pipeline returns."""
        if self._traffic is None:
            return self._run_of_its_own(args, kwargs)
        began = time.perf_counter()
        try:
            result = self._pipeline(*args, **kwargs)
        except Exception:
            self._traffic.failed()
            raise
        self._traffic.done(result, time.perf_counter() - began)
        return result

    def pipe(self, documents: Iterable[Any], **kwargs: Any) -> Iterator[Any]:  # noqa: ANN401
        """The results for a stream of documents, by the pipeline's own `pipe` if it has one.

        Raises:
            ConfigurationError: The wrapper makes a run of each call.
        """
        if self._traffic is None:
            message = "pipe: a stream is one run; give TrackedPipeline(…, aggregate_every=1000)"
            raise ConfigurationError(message)
        stream = getattr(self._pipeline, "pipe", None)
        results = stream(documents, **kwargs) if stream else map(self._pipeline, documents)
        pairs = bool(kwargs.get("as_tuples"))  # spaCy's: each result with the caller's own context
        return self._counted(iter(results), self._traffic, pairs=pairs)

    def close(self) -> None:
        """Send the rest and end the run; a second call does nothing."""
        if self._traffic is not None:
            self._traffic.close()

    def get_tracker(self) -> MLFlowTracker:
        """The tracker that its runs are opened by."""
        return self._tracker

    def __enter__(self) -> Self:
        """The wrapper itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close; the run has failed if the code inside has."""
        if self._traffic is not None:
            self._traffic.close(error)

    def _run_of_its_own(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:  # noqa: ANN401
        with self._tracker.start_run(f"{self._subject.name}-{next(self._numbers)}") as run:
            self._subject.describe(run)
            began = time.perf_counter()
            result = self._pipeline(*args, **kwargs)
            seconds = time.perf_counter() - began
            counts = {f"pipeline.{name}": n for name, n in self._extraction.metrics(result)}
            run.log_metrics({"pipeline_execution_seconds": seconds, **counts})
            return result

    def _counted(
        self, results: Iterator[Any], traffic: "_Traffic", *, pairs: bool
    ) -> Iterator[Any]:
        while True:
            began = time.perf_counter()
            try:
                result = next(results)
            except StopIteration:
                return
            except Exception:
                traffic.failed()
                raise
            traffic.done(result[0] if pairs else result, time.perf_counter() - began)
            yield result


@dataclass(frozen=True, slots=True)
class _Subject:
    """What a wrapped pipeline is called and what it is known by."""

    name: str
    context: HealthcareRunContext | None
    model_fingerprint: str | None

    def describe(self, run: TrackedRun) -> None:
        if self.model_fingerprint is not None:
            fingerprint = self.model_fingerprint
            run.hold(
                params={"model.fingerprint": fingerprint},
                tags={"hc.model_fingerprint": fingerprint},
            )
        if self.context is not None:
            run.log_healthcare_context(self.context)


@dataclass(slots=True)
class _Window:
    """The documents since the last batch; `counted` says whether any had entities to count."""

    documents: int = 0
    errors: int = 0
    seconds: list[float] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    counted: bool = False

    def add(self, other: "_Window") -> None:
        self.documents += other.documents
        self.errors += other.errors
        self.seconds += other.seconds
        self.labels += other.labels
        self.counted |= other.counted

    def metrics(self, known_labels: Iterable[str]) -> dict[str, float]:
        """What is logged of them; a label known from earlier batches is 0 when it is not here."""
        values: dict[str, float] = {"documents": self.documents, "errors": self.errors}
        if self.counted:
            values["entities"] = self.labels.total()
            for label in sorted(known_labels):
                values[f"entities.label.{label}"] = self.labels[label]
        for percent in (50, 95):
            if self.seconds:
                values[f"latency_p{percent}_ms"] = 1000 * _nearest_rank(self.seconds, percent)
        return values


def _nearest_rank(values: list[float], percent: int) -> float:
    return sorted(values)[math.ceil(len(values) * percent / 100) - 1]


class _Traffic:
    """The aggregated run of a wrapped pipeline; documents may come from many threads."""

    def __init__(self, tracker: MLFlowTracker, subject: _Subject, every: int) -> None:
        self._tracker = tracker
        self._subject = subject
        self._every = every
        self._lock = SectionLock()
        self._run: TrackedRun | None = None
        self._window = _Window()
        self._step = 0
        self._labels: set[str] = set()
        self._documents = 0
        self._closed = False

    def done(self, result: object, seconds: float) -> None:
        """Count a document and its entities, where it has any."""
        try:
            labels = entity_labels(result)
        except Exception as error:  # noqa: BLE001 - tracking never breaks a pipeline
            _log.warning("entities could not be counted: %s", type(error).__name__)
            labels = None
        self._count(_Window(1, 0, [seconds], Counter(labels), counted=labels is not None))

    def failed(self) -> None:
        """Count a document that raised."""
        self._count(_Window(documents=1, errors=1))

    def close(self, error: BaseException | None = None) -> None:
        """End the run with what is left; what is counted afterwards is dropped."""
        with self._lock:
            self._closed = True
        if self._run is not None:
            self._run.close(error)

    def _count(self, one: _Window) -> None:
        with self._lock:
            if self._closed:
                return
            if self._run is None or self._may_come_back(self._run):
                self._run = self._opened()
            self._window.add(one)
            self._documents += one.documents
            full = self._window.documents >= self._every
            if full:
                self._hold_window(self._run)
        if full:
            self._run.flush()

    def _may_come_back(self, run: TrackedRun) -> bool:
        """Whether to ask again, between two batches, a store that was away at the start."""
        return run.run_id is None and not self._window.documents

    def _opened(self) -> TrackedRun:
        run = self._tracker.open_run(self._subject.name, kind=INFERENCE)
        run.before_end = functools.partial(self._hold_rest, run)
        try:
            self._subject.describe(run)
        except Exception as error:
            run.close(error)
            raise
        return run

    def _hold_window(self, run: TrackedRun) -> None:
        self._step += 1
        self._labels |= self._window.labels.keys()
        run.hold(metrics=self._window.metrics(self._labels), step=self._step)
        self._window = _Window()

    def _hold_rest(self, run: TrackedRun) -> None:
        with self._lock:
            if self._window.documents:
                self._hold_window(run)
            run.hold(metrics={"total_documents": self._documents})
