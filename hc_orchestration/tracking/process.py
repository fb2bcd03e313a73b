"""MLflow in a process of its own: imported once, beside all else that `hc evaluate` begins with.

Importing MLflow and making its database takes as long as all of Dagster and spaCy; whoever tells it
of a record need not be who imported it. Nothing slow is imported here: see `beside` for what the
process does.
"""

import os
import socket
import subprocess
import sys
from collections import deque
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from multiprocessing.connection import Connection
from threading import Lock, Thread
from typing import Any, Self

from hc_orchestration.processes import start_program
from hc_orchestration.tracking.client import MlflowStore

_PROGRAM = "from hc_orchestration.tracking.beside import main; main()"
_ENDS_WITHIN_S = 1.0
"""Seconds to wait for its end, which comes by itself."""


def worthwhile() -> bool:
    """Whether this process would have to import MLflow itself."""
    return "mlflow" not in sys.modules


class ProcessGoneError(Exception):
    """The process died before it answered."""


class MlflowConnection:
    """One end of a socket to the process; its questions are answered in their order."""

    def __init__(self, descriptor: int) -> None:
        """Take over the descriptor of a socket."""
        self._connection = Connection(descriptor)
        self._waiting: deque[Future[Any]] = deque()
        self._asking = Lock()
        self._open = True
        Thread(target=self._read, daemon=True).start()

    def say(self, message: object) -> None:
        """Send what has no answer."""
        with suppress(OSError):  # it died; the first question says so
            self._connection.send(message)

    def ask(self, question: object) -> Any:  # noqa: ANN401 - whatever it answers
        """The answer; an interrupt while it is waited for leaves the order as it is.

        Raises:
            ProcessGoneError: There is none.
        """
        answer: Future[Any] = Future()
        with self._asking:
            if not self._open:
                raise ProcessGoneError
            self._waiting.append(answer)
            self.say(question)
        try:
            return answer.result()
        except CancelledError:
            raise ProcessGoneError from None

    def _read(self) -> None:
        try:
            with suppress(EOFError, OSError):
                while True:
                    answer = self._connection.recv()
                    self._waiting.popleft().set_result(answer)
        finally:
            with self._asking:
                self._open = False
            for unanswered in self._waiting:
                unanswered.cancel()


class MlflowProcess:
    """The process, for as long as a `with` statement; this process uses it meanwhile.

    Attributes:
        second: A socket of it for one more process, which `use`s it.
    """

    def __enter__(self) -> Self:
        """Start the process, which imports MLflow."""
        self.second, theirs = socket.socketpair()
        with theirs:
            self._process, self._socket = start_program(_PROGRAM, handed=[theirs])
        self._writes = False
        return self

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def open(self, store: MlflowStore) -> None:
        """Have it make the store's schema, and tell it of this process's records from now on."""
        self._writes = True
        use(os.dup(self._socket.fileno())).say(store)

    def __exit__(self, *details: object) -> None:
        """Let it end; what it was asked for has been answered."""
        global _used  # noqa: PLW0603
        _used = None
        with suppress(OSError):  # it is gone
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.second.close()
        if not self._writes:
            self._process.kill()
        with suppress(subprocess.TimeoutExpired):  # a schema that it began is not left half made
            self._process.wait(_ENDS_WITHIN_S)


_used: MlflowConnection | None = None


def use(descriptor: int) -> MlflowConnection:
    """From now on tell the process at the other end of a socket of this process's records."""
    global _used  # noqa: PLW0603
    _used = MlflowConnection(descriptor)
    return _used


def used() -> MlflowConnection | None:
    """The way to the process, if this one has one."""
    return _used
