"""Note-level counts of the four match modes; all scores derive from them.

Terms are those of SemEval-2013 Task 9.1. Pairing is one to one, for each mode by itself, see
`matching`.
"""

from collections.abc import Iterable

import numpy as np
import polars as pl

from hc_orchestration.scoring.matching import (
    Candidates,
    Flags,
    Indices,
    Spans,
    overlapping,
    paired,
)

BOUNDARY = ("note_id", "start", "end")
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
    "note_id": pl.String,
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


def distinct_spans(spans: pl.LazyFrame) -> pl.DataFrame:
    """The distinct (note_id, start, end, label): a span given twice counts once."""
    return spans.select(*BOUNDARY, "label").unique().collect()


def mapped_spans(spans: pl.LazyFrame, mapping: dict[str, str]) -> tuple[pl.DataFrame, int]:
    """Predicted spans in the study's labels.

    Args:
        spans: Spans in the model's labels.
        mapping: Model label → study label or `"*"`.

    Returns:
        The distinct mapped spans, and how many spans had a label that the mapping leaves out.
    """
    named = spans.collect()
    kept = named.filter(pl.col("label").is_in(list(mapping)))
    mapped = kept.with_columns(pl.col("label").replace_strict(mapping, return_dtype=pl.String))
    return distinct_spans(mapped.lazy()), named.height - kept.height


class SpanIndex:
    """Gold and predicted spans as arrays over common notes and labels, with their candidates.

    Attributes:
        notes: note_id of each note that has a span, sorted.
        labels: Every label that a span has, sorted.
        candidates: The overlapping pairs, labels not heeded.
    """

    notes: pl.Series
    labels: list[str]
    gold: Spans
    predicted: Spans
    candidates: Candidates

    def __init__(self, gold: pl.DataFrame, predicted: pl.DataFrame) -> None:
        """Index distinct spans (note_id, start, end, label)."""
        both = pl.concat([gold.select("note_id", "label"), predicted.select("note_id", "label")])
        self.notes = both["note_id"].unique().sort()
        self.labels = both["label"].unique().sort().to_list()
        self.gold, self.predicted = self._spans(gold), self._spans(predicted)
        self.candidates = overlapping(self.gold, self.predicted)

    def _spans(self, spans: pl.DataFrame) -> Spans:
        notes = pl.DataFrame({"note_id": self.notes}).with_row_index("note")
        labels = pl.DataFrame({"label": self.labels}, schema={"label": pl.String})
        indexed = spans.join(notes, on="note_id").join(
            labels.with_row_index("label_index"), on="label"
        )
        columns = [pl.col(name).cast(pl.Int64) for name in ("note", "start", "end", "label_index")]
        return Spans(*(series.to_numpy() for series in indexed.select(columns).sort(pl.all())))


def note_counts(gold: pl.DataFrame, predicted: pl.DataFrame, *, untyped: bool) -> pl.DataFrame:
    """Counts of every note, mode and label in which anything was counted.

    Args:
        gold: Distinct gold spans of the scored notes.
        predicted: Distinct predicted spans of the same notes, in the study's labels.
        untyped: The model names no types, so that strict and type do not apply and have no rows.

    Returns:
        Columns of `COUNT_SCHEMA`: `same` counts same-boundary pairs, `overlapping` other pairs (0
        in strict and exact, which give no credit for them). strict and type have a row per label.
        exact and partial ignore labels and have one row a note, with the label `ALL_LABELS`;
        besides, for the recall per gold label, a row per gold label, in which the gold spans of
        that label alone are paired with predictions of whatever label. Such a row has no
        `predicted` (null), and they do not add up to the row of all labels: two gold labels on one
        boundary may both be found by one prediction.
    """
    return indexed_counts(SpanIndex(gold, predicted), untyped=untyped)


def indexed_counts(index: SpanIndex, *, untyped: bool) -> pl.DataFrame:
    """`note_counts` of spans that are indexed already."""
    tally = _Tally(index)
    tables = [*tally.label_blind(), *tally.per_gold_label()]
    if not untyped:
        tables += tally.per_label()
    return pl.concat(tables).sort("mode", "note_id", "label")


