"""Precision, recall and F1 from counts, in one layout for points and resamples; undefined is nan.

A *unit* is a (mode, label) that counts are added up for; a *row* is a statistic that derives from
one unit or, for macro averages, from several.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hc_orchestration.scoring.counts import ALL_LABELS, EXACT, TYPED_MODES, credit

MICRO = "micro"
MACRO = "macro"
PER_LABEL = "label"
WHOLE_CORPUS = "all"
STATISTICS = ("f1", "precision", "recall")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts by unit along the last axis: of clusters, of resamples, or added up.

    Attributes:
        gold: Gold mentions; predicted: predicted mentions (0 where the unit has none of its own).
        credit: What the pairs are worth.
    """

    gold: Floats
    predicted: Floats
    credit: Floats

    def total(self) -> "Counts":
        """Added up over the first axis."""
        return Counts(self.gold.sum(axis=0), self.predicted.sum(axis=0), self.credit.sum(axis=0))

    def weighted(self, weights: Floats) -> "Counts":
        """Added up over clusters with the weights of each resample (resamples, clusters)."""
        units = self.gold.shape[-1]
        stacked = np.concatenate([self.gold, self.predicted, self.credit], axis=-1)
        sums = weights @ stacked
        return Counts(sums[:, :units], sums[:, units : 2 * units], sums[:, 2 * units :])


def stacked(parts: Sequence[Counts]) -> Counts:
    """Counts of several parts along a new first axis."""
    return Counts(
        np.stack([part.gold for part in parts]),
        np.stack([part.predicted for part in parts]),
        np.stack([part.credit for part in parts]),
    )


@dataclass(frozen=True, slots=True)
class UnitCounts:
    """Counts that are not added up yet, as arrays of one length.

    Attributes:
        place: What each was counted in: the index of a note or of a cluster.
        unit: The index of its unit, of `units` in all.
        gold: Gold mentions; predicted: predicted mentions; credit: What the pairs are worth.
    """

    place: NDArray[np.int64]
    unit: NDArray[np.int64]
    gold: Floats
    predicted: Floats
    credit: Floats
    units: int

    def added(self, groups: NDArray[np.int64], size: int) -> Counts:
        """Added up by group and unit (size, units).

        Args:
            groups: The group of each place, an index below `size`; -1 for a place that is left out.
            size: How many groups there are.
        """
        group = groups[self.place]
        inside = group >= 0
        cell = group[inside] * self.units + self.unit[inside]

        def added(amounts: Floats) -> Floats:
            sums = np.bincount(cell, weights=amounts[inside], minlength=size * self.units)
            return sums.astype(np.float64).reshape(size, self.units)

        return Counts(added(self.gold), added(self.predicted), added(self.credit))


@dataclass(frozen=True, slots=True)
class Row:
    """What a row of scores says: mode, average, label (empty for averages) and statistic."""

    mode: str
    average: str
    label: str
    statistic: str

    @property
    def name(self) -> str:
        """Its name in MLflow and in gates: `strict.f1`, `strict.f1.macro`, `type.f1.label.X`."""
        suffix = {MICRO: "", MACRO: ".macro", PER_LABEL: f".label.{self.label}"}
        return f"{self.mode}.{self.statistic}{suffix[self.average]}"


