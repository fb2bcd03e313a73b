"""Decorated functions of every sort, and the wrapper of a pipeline in production."""

import asyncio
import functools
import gc
import inspect
import io
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language

from hc_orchestration.errors import ConfigurationError, TrackingError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.guard import IdentifierError
from hc_orchestration.tracking.config import MLFlowConfig
from hc_orchestration.tracking.decorators import TrackedPipeline, track_model, track_pipeline
from hc_orchestration.tracking.open_runs import runs_here
from hc_orchestration_tests.tracking.test_tracker import NOWHERE, Store, set_up_store


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return set_up_store(tmp_path, empty_mlflow, monkeypatch)


# Functions


def test_a_call_of_a_model_is_a_run(store: Store) -> None:
    @track_model(experiment="ner", tags={"task": "x"}, log_params={"size": 3})
    def extract(text: str) -> int:
        """How long the text is."""
        return len(text)

    assert (extract("abc"), extract.__name__, extract.__doc__) == (
        3,
        "extract",
        "How long the text is.",
    )

    run = store.run()
    assert (run.info.run_name, run.info.status) == ("extract", "FINISHED")
    assert run.data.params == {"function_name": "extract", "function_module": __name__, "size": "3"}
    assert list(run.data.metrics) == ["execution_time_seconds"]
    assert store.tags(run) == {"task": "x", "status": "success", "hc.kind": "tracked"}
    assert store.client.get_experiment(run.info.experiment_id).name == "ner"


def test_defaults_are_experiments_of_our_own(store: Store) -> None:
    track_model(auto_log_time=False)(len)("ab")
    track_pipeline(run_name="batch")(len)("abc")

    batch, model = store.runs()
    names = [store.client.get_experiment(r.info.experiment_id).name for r in (batch, model)]
    assert names == ["hc-pipelines", "hc-default"]
    assert (model.info.run_name, model.data.metrics) == ("len", {})
    assert (batch.info.run_name, batch.data.metrics["input_length"]) == ("batch", 3)
    assert "status" not in batch.data.tags


def identity(notes: Any, extra: int = 0) -> Any:
    return notes if extra == 0 else extra


def no_arguments() -> int:
    return 1


def everything(*notes: str) -> int:
    return len(notes)


def only_options(**options: int) -> int:
    return len(options)


class Team:
    @track_pipeline()
    def process(self, notes: list[str]) -> str:
        return "".join(notes)


@pytest.mark.parametrize(
    ("function", "args", "kwargs", "counts"),
    [
        (identity, (["a", "b"],), {}, {"input_count": 2, "output_count": 2}),
        (identity, (), {"notes": ["a"], "extra": 5}, {"input_count": 1}),
        (identity, (), {"extra": 5, "notes": {"a": 1}}, {"input_count": 1}),
        (identity, ((),), {}, {"input_count": 0, "output_count": 0}),
        (identity, ({1, 2, 3},), {}, {"input_count": 3, "output_count": 3}),
        (identity, ("text",), {}, {"input_length": 4, "output_length": 4}),
        (identity, (b"text", 1), {}, {"input_length": 4}),
        (identity, (None,), {}, {}),
        (identity, (7,), {}, {}),
        (no_arguments, (), {}, {}),
        (everything, ("a", "b"), {}, {"input_count": 2}),
        (only_options, (), {"a": 1}, {}),
        (functools.partial(identity, extra=3), (["a"],), {}, {"input_count": 1}),
        (Team().process, (["a", "b"],), {}, {"input_count": 2, "output_length": 2}),
        (Team().process, (), {"notes": ["a"]}, {"input_count": 1, "output_length": 1}),
    ],
)
def test_input_and_output_are_counted_however_they_are_passed(
    store: Store,
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    counts: dict[str, int],
) -> None:
    tracked = function if hasattr(function, "__wrapped__") else track_pipeline()(function)
    tracked(*args, **kwargs)

    metrics = dict(store.run().data.metrics)
    assert metrics.pop("pipeline_execution_seconds") >= 0
    assert metrics == counts


