"""Processes: which one did something and whether it still lives; and starting one of ours."""

import ctypes
import gc
import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

_CLOCK_S = 2.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_FROM_THE_HEAP = 32 * 2**20
"""Bytes of the largest array that is not a mapping of its own; glibc allows no more."""
_KEPT_AT_MOST = 256 * 2**20
"""Bytes at the end of the heap that stay when they are free."""
_OF_RUN = "hc.process_of"
_COLLECT_AFTER = 50_000
"""New objects before garbage is looked for; Python's 700 cost an evaluation a second and a half."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process of some machine; `started` in seconds since the epoch, 0 when not known.

    A pid alone would not do: it is given away again.
    """

    host: str
    pid: int
    started: float

    @classmethod
    def current(cls) -> "ProcessIdentity":
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    @classmethod
    def from_tags(cls, tags: dict[str, str]) -> "ProcessIdentity | None":
        """The process that `as_tags` described, or None when the tags do not name one."""
        host, pid = tags.get("hc.host"), tags.get("hc.pid", "")
        if not host or not pid.isdigit():
            return None
        try:
            started = float(tags.get("hc.process_started", "0"))
        except ValueError:
            started = 0.0
        return cls(host, int(pid), started)

    def as_tags(self) -> dict[str, str]:
        """Tags for a Dagster or MLflow run."""
        return {
            "hc.host": self.host,
            "hc.pid": str(self.pid),
            "hc.process_started": f"{self.started:.2f}",
        }

    @classmethod
    def of_run(cls, run_id: str, tags: dict[str, str]) -> "ProcessIdentity | None":
        """The process that a Dagster run is in, or None when its tags do not name it.

        A re-execution takes over the tags of the run that it repeats: those name another run.
        """
        return cls.from_tags(tags) if tags.get(_OF_RUN) == run_id else None

    def as_tags_of(self, run_id: str) -> dict[str, str]:
        """Tags for the Dagster run that is in this process; see `of_run`."""
        return {**self.as_tags(), _OF_RUN: run_id}

    @property
    def gone(self) -> bool:
        """Whether it certainly lives no more; never said of another machine's process."""
        if self.host != socket.gethostname():
            return False
        try:
            process = psutil.Process(self.pid)
            begun, status = process.create_time(), process.status()
        except psutil.NoSuchProcess:
            return True
        if status == psutil.STATUS_ZOMBIE:  # dead, and nobody has asked how it ended
            return True
        return bool(self.started) and abs(begun - self.started) > _CLOCK_S


@contextmanager
def importing_much() -> Iterator[None]:
    """Import libraries without the collector of garbage, which would look through them all.

    What they have made is kept out of its sight afterwards too, and it looks less often.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.set_threshold(_COLLECT_AFTER)
        gc.enable()


def keep_freed_memory() -> None:
    """Have glibc keep what is freed for what is allocated next; elsewhere nothing changes.

    Arrays of a few megabytes come and go with every batch of a model. Given back to the kernel each
    time, they return page by page, which is a tenth of a small CNN's time (mallopt(3)).
    """
    with suppress(AttributeError, OSError):  # another C library
        set_option = ctypes.CDLL(None).mallopt
        set_option(_M_MMAP_THRESHOLD, _FROM_THE_HEAP)
        set_option(_M_TRIM_THRESHOLD, _KEPT_AT_MOST)


def start_program(
    statement: str,
    environment: Mapping[str, str] | None = None,
    *,
    handed: Sequence[socket.socket] = (),
) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """Start a Python program of ours with one end of a socket pair, and give it the other.

    It is not a `multiprocessing` child: it imports what it needs and nothing of whatever started
    it. What it has to say it sends; its standard streams lead nowhere, as a model's code may print
    what it reads.

    Args:
        statement: What it runs; its arguments are the numbers of its sockets' descriptors.
        environment: Variables beside those of this process.
        handed: Sockets that it is given beside its end of the pair, in this order after it.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        numbers = [given.fileno() for given in (theirs, *handed)]
        process = subprocess.Popen(  # noqa: S603 - this interpreter, our module
            [sys.executable, "-P", "-c", statement, *map(str, numbers)],
            pass_fds=numbers,
            env={**os.environ, **(environment or {}), "PYTHONPATH": _python_path()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return process, ours


def _python_path() -> str:
    """Where this process finds modules, a team's own among them."""
    return os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
