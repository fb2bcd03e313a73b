"""What was deleted on purpose: which versions of a table, or which file, when and why.

Whoever deletes notes, old versions or files for good says so here, in the same command; only then
does the verification of a record tell "purged" from "lost". There is no other trace of it.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

import polars as pl

from hc_orchestration.storage.delta import DeltaStore, TableSpec

_PURGES = TableSpec(
    "purges",
    {
        "subject": pl.String,
        "before_version": pl.Int64,
        "reason": pl.String,
        "purged_at": pl.Datetime("us", "UTC"),
        "by": pl.String,
        "notes": pl.List(pl.String),
    },
)


@dataclass(frozen=True, slots=True)
class Purge:
    """One deletion.

    Attributes:
        subject: The path of a table (`notes`, `entities/KEY`), or the sha256 (hex) of a file.
        before_version: Of a table, the first version that can still be read.
        reason: Why, in words that name nobody.
        by: The account that asked for it; None where nobody said.
        notes: Salted digests of the ids of the notes that were removed, see `of_purged`.
    """

    subject: str
    before_version: int | None
    reason: str
    purged_at: datetime
    by: str | None = None
    notes: tuple[str, ...] = ()

    def covers(self, subject: str, version: int | None) -> bool:
        """Whether it deleted this file, or this version of a table."""
        if subject != self.subject:
            return False
        if version is None or self.before_version is None:
            return version is self.before_version
        return version < self.before_version


class PurgeTable:
    """Writes and reads deletions."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the table of `store`."""
        self._store = store

    def append(self, purges: Iterable[Purge]) -> None:
        """Tell of deletions."""
        rows = [asdict(purge) for purge in purges]
        self._store.append(_PURGES, pl.DataFrame(rows, schema=dict(_PURGES.schema)))

    def all(self) -> tuple[Purge, ...]:
        """Every deletion, oldest first."""
        rows = self._store.read(_PURGES).sort("purged_at", maintain_order=True)
        return tuple(
            Purge(**{**row, "notes": tuple(row["notes"] or ())})
            for row in rows.iter_rows(named=True)
        )
