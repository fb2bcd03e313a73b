"""Stored comparisons: one row per model of the catalogue, ranked or missing with the reason."""

from typing import Any

import polars as pl

from hc_orchestration.storage.delta import DeltaStore, TableSpec

COMPARISONS = TableSpec(
    "comparisons",
    {
        "comparison_id": pl.String,
        "corpus_digest": pl.String,
        "corpus_version": pl.Int64,
        "rank": pl.Int64,
        "model_key": pl.String,
        "evaluation_id": pl.String,
        "evaluation_digest": pl.String,
        "strict_f1": pl.Float64,
        "strict_precision": pl.Float64,
        "strict_recall": pl.Float64,
        "exact_f1": pl.Float64,
        "support": pl.Int64,
        "notes_per_second": pl.Float64,
        "missing_reason": pl.String,
        "compared_at": pl.Datetime("us", "UTC"),
    },
)


class ComparisonTable:
    """Writes and reads comparisons."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(self, rows: list[dict[str, Any]]) -> int:
        """Store the rows of one comparison; returns the table's version."""
        frame = pl.DataFrame(rows, schema=dict(COMPARISONS.schema))
        return self._store.append(COMPARISONS, frame)

    def latest(self) -> pl.DataFrame:
        """The rows of the newest comparison, best first; empty before the first one."""
        rows = self._store.scan(COMPARISONS).collect()
        newest = rows.filter(pl.col("compared_at") == pl.col("compared_at").max())
        return newest.sort("rank", "model_key", nulls_last=True)
