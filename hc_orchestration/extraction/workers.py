"""Worker processes that each hold the model: fed, watched, and replaced when they die."""

import logging
import subprocess
import time
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Self

from hc_orchestration.errors import ModelError
from hc_orchestration.extraction.results import Extracted, Failed, Unprocessed
from hc_orchestration.extraction.worker import Ready
from hc_orchestration.models.predictions import NoteText, pack
from hc_orchestration.models.store import InstalledModel
from hc_orchestration.processes import start_program

_AHEAD = 2
"""Batches that a worker has at once: the one it computes, and the next."""

_LOADS = 3
"""How many processes may die before one has loaded the model."""

_ONE_THREAD = dict.fromkeys(
    ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS"), "1"
) | {"VECLIB_MAXIMUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
"""A process a core: threads beneath would only take the cores from each other."""

_PROGRAM = "from hc_orchestration.extraction.worker import main; main()"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Task:
    """Notes for a worker; `deaths` of the workers that had just these."""

    notes: Sequence[NoteText]
    deaths: int = 0


@dataclass(slots=True, eq=False)
class _Worker:
    process: "subprocess.Popen[bytes]"
    connection: Connection
    tasks: deque[_Task] = field(default_factory=deque)
    ready: bool = False


class WorkerPool:
    """Runs a model over batches in processes of its own.

    A worker that dies (killed by the kernel for want of memory, or crashed in the model's code) is
    replaced and its batch repeated; a batch that two workers died of is halved, until one note is
    left, which is set aside by its id.

    Attributes:
        device: Where the model runs; None before the first worker is ready.
        ready_at: When the first worker was ready (`time.perf_counter`); None before.
        lost: How many workers died.
        processes: How many there are.
        here: Never this process.
    """

    here = False

    def __init__(
        self, installed: InstalledModel, processes: int, batches: Iterable[Sequence[NoteText]]
    ) -> None:
        """Start nothing yet; use it in a `with` statement."""
        self.device: str | None = None
        self.ready_at: float | None = None
        self.lost = 0
        self._installed = installed
        self.processes = processes
        self._source = iter(batches)
        self._workers: list[_Worker] = []
        self._again: deque[_Task] = deque()

    def __enter__(self) -> Self:
        """Start the processes; they load the model while the first batches are read."""
        for _ in range(self.processes):
            self._start()
        return self

    def __exit__(self, *details: object) -> None:
        """End the processes, whatever they are doing; they hold nothing that could be lost."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.wait()
            worker.connection.close()
        self._workers.clear()

    def extract(self) -> Generator[Extracted]:
        """Yield the entities of each batch, in the order in which the workers are done.

        Raises:
            ModelError: The model cannot be loaded, or broke its contract; see `extract_batch`.
        """
        while self._feed():
            told = wait([worker.connection for worker in self._workers])
            for worker in [worker for worker in self._workers if worker.connection in told]:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    yield from self._replace(worker)
                    continue
                if isinstance(message, Extracted):
                    worker.tasks.popleft()
                    yield message
                else:
                    self._told(worker, message)

    def _feed(self) -> bool:
        """Give every worker that is ready what it has room for; whether any has work left."""
        waiting = any(not worker.ready for worker in self._workers)
        more = True
        for worker in self._workers:
            while more and worker.ready and len(worker.tasks) < _AHEAD:
                task = self._next()
                if task is None:
                    more = False
                else:
                    self._send(worker, task)
        busy = any(worker.tasks for worker in self._workers)
        return busy or (more and waiting) or bool(self._again)

    def _next(self) -> _Task | None:
        if self._again:
            return self._again.popleft()
        notes = next(self._source, None)
        return None if notes is None else _Task(notes)

    @staticmethod
    def _send(worker: _Worker, task: _Task) -> None:
        worker.tasks.append(task)
        try:
            worker.connection.send(task.notes)
        except OSError:
            return  # it died; reading from it says so and its tasks are given to another

    def _told(self, worker: _Worker, message: object) -> None:
        if isinstance(message, Failed):
            raise ModelError(message.message)
        if isinstance(message, Ready):
            worker.ready = True
            if self.device is None:
                self.device, self.ready_at = message.device, time.perf_counter()
                for line in message.warnings:
                    _log.warning("%s", line)

    def _replace(self, worker: _Worker) -> Iterator[Extracted]:
        """Start another process for one that died, and see to what it had to do."""
        self._workers.remove(worker)
        worker.connection.close()
        code = worker.process.wait()
        end = f"signal {-code}" if code < 0 else f"exit code {code}"
        self.lost += 1
        key = self._installed.entry.key
        _log.warning("%s: a worker process died (%s); it is replaced.", key, end)
        if self.device is None and self.lost >= _LOADS:
            message = (
                f"model {key}: {self.lost} processes died loading it ({end}). Is there enough "
                "memory? The model's files may be damaged."
            )
            raise ModelError(message)
        suspect = worker.tasks.popleft() if worker.tasks else None
        self._again.extendleft(reversed(worker.tasks))
        if suspect is not None:
            yield from self._repeat(suspect, end)
        self._start()

    def _repeat(self, task: _Task, end: str) -> Iterator[Extracted]:
        """See that a batch whose worker died is done, or set its only note aside."""
        if task.deaths == 0:
            self._again.appendleft(_Task(task.notes, deaths=1))
        elif len(task.notes) == 1:
            (note,) = task.notes
            reason = f"ended its process ({end})"
            yield Extracted(pack([]), len(note.text), (Unprocessed(note.note_id, reason),))
        else:
            middle = len(task.notes) // 2
            for half in (task.notes[middle:], task.notes[:middle]):
                self._again.appendleft(_Task(half, deaths=1 if len(half) > 1 else 0))

    def _start(self) -> None:
        process, ours = start_program(_PROGRAM, _ONE_THREAD)
        worker = _Worker(process, Connection(ours.detach()))
        self._workers.append(worker)
        try:
            worker.connection.send(self._installed)
        except OSError:
            return  # it died already; reading from it says so
