"""How many processes an extraction is worth: cores, memory, and how long one process would take."""

import os
from dataclasses import dataclass
from pathlib import Path

import psutil

_SECONDS_A_MEGACHARACTER = {"lexicon": 0.7, "spacy": 6.0, "transformers": 60.0}
"""One core's time for a million characters, from benchmarks/extraction_speed.py; orders of size."""

_START_S = 3.0
"""What starting a process and loading a model costs beyond doing both in this one."""

_WORTHWHILE = 2.0
"""How many times its cost the start of processes must save."""

_PROCESS_BYTES = 350_000_000
_BYTES_A_MODEL_BYTE = 3
_MEMORY_SHARE = 0.7
_GPUS = ("/dev/nvidia0", "/dev/kfd")
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is to compute with.

    Attributes:
        cores: That this process may use.
        memory: Bytes that are free for it.
        gpu: Whether there is one, which models then share.
    """

    cores: int
    memory: int
    gpu: bool = False

    @classmethod
    def here(cls) -> "Machine":
        """This machine, or the part of it that a container's limits leave."""
        affinity = getattr(os, "sched_getaffinity", None)
        cores = len(affinity(0)) if affinity else os.cpu_count() or 1
        memory = int(psutil.virtual_memory().available)
        quota = _limit("cpu.max")
        if len(quota) == 2:  # noqa: PLR2004 - microseconds of computing, in so many
            cores = min(cores, max(1, quota[0] // quota[1]))
        limit, used = _limit("memory.max"), _limit("memory.current")
        if limit and used:
            memory = min(memory, max(0, limit[0] - used[0]))
        return cls(cores, memory, any(Path(device).exists() for device in _GPUS))


def processes_for(
    loader: str, model_bytes: int, notes: int, characters: int, machine: Machine
) -> int:
    """The number of processes that is likely to be done first; 1 is this process itself.

    Args:
        loader: Of the model; an unknown one is taken to be as slow as spaCy.
        model_bytes: Size of the model's files.
        notes: To extract.
        characters: Of all these notes.
        machine: Where it runs.
    """
    if machine.gpu and loader != "lexicon":
        return 1
    room = int(machine.memory * _MEMORY_SHARE) // (
        _PROCESS_BYTES + _BYTES_A_MODEL_BYTE * model_bytes
    )
    processes = max(1, min(machine.cores, room, notes))
    alone = characters / 1e6 * seconds_a_megacharacter(loader)
    saved = alone * (1 - 1 / processes)
    return processes if saved > _WORTHWHILE * _START_S else 1


def seconds_a_megacharacter(loader: str) -> float:
    """About how long one core takes for a million characters with a model of this loader."""
    return _SECONDS_A_MEGACHARACTER.get(loader, _SECONDS_A_MEGACHARACTER["spacy"])


def _limit(name: str) -> list[int]:
    """The numbers of a cgroup's file; none when it is not there or says "max"."""
    try:
        words = (_CGROUP / name).read_text(encoding="ascii").split()
    except OSError:
        return []
    return [int(word) for word in words] if all(word.isdigit() for word in words) else []
