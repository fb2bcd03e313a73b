"""A second process of `hc evaluate`, which evaluates models beside the first.

Most of what an evaluation of a small corpus costs is one core's work: imports, the model, Dagster's
events, MLflow. The second process gets ready while the corpus is read, and then takes models from
the same list as the first.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Lock, Thread
from typing import TYPE_CHECKING, Self

from hc_orchestration.errors import EvaluationError, HcError
from hc_orchestration.extraction.sizing import Machine
from hc_orchestration.processes import importing_much, start_program
from hc_orchestration.settings import Settings
from hc_orchestration.tracking.process import use

if TYPE_CHECKING:
    from hc_orchestration.runs import InProcessRuns, RunOutcome

_PROGRAM = "from hc_orchestration.side_process import main; main()"
_GONE = (EOFError, BrokenPipeError, ConnectionResetError)
"""What is raised when the first process is no more."""

_USED = (
    "hc_orchestration.definitions",
    "hc_orchestration.resources.steps",
    "hc_orchestration.resources.recording",
    "hc_orchestration.reporting.plots",
    "fhir.resources.R4B.bundle",
    "fhir.resources.R4B.measurereport",
    "fhir.resources.R4B.provenance",
    "spacy",
)
_MEMORY_OF_TWO = 2_000_000_000
"""Bytes that two processes with a model each may take; where less is free, one does all."""

_CLOSING_S = 90
"""Longer than a run that is stopped takes to close what it began, also if MLflow is silent."""


@dataclass(frozen=True, slots=True)
class Task:
    """A model to evaluate, and the id that its Dagster run is to have."""

    key: str
    run_id: str


@dataclass(frozen=True, slots=True)
class Said:
    """A line about progress, as the package logs it."""

    line: str


@dataclass(frozen=True, slots=True)
class Raised:
    """What kept a run from having an outcome, in words that are safe to show."""

    message: str


def worthwhile(models: int, machine: Machine) -> bool:
    """Whether evaluating so many models is faster in two processes, and there is room for them."""
    return models > 1 and machine.cores > 1 and machine.memory > _MEMORY_OF_TWO


class SideProcess:
    """Our end of the second process; use it in a `with` statement, which ends it.

    Attributes:
        outcomes: How its runs ended, by model; complete once it is stopped or has nothing to take.
        died: The task that it died of, and how; None while it lives.
    """

    def __init__(
        self,
        settings: Settings,
        say: Callable[[str], None],
        handed: Sequence[socket.socket] = (),
    ) -> None:
        """Start nothing yet.

        Args:
            settings: The deployment.
            say: Told the second process's lines about progress.
            handed: A socket of the MLflow process, if there is one.
        """
        self.outcomes: dict[str, RunOutcome] = {}
        self.died: tuple[Task, str] | None = None
        self._raised: str | None = None
        self._stopped = False
        self._settings = settings
        self._say = say
        self._handed = handed
        self._feeder: Thread | None = None

    def __enter__(self) -> Self:
        """Start the process, which gets ready."""
        self._process, self._socket = start_program(_PROGRAM, handed=self._handed)
        self._connection = Connection(os.dup(self._socket.fileno()))
        return self

    def __exit__(self, *details: object) -> None:
        """Stop it, whatever it is doing, and wait until it has closed what it began."""
        self.stop()
        if self._feeder is not None:
            self._feeder.join(_CLOSING_S)
        try:
            self._process.wait(_CLOSING_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._feeder is not None:
            self._feeder.join()
        self._connection.close()
        self._socket.close()

    def open_home(self) -> None:
        """Have it open the home's stores, now that they are made."""
        with suppress(OSError):  # it died; its first task says so
            self._connection.send(self._settings)

    def begin(self, take: Callable[[], Task | None]) -> None:
        """Have it evaluate the models that `take` gives, one after the other, until it gives none.

        `take` is called by a thread.
        """
        self._feeder = Thread(target=self._feed, args=(take,))
        self._feeder.start()

    def finish(self) -> None:
        """Wait until it has nothing more to do.

        Raises:
            EvaluationError: A run of it was kept from having an outcome.
        """
        if self._feeder is not None:
            self._feeder.join()
        if self._raised is not None:
            raise EvaluationError(self._raised)

    def stop(self) -> None:
        """Say that nothing more is wanted; a run that is under way ends as one by a signal does."""
        self._stopped = True
        with suppress(OSError):  # it is gone
            self._socket.shutdown(socket.SHUT_WR)

    def _feed(self, take: Callable[[], Task | None]) -> None:
        while (task := take()) is not None:
            try:
                self._connection.send(task)
                answer = self._answer()
            except (EOFError, OSError):
                code = self._process.wait()
                end = f"signal {-code}" if code < 0 else f"exit code {code}"
                if code or not self._stopped:  # else it was stopped before it began
                    self.died = task, f"the process that ran it died ({end})"
                break
            if isinstance(answer, Raised):
                self._raised = answer.message
                break
            self.outcomes[task.key] = answer
            if answer.interrupted:
                break
        self.stop()

    def _answer(self) -> "RunOutcome | Raised":
        while isinstance(message := self._connection.recv(), Said):
            self._say(message.line)
        answer: RunOutcome | Raised = message
        return answer


