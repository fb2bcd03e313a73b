"""Stored comparisons: a row per model, a row per pair and metric, a row per regression gate."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hc_orchestration.storage.delta import DeltaStore, TableSpec

_OF_COMPARISON: dict[str, pl.DataType | type[pl.DataType]] = {
    "comparison_id": pl.String,
    "compared_at": pl.Datetime("us", "UTC"),
    "corpus_digest": pl.String,
    "corpus_version": pl.Int64,
}
COMPARISONS = TableSpec(
    "comparisons",
    {
        **_OF_COMPARISON,
        "rank": pl.Int64,
        "model_key": pl.String,
        "evaluation_id": pl.String,
        "evaluation_digest": pl.String,
        **dict.fromkeys(
            (
                "strict_f1",
                "strict_f1_low",
                "strict_f1_high",
                "strict_precision",
                "strict_recall",
                "exact_f1",
                "exact_f1_low",
                "exact_f1_high",
            ),
            pl.Float64,
        ),
        "support": pl.Int64,
        "notes_per_second": pl.Float64,
        "missing_reason": pl.String,
    },
)
PAIRS = TableSpec(
    "comparison_pairs",
    {
        **_OF_COMPARISON,
        **dict.fromkeys(("first", "second", "metric"), pl.String),
        **dict.fromkeys(
            (
                "first_value",
                "second_value",
                "difference",
                "ci_low",
                "ci_high",
                "p",
                "p_holm",
                "undefined",
            ),
            pl.Float64,
        ),
        **dict.fromkeys(("gold", "clusters", "resamples", "permutations", "seed"), pl.Int64),
    },
)
GATES = TableSpec(
    "comparison_gates",
    {
        **_OF_COMPARISON,
        **dict.fromkeys(
            ("model_key", "champion", "name", "metric", "verdict", "sentence"), pl.String
        ),
        **dict.fromkeys(("value", "reference", "low", "high", "threshold"), pl.Float64),
        "support": pl.Int64,
    },
)


@dataclass(frozen=True, slots=True)
class ComparisonRows:
    """The rows of one comparison: a row per model, per pair and metric, per regression gate."""

    models: pl.DataFrame
    pairs: pl.DataFrame
    gates: pl.DataFrame


class ComparisonTable:
    """Writes and reads comparisons."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(self, rows: list[dict[str, Any]]) -> int:
        """Store the rows of one comparison; returns the table's version."""
        return self._append(COMPARISONS, rows)

    def append_evidence(
        self, pairs: Sequence[Mapping[str, Any]], gates: Sequence[Mapping[str, Any]]
    ) -> None:
        """Store the pairs and the results of the regression gates of one comparison."""
        for table, rows in ((PAIRS, pairs), (GATES, gates)):
            if rows:
                self._append(table, rows)

    def latest(self) -> pl.DataFrame:
        """The rows of the newest comparison, best first; empty before the first one."""
        rows = self._store.read(COMPARISONS)
        newest = rows.filter(pl.col("compared_at") == pl.col("compared_at").max())
        return newest.sort("rank", "model_key", nulls_last=True)

    def since(self, moment: datetime) -> list[ComparisonRows]:
        """The comparisons made since a moment, oldest first."""
        made = self._since(COMPARISONS, moment)
        pairs, gates = self._since(PAIRS, moment), self._since(GATES, moment)
        order = made.sort("compared_at")["comparison_id"].unique(maintain_order=True)
        return [
            ComparisonRows(*(table.filter(comparison_id=key) for table in (made, pairs, gates)))
            for key in order
        ]

    def _since(self, table: TableSpec, moment: datetime) -> pl.DataFrame:
        return self._store.scan(table).filter(pl.col("compared_at") >= moment).collect()

    def pairs(self, comparison_id: str) -> pl.DataFrame:
        """The pairs of a comparison, see `Difference`."""
        return self._of(PAIRS, comparison_id)

    def gates(self, comparison_id: str) -> pl.DataFrame:
        """What the regression gates said in a comparison, see `GateResult`."""
        return self._of(GATES, comparison_id)

    def _append(self, table: TableSpec, rows: Sequence[Mapping[str, Any]]) -> int:
        frame = pl.DataFrame([dict(row) for row in rows], schema=dict(table.schema))
        return self._store.append(table, frame)

    def _of(self, table: TableSpec, comparison_id: str) -> pl.DataFrame:
        rows = self._store.scan(table).filter(pl.col("comparison_id") == comparison_id)
        return rows.collect()
