"""Which notes of a source a study takes: by attribute, by sample, by number."""

import hashlib
import heapq
from collections.abc import Callable, Iterable
from typing import Self

from pydantic import Field, model_validator

from hc_orchestration.corpora.notes import Note
from hc_orchestration.yaml_model import StrictModel

_RANGE = 2**64


class Sample(StrictModel):
    """A random part of the notes: `n` of them, or a `fraction`.

    A note is drawn by the hash of seed and id, so neither the order of the notes nor the other
    notes of the corpus decide about it (for `n`, the other notes' hashes do).
    """

    n: int | None = Field(default=None, ge=1)
    fraction: float | None = Field(default=None, gt=0, le=1)
    seed: int = 0

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.n is None) == (self.fraction is None):
            message = "give either n or fraction"
            raise ValueError(message)
        return self

    def rank(self, note_id: str) -> int:
        """The draw of a note, uniform in [0, 2^64)."""
        drawn = hashlib.sha256(f"{self.seed}\n{note_id}".encode()).digest()
        return int.from_bytes(drawn[:8], "big")


Where = dict[str, str | tuple[str, ...]]
"""Attribute → the value, or one of the values, that a note must have."""


def fits(note: Note, where: Where) -> bool:
    """Whether a note has every attribute that is asked for."""
    return all(
        note.attributes.get(name) in ((value,) if isinstance(value, str) else value)
        for name, value in where.items()
    )


def sample_rule(sample: Sample | None, ids: Callable[[], Iterable[str]]) -> Callable[[str], bool]:
    """Decides by id whether a note is in the sample.

    Args:
        sample: What is asked for; None takes every note.
        ids: The ids to draw from, read only for a sample of `n`; memory holds `n` numbers.
    """
    if sample is None:
        return lambda _: True
    if sample.fraction is not None:
        below = int(sample.fraction * _RANGE)
        return lambda note_id: sample.rank(note_id) < below
    highest = _nth_rank(map(sample.rank, ids()), sample.n or 0)
    return lambda note_id: sample.rank(note_id) <= highest


def _nth_rank(ranks: Iterable[int], n: int) -> int:
    """The n-th smallest of the distinct ranks, or a number above all when there are fewer."""
    heap: list[int] = []
    held: set[int] = set()
    for rank in ranks:
        if rank in held:
            continue
        if len(heap) < n:
            heapq.heappush(heap, -rank)
        elif rank < -heap[0]:
            held.discard(-heapq.heapreplace(heap, -rank))
        else:
            continue
        held.add(rank)
    return -heap[0] if len(heap) == n else _RANGE
