"""The notes table, the quarantine, and the list of corpus versions."""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

import polars as pl

from hc_orchestration.corpora.ingest import CorpusNote, Ingestion, corpus_digest
from hc_orchestration.corpora.notes import Reject, text_digest
from hc_orchestration.errors import StorageError
from hc_orchestration.storage.delta import DeltaStore, TableSpec, in_groups

GOLD = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "label": pl.String}))
ATTRIBUTES = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))

NOTES = TableSpec(
    "notes",
    {
        "note_id": pl.String,
        "text": pl.String,
        "text_sha256": pl.String,
        "source": pl.String,
        "attributes": ATTRIBUTES,
        "gold": GOLD,
        "gold_unmapped": pl.Int64,
        "digest": pl.String,
    },
    keys=("note_id",),
)
QUARANTINE = TableSpec(
    "quarantine",
    {"source": pl.String, "position": pl.String, "reason": pl.String, "digest": pl.String},
)
CORPORA = TableSpec(
    "corpora",
    {
        "digest": pl.String,
        "notes_version": pl.Int64,
        "quarantine_version": pl.Int64,
        "counts": pl.String,
        "stored_at": pl.Datetime("us", "UTC"),
    },
)
CHANGES = TableSpec(
    "corpus_changes",
    {"notes_version": pl.Int64, "note_id": pl.String, "change": pl.String, "digest": pl.String},
    keys=("notes_version", "note_id"),
)
_NOTES_A_BATCH = 512


@dataclass(frozen=True, slots=True)
class CorpusVersion:
    """A stored corpus: which rows, their identity, and what was read to get them.

    Attributes:
        version: Version of the notes table.
        digest: Corpus digest (ids, texts, attributes and mapped gold, in any order).
        counts: read, stored, duplicates, quarantined, annotated, gold by label, reasons, …
        changed: Whether this ingestion stored a new version.
    """

    version: int
    quarantine_version: int
    digest: str
    counts: dict[str, Any]
    changed: bool = False

    @property
    def notes(self) -> int:
        """Number of notes stored."""
        return int(self.counts["stored"])

    @property
    def selection(self) -> str | None:
        """JSON of what the corpora select beyond all of their notes; None when nothing."""
        chosen = self.counts.get("selection")
        return json.dumps(chosen, sort_keys=True) if chosen else None

    @property
    def quarantine_share(self) -> float | None:
        """Quarantined part of what was read; None when nothing was."""
        read = int(self.counts["read"])
        return int(self.counts["quarantined"]) / read if read else None


