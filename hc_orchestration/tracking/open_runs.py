"""The open runs of this process, which SIGTERM closes, and the current ones of a thread or task."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import FrameType
from typing import TYPE_CHECKING

from hc_orchestration.tracking.sections import SectionLock, sections

if TYPE_CHECKING:
    from hc_orchestration.tracking.run import TrackedRun

LOCK_WAIT_S = 5.0


class _OpenRuns:
    """The open runs of this process; while there are any, SIGTERM closes them as KILLED.

    The handler is set only in the place of the default one, and only from the main thread, which is
    the only one that may. A process forked from this one inherits both, but none of the runs.
    """

    def __init__(self) -> None:
        self._runs: dict[str, TrackedRun] = {}
        self._lock = SectionLock()
        self._being_made = 0
        self._terminated = False
        self._dying = False

    def get(self, key: str) -> "TrackedRun | None":
        return self._runs.get(key)

    def keys(self) -> frozenset[str]:
        return frozenset(self._runs)

    def add(self, run: "TrackedRun") -> None:
        self._runs[run.key] = run

    @contextmanager
    def making_one(self) -> Iterator[None]:
        """A run is made inside; once the process is to die, its other threads wait here for it."""
        with self._lock:
            dying = self._dying
            self._being_made += not dying
        if dying:
            threading.Event().wait()
        try:
            yield
        finally:
            with self._lock:
                self._being_made -= 1

    def discard(self, run: "TrackedRun") -> None:
        self._runs.pop(run.key, None)
        self.relax()

    def watch(self) -> None:
        if _in_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, self._on_signal)

    def relax(self) -> None:
        ours = _in_main_thread() and signal.getsignal(signal.SIGTERM) == self._on_signal
        if ours and not self._runs:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._terminated:  # asked a second time: no more waiting
            self._die()
        self._terminated = True
        sections.run(self._close_and_die)

    def _close_and_die(self) -> None:
        with self._lock:
            self._dying = True
        until = time.monotonic() + LOCK_WAIT_S
        while self._being_made and time.monotonic() < until:
            time.sleep(0.005)
        for run in list(self._runs.values()):
            if run.pid == os.getpid():
                run.terminate()
        self._die()

    def _die(self) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


open_runs = _OpenRuns()
_stack: ContextVar[tuple["TrackedRun", ...]] = ContextVar("hc_tracked_runs", default=())


def runs_here() -> tuple["TrackedRun", ...]:
    """The open runs of this thread or task, the innermost last."""
    return tuple(run for run in _stack.get() if run.is_open)


def enter(run: "TrackedRun") -> None:
    """Make `run` the current one of this thread or task."""
    _stack.set((*runs_here(), run))


def leave(run: "TrackedRun") -> None:
    """Make `run` no longer a current one, whichever context it was entered in."""
    _stack.set(tuple(other for other in _stack.get() if other is not run))


class Scope:
    """The current runs of code that is left and entered again, such as a generator.

    They are current only between `with` and its end, so they never leak into the consumer; what
    the code itself leaves open is there again the next time.
    """

    def __init__(self, run: "TrackedRun") -> None:
        """The runs that are current now, and `run`."""
        self._inner = (*_stack.get(), run)
        self._outer: tuple[TrackedRun, ...] = ()

    def __enter__(self) -> None:
        """Make them current."""
        self._outer = _stack.get()
        _stack.set(self._inner)

    def __exit__(self, *_: object) -> None:
        """Make current again what was before."""
        self._inner = _stack.get()
        _stack.set(self._outer)
