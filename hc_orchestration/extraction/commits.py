"""Storing results beside the computing: a thread that commits what has come in so far."""

import time
from collections.abc import Callable, Sequence
from queue import Empty, Queue
from threading import Thread
from types import TracebackType
from typing import Self

from hc_orchestration.models.predictions import PackedEntities, pack

_SHORTEST_S = 2.0
_COMPUTED_PER_COMMITTED = 20
"""A commit reads the keys of the table: as that grows it takes longer, and so does the pause."""

_ROWS = 50_000
"""Notes and spans that are committed whatever the time: until then they are in memory."""

_WAITING = 64


class Commits:
    """Commits results a few seconds' worth at a time; what has come in is stored when it ends.

    A killed process loses what came in since the last commit, and nothing else. However the `with`
    statement is left, what has come in by then is committed.
    """

    def __init__(self, insert: Callable[[Sequence[PackedEntities]], int]) -> None:
        """Commit with `insert`, which takes what came in and stores the rows that are missing."""
        self._insert = insert
        self._inbox: Queue[PackedEntities | None] = Queue(_WAITING)
        self._error: BaseException | None = None
        self._ended = False
        self._thread = Thread(target=self._run, daemon=True, name="hc-commits")

    def __enter__(self) -> Self:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit the rest; an error of ours is raised unless another ended the statement."""
        self._inbox.put(None)
        self._thread.join()
        if error is None:
            self._raise()

    def put(self, packed: PackedEntities) -> None:
        """Give results; waits while too many are waiting.

        Raises:
            StorageError: An earlier commit failed.
        """
        self._raise()
        self._inbox.put(packed)

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            self._commit_all()
        except BaseException as error:  # noqa: BLE001 - raised where the results come from
            self._error = error
            while not self._ended:  # so that nobody waits for room
                self._ended = self._inbox.get() is None

    def _commit_all(self) -> None:
        pending: list[PackedEntities] = []
        rows = 0
        due = time.monotonic() + _SHORTEST_S
        while not self._ended:
            try:
                packed = self._inbox.get(timeout=max(0.0, due - time.monotonic()))
            except Empty:
                packed = pack([])
            if packed is None:
                self._ended = True
            else:
                pending.append(packed)
                rows += len(packed.note_ids) + len(packed.starts)
            if not (self._ended or rows >= _ROWS or time.monotonic() >= due):
                continue
            began = time.monotonic()
            if rows:
                self._insert(pending)
            pending, rows = [], 0
            took = time.monotonic() - began
            due = began + took + max(_SHORTEST_S, took * _COMPUTED_PER_COMMITTED)
