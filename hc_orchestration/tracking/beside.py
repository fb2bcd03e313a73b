"""Writing records into MLflow from a process that does not import it; see `process`.

The process that does takes one record at a time, from whoever holds the other end of one of its
sockets, and ends when nobody does any more.
"""

import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from selectors import EVENT_READ, DefaultSelector

from hc_orchestration.errors import TrackingError
from hc_orchestration.processes import importing_much
from hc_orchestration.storage.files import FileStore
from hc_orchestration.storage.records import MlflowPart
from hc_orchestration.tracking.client import MlflowStore, load_mlflow, open_client
from hc_orchestration.tracking.process import MlflowConnection, ProcessGoneError, used
from hc_orchestration.tracking.projection import MlflowProjection, Record


@dataclass(frozen=True, slots=True)
class _Asked:
    """A record to write, and what `MlflowProjection` needs for it."""

    store: MlflowStore
    files: FileStore
    dagster_url: str
    record: Record


@dataclass(frozen=True, slots=True)
class _Refused:
    """What a `TrackingError` said."""

    message: str


@dataclass(frozen=True, slots=True)
class _Unable:
    """It failed in a way that is for whoever asked to find out."""


_Answer = MlflowPart | _Refused | _Unable


def projection(store: MlflowStore, files: FileStore, dagster_url: str) -> MlflowProjection:
    """What writes records into `store`: another process if this one uses one, else this one."""
    process = used()
    if process is None:
        return MlflowProjection(store, files, dagster_url)
    return _ProjectionBeside(process, store, files, dagster_url)


class _ProjectionBeside(MlflowProjection):
    """As `MlflowProjection`, but the process writes the records; once it is gone, this one does."""

    def __init__(
        self, process: MlflowConnection, store: MlflowStore, files: FileStore, dagster_url: str
    ) -> None:
        super().__init__(store, files, dagster_url)
        self._process = process

    def project(self, record: Record) -> MlflowPart:
        try:
            answer: _Answer = self._process.ask(
                _Asked(self._store, self._files, self._dagster_url, record)
            )
        except ProcessGoneError:
            answer = _Unable()
        if isinstance(answer, _Refused):
            raise TrackingError(answer.message)
        if isinstance(answer, _Unable):
            return super().project(record)
        return answer


def main() -> None:
    """Write what the other ends of the sockets ask for, until they are all closed."""
    os.setsid()  # a terminal's Ctrl-C is the asking processes' business
    with importing_much(), suppress(TrackingError):  # told with the first record
        load_mlflow()
    projections: dict[tuple[MlflowStore, str], MlflowProjection] = {}
    with DefaultSelector() as ends:
        for number in map(int, sys.argv[1:]):
            ends.register(number, EVENT_READ, Connection(number))
        while ends.get_map():
            for end, _ in ends.select():
                try:
                    _take(end.data, projections)
                except (EOFError, OSError):
                    ends.unregister(end.fd)
    os._exit(0)  # nothing is open, and taking MLflow apart lasts half a second


def _take(
    connection: Connection, projections: dict[tuple[MlflowStore, str], MlflowProjection]
) -> None:
    """Do what one message says.

    Raises:
        EOFError: Nobody is at the other end.
        OSError: Nor was anybody to take the answer.
    """
    message: MlflowStore | _Asked = connection.recv()
    if isinstance(message, MlflowStore):
        with suppress(TrackingError):  # told with the first record
            open_client(message)
        return
    by = message.store, message.dagster_url
    if by not in projections:
        projections[by] = MlflowProjection(message.store, message.files, message.dagster_url)
    answer: _Answer
    try:
        answer = projections[by].project(message.record)
    except TrackingError as error:
        answer = _Refused(str(error))
    except Exception:  # noqa: BLE001 - whoever asked tries it, and raises it
        answer = _Unable()
    connection.send(answer)
