"""Sections of a thread: store calls that no signal handler or finalizer of it may interrupt."""

import threading
from collections import deque
from collections.abc import Callable


class _Sections(threading.local):
    """Keeps the signal handlers and finalizers of a thread out of its own store calls.

    They run between two instructions of whatever the thread is doing. In the middle of a database
    transaction of the same thread, a second one would wait for itself.
    """

    def __init__(self) -> None:
        self.depth = 0
        self._waiting: deque[Callable[[], None]] = deque()

    def run(self, call: Callable[[], None]) -> None:
        """Call now, or as soon as the thread has left its section."""
        if self.depth:
            self._waiting.append(call)
        else:
            call()

    def leave(self) -> None:
        self.depth -= 1
        while not self.depth and self._waiting:
            self._waiting.popleft()()


sections = _Sections()


class Section:
    """Store calls of a thread that nothing of the same thread may begin in the middle of."""

    def __enter__(self) -> None:
        """Begin; what comes up from here on waits."""
        sections.depth += 1

    def __exit__(self, *_: object) -> None:
        """End, and run what waited if it is the outermost."""
        sections.leave()


class SectionLock(Section):
    """A reentrant lock that is a section too, so that no handler finds it taken by its thread."""

    def __init__(self) -> None:
        """Make it, open."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        """Wait for the lock."""
        super().__enter__()
        try:
            self._lock.acquire()
        except BaseException:
            super().__exit__()
            raise

    def __exit__(self, *_: object) -> None:
        """Let go of the lock, then run what waited."""
        self._lock.release()
        super().__exit__()

    def try_enter(self, seconds: float = 0.0) -> bool:
        """Enter if the lock can be had within so many seconds; whoever has it calls `__exit__`."""
        super().__enter__()
        if self._lock.acquire(timeout=seconds):
            return True
        super().__exit__()
        return False
