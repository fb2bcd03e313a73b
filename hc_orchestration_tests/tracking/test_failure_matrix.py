"""What MLflow shows after every sort of ending: a table of what is done and what is left.

Each row says what happens and, exactly, which runs there are then: names, statuses, tags, params
and how many points each metric has. No row leaves the words of an exception anywhere. Every row is
run on SQLite and on a real MLflow server with login on PostgreSQL.

The rows that need Dagster are, on both stores too, in `integration`: in `test_mlflow_projection`
a step that is retried with a changed param and a re-execution from failure; in `test_partitions`
parallel first steps on a new store and a backfill of four partitions at once.
"""

import asyncio
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from hc_orchestration.errors import ModelError, TrackingError
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.tracking.config import MLFlowConfig
from hc_orchestration.tracking.dead import close_tracked_runs, dead_tracked_runs
from hc_orchestration.tracking.decorators import TrackedPipeline, track_model, track_pipeline
from hc_orchestration.tracking.open_runs import open_runs, runs_here
from hc_orchestration.tracking.tracker import MLFlowTracker
from hc_orchestration_tests.integration.servers import MlflowServer
from hc_orchestration_tests.tracking.test_tracker import (
    NOWHERE,
    Store,
    make_default,
    set_up_store,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

SENTINEL = "Zebrafink"
WITHHELD = re.compile(r"\w+( at [\w.]+:\d+( < [\w.]+:\d+)*)?; its words are withheld: .*")


ON_A_SERVER = pytest.param(
    "server", marks=[pytest.mark.integration, pytest.mark.xdist_group("mlflow_server")]
)


class ServerStore(Store):
    """The store of a server that all tests share: what others left in it is deleted first."""

    def __init__(self, server: MlflowServer, folder: Path) -> None:
        super().__init__(server.uri, folder)
        self._database = server.database.replace("+psycopg2", "", 1)
        for run in self.runs():
            self.client.delete_run(run.info.run_id)

    def execute(self, *statements: str) -> None:
        import psycopg2

        with closing(psycopg2.connect(self._database)) as database, database.cursor() as cursor:
            for statement in statements:
                if not statement.startswith("PRAGMA"):
                    cursor.execute(statement)
            database.commit()


@pytest.fixture(params=["sqlite", ON_A_SERVER])
def store(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    empty_mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Store:
    if request.param == "sqlite":
        return set_up_store(tmp_path, empty_mlflow, monkeypatch)
    made = ServerStore(request.getfixturevalue("logged_in"), tmp_path)
    make_default(made, monkeypatch)
    return made


@dataclass(frozen=True)
class Left:
    """A run that is there afterwards.

    Attributes:
        tags: All of them, but for host, process, kind, and the withheld words of an error.
        points: How many points each metric has.
        inside: The name of its parent.
    """

    name: str
    status: str = "FINISHED"
    tags: dict[str, str] = field(default_factory=dict)
    params: dict[str, str] = field(default_factory=dict)
    points: dict[str, int] = field(default_factory=dict)
    inside: str | None = None


Doing = Callable[[Store, MLFlowTracker], None]


@dataclass(frozen=True)
class Row:
    name: str
    do: Doing
    left: list[Left]


def raises(kind: type[BaseException], call: Callable[[], object]) -> None:
    with pytest.raises(kind):
        call()


def fail(kind: type[BaseException] = ValueError) -> None:
    raise kind(*[f"note says {SENTINEL}"])


# What is done


def function_raises(_store: Store, _tracker: MLFlowTracker) -> None:
    raises(ValueError, track_model(run_name="f")(fail))


def with_raises(_store: Store, tracker: MLFlowTracker) -> None:
    def work() -> None:
        with tracker.start_run("w"):
            tracker.log_params({"p": 1})
            for step in range(3):
                tracker.log_metric("loss", 0, step)
            fail()

    raises(ValueError, work)


def our_own_error_raised(_store: Store, tracker: MLFlowTracker) -> None:
    def work() -> None:
        with tracker.start_run("w"):
            message = "model m: not there, ask jane@example.org"
            raise ModelError(message)

    raises(ModelError, work)


def coroutine_raises(_store: Store, _tracker: MLFlowTracker) -> None:
    @track_model(run_name="c")
    async def work() -> None:
        await asyncio.sleep(0)
        fail()

    raises(ValueError, lambda: asyncio.run(work()))


@track_pipeline(run_name="g")
def generator(limit: int) -> Iterator[int]:
    yield from range(limit)
    fail()


def generator_raises(_store: Store, _tracker: MLFlowTracker) -> None:
    raises(ValueError, lambda: list(generator(2)))


def generator_closed_early(_store: Store, _tracker: MLFlowTracker) -> None:
    running = generator(2)
    next(running)
    running.close()  # type: ignore[attr-defined] # a generator, declared as an iterator


@track_pipeline(run_name="a")
async def async_generator(limit: int) -> AsyncIterator[int]:
    for number in range(limit):
        await asyncio.sleep(0)
        yield number


def async_generator_exhausted(_store: Store, _tracker: MLFlowTracker) -> None:
    async def consume() -> list[int]:
        return [number async for number in async_generator(3)]

    assert asyncio.run(consume()) == [0, 1, 2]


def async_generator_closed_early(_store: Store, _tracker: MLFlowTracker) -> None:
    async def consume() -> None:
        running: Any = async_generator(3)
        await anext(running)
        await running.aclose()

    asyncio.run(consume())


def async_generator_raises(_store: Store, _tracker: MLFlowTracker) -> None:
    @track_pipeline(run_name="a")
    async def work() -> AsyncIterator[int]:
        yield 1
        fail()

    async def consume() -> None:
        async for _ in work():
            pass

    raises(ValueError, lambda: asyncio.run(consume()))


def interrupted(_store: Store, _tracker: MLFlowTracker) -> None:
    raises(KeyboardInterrupt, lambda: track_model(run_name="f")(fail)(KeyboardInterrupt))


def exits(_store: Store, tracker: MLFlowTracker) -> None:
    def work() -> None:
        with tracker.start_run("w"):
            tracker.log_metric("m", 1)
            sys.exit(SENTINEL)

    raises(SystemExit, work)


def task_cancelled(_store: Store, _tracker: MLFlowTracker) -> None:
    @track_model(run_name="c")
    async def work() -> None:
        await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(work())
        await asyncio.sleep(0.01)
        task.cancel(SENTINEL)
        with suppress(asyncio.CancelledError):
            await task

    asyncio.run(main())


def with_in_a_generator_closed_early(_store: Store, tracker: MLFlowTracker) -> None:
    def work() -> Iterator[int]:
        with tracker.start_run("w"):
            tracker.log_metric("m", 1)
            yield 1

    running = work()
    next(running)
    running.close()  # type: ignore[attr-defined] # a generator, declared as an iterator


def eight_threads(_store: Store, tracker: MLFlowTracker) -> None:
    ready = threading.Barrier(8)

    def work(number: int) -> None:
        ready.wait()
        with tracker.start_run(f"t{number}"):
            tracker.log_params({"number": number})
            for step in range(100):
                tracker.log_metric("m", step, step)
            if number == 7:
                fail()

    with tracker.start_run("main"), ThreadPoolExecutor(8) as pool:
        errors = [future.exception() for future in [pool.submit(work, n) for n in range(8)]]
        tracker.log_metric("m", 1)
    assert [type(error).__name__ for error in errors] == ["NoneType"] * 7 + ["ValueError"]


def eight_threads_on_one_run(_store: Store, tracker: MLFlowTracker) -> None:
    with tracker.start_run("one") as run, ThreadPoolExecutor(8) as pool:

        def work(number: int) -> None:
            for step in range(100):
                run.log_metrics({f"m{number}": 0}, step)
            run.log_params({f"p{number}": number, "same": "x"})

        list(pool.map(work, range(8)))


def nested(_store: Store, tracker: MLFlowTracker) -> None:
    with tracker.start_run("outer"):
        tracker.log_metric("m", 1, 1)
        with tracker.start_run("inner", nested=True):
            tracker.log_metric("m", 1)
        raises(ValueError, track_model(experiment="e", run_name="bad")(fail))
        tracker.log_metric("m", 2, 2)
        tracker.log_params({"after": True})


def tracked_calls_tracked(_store: Store, tracker: MLFlowTracker) -> None:
    @track_model(experiment="e")
    def leaf(number: int) -> int:
        tracker.log_metric("leaf", number)
        return number

    @track_pipeline(experiment="e")
    def branch(numbers: list[int]) -> list[int]:
        done = [leaf(number) for number in numbers]
        tracker.log_metric("branch", sum(done))
        return done

    assert branch([1, 2]) == [1, 2]


def away_at_the_start(_store: Store, _tracker: MLFlowTracker) -> None:
    work = track_model(tracking_uri=NOWHERE)(len)
    assert (work("ab"), work("abc")) == (2, 3)
    tracker = MLFlowTracker(MLFlowConfig(tracking_uri=NOWHERE))
    with tracker.start_run():
        tracker.log_metric("m", 1)
    raises(ValueError, track_model(tracking_uri=NOWHERE)(fail))


def away_at_the_start_is_an_error(_store: Store, _tracker: MLFlowTracker) -> None:
    strict = MLFlowConfig(tracking_uri=NOWHERE, on_unavailable="error")
    for _ in range(2):
        raises(TrackingError, lambda: MLFlowTracker(strict).open_run())


def away_for_a_while(store: Store, tracker: MLFlowTracker) -> None:
    with tracker.start_run("w") as run:
        run.log_params({"before": 1})
        with store.failing("metrics"):
            run.log_metric("m", 1)
            run.log_params({"meanwhile": 2})
        run.log_metric("m", 2)


def away_for_a_batch_and_the_end(store: Store, _tracker: MLFlowTracker) -> None:
    @track_model(run_name="f", experiment="e")
    def work() -> str:
        tracker = store.tracker()
        tracker.log_params({"before": 1})
        away.__enter__()
        tracker.log_metric("m", 1)
        tracker.log_dict({"lost": 1}, "lost.json")
        return "result"

    away = store.failing("runs", "metrics")
    assert work() == "result"
    away.__exit__(None, None, None)


def artifact_refused(_store: Store, tracker: MLFlowTracker) -> None:
    with tracker.start_run("w") as run:
        run.log_dict({}, "../outside.json")
        run.log_metric("m", 1)


FAILED = {"error.class": "ValueError"}
EARLY = {"hc.closed_early": "true"}
CALL = {"function_name": "fail", "function_module": __name__}
TIMED = {"execution_time_seconds": 1}


def work_params(name: str) -> dict[str, str]:
    return {"function_name": name, "function_module": __name__}


def piped(**counts: int) -> dict[str, int]:
    return {"pipeline_execution_seconds": 1, **counts}


MATRIX = [
    Row(
        "a function raises",
        function_raises,
        [Left("f", "FAILED", {**FAILED, "status": "failed"}, CALL, TIMED)],
    ),
    Row("a `with` raises", with_raises, [Left("w", "FAILED", FAILED, {"p": "1"}, {"loss": 3})]),
    Row(
        "an error of ours",
        our_own_error_raised,
        [
            Left(
                "w",
                "FAILED",
                {
                    "error.class": "ModelError",
                    "error.message": "model m: not there, ask [e-mail]",
                },
            )
        ],
    ),
    Row(
        "a coroutine raises",
        coroutine_raises,
        [Left("c", "FAILED", {**FAILED, "status": "failed"}, work_params("work"), TIMED)],
    ),
    Row(
        "a generator raises",
        generator_raises,
        [Left("g", "FAILED", FAILED, {}, piped(output_count=1))],
    ),
    Row(
        "a generator closed early",
        generator_closed_early,
        [Left("g", "FINISHED", EARLY, {}, piped(output_count=1))],
    ),
    Row(
        "an async generator",
        async_generator_exhausted,
        [Left("a", points=piped(output_count=1))],
    ),
    Row(
        "an async generator closed early",
        async_generator_closed_early,
        [Left("a", "FINISHED", EARLY, {}, piped(output_count=1))],
    ),
    Row(
        "an async generator raises",
        async_generator_raises,
        [Left("a", "FAILED", FAILED, {}, piped(output_count=1))],
    ),
    Row(
        "Ctrl-C",
        interrupted,
        [
            Left(
                "f",
                "KILLED",
                {"error.class": "KeyboardInterrupt", "status": "killed"},
                CALL,
                TIMED,
            )
        ],
    ),
    Row("exit", exits, [Left("w", "KILLED", {"error.class": "SystemExit"}, {}, {"m": 1})]),
    Row(
        "a task is cancelled",
        task_cancelled,
        [
            Left(
                "c",
                "KILLED",
                {"error.class": "CancelledError", "status": "killed"},
                work_params("work"),
                TIMED,
            )
        ],
    ),
    Row(
        "a `with` in a generator closed early",
        with_in_a_generator_closed_early,
        [Left("w", "FINISHED", EARLY, {}, {"m": 1})],
    ),
    Row(
        "8 threads",
        eight_threads,
        [
            Left("main", points={"m": 1}),
            *(Left(f"t{n}", params={"number": str(n)}, points={"m": 100}) for n in range(7)),
            Left("t7", "FAILED", FAILED, {"number": "7"}, {"m": 100}),
        ],
    ),
    Row(
        "8 threads on one run",
        eight_threads_on_one_run,
        [
            Left(
                "one",
                params={"same": "x", **{f"p{n}": str(n) for n in range(8)}},
                points={f"m{n}": 100 for n in range(8)},
            )
        ],
    ),
    Row(
        "nested",
        nested,
        [
            Left("bad", "FAILED", {**FAILED, "status": "failed"}, CALL, TIMED, inside="outer"),
            Left("inner", points={"m": 1}, inside="outer"),
            Left("outer", params={"after": "True"}, points={"m": 2}),
        ],
    ),
    Row(
        "tracked functions call each other",
        tracked_calls_tracked,
        [
            Left("branch", points=piped(input_count=1, output_count=1, branch=1)),
            *[
                Left(
                    "leaf",
                    "FINISHED",
                    {"status": "success"},
                    work_params("leaf"),
                    {**TIMED, "leaf": 1},
                    inside="branch",
                )
            ]
            * 2,
        ],
    ),
    Row("the server is away at the start", away_at_the_start, []),
    Row("the server is away, and that is an error", away_at_the_start_is_an_error, []),
    Row(
        "the server is away for a while",
        away_for_a_while,
        [Left("w", params={"before": "1", "meanwhile": "2"}, points={"m": 2})],
    ),
    Row(
        "the server is away from half-way to the end",
        away_for_a_batch_and_the_end,
        [Left("f", "RUNNING", {}, {**work_params("work"), "before": "1"})],
    ),
    Row("an artifact is refused", artifact_refused, [Left("w", points={"m": 1})]),
]


def shown(store: Store, run: "Run", names: dict[str, str]) -> Left:
    """What MLflow shows of a run; tags that every run has are checked and left out."""
    tags = store.tags(run)
    assert tags.pop("hc.kind") == "tracked"
    process = ProcessIdentity.from_tags(run.data.tags)
    assert process is not None
    assert (process.pid, process.gone) == (os.getpid(), False)
    if WITHHELD.fullmatch(tags.get("error.message", "")):
        del tags["error.message"]
    parent = tags.pop("mlflow.parentRunId", None)
    return Left(
        run.info.run_name,
        run.info.status,
        tags,
        dict(run.data.params),
        {name: len(store.points(run, name)) for name in run.data.metrics},
        None if parent is None else names[parent],
    )


@pytest.mark.parametrize("row", MATRIX, ids=lambda row: row.name)
def test_after_every_ending_mlflow_tells_the_truth(
    store: Store,
    row: Row,
    caplog: pytest.LogCaptureFixture,
    search_below: Callable[..., list[Path]],
) -> None:
    row.do(store, store.tracker())

    runs = store.runs()
    names = {run.info.run_id: run.info.run_name for run in runs}
    assert [shown(store, run, names) for run in runs] == row.left
    assert search_below(store.folder, SENTINEL) == []
    assert SENTINEL not in caplog.text
    assert runs_here() == ()
    assert not open_runs.keys()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


@pytest.mark.parametrize(
    ("do", "warned"),
    [
        (away_at_the_start, ["Runs are not tracked: MLflow failed: MlflowException"]),
        (away_at_the_start_is_an_error, []),
        (away_for_a_while, []),
        (
            away_for_a_batch_and_the_end,
            ["run f: MLflow lacks artifact lost.json, status FINISHED, 2 metric points, tag"],
        ),
        (artifact_refused, ["run w: MLflow lacks artifact ../outside.json. MLflow failed"]),
    ],
)
def test_what_mlflow_lacks_is_said_once(
    store: Store, do: Doing, warned: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    do(store, store.tracker())

    ours = [r.getMessage() for r in caplog.records if r.name.startswith("hc_orchestration")]
    assert len(ours) == len(warned)
    assert all(said.startswith(wanted) for said, wanted in zip(ours, warned, strict=True))


# Processes that die

PROGRAM = """
import sys, threading, time
from hc_orchestration.tracking import MLFlowConfig, MLFlowTracker, TrackedPipeline

config = MLFlowConfig(tracking_uri=sys.argv[1], experiment_name="e")
tracker = MLFlowTracker(config)
traffic = TrackedPipeline(len, config, "traffic", aggregate_every=10)
opened = threading.Barrier(2)

def work():
    with tracker.start_run("thread"):
        tracker.log_metric("m", 1)
        opened.wait()
        time.sleep(60)

with tracker.start_run("main"):
    tracker.log_params({"p": 1})
    for step in range(3):
        tracker.log_metric("m", step, step)
    threading.Thread(target=work, daemon=True).start()
    opened.wait()
    traffic("note")
    print("ready", flush=True)
    time.sleep(60)
"""


def kill_the_program(store: Store, number: signal.Signals) -> int:
    """Run the program until it is ready, then send it a signal; returns how it ended."""
    command = [sys.executable, "-c", PROGRAM, store.uri]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        return process.wait(timeout=20)


def test_a_terminated_process_closes_all_its_runs_as_killed(store: Store) -> None:
    assert kill_the_program(store, signal.SIGTERM) == -signal.SIGTERM

    main, thread, traffic = store.runs()
    for run in (main, thread, traffic):
        assert (run.info.status, run.data.tags["error.class"]) == ("KILLED", "SIGTERM")
    assert (main.info.run_name, main.data.params) == ("main", {"p": "1"})
    assert len(store.points(main, "m")) == 3
    assert (thread.info.run_name, len(store.points(thread, "m"))) == ("thread", 1)
    assert (traffic.info.run_name, store.points(traffic, "documents")) == ("traffic", [(1, 1)])


def test_a_killed_process_leaves_runs_that_say_it_is_dead(store: Store) -> None:
    assert kill_the_program(store, signal.SIGKILL) == -signal.SIGKILL

    runs = store.runs()
    assert [run.info.status for run in runs] == ["RUNNING"] * 3
    assert runs[0].data.params == {"p": "1"}
    for run in runs:
        process = ProcessIdentity.from_tags(run.data.tags)
        assert process is not None
        assert process.gone

    dead = dead_tracked_runs(store.mlflow)
    assert {run.info.run_id for run in dead} == {run.info.run_id for run in runs}
    close_tracked_runs(store.mlflow, dead)
    assert [run.info.status for run in store.runs()] == ["KILLED"] * 3


def test_a_handler_of_the_programs_own_is_left_alone(store: Store) -> None:
    def own(_number: int, _frame: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        with store.tracker().start_run():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
    with store.tracker().start_run():
        assert signal.getsignal(signal.SIGTERM) != signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_traffic_that_raises_shows_no_words(
    store: Store, search_below: Callable[..., list[Path]]
) -> None:
    def work() -> None:
        with TrackedPipeline(fail, store.config(), aggregate_every=5) as tracked:
            tracked(ValueError)

    raises(ValueError, work)
    assert store.run().info.status == "FAILED"
    assert search_below(store.folder, SENTINEL) == []


@pytest.mark.integration
@pytest.mark.xdist_group("mlflow_server")
def test_no_words_reach_the_server_its_database_or_its_log(
    postgres_folder: Path,
    logged_in: MlflowServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    search_below: Callable[..., list[Path]],
) -> None:
    """PostgreSQL writes what it is told to its log of changes at once, so bytes would show it."""
    store = ServerStore(logged_in, tmp_path)
    make_default(store, monkeypatch)
    with_raises(store, store.tracker())
    told = f"told-{store.run().info.run_id}"
    store.client.set_tag(store.run().info.run_id, "a", told)

    assert search_below(postgres_folder, told) != []
    assert search_below(postgres_folder, SENTINEL) == []
    assert search_below(logged_in.folder, SENTINEL) == []
