"""Which notes belong together: slices by attribute, small cells withheld, sampling clusters."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import polars as pl
from numpy.typing import NDArray

from hc_orchestration.errors import EvaluationError

SOURCE = "source"
LENGTH = "length"
MISSING = "(none)"
MOST_VALUES = 100


@dataclass(frozen=True, slots=True)
class Slice:
    """The notes that share a value of an attribute.

    Attributes:
        rows: Their places in the frame of notes that was cut; None when withheld.
    """

    attribute: str
    value: str
    rows: NDArray[np.int64] | None

    @property
    def name(self) -> str:
        """As in the names of metrics: `note_type.consult`."""
        return f"{self.attribute}.{self.value}"


def grouped_notes(notes: pl.LazyFrame, slices: Sequence[str], cluster: str | None) -> pl.DataFrame:
    """Each annotated note with its cluster and its value of each slice attribute.

    Args:
        notes: note_id, text, text_sha256, source, attributes (list of name, value), gold.
        slices: Attributes to slice by. `source` is the corpus; `length` the tertile of the text's
            length in code points (short, medium, long; equal lengths stay together); every other
            one an attribute of the notes. A note without it has the value `(none)`.
        cluster: The attribute that is the sampling unit, or None. A note without it stands with
            those of the same text, as all do without such an attribute.

    Returns:
        note_id, cluster (an index from 0), and for each attribute a column that `cut` reads.
    """
    annotated = notes.filter(pl.col("gold").is_not_null())
    unit = _unit(cluster)
    values = [_value(name).fill_null(MISSING).alias(_column(name)) for name in slices]
    table = annotated.select("note_id", unit.alias("unit"), *values).sort("note_id").collect()
    return table.with_columns(cluster=pl.col("unit").rank("dense").cast(pl.Int64) - 1).drop("unit")


def sampling_units(notes: pl.LazyFrame, cluster: str | None) -> int:
    """How many clusters (see `grouped_notes`) the notes are of, annotated or not."""
    return int(notes.select(_unit(cluster).n_unique()).collect().item())


def _unit(cluster: str | None) -> pl.Expr:
    text = pl.format("text {}", "text_sha256")
    return text if cluster is None else pl.coalesce(pl.format("{}", _attribute(cluster)), text)


def _column(attribute: str) -> str:
    return f"slice {attribute}"


def _attribute(name: str) -> pl.Expr:
    """The value of a note's attribute, null without it."""
    found = pl.col("attributes").list.filter(pl.element().struct.field("name") == name)
    return found.list.first().struct.field("value")


def _value(name: str) -> pl.Expr:
    if name == SOURCE:
        return pl.col("source")
    if name != LENGTH:
        return _attribute(name)
    length = pl.col("text").str.len_chars()
    first, second = (length.quantile(share / 3, "lower") for share in (1, 2))
    return (
        pl.when(length <= first)
        .then(pl.lit("short"))
        .when(length <= second)
        .then(pl.lit("medium"))
        .otherwise(pl.lit("long"))
    )


def cut(groups: pl.DataFrame, slices: Sequence[str], smallest_cell: int) -> Iterator[Slice]:
    """The slices of each attribute, by value.

    A slice of fewer notes than `smallest_cell` is withheld, and with it the next smallest of the
    same attribute: else subtracting the others from the total would give it back.

    Raises:
        EvaluationError: An attribute has so many values that it names notes rather than slices.
    """
    for attribute in slices:
        column = _column(attribute)
        sizes = groups.with_row_index("rows").group_by(column).agg("rows")
        sizes = sizes.with_columns(notes=pl.col("rows").list.len()).sort("notes", column)
        if sizes.height > MOST_VALUES:
            message = (
                f"the slice attribute {attribute} has {sizes.height} values, and at most "
                f"{MOST_VALUES} make slices. Take it out of `slices` of the study."
            )
            raise EvaluationError(message)
        small = sizes.filter(pl.col("notes") < smallest_cell).height
        withheld = set(sizes[column].head(small + 1 if small else 0))
        for value, rows in sorted(
            zip(sizes[column], sizes["rows"], strict=True), key=itemgetter(0)
        ):
            kept = None if value in withheld else rows.to_numpy().astype(np.int64)
            yield Slice(attribute, value, kept)
