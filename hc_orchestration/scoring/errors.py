"""What a model gets wrong, without any text: confusion, boundaries, lengths, notes."""

import json
from dataclasses import asdict, dataclass

import numpy as np
import polars as pl

from hc_orchestration.scoring.counts import SpanIndex
from hc_orchestration.scoring.matching import Flags, Indices, paired

WORST_NOTES = 20
_LENGTHS = (5, 10, 20, 40)


@dataclass(frozen=True, slots=True)
class LabelPairs:
    """How many gold mentions of one label were taken for another, or for none.

    Attributes:
        gold_label: None: predicted where no gold mention is left.
        predicted_label: None: not found.
        same_boundary: Pairs of the same boundary.
        other_boundary: Pairs that only overlap; 0 for mentions without partner, which are counted
            as `alone`.
        alone: Mentions without partner.
    """

    gold_label: str | None
    predicted_label: str | None
    same_boundary: int
    other_boundary: int
    alone: int


@dataclass(frozen=True, slots=True)
class LengthErrors:
    """How many gold mentions of a length (in code points, "6-10") were not found as they are."""

    length: str
    gold: int
    errors: int


@dataclass(frozen=True, slots=True)
class NoteErrors:
    """Gold mentions of a note that were not found as they are, and predictions that are wrong."""

    note_id: str
    missed: int
    spurious: int


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """Errors of one model on one corpus version, each mention counted once.

    Mentions are paired for this purpose in the order: same boundary and label, same boundary,
    overlap and same label, overlap. Of a model without types, labels are not heeded.

    Attributes:
        correct: Gold mentions found as they are.
        label: Right boundary, wrong label.
        boundary: Overlap, right label.
        label_and_boundary: Overlap, wrong label.
        missed: Gold mentions without partner.
        spurious: Predictions without partner.
        longer: Pairs of another boundary whose prediction holds the whole gold mention.
        shorter: Those whose gold mention holds the whole prediction.
        shifted: The other ones.
        confusion: See `LabelPairs`; empty for a model without types.
        by_length: See `LengthErrors`.
        worst_notes: The notes with the most errors, most first, at most 20.
    """

    correct: int
    label: int
    boundary: int
    label_and_boundary: int
    missed: int
    spurious: int
    longer: int
    shorter: int
    shifted: int
    confusion: tuple[LabelPairs, ...]
    by_length: tuple[LengthErrors, ...]
    worst_notes: tuple[NoteErrors, ...]

    def as_json(self) -> bytes:
        """The bytes of `error_analysis.json`."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1).encode("utf-8")


def analyse_errors(index: SpanIndex, *, untyped: bool) -> ErrorAnalysis:
    """Count the errors of a model on the spans of `index`."""
    found = index.candidates
    anything = np.ones(len(found.gold), dtype=np.bool_)
    right_label = anything if untyped else found.same_label
    tiers = (found.same_boundary & right_label, found.same_boundary, right_label, anything)
    pairs = found.only(paired(found, found.predicted, tiers))
    right_label = np.ones_like(pairs.same_label) if untyped else pairs.same_label
    same = pairs.same_boundary
    correct = same & right_label
    missed = _without(len(index.gold), pairs.gold)
    spurious = _without(len(index.predicted), pairs.predicted)
    g, p = pairs.gold[~same], pairs.predicted[~same]
    starts = np.sign(index.predicted.start[p] - index.gold.start[g])
    ends = np.sign(index.predicted.end[p] - index.gold.end[g])
    longer, shorter = (starts <= 0) & (ends >= 0), (starts >= 0) & (ends <= 0)
    return ErrorAnalysis(
        correct=int(correct.sum()),
        label=int((same & ~right_label).sum()),
        boundary=int((~same & right_label).sum()),
        label_and_boundary=int((~same & ~right_label).sum()),
        missed=int(missed.sum()),
        spurious=int(spurious.sum()),
        longer=int(longer.sum()),
        shorter=int(shorter.sum()),
        shifted=int((~longer & ~shorter).sum()),
        confusion=() if untyped else _confusion(index, pairs.gold, pairs.predicted, same),
        by_length=_by_length(index, pairs.gold[correct]),
        worst_notes=_worst_notes(index, pairs.gold[correct], pairs.predicted[correct]),
    )


def _without(number: int, taken: Indices) -> Flags:
    flags = np.ones(number, dtype=np.bool_)
    flags[taken] = False
    return flags


def _confusion(
    index: SpanIndex, gold: Indices, predicted: Indices, same: Flags
) -> tuple[LabelPairs, ...]:
    number = len(index.labels) + 1  # the last one stands for no partner

    def table(rows: Indices, columns: Indices) -> Indices:
        cells = np.bincount(rows * number + columns, minlength=number * number)
        return cells.reshape(number, number)

    gold_label, predicted_label = index.gold.label, index.predicted.label
    missed = gold_label[_without(len(index.gold), gold)]
    spurious = predicted_label[_without(len(index.predicted), predicted)]
    g, p = gold_label[gold], predicted_label[predicted]
    nothing = number - 1
    alone = table(missed, np.full_like(missed, nothing))
    alone += table(np.full_like(spurious, nothing), spurious)
    exact, other = table(g[same], p[same]), table(g[~same], p[~same])
    names = [*index.labels, None]
    return tuple(
        LabelPairs(
            names[row],
            names[column],
            int(exact[row, column]),
            int(other[row, column]),
            int(alone[row, column]),
        )
        for row, column in np.argwhere(exact + other + alone)
    )


def _by_length(index: SpanIndex, correct: Indices) -> tuple[LengthErrors, ...]:
    bucket = np.searchsorted(_LENGTHS, index.gold.end - index.gold.start, "left")
    gold = np.bincount(bucket, minlength=len(_LENGTHS) + 1)
    wrong = gold - np.bincount(bucket[correct], minlength=len(_LENGTHS) + 1)
    firsts = [1, *(length + 1 for length in _LENGTHS)]
    names = [f"{first}-{last}" for first, last in zip(firsts, _LENGTHS, strict=False)]
    names.append(f"{firsts[-1]}+")
    return tuple(
        LengthErrors(name, int(number), int(errors))
        for name, number, errors in zip(names, gold, wrong, strict=True)
    )


def _worst_notes(index: SpanIndex, gold: Indices, predicted: Indices) -> tuple[NoteErrors, ...]:
    notes = len(index.notes)
    right = np.bincount(index.gold.note[gold], minlength=notes)
    missed = np.bincount(index.gold.note, minlength=notes) - right
    spurious = np.bincount(index.predicted.note, minlength=notes) - np.bincount(
        index.predicted.note[predicted], minlength=notes
    )
    table = pl.DataFrame({"note_id": index.notes, "missed": missed, "spurious": spurious})
    errors = pl.col("missed") + pl.col("spurious")
    worst = table.filter(errors > 0).sort(errors, "note_id", descending=[True, False])
    return tuple(NoteErrors(*row) for row in worst.head(WORST_NOTES).iter_rows())