class Layout:
    """Units and rows of a study's labels in the modes that apply to a model.

    Each mode has micro averages. strict and type have macro averages and all statistics per label;
    exact and partial, which ignore labels, have the recall per gold label.

    Attributes:
        units: (mode, label) in the order of the last axis of `Counts`.
        label_blind: The modes that ignore labels.
    """

    def __init__(self, modes: Sequence[str], labels: Sequence[str]) -> None:
        """Lay out `modes` and the study's labels."""
        self.units = [(mode, label) for mode in modes for label in (ALL_LABELS, *labels)]
        self._rows = [row for mode in modes for row in _rows_of(mode, labels)]
        self._modes, self._labels = tuple(modes), tuple(labels)
        self.label_blind = [mode for mode in modes if mode not in TYPED_MODES]

    @property
    def rows(self) -> Sequence[Row]:
        """The rows, in the order of the last axis of `values`."""
        return self._rows

    @property
    def rows_unit(self) -> list[int]:
        """The unit whose counts stand beside each row: its own, or that of all labels."""
        position = {unit: index for index, unit in enumerate(self.units)}
        return [position[row.mode, row.label] for row in self._rows]

    def values(self, counts: Counts) -> Floats:
        """The value of each row, nan where it is undefined.

        precision = credit / predicted (defined iff predicted > 0), recall = credit / gold (iff
        gold > 0), F1 = 2 · credit / (gold + predicted) (iff gold + predicted > 0). Macro: the mean
        over the labels that have gold; undefined if there are none, or if the statistic is
        undefined for one of them (a precision without predictions).
        """
        rates = {
            "precision": _ratio(counts.credit, counts.predicted),
            "recall": _ratio(counts.credit, counts.gold),
            "f1": _ratio(2 * counts.credit, counts.gold + counts.predicted),
        }
        width = 1 + len(self._labels)
        averages = {
            (mode, name): _macro(
                rates[name][..., at * width + 1 : (at + 1) * width],
                counts.gold[..., at * width + 1 : (at + 1) * width],
            )
            for at, mode in enumerate(self._modes)
            if mode in TYPED_MODES
            for name in STATISTICS
        }
        columns = [
            averages[row.mode, row.statistic]
            if row.average == MACRO
            else rates[row.statistic][..., unit]
            for row, unit in zip(self._rows, self.rows_unit, strict=True)
        ]
        return np.stack(columns, axis=-1)

    def counts(self, notes: pl.DataFrame, clusters: int) -> Counts:
        """Note-level counts added up by cluster and unit.

        Args:
            notes: Note-level counts (see `note_counts`) with the column `cluster`, an index.
            clusters: How many clusters there are.
        """
        return self.by_unit(notes, "cluster").added(np.arange(clusters), clusters)

    def by_unit(self, notes: pl.DataFrame, place: str) -> UnitCounts:
        """Note-level counts (see `note_counts`) by unit, and by what the column `place` tells."""
        # strict and type have rows per label only. Their micro averages take in every row, a label
        # that the study does not have among them: such a prediction is one all the same.
        every = notes.filter(pl.col("mode").is_in(TYPED_MODES)).with_columns(
            label=pl.lit(ALL_LABELS)
        )
        units = pl.DataFrame(self.units, schema=["mode", "label"], orient="row")
        indexed = pl.concat([notes, every]).join(units.with_row_index("unit"), on=["mode", "label"])
        amounts = indexed.select(
            pl.col(place, "unit").cast(pl.Int64),
            pl.col("gold", "predicted").fill_null(0).cast(pl.Float64),
            credit=credit(),
        )
        place_of, unit, gold, predicted, worth = (column.to_numpy() for column in amounts)
        return UnitCounts(place_of, unit, gold, predicted, worth, units=len(self.units))


def _rows_of(mode: str, labels: Sequence[str]) -> list[Row]:
    rows = [Row(mode, MICRO, ALL_LABELS, statistic) for statistic in STATISTICS]
    if mode not in TYPED_MODES:
        return rows + [Row(mode, PER_LABEL, label, "recall") for label in labels]
    rows += [Row(mode, MACRO, ALL_LABELS, statistic) for statistic in STATISTICS]
    return rows + [
        Row(mode, PER_LABEL, label, statistic) for label in labels for statistic in STATISTICS
    ]


def _ratio(numerator: Floats, denominator: Floats) -> Floats:
    undefined = np.full(np.shape(denominator), np.nan)
    return np.divide(numerator, denominator, out=undefined, where=denominator > 0)


def _macro(values: Floats, gold: Floats) -> Floats:
    supported = gold > 0
    return _ratio(np.where(supported, values, 0.0).sum(axis=-1), supported.sum(axis=-1) * 1.0)


def named_values(table: pl.DataFrame) -> dict[str, float]:
    """Defined scores under the names of the README.

    `strict.f1`, `strict.f1.macro`, `strict.f1.label.DISEASE` with `.ci_low` and `.ci_high` where
    there is an interval; of slices the micro averages only, `strict.f1.slice.note_type.consult`.
    """
    named: dict[str, float] = {}
    defined = table.filter(pl.col("value").is_not_null())
    for row in defined.iter_rows(named=True):
        name = Row(row["mode"], row["average"], row["label"], row["statistic"]).name
        if row["slice"] != WHOLE_CORPUS:
            if row["average"] == MICRO:
                named[f"{name}.slice.{row['slice']}"] = row["value"]
            continue
        named[name] = row["value"]
        if row["ci_low"] is not None:
            named |= {f"{name}.ci_low": row["ci_low"], f"{name}.ci_high": row["ci_high"]}
    return named


def support(table: pl.DataFrame) -> int:
    """Gold mentions in all labels."""
    micro = table.filter(mode=EXACT, average=MICRO, slice=WHOLE_CORPUS)
    return int(micro["gold"].max() or 0)  # type: ignore[arg-type]
