"""A worker process: loads one model, then turns each batch that arrives into packed spans.

Its only argument is the number of a file descriptor, one end of a socket pair; see
`processes.start_program`.
"""

import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from queue import SimpleQueue
from threading import Thread

from hc_orchestration.errors import HcError
from hc_orchestration.extraction.results import Failed
from hc_orchestration.models.predictions import NoteText
from hc_orchestration.models.store import InstalledModel


@dataclass(frozen=True, slots=True)
class Ready:
    """The model is loaded; `warnings` are what its loader logged."""

    device: str
    warnings: tuple[str, ...]


def serve(connection: Connection, abandoned: Callable[[], None]) -> None:
    """Answer on a connection until its other end is closed.

    Args:
        connection: Gives an `InstalledModel`, then lists of `NoteText`; takes `Ready`, then an
            `Extracted` for each list, or `Failed`.
        abandoned: Called, by another thread, as soon as the other end is gone.
    """
    try:
        _serve(connection, abandoned)
    except HcError as error:
        connection.send(Failed(str(error)))
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    except Exception as error:  # noqa: BLE001 - its words may quote a note
        connection.send(Failed(f"the worker process failed ({type(error).__name__})."))


def _serve(connection: Connection, abandoned: Callable[[], None]) -> None:
    from hc_orchestration.extraction.local import extract_batch
    from hc_orchestration.models.loaders import load_model

    installed: InstalledModel = connection.recv()
    heard = _Heard()
    logging.getLogger("hc_orchestration").addHandler(heard)
    try:
        model = load_model(installed)
    finally:
        logging.getLogger("hc_orchestration").removeHandler(heard)
    connection.send(Ready(model.device, tuple(heard.lines)))
    inbox: SimpleQueue[list[NoteText] | None] = SimpleQueue()
    Thread(target=_receive, args=(connection, inbox, abandoned), daemon=True).start()
    while (batch := inbox.get()) is not None:
        connection.send(extract_batch(model, batch))


def _receive(
    connection: Connection,
    inbox: "SimpleQueue[list[NoteText] | None]",
    abandoned: Callable[[], None],
) -> None:
    """Take in batches while the model computes: neither end ever waits for the other to read."""
    try:
        while True:
            inbox.put(connection.recv())
    except (EOFError, OSError):
        inbox.put(None)
        abandoned()


class _Heard(logging.Handler):
    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def main() -> None:
    """Serve the parent; Ctrl-C is its business, and without it there is nothing left to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    serve(Connection(int(sys.argv[1])), abandoned=lambda: os._exit(0))