class _Tally:
    """Adds up pairs by note and label."""

    def __init__(self, index: SpanIndex) -> None:
        self._index = index
        self._all = index.candidates
        self._gold = self._cells(index.gold)
        self._predicted = self._cells(index.predicted)

    def label_blind(self) -> Iterable[pl.DataFrame]:
        found = self._all
        anything = np.ones(len(found.gold), dtype=np.bool_)
        chosen = paired(
            found.gold,
            found.predicted,
            (found.same_boundary & found.same_label, found.same_boundary, anything),
        )
        gold, predicted = self._gold.sum(axis=1), self._predicted.sum(axis=1)
        same, other = (pairs.sum(axis=1) for pairs in self._pairs(found, chosen))
        yield self._frame(EXACT, [ALL_LABELS], (gold, predicted), (same, np.zeros_like(other)))
        yield self._frame(PARTIAL, [ALL_LABELS], (gold, predicted), (same, other))

    def per_gold_label(self) -> Iterable[pl.DataFrame]:
        found, labels = self._all, max(len(self._index.labels), 1)
        own = found.predicted * labels + self._index.gold.label[found.gold]
        anything = np.ones(len(found.gold), dtype=np.bool_)
        chosen = paired(found.gold, own, (found.same_boundary, anything))
        same, other = self._pairs(found, chosen)
        names = self._index.labels
        yield self._frame(EXACT, names, (self._gold, None), (same, np.zeros_like(other)))
        yield self._frame(PARTIAL, names, (self._gold, None), (same, other))

    def per_label(self) -> Iterable[pl.DataFrame]:
        found = self._all.only(self._all.same_label)
        anything = np.ones(len(found.gold), dtype=np.bool_)
        chosen = paired(found.gold, found.predicted, (found.same_boundary, anything))
        same, other = self._pairs(found, chosen)
        names = self._index.labels
        none = np.zeros_like(other)
        yield self._frame(STRICT, names, (self._gold, self._predicted), (same, none))
        yield self._frame(TYPE, names, (self._gold, self._predicted), (same, other))

    def _pairs(self, found: Candidates, chosen: Flags) -> tuple[Indices, Indices]:
        """Same-boundary pairs and other pairs, by note and label of the gold span."""
        gold = self._index.gold
        same = found.gold[chosen & found.same_boundary]
        other = found.gold[chosen & ~found.same_boundary]
        return self._cells(gold.only(same)), self._cells(gold.only(other))

    def _cells(self, spans: Spans) -> Indices:
        """How many spans each note (row) has of each label (column)."""
        labels = len(self._index.labels)
        notes = len(self._index.notes)
        cell = spans.note * labels + spans.label
        return np.bincount(cell, minlength=notes * labels).reshape(notes, labels)

    def _frame(
        self,
        mode: str,
        labels: list[str],
        sides: tuple[Indices, Indices | None],
        pairs: tuple[Indices, Indices],
    ) -> pl.DataFrame:
        """The cells in which anything was counted, gold and predicted, same and other pairs."""
        gold, predicted = sides
        counted = gold.reshape(-1) + (0 if predicted is None else predicted.reshape(-1))
        cells = np.flatnonzero(counted)
        columns = {
            "note_id": self._index.notes.gather(cells // max(len(labels), 1)),
            "label": pl.Series(labels, dtype=pl.String).gather(cells % max(len(labels), 1)),
            "gold": gold.reshape(-1)[cells],
            "predicted": None if predicted is None else predicted.reshape(-1)[cells],
            "same": pairs[0].reshape(-1)[cells],
            "overlapping": pairs[1].reshape(-1)[cells],
        }
        frame = pl.DataFrame(columns).with_columns(mode=pl.lit(mode))
        return frame.select(pl.col(name).cast(kind) for name, kind in COUNT_SCHEMA.items())