@pytest.mark.parametrize("make", [iter, lambda items: (item for item in items), map])
def test_an_iterator_is_counted_as_it_is_consumed(store: Store, make: Callable[..., Any]) -> None:
    @track_pipeline()
    def first_two(notes: Iterator[str]) -> list[str]:
        return [next(notes), next(notes)]

    source = make(str, "abc") if make is map else make(["a", "b", "c"])
    assert first_two(notes=source) == ["a", "b"]
    assert next(source) == "c"
    assert store.run().data.metrics["input_count"] == 2


def test_what_is_not_to_be_counted_is_passed_as_it_is(store: Store) -> None:
    @track_pipeline(log_input_shape=False, log_output_shape=False)
    def same(notes: Iterator[str]) -> Iterator[str]:
        return notes

    source = iter("ab")
    assert same(source) is source
    assert list(store.run().data.metrics) == ["pipeline_execution_seconds"]


def test_a_file_keeps_its_own_methods(store: Store) -> None:
    @track_pipeline()
    def size(file: io.StringIO) -> int:
        return len(file.read())

    assert size(io.StringIO("abc")) == 3
    assert "input_count" not in store.run().data.metrics


def test_a_wrapped_iterator_still_has_what_it_had(store: Store) -> None:
    @track_pipeline()
    def closing(notes: Generator[str, None, None]) -> str:
        first = next(notes)
        notes.close()
        return first

    assert closing(letter for letter in "ab") == "a"
    assert store.run().data.metrics["input_count"] == 1


def test_a_wrong_call_fails_as_it_would_and_is_a_failed_run(store: Store) -> None:
    with pytest.raises(TypeError, match="identity"):
        track_pipeline()(identity)(1, 2, 3)
    assert store.run().info.status == "FAILED"


def test_a_decorated_function_stays_what_it_was() -> None:
    async def coroutine() -> None: ...
    def generator() -> Iterator[int]:
        yield 1

    async def async_generator() -> AsyncIterator[int]:
        yield 1

    class Model:
        async def __call__(self) -> None: ...

    assert inspect.iscoroutinefunction(track_model()(coroutine))
    assert inspect.iscoroutinefunction(track_model()(Model()))
    assert inspect.isgeneratorfunction(track_model()(generator))
    assert inspect.isgeneratorfunction(track_model()(functools.partial(generator)))
    assert inspect.isasyncgenfunction(track_model()(async_generator))
    assert not inspect.iscoroutinefunction(track_model()(identity))


# Generators


def test_a_generator_behaves_as_it_would_without_the_decorator(store: Store) -> None:
    @track_pipeline()
    def echo(limit: int) -> Generator[Any, Any, str]:
        """Yields back what is sent and what is thrown in."""
        got: Any = "ready"
        for _ in range(limit):
            try:
                got = yield got
            except ValueError as error:
                got = str(error)
        return "done"

    running = echo(3)
    assert next(running) == "ready"
    assert running.send("sent") == "sent"
    assert running.throw(ValueError("thrown")) == "thrown"
    with pytest.raises(StopIteration) as stop:
        next(running)

    assert stop.value.value == "done"
    assert store.run().info.status == "FINISHED"
    assert store.run().data.metrics["output_count"] == 3


def test_a_generators_run_is_as_long_as_the_generator(store: Store) -> None:
    @track_model()
    def slow() -> Iterator[int]:
        yield 1
        yield 2

    running = slow()
    assert store.runs() == []
    next(running)
    assert store.run().info.status == "RUNNING"
    assert runs_here() == ()
    assert list(running) == [2]
    assert store.run().info.status == "FINISHED"


def test_a_generators_current_run_is_there_again_but_never_in_the_consumer(store: Store) -> None:
    tracker = store.tracker()

    @track_pipeline(experiment="e")
    def notes() -> Iterator[str]:
        tracker.log_metric("outer", 1)
        with tracker.start_run("inner"):
            yield "a"
            tracker.log_metric("inner", 1)
        yield "b"
        tracker.log_metric("outer", 2)

    with tracker.start_run("consumer") as consumer:
        for _ in notes():
            assert runs_here() == (consumer,)
            tracker.log_metric("consumed", 1)

    mine, inner, outer = store.runs()
    assert [len(store.points(run, "outer")) for run in (mine, inner, outer)] == [0, 0, 2]
    assert [len(store.points(run, "inner")) for run in (mine, inner, outer)] == [0, 1, 0]
    assert mine.data.metrics.keys() == {"consumed"}
    assert inner.data.tags["mlflow.parentRunId"] == outer.info.run_id
    assert outer.data.tags["mlflow.parentRunId"] == mine.info.run_id


