"""Records written by the MLflow process: as here, also when it is killed or its store is away."""

import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection

import psutil
import pytest

from hc_orchestration.errors import TrackingError
from hc_orchestration.tracking import process as mlflow_process
from hc_orchestration.tracking.beside import projection
from hc_orchestration.tracking.process import (
    MlflowConnection,
    MlflowProcess,
    ProcessGoneError,
)
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration_tests.tracking.mlflow_store import Tracking

PASSWORD = "hunter2-made-up"  # noqa: S105 - of nobody
URL = "http://dagster"


@pytest.fixture
def beside(tracking: Tracking) -> Iterator[psutil.Process]:
    """The MLflow process that this one uses."""
    with MlflowProcess() as process:
        process.open(tracking.store)
        yield psutil.Process(process.pid)


def beside_of(tracking: Tracking) -> MlflowProjection:
    return projection(tracking.store, tracking.files, URL)


@pytest.mark.integration
def test_what_the_process_writes_is_what_would_be_written_here(
    tracking: Tracking, beside: psutil.Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    def not_here(*_: object) -> None:
        pytest.fail("written in this process")

    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(MlflowProjection, "_project", not_here)
        shown = beside_of(tracking).project(tracking.full_record("e1"))
    MlflowProjection(tracking.store, tracking.files, URL).project(tracking.full_record("e2"))

    assert shown.run_id == tracking.run("e1").info.run_id
    assert tracking.shown("e1") == tracking.shown("e2")
    assert beside.is_running()


@pytest.mark.integration
def test_a_killed_process_leaves_the_writing_to_this_one(
    tracking: Tracking, beside: psutil.Process
) -> None:
    first = beside_of(tracking)
    first.project(tracking.full_record("e1"))
    beside.kill()
    beside.wait()

    first.project(tracking.full_record("e2"))
    beside_of(tracking).project(tracking.full_record("e3"))

    assert tracking.shown("e1") == tracking.shown("e2") == tracking.shown("e3")


@pytest.mark.integration
def test_a_store_that_is_away_is_told_as_here_and_without_its_password(
    tracking: Tracking, beside: psutil.Process
) -> None:
    away = replace(tracking.store, tracking_uri=f"http://somebody:{PASSWORD}@127.0.0.1:9")
    record = tracking.full_record()

    with pytest.raises(TrackingError, match="MLflow failed") as raised:
        projection(away, tracking.files, URL).project(record)

    assert PASSWORD not in str(raised.value)
    assert beside_of(tracking).project(record).run_id == tracking.run().info.run_id
    assert beside.is_running()


@pytest.mark.integration
def test_the_process_ends_with_those_that_it_writes_for(tracking: Tracking) -> None:
    with MlflowProcess() as process:
        used = psutil.Process(process.pid)
        process.open(tracking.store)
        assert beside_of(tracking).project(tracking.full_record())
    assert not used.is_running()
    assert mlflow_process.used() is None

    with MlflowProcess() as unused:
        pid = unused.pid
    assert not psutil.pid_exists(pid)


class Peer:
    """The other end of a connection: answers each question with itself, when it may."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.may_answer = threading.Event()
        self._connection = Connection(theirs.detach())
        self.asked = MlflowConnection(ours.detach())
        threading.Thread(target=self._answer, daemon=True).start()

    def _answer(self) -> None:
        while True:
            question = self._connection.recv()
            self.may_answer.wait(30)
            if question == "die":
                self._connection.close()
                return
            self._connection.send(question)


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """SIGINT as a terminal's: a background job of a shell ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interrupt_while_waiting_does_not_shift_the_answers() -> None:
    peer = Peer()
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        peer.asked.ask("first")

    peer.may_answer.set()
    assert [peer.asked.ask(question) for question in ("second", "third")] == ["second", "third"]


def test_who_asks_a_process_that_dies_is_told() -> None:
    peer = Peer()
    peer.may_answer.set()
    for question in ("die", "late"):
        with pytest.raises(ProcessGoneError):
            peer.asked.ask(question)


def test_a_process_that_has_imported_mlflow_starts_no_other() -> None:
    import mlflow

    assert mlflow.__version__
    assert not mlflow_process.worthwhile()
