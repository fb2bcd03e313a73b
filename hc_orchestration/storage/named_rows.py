"""Rows that records name by table, version and digest: read once for all records, and compared."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from hc_orchestration.corpora.ingest import corpus_digest, note_digest
from hc_orchestration.corpora.notes import text_digest
from hc_orchestration.errors import StorageError
from hc_orchestration.healthcare.verification import (
    Claims,
    Finding,
    Outcome,
    TableClaim,
    mismatch,
    unreachable,
)
from hc_orchestration.storage.corpus import NOTES
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.entities import entities_table
from hc_orchestration.storage.files import FileChangedError, FileGoneError
from hc_orchestration.storage.metrics import metrics_table
from hc_orchestration.storage.purges import Purge
from hc_orchestration.storage.rows_digest import rows_digest
from hc_orchestration.storage.versions import (
    GroupedRows,
    RowsChangedError,
    TableVersions,
    VersionGoneError,
)

_NOTE = ("note_id", "text", "text_sha256", "source", "attributes", "gold", "digest")
_NO_NOTE = "table notes: a note is not the one that its digest names."


@dataclass(frozen=True, slots=True)
class NamedRows:
    """Rows as a record names them.

    Attributes:
        group: What they have in common: the evaluation digest, or the model fingerprint.
        corpus: The notes that they are of, for entities; the notes themselves have none.
    """

    claim: TableClaim
    group: str
    corpus: TableClaim | None


def named_rows(claims: Claims) -> list[NamedRows]:
    """The notes, entities and metrics rows of a record."""
    rows = [NamedRows(claims.corpus, "", None)]
    for table in claims.tables:
        if table.name.startswith("metrics/"):
            rows.append(NamedRows(table, claims.evaluation_digest, None))
        else:
            rows.append(NamedRows(table, claims.fingerprint, claims.corpus))
    return rows


def checked_rows(
    store: DeltaStore, purges: Sequence[Purge], claims: Sequence[Claims]
) -> dict[NamedRows, Finding | None]:
    """Compare all rows that the records name; None for those that are as they say.

    A table is in memory while it is looked at, of the notes one version at a time.
    """
    wanted = list(dict.fromkeys(rows for one in claims for rows in named_rows(one)))
    corpora = [rows.claim for rows in wanted if rows.claim.name == NOTES.path]
    notes = TableVersions(store.uri(NOTES), NOTES, {claim.version for claim in corpora})
    tables = {
        name: _grouped(store, name, [rows.claim.version for rows in of_table])
        for name, of_table in _by_table(wanted).items()
    }
    found: dict[NamedRows, Finding | None] = {}
    for version, of_version in _by_corpus(wanted).items():
        read = None if version is None else _read_notes(notes, version)
        for rows in of_version:
            found[rows] = _compared(rows, tables.get(rows.claim.name), read, purges)
    return found


def about(
    error: StorageError, subject: str, purges: Sequence[Purge], name: str, version: int | None
) -> Finding:
    """What it means that a file or a version of a table could not be had.

    Args:
        error: Why.
        subject: What it is, for people.
        purges: What was deleted on purpose.
        name: The table, or the sha256 of the file.
        version: Of the table.
    """
    if isinstance(error, FileChangedError | RowsChangedError):
        return mismatch(subject, str(error))
    if isinstance(error, FileGoneError | VersionGoneError):
        for purge in purges:
            if purge.covers(name, version):
                said = f"deleted on {purge.purged_at:%Y-%m-%d}: {purge.reason}"
                return Finding(Outcome.PURGED, subject, said)
    if isinstance(error, FileGoneError):
        return mismatch(subject, str(error))
    return unreachable(subject, str(error))


def _by_table(wanted: Iterable[NamedRows]) -> dict[str, list[NamedRows]]:
    groups: dict[str, list[NamedRows]] = {}
    for rows in wanted:
        if rows.claim.name != NOTES.path:
            groups.setdefault(rows.claim.name, []).append(rows)
    return groups


def _by_corpus(wanted: Iterable[NamedRows]) -> dict[int | None, list[NamedRows]]:
    """By the version of the notes that has to be read for them."""
    groups: dict[int | None, list[NamedRows]] = {}
    for rows in wanted:
        corpus = rows.claim if rows.claim.name == NOTES.path else rows.corpus
        groups.setdefault(corpus.version if corpus else None, []).append(rows)
    return groups


def _grouped(store: DeltaStore, name: str, versions: Sequence[int]) -> GroupedRows | None:
    kind, _, key = name.partition("/")
    if kind == "entities":
        spec, group = entities_table(key), "model_fingerprint"
    elif kind == "metrics":
        spec, group = metrics_table(key), "evaluation_digest"
    else:
        return None
    return GroupedRows(TableVersions(store.uri(spec), spec, versions), group)


@dataclass(frozen=True, slots=True)
class _Notes:
    """A version of the notes: the digest of all of them, and the rows that entities are of."""

    digest: str
    texts: pl.DataFrame


def _read_notes(notes: TableVersions, version: int) -> _Notes | StorageError:
    digests: list[bytes] = []
    texts: list[pl.DataFrame] = []
    try:
        for frame in notes.rows(version):
            digests += _note_digests(frame)
            texts.append(frame.select("note_id", "text_sha256"))
    except StorageError as error:
        return error
    except (TypeError, AttributeError, ValueError):  # a value that no note has
        return RowsChangedError(_NO_NOTE)
    empty = NOTES.empty().select("note_id", "text_sha256")
    return _Notes(corpus_digest(digests), pl.concat([empty, *texts]))


def _note_digests(frame: pl.DataFrame) -> Iterator[bytes]:
    """The digests of notes, from all that they are made of.

    Raises:
        RowsChangedError: A stored digest is not that of its note.
    """
    for note_id, text, text_sha256, source, attributes, gold, stored in frame.select(
        _NOTE
    ).iter_rows():
        pairs = [(attribute["name"], attribute["value"]) for attribute in attributes]
        spans = None if gold is None else [(s["start"], s["end"], s["label"]) for s in gold]
        digest = note_digest(note_id, text_sha256, source, pairs, spans)
        if text_digest(text) != text_sha256 or digest != stored:
            raise RowsChangedError(_NO_NOTE)
        yield bytes.fromhex(digest)


def _compared(
    rows: NamedRows,
    table: GroupedRows | None,
    notes: _Notes | StorageError | None,
    purges: Sequence[Purge],
) -> Finding | None:
    claim = rows.claim
    subject = f"{claim.name} version {claim.version}"
    if isinstance(notes, StorageError):
        corpus = rows.corpus or claim
        if rows.corpus is not None and isinstance(notes, RowsChangedError):
            return unreachable(subject, "the notes that they are of were changed")
        return about(notes, subject, purges, corpus.name, corpus.version)
    try:
        digest = _digest(rows, table, notes)
    except StorageError as error:
        return about(error, subject, purges, claim.name, claim.version)
    if digest is None:
        return unreachable(subject, "no such table is known")
    if digest != claim.sha256:
        return mismatch(subject, "its rows are not those that the record names")
    return None


def _digest(rows: NamedRows, table: GroupedRows | None, notes: _Notes | None) -> str | None:
    """None for a table that is not one of ours."""
    if rows.claim.name == NOTES.path:
        return notes.digest if notes else None
    if table is None:
        return None
    found = table.rows(rows.claim.version, rows.group)
    if rows.corpus is None or notes is None:
        return rows_digest(found)
    own = notes.texts.join(
        found.drop("model_fingerprint"), on=["note_id", "text_sha256"], how="inner"
    )
    return rows_digest(own)