def test_a_generator_that_is_dropped_has_finished_early(store: Store) -> None:
    cleaned: list[bool] = []

    @track_model()
    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            cleaned.append(True)

    next(endless())
    gc.collect()

    assert (cleaned, store.run().info.status) == ([True], "FINISHED")
    assert store.run().data.tags["hc.closed_early"] == "true"


def test_async_generators_pass_on_what_is_sent_and_thrown(store: Store) -> None:
    @track_pipeline()
    async def echo(source: AsyncIterator[str]) -> AsyncIterator[Any]:
        got: Any = await anext(source)
        while got != "stop":
            try:
                got = yield got
            except ValueError as error:
                got = str(error)

    async def letters() -> AsyncIterator[str]:
        for letter in "ab":
            yield letter

    async def main() -> None:
        running: Any = echo(letters())
        assert await anext(running) == "a"
        assert runs_here() == ()
        assert await running.asend("sent") == "sent"
        assert await running.athrow(ValueError("thrown")) == "thrown"
        with pytest.raises(StopAsyncIteration):
            await running.asend("stop")

    asyncio.run(main())

    run = store.run()
    assert run.info.status == "FINISHED"
    assert (run.data.metrics["input_count"], run.data.metrics["output_count"]) == (1, 3)


def test_coroutines_side_by_side_have_a_run_each(store: Store) -> None:
    tracker = store.tracker()

    @track_model(experiment="e")
    async def wait(number: int) -> int:
        await asyncio.sleep(0.02)
        tracker.log_metric("number", number)
        return number

    async def main() -> list[int]:
        return await asyncio.gather(*(wait(number) for number in range(4)))

    assert asyncio.run(main()) == [0, 1, 2, 3]
    runs = store.runs()
    assert sorted(run.data.metrics["number"] for run in runs) == [0, 1, 2, 3]
    assert all(run.data.metrics["execution_time_seconds"] >= 0.02 for run in runs)


# A pipeline in production

CONTEXT = HealthcareRunContext(model_id="ner", version="1", purpose="Traffic")


def rule_pipeline() -> Language:
    nlp = spacy.blank("en")
    ruler: Any = nlp.add_pipe("entity_ruler")
    ruler.add_patterns(
        [
            {"label": "DISEASE", "pattern": "asthma"},
            {"label": "DISEASE", "pattern": "gout"},
            {"label": "CHEMICAL", "pattern": "metformin"},
        ]
    )
    return nlp


TRAFFIC = ["asthma and gout", "metformin", "well", "gout", "asthma"]


def test_a_call_is_a_run_without_aggregation(store: Store) -> None:
    tracked = TrackedPipeline(rule_pipeline(), store.config(), "inference", None, CONTEXT, "f" * 64)
    with tracked:
        assert [len(tracked(text).ents) for text in TRAFFIC[:2]] == [2, 1]

    one, two = store.runs()
    assert (one.info.run_name, two.info.run_name) == ("inference-1", "inference-2")
    assert [run.data.metrics["pipeline.entity_count"] for run in (one, two)] == [2, 1]
    assert one.data.metrics["pipeline.token_count"] == 3
    assert one.data.metrics["pipeline_execution_seconds"] > 0
    assert one.data.params["model.fingerprint"] == one.data.tags["hc.model_fingerprint"] == "f" * 64
    assert one.data.params["healthcare.purpose"] == "Traffic"
    assert one.data.tags["hc.kind"] == "tracked"


def windows(store: Store, name: str) -> list[tuple[int, float]]:
    return store.points(store.run(), name)


