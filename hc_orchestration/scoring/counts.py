"""Note-level counts of the four match modes; all scores derive from them.

Terms are those of SemEval-2013 Task 9.1. Pairing is one to one, for each mode by itself, see
`matching`.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import polars as pl

from hc_orchestration.errors import EvaluationError
from hc_orchestration.scoring.matching import (
    Candidates,
    Flags,
    Indices,
    Spans,
    overlapping,
    paired,
    sorted_distinct,
)

STRICT = "strict"
EXACT = "exact"
PARTIAL = "partial"
TYPE = "type"
MODES = (STRICT, EXACT, PARTIAL, TYPE)
TYPED_MODES = (STRICT, TYPE)
ALL_LABELS = ""
ANY_LABEL = "*"
"""The label of a prediction of no particular type."""

COUNT_SCHEMA = {
    "note": pl.Int64,
    "mode": pl.String,
    "label": pl.String,
    "gold": pl.Int64,
    "predicted": pl.Int64,
    "same": pl.Int64,
    "overlapping": pl.Int64,
}

_PAIR_CREDIT = {PARTIAL: 0.5, TYPE: 1.0}


def credit() -> pl.Expr:
    """What the pairs of a row of counts are worth: ½ for another boundary in partial, else 1."""
    worth = pl.col("mode").replace_strict(_PAIR_CREDIT, default=0.0, return_dtype=pl.Float64)
    return pl.col("same") + worth * pl.col("overlapping")


def applicable_modes(*, untyped: bool) -> tuple[str, ...]:
    """The modes that say something of a model; one without types has no strict and no type."""
    return (EXACT, PARTIAL) if untyped else MODES


class SpanIndex:
    """The distinct gold and predicted spans of the scored notes as arrays, with their candidates.

    Attributes:
        notes: note_id of each note, in the order of the notes' indices.
        labels: Every label that either side may have, sorted.
        gold: A span given twice counts once.
        predicted: Likewise, in the study's labels.
        candidates: The overlapping pairs, labels not heeded.
        unmapped: How many predicted spans have a label that the mapping leaves out.
    """

    def __init__(
        self, notes: pl.DataFrame, labels: Sequence[str], mapping: Mapping[str, str]
    ) -> None:
        """Index the spans of notes.

        Args:
            notes: note_id, gold and spans (lists of start, end, label); a row for each note.
            labels: The labels that gold spans may have.
            mapping: Label of `spans` → one of `labels`, or `ANY_LABEL`.

        Raises:
            EvaluationError: A gold span has another label.
        """
        self.notes = notes["note_id"]
        gold, predicted = _exploded(notes, "gold"), _exploded(notes, "spans")
        self.labels = sorted({*mapping.values(), *labels})
        code = {label: index for index, label in enumerate(self.labels)}
        self.gold, foreign = _spans(gold, {label: code[label] for label in labels})
        if foreign:
            message = f"{foreign} gold spans have a label that is not one of {', '.join(labels)}."
            raise EvaluationError(message)
        found = {theirs: code[ours] for theirs, ours in mapping.items()}
        self.predicted, self.unmapped = _spans(predicted, found)
        self.candidates = overlapping(self.gold, self.predicted)


def _spans(spans: pl.DataFrame, code: Mapping[str, int]) -> tuple[Spans, int]:
    """The distinct spans whose label has a code, sorted, and how many spans have none."""
    names = pl.Enum(list(code))  # a category a name, in their order: faster than a join of strings
    category = pl.col("label").cast(names, strict=False).to_physical()
    coded = spans.with_columns(category.cast(pl.Int64)).drop_nulls("label")
    note, start, end, label = (coded[name].to_numpy() for name in ("note", "start", "end", "label"))
    codes = np.array(list(code.values()), dtype=np.int64)
    return sorted_distinct(note, start, end, codes[label]), spans.height - coded.height


def _exploded(notes: pl.DataFrame, column: str) -> pl.DataFrame:
    """One row a span of `column`: note (an index), start, end, label."""
    indexed = notes.select(pl.int_range(pl.len(), dtype=pl.Int64).alias("note"), column)
    spans = indexed.filter(pl.col(column).list.len() > 0).explode(column)
    fields = [pl.col(column).struct.field(name) for name in ("start", "end", "label")]
    return spans.select("note", *fields)


def note_counts(index: SpanIndex, *, untyped: bool) -> pl.DataFrame:
    """Counts of every note, mode and label in which anything was counted.

    Args:
        index: The spans of the scored notes.
        untyped: The model names no types, so that strict and type do not apply and have no rows.

    Returns:
        Columns of `COUNT_SCHEMA`; `note` is the note's index, `same` counts same-boundary pairs,
        `overlapping` other pairs (0 in strict and exact, which give no credit for them). strict
        and type have a row per label. exact and partial ignore labels and have one row a note,
        with the label `ALL_LABELS`; besides, for the recall per gold label, a row per gold label,
        in which the gold spans of that label alone are paired with predictions of whatever label.
        Such a row has no `predicted` (null), and they do not add up to the row of all labels: two
        gold labels on one boundary may both be found by one prediction.
    """
    tally = _Tally(index)
    tables = [*tally.label_blind(), *tally.per_gold_label()]
    if not untyped:
        tables += tally.per_label()
    return pl.concat(tables)


class _Tally:
    """Adds up pairs by note and label."""

    def __init__(self, index: SpanIndex) -> None:
        self._index = index
        self._all = index.candidates
        gold_cell = self._cells(index.gold)
        self._gold = self._table(gold_cell)
        self._pair_cell = gold_cell[self._all.gold]
        self._predicted = self._table(self._cells(index.predicted))

    def label_blind(self) -> Iterable[pl.DataFrame]:
        found = self._all
        anything = np.ones(len(found.gold), dtype=np.bool_)
        chosen = paired(
            found,
            found.predicted,
            (found.same_boundary & found.same_label, found.same_boundary, anything),
        )
        gold, predicted = self._gold.sum(axis=1), self._predicted.sum(axis=1)
        same, other = (pairs.sum(axis=1) for pairs in self._pairs(found, chosen))
        return self._frames((EXACT, PARTIAL), [ALL_LABELS], (gold, predicted), (same, other))

    def per_gold_label(self) -> Iterable[pl.DataFrame]:
        found, labels = self._all, max(len(self._index.labels), 1)
        own = found.predicted * labels + self._index.gold.label[found.gold]
        anything = np.ones(len(found.gold), dtype=np.bool_)
        chosen = paired(found, own, (found.same_boundary, anything))
        same, other = self._pairs(found, chosen)
        sides = (self._gold, None)
        return self._frames((EXACT, PARTIAL), self._index.labels, sides, (same, other))

    def per_label(self) -> Iterable[pl.DataFrame]:
        found = self._all
        same_label = found.same_label
        chosen = paired(found, found.predicted, (found.same_boundary & same_label, same_label))
        same, other = self._pairs(found, chosen)
        sides = (self._gold, self._predicted)
        return self._frames((STRICT, TYPE), self._index.labels, sides, (same, other))

    def _pairs(self, found: Candidates, chosen: Flags) -> tuple[Indices, Indices]:
        """Same-boundary pairs and other pairs, by note and label of the gold span."""
        same = self._pair_cell[chosen & found.same_boundary]
        other = self._pair_cell[chosen & ~found.same_boundary]
        return self._table(same), self._table(other)

    def _cells(self, spans: Spans) -> Indices:
        """The cell of note (row) and label (column) that each span counts in."""
        return spans.note * len(self._index.labels) + spans.label

    def _table(self, cells: Indices) -> Indices:
        shape = (len(self._index.notes), len(self._index.labels))
        return np.bincount(cells, minlength=shape[0] * shape[1]).reshape(shape)

    def _frames(
        self,
        modes: tuple[str, str],
        labels: list[str],
        sides: tuple[Indices, Indices | None],
        pairs: tuple[Indices, Indices],
    ) -> list[pl.DataFrame]:
        """The cells in which anything was counted, gold and predicted, same and other pairs.

        The first of the modes gives nothing for the other pairs.
        """
        gold, predicted = sides
        counted = gold.reshape(-1) + (0 if predicted is None else predicted.reshape(-1))
        cells = np.flatnonzero(counted)
        columns = {
            "note": cells // max(len(labels), 1),
            "label": pl.Series(labels, dtype=pl.String).gather(cells % max(len(labels), 1)),
            "gold": gold.reshape(-1)[cells],
            "predicted": None if predicted is None else predicted.reshape(-1)[cells],
            "same": pairs[0].reshape(-1)[cells],
            "overlapping": pairs[1].reshape(-1)[cells],
        }
        frame = pl.DataFrame(columns)
        without = frame.with_columns(overlapping=pl.lit(0))
        return [
            table.with_columns(mode=pl.lit(mode)).select(
                pl.col(name).cast(kind) for name, kind in COUNT_SCHEMA.items()
            )
            for mode, table in zip(modes, (without, frame), strict=True)
        ]
