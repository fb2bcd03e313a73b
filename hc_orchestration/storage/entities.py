"""One entities table a model: offsets and labels of each note, never its words."""

from collections.abc import Iterator, Sequence

import polars as pl

from hc_orchestration.models.predictions import NoteEntities, NoteText, PackedEntities, pack
from hc_orchestration.storage.corpus import CorpusTables
from hc_orchestration.storage.delta import DeltaStore, TableSpec

SPANS = pl.List(
    pl.Struct(
        {
            "start": pl.Int64,
            "end": pl.Int64,
            "label": pl.String,
            "score": pl.Float64,
            "concept": pl.String,
        }
    )
)
SMALL_FILES = 8
"""A table of so many files is worth rewriting; fewer cost a reader next to nothing."""

_ROW = ("note_id", "text_sha256", "model_fingerprint")


def entities_table(model_key: str) -> TableSpec:
    """The table of a model: one row for each text and fingerprint that was ever extracted."""
    schema = dict.fromkeys(_ROW, pl.String)
    return TableSpec(f"entities/{model_key}", {**schema, "spans": SPANS}, keys=_ROW)


class EntityTables:
    """Writes and reads what models found."""

    def __init__(self, store: DeltaStore, corpus: CorpusTables) -> None:
        """Use the tables of `store`; `corpus` gives the notes of a version."""
        self._store = store
        self._corpus = corpus

    def missing(self, model_key: str, fingerprint: str, corpus_version: int) -> pl.DataFrame:
        """note_id, sorted, of the notes of a version that this model has no row for."""
        notes = self._corpus.notes(corpus_version).select("note_id", "text_sha256")
        rows = self._rows(model_key, fingerprint, None)
        missing = notes.join(rows, on=["note_id", "text_sha256"], how="anti")
        return missing.select("note_id").sort("note_id").collect()

    def count(self, model_key: str, fingerprint: str, corpus_version: int) -> int:
        """How many notes of a corpus version have a row."""
        rows = self.of_corpus(model_key, fingerprint, corpus_version, None)
        return int(rows.select("note_id").unique().select(pl.len()).collect().item())

    def texts(
        self, wanted: pl.DataFrame, corpus_version: int, batch: int
    ) -> Iterator[list[NoteText]]:
        """Stream the texts of `wanted` (note_id, sorted), `batch` notes at a time.

        Each batch of the table is looked up by itself: Polars would hold one side of a join with
        the whole table, and it may choose the one with the texts.
        """
        ids = wanted["note_id"]
        found: list[NoteText] = []
        for frame in self._corpus.texts(corpus_version, batch):
            places = ids.search_sorted(frame["note_id"]).clip(upper_bound=len(ids) - 1)
            rows = frame.filter(ids.gather(places) == frame["note_id"]).iter_rows()
            found += [NoteText(*row) for row in rows]
            while len(found) >= batch:
                yield found[:batch]
                del found[:batch]
        if found:
            yield found

    def note_files(self, corpus_version: int) -> list[str]:
        """Where the Parquet files of the notes are, for an engine that reads them itself."""
        return self._corpus.note_files(corpus_version)

    def insert(self, model_key: str, fingerprint: str, rows: Sequence[NoteEntities]) -> int:
        """Store the rows that are not there yet; returns how many that were."""
        return self.insert_packed(model_key, fingerprint, [pack(rows)])

    def insert_packed(
        self, model_key: str, fingerprint: str, packed: Sequence[PackedEntities]
    ) -> int:
        """Store the rows that are not there yet in one commit; returns how many that were."""
        frame = pl.concat([_frame(part) for part in packed])
        rows = frame.with_columns(model_fingerprint=pl.lit(fingerprint))
        return self._store.insert_missing(entities_table(model_key), rows)

    def compact(self, model_key: str) -> None:
        """Make few files of the many that one extraction's commits leave."""
        table = entities_table(model_key)
        if (self._store.files(table) or 0) >= SMALL_FILES:
            self._store.compact(table)

    def version(self, model_key: str) -> int | None:
        """Newest version of the model's table, or None when nothing was ever stored."""
        return self._store.version(entities_table(model_key))

    def of_corpus(
        self, model_key: str, fingerprint: str, corpus_version: int, version: int | None
    ) -> pl.LazyFrame:
        """note_id, text_sha256 and spans for the notes of a corpus version that have a row."""
        notes = self._corpus.notes(corpus_version).select("note_id", "text_sha256")
        rows = self._rows(model_key, fingerprint, version)
        return notes.join(rows, on=["note_id", "text_sha256"], how="inner")

    def _rows(self, model_key: str, fingerprint: str, version: int | None) -> pl.LazyFrame:
        rows = self._store.scan(entities_table(model_key), version)
        ours = rows.filter(pl.col("model_fingerprint") == fingerprint).drop("model_fingerprint")
        return ours.with_columns(pl.col("spans").cast(SPANS))  # old tables know no concepts


def _frame(packed: PackedEntities) -> pl.DataFrame:
    """note_id, text_sha256 and spans of each note."""
    labels = pl.Series(packed.labels, dtype=pl.String)
    spans = pl.DataFrame(
        {
            "start": pl.Series(packed.starts, dtype=pl.Int64),
            "end": pl.Series(packed.ends, dtype=pl.Int64),
            "label": labels.gather(pl.Series(packed.label_numbers, dtype=pl.UInt32)),
            "score": pl.Series(packed.scores or [None] * len(packed.starts), dtype=pl.Float64),
            "concept": pl.Series(packed.concepts or [None] * len(packed.starts), dtype=pl.String),
        }
    )
    notes = pl.DataFrame(
        {
            "note_id": packed.note_ids,
            "text_sha256": packed.text_sha256,
            "spans_here": packed.counts,
        },
        schema={"note_id": pl.String, "text_sha256": pl.String, "spans_here": pl.UInt32},
    ).with_row_index("note")
    owners = notes.select(pl.col("note").repeat_by("spans_here").explode().drop_nulls())
    listed = (
        spans.select(pl.struct(pl.all()).alias("spans"))
        .with_columns(owners["note"])
        .group_by("note")
        .agg("spans")
    )
    joined = notes.join(listed, on="note", how="left", maintain_order="left")
    none = pl.lit([], dtype=SPANS)
    return joined.select("note_id", "text_sha256", pl.col("spans").fill_null(none).cast(SPANS))
