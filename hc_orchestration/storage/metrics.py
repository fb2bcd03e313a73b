"""Scores and the note-level counts that they derive from, by evaluation digest."""

import polars as pl

from hc_orchestration.scoring.schema import SCORE_SCHEMA
from hc_orchestration.storage.delta import DeltaStore, TableSpec

_SCORE_KEYS = ("evaluation_digest", "mode", "average", "label", "slice", "statistic")
_COUNT_KEYS = ("evaluation_digest", "note_id", "mode", "label")


def metrics_table(model_key: str) -> TableSpec:
    """One row per (evaluation digest, mode, average, label, slice, statistic); see `Evaluation`."""
    keys = dict.fromkeys(_SCORE_KEYS, pl.String)
    schema = {**keys, **SCORE_SCHEMA}
    return TableSpec(f"metrics/{model_key}", schema, keys=_SCORE_KEYS)


def note_counts_table(model_key: str) -> TableSpec:
    """One row per (evaluation digest, note, mode, label) in which anything was counted."""
    keys = dict.fromkeys(_COUNT_KEYS, pl.String)
    counts = dict.fromkeys(("gold", "predicted", "same", "overlapping"), pl.Int64)
    return TableSpec(f"note_counts/{model_key}", {**keys, **counts}, keys=_COUNT_KEYS)


class MetricTables:
    """Writes and reads scores."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def insert(
        self, model_key: str, evaluation_digest: str, scores: pl.DataFrame, counts: pl.DataFrame
    ) -> int:
        """Store an evaluation's scores and counts once; returns the metrics table's version.

        Args:
            model_key: The model.
            evaluation_digest: Equal digests have equal rows, so those already there are left.
            scores: See `metrics_table`, without the digest.
            counts: See `note_counts_table`, without the digest.
        """
        digest = pl.lit(evaluation_digest).alias("evaluation_digest")
        table = metrics_table(model_key)
        self._store.insert_missing(note_counts_table(model_key), counts.with_columns(digest))
        self._store.insert_missing(table, scores.with_columns(digest))
        version = self._store.version(table)
        return 0 if version is None else version

    def scores(
        self, model_key: str, evaluation_digest: str, version: int | None = None
    ) -> pl.DataFrame:
        """The scores of an evaluation, in a stable order, as they are or were at a version."""
        return self._of(metrics_table(model_key), evaluation_digest, version)

    def note_counts(self, model_key: str, evaluation_digest: str) -> pl.DataFrame:
        """The note-level counts of an evaluation, in a stable order."""
        return self._of(note_counts_table(model_key), evaluation_digest)

    def _of(
        self, table: TableSpec, evaluation_digest: str, version: int | None = None
    ) -> pl.DataFrame:
        rows = self._store.scan(table, version).filter(
            pl.col("evaluation_digest") == evaluation_digest
        )
        return rows.sort(table.keys).collect()