def test_traffic_is_one_run_with_a_batch_every_n_documents(store: Store) -> None:
    with TrackedPipeline(
        rule_pipeline(), store.config(), "ward-7", 2, CONTEXT, model_fingerprint="f" * 64
    ) as tracked:
        for text in TRAFFIC:
            tracked(text)
        assert store.run().info.status == "RUNNING"
        assert windows(store, "documents") == [(1, 2), (2, 2)]

    run = store.run()
    assert (run.info.run_name, run.info.status) == ("ward-7", "FINISHED")
    assert store.tags(run) == {"hc.kind": "inference", "hc.model_fingerprint": "f" * 64}
    assert run.data.params["model.fingerprint"] == "f" * 64
    assert run.data.params["healthcare.purpose"] == "Traffic"
    assert {"healthcare_context.json", "fhir_provenance.json"} <= store.files(run)
    assert windows(store, "documents") == [(1, 2), (2, 2), (3, 1)]
    assert windows(store, "errors") == [(1, 0), (2, 0), (3, 0)]
    assert windows(store, "entities") == [(1, 3), (2, 1), (3, 1)]
    assert windows(store, "entities.label.DISEASE") == [(1, 2), (2, 1), (3, 1)]
    assert windows(store, "entities.label.CHEMICAL") == [(1, 1), (2, 0), (3, 0)]
    p50, p95 = windows(store, "latency_p50_ms"), windows(store, "latency_p95_ms")
    assert all(0 < low[1] <= high[1] for low, high in zip(p50, p95, strict=True))
    assert run.data.metrics["total_documents"] == 5


def test_latencies_are_of_the_nearest_rank() -> None:
    from hc_orchestration.tracking.decorators import _Window

    window = _Window(20, 0, [n / 1000 for n in range(20, 0, -1)])
    metrics = window.metrics([])
    assert (metrics["latency_p50_ms"], metrics["latency_p95_ms"]) == (10.0, 19.0)


def test_errors_are_counted_and_raised(store: Store) -> None:
    def failing(text: str) -> str:
        if text == "bad":
            raise ValueError(text)
        return text

    tracked = TrackedPipeline(failing, store.config(), aggregate_every=2)
    tracked("good")
    with pytest.raises(ValueError, match="bad"):
        tracked("bad")
    with pytest.raises(ValueError, match="bad"):
        tracked("bad")
    tracked.close()
    tracked.close()
    assert tracked("late") == "late"

    assert windows(store, "documents") == [(1, 2), (2, 1)]
    assert windows(store, "errors") == [(1, 1), (2, 1)]
    assert [step for step, _ in windows(store, "latency_p50_ms")] == [1]
    assert store.run().info.status == "FINISHED"


def test_a_stream_goes_through_the_pipelines_own_pipe(store: Store) -> None:
    with TrackedPipeline(rule_pipeline(), store.config(), aggregate_every=2) as tracked:
        docs = list(tracked.pipe(TRAFFIC, batch_size=3))
        pairs = list(tracked.pipe([("gout", 7)], as_tuples=True))

    assert [len(doc.ents) for doc in docs] == [2, 1, 0, 1, 1]
    assert [(len(doc.ents), number) for doc, number in pairs] == [(1, 7)]
    assert windows(store, "entities") == [(1, 3), (2, 1), (3, 2)]


def test_a_stream_without_a_pipe_is_mapped_and_its_errors_counted(store: Store) -> None:
    with TrackedPipeline(int, store.config(), aggregate_every=10) as tracked:
        stream = tracked.pipe(["1", "x"])
        assert next(stream) == 1
        with pytest.raises(ValueError, match="invalid literal"):
            next(stream)

    assert (windows(store, "documents"), windows(store, "errors")) == ([(1, 2)], [(1, 1)])


def test_settings_that_make_no_sense_are_refused(store: Store) -> None:
    with pytest.raises(ConfigurationError, match="aggregate_every"):
        TrackedPipeline(len, store.config(), aggregate_every=0)
    with pytest.raises(ConfigurationError, match="aggregate_every=1000"):
        TrackedPipeline(len, store.config()).pipe(["a"])
    with pytest.raises(IdentifierError):
        TrackedPipeline(
            len, context=HealthcareRunContext(model_id="m", version="1", purpose="SSN 123-45-6789")
        )
    assert TrackedPipeline(len).get_tracker().config.experiment_name == "hc-pipelines"


