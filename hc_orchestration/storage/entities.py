"""One entities table a model: offsets and labels of each note, never its words."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

import polars as pl

from hc_orchestration.models.predictions import NoteEntities, NoteText, PredictedSpan
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
        """note_id and text_sha256 of the notes of a version that this model has no row for."""
        notes = self._corpus.notes(corpus_version).select("note_id", "text_sha256")
        return notes.join(
            self._rows(model_key, fingerprint, None), on=["note_id", "text_sha256"], how="anti"
        ).collect()

    def count(self, model_key: str, fingerprint: str, corpus_version: int) -> int:
        """How many notes of a corpus version have a row."""
        rows = self.of_corpus(model_key, fingerprint, corpus_version, None)
        return int(rows.select("note_id").unique().select(pl.len()).collect().item())

    def texts(
        self, wanted: pl.DataFrame, corpus_version: int, batch: int
    ) -> Iterator[list[NoteText]]:
        """Stream the texts of `wanted` (note_id, …) in batches of about `batch` notes."""
        notes = self._corpus.notes(corpus_version).select("note_id", "text", "text_sha256")
        chosen = notes.join(wanted.lazy().select("note_id"), on="note_id", how="semi")
        for frame in chosen.collect_batches(chunk_size=batch):
            for part in frame.iter_slices(batch):
                yield [NoteText(*row) for row in part.iter_rows()]

    def insert(self, model_key: str, fingerprint: str, rows: Sequence[NoteEntities]) -> int:
        """Store the rows that are not there yet; returns how many that were."""
        columns = {
            "note_id": [row.note_id for row in rows],
            "text_sha256": [row.text_sha256 for row in rows],
            "model_fingerprint": [fingerprint] * len(rows),
            "spans": [[_span_fields(span) for span in row.spans] for row in rows],
        }
        table = entities_table(model_key)
        return self._store.insert_missing(table, pl.DataFrame(columns, schema=dict(table.schema)))

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


def _span_fields(span: PredictedSpan) -> dict[str, int | str | float | None]:
    return dict(zip_longest(("start", "end", "label", "score", "concept"), span))