def main() -> None:
    """Run the models that the first process asks for, until it wants no more or is gone."""
    os.setsid()  # a terminal's Ctrl-C is the first process's business
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    first, *mlflow = map(int, sys.argv[1:])
    with suppress(KeyboardInterrupt, *_GONE):
        _serve(Connection(first), *mlflow)
    os._exit(0)  # nothing is open, and taking all that was imported apart lasts a second


def _serve(connection: Connection, mlflow: int | None = None) -> None:
    send = _Sender(connection)
    logging.getLogger("hc_orchestration").addHandler(send)
    logging.getLogger("hc_orchestration").setLevel(logging.INFO)
    try:
        _import_all()
        if mlflow is not None:
            use(mlflow)
        settings: Settings = connection.recv()
        tasks: SimpleQueue[Task | None] = SimpleQueue()
        Thread(target=_receive, args=(connection, tasks), daemon=True).start()
        with _runs(settings) as runs:
            while (task := tasks.get()) is not None:
                send(_evaluate(runs, task))
    except _GONE:
        raise
    except HcError as error:
        send(Raised(str(error)))
    except Exception as error:  # noqa: BLE001 - its words may quote a note
        send(Raised(f"the second process failed ({type(error).__name__})"))


def _receive(connection: Connection, tasks: "SimpleQueue[Task | None]") -> None:
    """Take in tasks; once the other end wants no more, or is gone, stop what is under way."""
    try:
        while True:
            tasks.put(connection.recv())
    except (EOFError, OSError):
        tasks.put(None)
        os.kill(os.getpid(), signal.SIGTERM)  # not raise_signal: the main thread is to hear it


class _Sender(logging.Handler):
    """Sends answers and what is logged, from any thread."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(level=logging.INFO)
        self._connection = connection
        self._sending = Lock()

    def __call__(self, message: object) -> None:
        with self._sending:
            self._connection.send(message)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self(Said(record.getMessage()))
        except OSError:
            return  # nobody listens any more


def _import_all() -> None:
    """Import what every evaluation needs, the slow libraries among it."""
    with importing_much():
        for name in _USED:
            import_module(name)


@contextmanager
def _runs(settings: Settings) -> Iterator["InProcessRuns"]:
    from hc_orchestration.definitions import build_definitions
    from hc_orchestration.home import prepare_home
    from hc_orchestration.runs import InProcessRuns, dagster_instance

    prepare_home(settings)
    with dagster_instance() as instance:
        yield InProcessRuns(build_definitions(settings), instance, settings)


def _evaluate(runs: "InProcessRuns", task: Task) -> "RunOutcome":
    from hc_orchestration.jobs import EVALUATE_MODEL
    from hc_orchestration.runs import RunOutcome

    try:
        return runs.run(EVALUATE_MODEL, task.key, task.run_id)
    except KeyboardInterrupt:
        return RunOutcome(task.run_id, success=False, error="stopped", interrupted=True)