def test_documents_of_many_threads_are_counted_once(store: Store) -> None:
    with (
        TrackedPipeline(rule_pipeline(), store.config(), aggregate_every=7) as tracked,
        ThreadPoolExecutor(8) as pool,
    ):
        list(pool.map(tracked, TRAFFIC * 20))

    assert sum(value for _, value in windows(store, "documents")) == 100
    assert sum(value for _, value in windows(store, "entities")) == 100
    assert [step for step, _ in windows(store, "documents")] == list(range(1, 16))


def test_traffic_that_ends_in_an_error_says_so(store: Store) -> None:
    def work() -> None:
        with TrackedPipeline(len, store.config(), aggregate_every=5) as tracked:
            tracked("abc")
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert (store.run().info.status, windows(store, "documents")) == ("FAILED", [(1, 1)])


def test_a_wrapper_that_is_dropped_sends_the_rest(store: Store) -> None:
    TrackedPipeline(len, store.config(), aggregate_every=5)("abc")
    gc.collect()
    assert (store.run().info.status, windows(store, "documents")) == ("FINISHED", [(1, 1)])


def test_entities_that_cannot_be_read_break_no_pipeline(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        class nlp:  # noqa: N801 - stands for an attribute of HealthChain's Document
            @staticmethod
            def get_entities() -> list[Any]:
                raise RuntimeError(*["a note"])

    with TrackedPipeline(lambda _: Broken(), store.config(), aggregate_every=1) as tracked:
        tracked("x")
    assert windows(store, "documents") == [(1, 1)]
    assert "entities" not in store.run().data.metrics
    assert "RuntimeError" in caplog.text
    assert "a note" not in caplog.text


def test_the_store_is_called_once_a_batch(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from mlflow import MlflowClient

    calls: Counter[str] = Counter()
    for name in ("create_run", "log_batch", "set_terminated", "log_artifact"):
        real = getattr(MlflowClient, name)

        def counting(*args: Any, _real: Any = real, _name: str = name, **kwargs: Any) -> Any:
            calls[_name] += 1
            return _real(*args, **kwargs)

        monkeypatch.setattr(MlflowClient, name, counting)
    with TrackedPipeline(len, store.config(), aggregate_every=100) as tracked:
        for _ in range(1_000):
            tracked("abc")

    assert calls == {"create_run": 1, "log_batch": 11, "set_terminated": 1}


def test_a_store_that_is_away_at_the_start_is_asked_again_between_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    tracked = TrackedPipeline(len, store.config(), "t", aggregate_every=2)
    tracked.get_tracker().get_experiment_id()
    with store.failing("runs"):
        tracked("a")
    tracked("b")
    assert store.runs() == []
    monkeypatch.setattr(tracked.get_tracker(), "_next_try", 0.0)
    tracked("c")
    tracked.close()

    assert windows(store, "documents") == [(2, 1)]


def test_no_store_stops_no_function(monkeypatch: pytest.MonkeyPatch, store: Store) -> None:
    assert store.runs() == []
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)

    @track_pipeline()
    def work(notes: Iterable[str]) -> list[str]:
        return list(notes)

    assert work(iter("ab")) == ["a", "b"]
    assert TrackedPipeline(len)("abc") == 3
    strict = MLFlowConfig(tracking_uri=NOWHERE, on_unavailable="error")
    with pytest.raises(TrackingError):
        TrackedPipeline(len, strict)("abc")


def test_a_decorated_function_of_many_threads_opens_the_store_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hc_orchestration.tracking import writer as writer_module

    opened: list[int] = []
    real = writer_module.open_client

    def counting(mlflow: Any) -> Any:
        opened.append(threading.get_ident())
        return real(mlflow)

    monkeypatch.setattr(writer_module, "open_client", counting)
    tracked = track_model(experiment="once")(len)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(tracked, ["a"] * 8))
    assert (len(opened), len(store.runs())) == (1, 8)
