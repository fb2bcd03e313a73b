"""The purge log: which notes were removed from everything, and what can no longer be read since."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from hc_orchestration.storage.delta import DeltaStore, TableSpec

PURGES = TableSpec(
    "purges",
    {
        "at": pl.Datetime("us", "UTC"),
        "by": pl.String,
        "notes": pl.List(pl.String),
        "tables": pl.List(pl.Struct({"name": pl.String, "last_version": pl.Int64})),
        "files": pl.List(pl.String),
    },
)


@dataclass(frozen=True, slots=True)
class PurgedTable:
    """A table whose versions up to `last_version` nobody can read any more."""

    name: str
    last_version: int


@dataclass(frozen=True, slots=True)
class Purge:
    """One removal, as it was begun; it is written before anything is removed.

    Attributes:
        at: When.
        by: Who: the name of the account.
        notes: Salted digests of the ids of the notes, see `Pseudonyms.of_purged`.
        tables: What can no longer be read of tables.
        files: The sha256 (hex) of stored files that were removed or made anew without the notes.
    """

    at: datetime
    by: str
    notes: tuple[str, ...]
    tables: tuple[PurgedTable, ...]
    files: tuple[str, ...]


class PurgeLog:
    """Appends purges and reads them; nothing is ever taken back."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(self, purge: Purge) -> None:
        """Write that something is about to be removed."""
        row = {
            "at": purge.at,
            "by": purge.by,
            "notes": list(purge.notes),
            "tables": [{"name": t.name, "last_version": t.last_version} for t in purge.tables],
            "files": list(purge.files),
        }
        self._store.append(PURGES, pl.DataFrame([row], schema=dict(PURGES.schema)))

    def all(self) -> list[Purge]:
        """Every purge, oldest first."""
        return [
            Purge(
                at=row["at"],
                by=row["by"],
                notes=tuple(row["notes"]),
                tables=tuple(PurgedTable(**table) for table in row["tables"]),
                files=tuple(row["files"]),
            )
            for row in self._store.scan(PURGES).sort("at").collect().iter_rows(named=True)
        ]

    def of_table(self, name: str, version: int) -> Purge | None:
        """The purge that removed a version of a table, or None."""
        for purge in self.all():
            if any(t.name == name and version <= t.last_version for t in purge.tables):
                return purge
        return None

    def of_file(self, sha256: str) -> Purge | None:
        """The purge that removed a stored file, or None."""
        return next((purge for purge in self.all() if sha256 in purge.files), None)
