"""One-to-one pairing of gold and predicted spans: array arithmetic, an algorithm for the rest.

A candidate is a gold and a predicted span of one note that overlap. A pairing is made in tiers: all
pairs that the first tier allows, as many as possible, then as many as possible of the next tier
among the spans that are left. Why this gives "the most same-boundary pairs, then the most pairs":

1. Candidates of one boundary join every gold span there with every predicted one, and no candidate
   of the same boundary leads elsewhere. So the most same-boundary pairs are, boundary by boundary,
   as many as the rarer side has spans, whichever they are, and a pairing that has the most of them
   in all has the most at each boundary.
2. Spans of one boundary overlap the same other spans. Whichever of them the first tier took, the
   spans that it left have the same candidates (up to exchanging spans of one boundary). So every
   pairing with the most same-boundary pairs leaves the same problem, and the most pairs of that
   problem complete it.

In the mode that asks for the same label, a boundary has at most one span of a side, and the
argument holds trivially. Numbers of pairs are therefore unique, whatever the order of spans; which
spans of a rare entangled group are paired is fixed by the order that `Spans` asks for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]
_STEPS = 4


@dataclass(frozen=True, slots=True)
class Spans:
    """Distinct spans, sorted by note, start, end and label.

    Attributes:
        note: Index of the note.
        start: First code point.
        end: One after the last code point.
        label: Index of the label.
    """

    note: Indices
    start: Indices
    end: Indices
    label: Indices

    def __len__(self) -> int:
        """How many spans."""
        return len(self.note)

    def only(self, which: Indices) -> "Spans":
        """Those of `which`, indices."""
        return Spans(self.note[which], self.start[which], self.end[which], self.label[which])


@dataclass(frozen=True, slots=True)
class Candidates:
    """Pairs of spans that overlap by at least one code point.

    Attributes:
        gold: Index of the gold span.
        predicted: Index of the predicted span.
        alone: Whether neither span is in another candidate, so that they pair wherever they may.
        same_boundary: Whether start and end are equal.
        same_label: Whether the labels are equal.
    """

    gold: Indices
    predicted: Indices
    alone: Flags
    same_boundary: Flags
    same_label: Flags

    def only(self, which: Flags) -> "Candidates":
        """Those of `which`, a flag for each."""
        return Candidates(
            self.gold[which],
            self.predicted[which],
            self.alone[which],
            self.same_boundary[which],
            self.same_label[which],
        )


def sorted_distinct(note: Indices, start: Indices, end: Indices, label: Indices) -> Spans:
    """Spans in the order that `Spans` asks for, each once."""
    columns = (note, start, end, label)
    bases = [int(column.max(initial=0)) + 1 for column in columns]
    if math.prod(bases) > np.iinfo(np.int64).max:
        return Spans(*np.unique(np.stack(columns), axis=1))
    key = note  # all four in one integer: one fast sort, or none
    for column, base in zip(columns[1:], bases[1:], strict=True):
        key = key * base + column
    if np.all(key[1:] > key[:-1]):
        return Spans(*columns)
    _, first = np.unique(key, return_index=True)
    return Spans(*columns).only(first)


def overlapping(gold: Spans, predicted: Spans) -> Candidates:
    """All overlapping pairs.

    Either the predicted span starts within the gold one (or with it), or the gold span starts
    within the predicted one, after its start. Each case is a run of the other side's starts, so
    that nothing is looked at that does not overlap. Adjacent spans do not overlap.
    """
    width = int(max(gold.end.max(initial=0), predicted.end.max(initial=0))) + 1
    gold_start, gold_end = gold.note * width + gold.start, gold.note * width + gold.end
    start, end = predicted.note * width + predicted.start, predicted.note * width + predicted.end
    before = np.searchsorted(start, gold_start, "left")
    of_gold, within_gold = _starts_within(start, before, gold_end)
    # How many gold spans start at or before each predicted one, from the ranks known already.
    not_after = np.cumsum(np.bincount(before, minlength=len(start) + 1))[: len(start)]
    of_predicted, within_predicted = _starts_within(gold_start, not_after, end)
    g = np.concatenate([of_gold, within_predicted])
    p = np.concatenate([within_gold, of_predicted])
    same_boundary = (gold.start[g] == predicted.start[p]) & (gold.end[g] == predicted.end[p])
    alone = _once(g) & _once(p)
    return Candidates(g, p, alone, same_boundary, gold.label[g] == predicted.label[p])


def _starts_within(starts: Indices, first: Indices, ends: Indices) -> tuple[Indices, Indices]:
    """The starts from `first` on that lie before each of `ends`, and whose end that is.

    Most spans overlap very few others: stepping on from each is faster than a search for its last.
    """
    padded = np.append(starts, np.iinfo(np.int64).max)
    owner, at = np.arange(len(first)), first
    owners, found = [], []
    for _ in range(_STEPS):
        inside = np.flatnonzero(padded[at] < ends[owner])
        owner, at = owner[inside], at[inside]
        owners.append(owner)
        found.append(at)
        at = at + 1
    rest, last = _ranges(at, np.searchsorted(starts, ends[owner], "left"))
    return np.concatenate([*owners, owner[rest]]), np.concatenate([*found, last])


def _ranges(first: Indices, last: Indices) -> tuple[Indices, Indices]:
    """The integers of each half-open range, and which range each of them is of."""
    lengths = np.maximum(last - first, 0)
    owner = np.repeat(np.arange(len(lengths)), lengths)
    shift = first - (np.cumsum(lengths) - lengths)
    return owner, np.arange(len(owner)) + np.repeat(shift, lengths)


def _once(ids: Indices) -> Flags:
    """Which of the ids stand once."""
    once: Flags = np.bincount(ids)[ids] == 1 if len(ids) else np.zeros(0, dtype=np.bool_)
    return once


def paired(found: Candidates, predicted: Indices, tiers: Sequence[Flags]) -> Flags:
    """A one-to-one pairing: of each tier the most pairs that the tiers before it leave possible.

    Args:
        found: The candidates.
        predicted: What stands for the predicted span of each candidate, where a span may be in
            several pairs; else `found.predicted`.
        tiers: Which candidates each tier allows.

    Returns:
        Which candidates are pairs.
    """
    chosen: Flags = found.alone & np.logical_or.reduce(tiers)
    rest = np.flatnonzero(~found.alone)
    gold, other = found.gold[rest], predicted[rest]
    gold_free, other_free = (
        np.ones(int(side.max(initial=-1)) + 1, dtype=np.bool_) for side in (gold, other)
    )
    for tier in tiers:
        open_ = np.flatnonzero(tier[rest] & gold_free[gold] & other_free[other])
        pairs = open_[_most_pairs(gold[open_], other[open_])]
        chosen[rest[pairs]] = True
        gold_free[gold[pairs]] = False
        other_free[other[pairs]] = False
    return chosen


def _most_pairs(gold: Indices, predicted: Indices) -> Flags:
    """A largest one-to-one pairing among candidates.

    A candidate whose two spans have no other is a pair. What is left, spans that compete, goes to
    Hopcroft and Karp's algorithm, all of it as one sparse matrix.
    """
    alone = _once(gold) & _once(predicted)
    rest = np.flatnonzero(~alone)
    if not len(rest):
        return alone
    from scipy.sparse import csr_matrix
    from scipy.sparse.csgraph import maximum_bipartite_matching

    rows, row = np.unique(gold[rest], return_inverse=True)
    columns, column = np.unique(predicted[rest], return_inverse=True)
    ones = np.ones(len(rest), dtype=np.int8)
    graph = csr_matrix((ones, (row, column)), shape=(len(rows), len(columns)))
    partner = maximum_bipartite_matching(graph, perm_type="column")
    chosen = alone.copy()
    chosen[rest] = partner[row] == column
    return chosen