class CorpusTables:
    """Writes and reads the stored corpus."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def latest(self) -> CorpusVersion | None:
        """The corpus stored last, or None before the first ingestion."""
        rows = self._store.read(CORPORA).sort("stored_at").tail(1)
        return _version(rows.row(0, named=True)) if rows.height else None

    def versions(self) -> list[CorpusVersion]:
        """Every corpus that was ever stored, the oldest first."""
        rows = self._store.read(CORPORA).sort("stored_at")
        return [_version(row) for row in rows.to_dicts()]

    def required(self) -> CorpusVersion:
        """The corpus stored last.

        Raises:
            StorageError: No corpus was ever stored.
        """
        latest = self.latest()
        if latest is None:
            message = "no corpus is stored yet. Materialize notes_corpus first."
            raise StorageError(message)
        return latest

    def ingest(self, new_pass: Callable[[], Ingestion]) -> CorpusVersion:
        """Read the sources and store what changed; an unchanged corpus makes no new version.

        The sources are read once for their digest and, only when it is new, once more to store
        them, so that neither memory nor a staging file ever holds all texts.

        Raises:
            CorpusError: A source cannot be read.
            StorageError: A source changed between the two passes.
        """
        first = new_pass()
        rejects = [item for item in first if isinstance(item, Reject)]
        counts = _counts(first, rejects)
        latest = self.latest()
        if latest and latest.digest == first.digest and latest.counts == counts:
            return latest
        version = latest.version if latest else None
        if latest is None or version is None or latest.digest != first.digest:
            before, version = version, self._store_notes(new_pass, first.digest)
            if before is not None:
                self._store.insert_missing(CHANGES, self._changes(before, version))
        quarantine = self._store.overwrite(QUARANTINE, lambda: iter([_rejects(rejects)]), {})
        row = {
            "digest": first.digest,
            "notes_version": version,
            "quarantine_version": quarantine,
            "counts": json.dumps(counts, sort_keys=True),
            "stored_at": datetime.now(UTC),
        }
        self._store.append(CORPORA, pl.DataFrame([row], schema=dict(CORPORA.schema)))
        return CorpusVersion(version, quarantine, first.digest, counts, changed=True)

    def purged(self, version: int, at: datetime) -> None:
        """Make a version that a purge left the current corpus.

        What its rows tell is counted anew; counts of what was read stay those of the reading.
        """
        latest = self.required()
        columns = pl.col("digest"), pl.col("text_sha256"), pl.col("gold"), pl.col("source")
        rows = self.notes(version).select(*columns).collect()
        labels = rows["gold"].explode().drop_nulls().struct.field("label")
        counts = {
            **latest.counts,
            "stored": rows.height,
            "purged": latest.counts.get("purged", 0) + latest.notes - rows.height,
            "annotated": rows["gold"].is_not_null().sum(),
            "duplicate_texts": rows.height - rows["text_sha256"].n_unique(),
            "gold": dict(sorted(labels.value_counts().iter_rows())),
            "sources": dict(sorted(rows["source"].value_counts().iter_rows())),
        }
        row = {
            "digest": corpus_digest(map(bytes.fromhex, rows["digest"])),
            "notes_version": version,
            "quarantine_version": latest.quarantine_version,
            "counts": json.dumps(counts, sort_keys=True),
            "stored_at": at,
        }
        self._store.append(CORPORA, pl.DataFrame([row], schema=dict(CORPORA.schema)))

    def notes(self, version: int) -> pl.LazyFrame:
        """The notes of a version, text included."""
        return self._store.scan(NOTES, version)

    def texts(self, version: int, batch: int) -> Iterator[pl.DataFrame]:
        """note_id, text and text_sha256 of a version's notes, at most `batch` at a time."""
        return self._store.stream(NOTES, ["note_id", "text", "text_sha256"], version, batch)

    def note_files(self, version: int) -> list[str]:
        """Where the Parquet files of a version's notes are."""
        return self._store.file_uris(NOTES, version)

    def quarantine(self, version: int) -> pl.DataFrame:
        """The rejects of a version: source, position, reason, digest."""
        return self._store.scan(QUARANTINE, version).collect()

    def changes(self, version: int) -> pl.DataFrame:
        """What a notes version changed: id, added, changed or removed, and the note's digest.

        The digest is the note's new one, or its last one when it was removed. No rows for the
        first version. What a crash left half-stored is no corpus: the next ingestion compares with
        the last whole one.
        """
        rows = self._store.scan(CHANGES).filter(pl.col("notes_version") == version)
        return rows.drop("notes_version").sort("note_id").collect()

    def _changes(self, before: int, after: int) -> pl.DataFrame:
        old, new = (self.notes(v).select("note_id", "digest") for v in (before, after))
        joined = old.join(new, on="note_id", how="full", coalesce=True, suffix="_new")
        change = (
            pl.when(pl.col("digest").is_null())
            .then(pl.lit("added"))
            .when(pl.col("digest_new").is_null())
            .then(pl.lit("removed"))
            .otherwise(pl.lit("changed"))
        )
        return (
            joined.filter(pl.col("digest").ne_missing(pl.col("digest_new")))
            .select(
                pl.lit(after).cast(pl.Int64).alias("notes_version"),
                "note_id",
                change.alias("change"),
                pl.coalesce("digest_new", "digest").alias("digest"),
            )
            .collect()
        )

    def _store_notes(self, new_pass: Callable[[], Ingestion], digest: str) -> int:
        def frames() -> Iterator[pl.DataFrame]:
            second = new_pass()
            stored = (item for item in second if isinstance(item, CorpusNote))
            for group in in_groups(stored, _NOTES_A_BATCH):
                yield _note_frame(group)
            if second.digest != digest:
                message = "the corpus files changed while they were read. Run it again."
                raise StorageError(message)

        return self._store.overwrite(NOTES, frames, {"hc.corpus_digest": digest})


def _note_frame(notes: list[CorpusNote]) -> pl.DataFrame:
    rows = [
        {
            "note_id": note.note_id,
            "text": note.text,
            "text_sha256": note.text_sha256,
            "source": note.source,
            "attributes": [{"name": name, "value": value} for name, value in note.attributes],
            "gold": None if note.gold is None else [asdict(span) for span in note.gold],
            "gold_unmapped": note.gold_unmapped,
            "digest": note.digest,
        }
        for note in notes
    ]
    return pl.DataFrame(rows, schema=dict(NOTES.schema))


def _rejects(rejects: list[Reject]) -> pl.DataFrame:
    rows = [
        {"source": r.source, "position": r.position, "reason": r.reason.value, "digest": r.digest}
        for r in rejects
    ]
    return pl.DataFrame(rows, schema=dict(QUARANTINE.schema))


def _counts(ingestion: Ingestion, rejects: list[Reject]) -> dict[str, Any]:
    """The counts as JSON holds them, with a digest of the quarantine's rows."""
    listing = sorted(f"{r.source}\n{r.position}\n{r.reason.value}\n{r.digest}" for r in rejects)
    counts = {
        name: dict(value) if isinstance(value, Counter) else value
        for name, value in vars(ingestion.counts).items()
    }
    return {**counts, "quarantine_digest": text_digest("\n\n".join(listing))}


def _version(row: dict[str, Any]) -> CorpusVersion:
    return CorpusVersion(
        version=row["notes_version"],
        quarantine_version=row["quarantine_version"],
        digest=row["digest"],
        counts=json.loads(row["counts"]),
    )
