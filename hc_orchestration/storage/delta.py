"""Delta Lake, reduced to what the project does: create once, append, merge, overwrite, read.

Every write goes through `DeltaStore._commit`, which retries when another writer committed first.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import polars as pl
from deltalake import (
    CommitProperties,
    DeltaTable,
    QueryBuilder,
    Transaction,
    WriterProperties,
    write_deltalake,
)
from deltalake.exceptions import CommitFailedError, DeltaError
from filelock import FileLock

from hc_orchestration.errors import BusyStorageError
from hc_orchestration.home import private_folder
from hc_orchestration.storage.open_tables import OpenTables

if TYPE_CHECKING:
    import pyarrow as pa

T = TypeVar("T")

_FILES_OF_APPENDS = 32
"""A table of appends that has so many files is rewritten as one, by who made the last."""

_INSERTS = "hc_orchestration.insert_missing"
_ATTEMPTS = 12
_FIRST_PAUSE_S = 0.02
_LONGEST_PAUSE_S = 1.0
_PROPERTIES = {
    # Statistics would copy the first characters of ids and texts into the log of the table.
    "delta.dataSkippingNumIndexedCols": "0",
    # Delta would forget versions after 30 days; records name versions, and are read years later.
    "delta.enableExpiredLogCleanup": "false",
    "delta.logRetentionDuration": "interval 36500 days",
    # A reader takes the last checkpoint and each commit since: at Delta's 100, an object store was
    # asked for thousands of files an evaluation.
    "delta.checkpointInterval": "10",
}
_FORGET = {
    **_PROPERTIES,
    "delta.enableExpiredLogCleanup": "true",
    "delta.logRetentionDuration": "interval 0 days",
    "delta.deletedFileRetentionDuration": "interval 0 days",
}
_REMEMBER = {
    **_PROPERTIES,
    "delta.deletedFileRetentionDuration": "interval 7 days",
}
_KEYS = 8_192
_KEPT_BYTES = 64 * 2**20  # of the rows of a table
_ROWS_A_GROUP = 2_048  # what a writer holds in memory before it encodes them


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table: its path below the storage root, its columns, and what makes a row unique."""

    path: str
    schema: Mapping[str, pl.DataType | type[pl.DataType]]
    keys: tuple[str, ...] = ()

    def empty(self) -> pl.DataFrame:
        """A frame of this table without rows."""
        return pl.DataFrame(schema=dict(self.schema))


@dataclass(frozen=True, slots=True)
class _Rows:
    """What is in some files of a table; Delta never changes a file."""

    files: frozenset[str]
    frame: pl.DataFrame


@lru_cache(maxsize=4)
def delta_store(root: str, locks: Path) -> "DeltaStore":
    """The store of a place, one in a process: what it has read serves the next step too."""
    return DeltaStore(root, locks)


class DeltaStore:
    """The tables below one root URI (a folder, or `s3://…` and the like)."""

    def __init__(self, root: str, locks: Path) -> None:
        """Use `root` for tables and `locks` for the lock files of first-time creation."""
        self._root = root
        self._locks = locks
        self._tables = OpenTables(root)
        self._read: dict[str, _Rows] = {}

    def append(self, spec: TableSpec, frame: pl.DataFrame) -> int:
        """Append rows; returns the table's version after it.

        Every so many appends their small files become one, or whoever reads the table would take
        longer with each of them.
        """
        rows = frame.select(list(spec.schema))

        def write(table: DeltaTable) -> int:
            # A table made by an older version of this package gets the new columns.
            write_deltalake(table, rows, mode="append", schema_mode="merge")
            version = table.version()
            if len(table.file_uris()) >= _FILES_OF_APPENDS:
                with suppress(DeltaError):  # the rows are stored; the next append tries again
                    table.optimize.compact()
            return version

        return self._commit(spec, write)

    def insert_missing(self, spec: TableSpec, frame: pl.DataFrame) -> int:
        """Append the rows whose `spec.keys` no row has yet; returns how many that were.

        Two racing writers of the same rows leave each row once: both would be the next transaction
        of one application, which Delta refuses, and the second looks again. Of the table only the
        keys are read; a MERGE of Delta's would hold all of it.
        """
        keys = list(spec.keys)
        rows = frame.select(list(spec.schema)).unique(subset=keys, maintain_order=True)

        def write(table: DeltaTable) -> int:
            there = (
                batch.join(rows, on=keys, how="semi") for batch in _batches(table, keys, _KEYS)
            )
            old = pl.concat([rows.clear().select(keys), *there])
            new = rows.join(old, on=keys, how="anti", maintain_order="left")
            if new.height:
                following = Transaction(_INSERTS, table.version() + 1)
                properties = CommitProperties(app_transactions=[following])
                # A table made by an older version of this package gets the new fields.
                write_deltalake(
                    table, new, mode="append", schema_mode="merge", commit_properties=properties
                )
            return new.height

        return self._commit(spec, write)

    def overwrite(
        self,
        spec: TableSpec,
        batches: Callable[[], Iterator[pl.DataFrame]],
        notes: Mapping[str, str],
    ) -> int:
        """Replace all rows in one commit, streaming; returns the new version.

        Args:
            spec: The table.
            batches: Gives the rows anew for each attempt; an exception in it leaves the table as it
                was, and is raised as it is.
            notes: Kept in the table's history beside the commit.
        """
        properties = CommitProperties(custom_metadata=dict(notes))

        def write(table: DeltaTable) -> int:
            stream = _Stream(spec, batches())
            reader = stream.reader()
            try:
                write_deltalake(
                    table,
                    reader,
                    mode="overwrite",
                    schema_mode="overwrite",
                    commit_properties=properties,
                    writer_properties=WriterProperties(max_row_group_size=_ROWS_A_GROUP),
                )
            except Exception:
                if stream.error is not None:
                    raise stream.error from None
                raise
            return table.version()

        return self._commit(spec, write)

    def scan(self, spec: TableSpec, version: int | None = None) -> pl.LazyFrame:
        """The table's rows at a version (None: the newest), lazily; no rows if it does not exist.

        Raises:
            StorageError: There is no such version, or no longer.
        """
        return _rows(spec, self._tables.at(spec.path, version))

    def read(self, spec: TableSpec, which: pl.Expr | None = None) -> pl.DataFrame:
        """Rows of the newest version (None: all), at once; for small tables that are read often.

        Only files that were not there at the last time are read.

        Raises:
            StorageError: The table cannot be read.
        """
        table = self._tables.newest(spec.path)
        if table is None:
            return spec.empty()
        files = table.file_uris()
        known = self._read.get(spec.path)
        if known is None or not known.files.issubset(files):  # some were rewritten as one
            known = _Rows(frozenset(), spec.empty())
        if new := [file for file in files if file not in known.files]:
            frame = pl.concat([known.frame, _in_files(spec, new)], rechunk=True)
            known = _Rows(frozenset(files), frame)
            if frame.estimated_size() <= _KEPT_BYTES:
                self._read[spec.path] = known
            else:
                self._read.pop(spec.path, None)
        return known.frame if which is None else known.frame.filter(which)

    def stream(
        self, spec: TableSpec, columns: Sequence[str], version: int | None, size: int
    ) -> Iterator[pl.DataFrame]:
        """Some columns of a version, as `scan` takes it, at most `size` rows at a time.

        What `scan` gives is read by Polars, which fetches up to 128 groups of rows ahead: fast, but
        the texts of a corpus are then in memory at once. This holds one batch.

        Raises:
            StorageError: There is no such version, or no longer.
        """
        table = self._tables.at(spec.path, version)
        if table is not None:
            yield from _batches(table, columns, size)

    def version(self, spec: TableSpec) -> int | None:
        """The newest version of a table, or None when it does not exist."""
        table = self._tables.newest(spec.path)
        return None if table is None else table.version()

    def file_uris(self, spec: TableSpec, version: int) -> list[str]:
        """Where the Parquet files of a version are, for a reader that is not ours."""
        return DeltaTable(self.uri(spec), version=version).file_uris()

    def files(self, spec: TableSpec) -> int | None:
        """How many files the newest version of a table has, or None when it does not exist."""
        table = self._tables.newest(spec.path)
        return None if table is None else len(table.file_uris())

    def compact(self, spec: TableSpec) -> int:
        """Rewrite small files as few large ones; returns how many were. No row changes."""
        return self._commit(spec, lambda table: int(table.optimize.compact()["numFilesRemoved"]))

    def vacuum(self, spec: TableSpec, versions: Sequence[int], days: int) -> int:
        """Delete files of old versions; returns how many.

        Args:
            spec: The table.
            versions: Versions whose files stay, beside those of the newest.
            days: Files that were in use within so many days stay too.
        """

        def sweep(table: DeltaTable) -> int:
            kept = [version for version in versions if version <= table.version()]
            deleted = table.vacuum(
                retention_hours=24 * days,
                dry_run=False,
                enforce_retention_duration=False,  # ours is what the caller says
                keep_versions=kept,
            )
            return len(deleted)

        return self._commit(spec, sweep)

    def paths(self) -> list[str]:
        """The tables that there are, by their path below the root."""
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(self._root)
        logs = [f"{root}/{depth}/_delta_log" for depth in ("*", "*/*")]
        found = (str(path) for pattern in logs for path in filesystem.glob(pattern))
        return sorted(path[len(root) + 1 :].rpartition("/")[0] for path in found)

    def version_of(self, path: str) -> int:
        """The newest version of a table that exists."""
        return DeltaTable(f"{self._root}/{path}").version()

    def columns(self, path: str) -> list[str]:
        """The columns of a table that exists."""
        return [field.name for field in DeltaTable(f"{self._root}/{path}").schema().fields]

    def holds(self, path: str, column: str, values: Sequence[str]) -> bool:
        """Whether the newest version of a table has a row with one of the values."""
        rows = pl.scan_delta(DeltaTable(f"{self._root}/{path}"))
        return not rows.filter(pl.col(column).is_in(list(values))).head(1).collect().is_empty()

    def purge(self, path: str, column: str, values: Sequence[str]) -> int:
        """Delete rows from every version of a table; returns the only version that is left.

        Older versions go with their files and their log, since both hold the rows: afterwards
        nobody can read them. The values stand in no commit.
        """
        spec = TableSpec(path, {column: pl.String})
        unwanted = pl.DataFrame({column: list(values)}, schema=dict(spec.schema))

        def delete(table: DeltaTable) -> None:
            merge = table.merge(
                unwanted, f"old.{column} = gone.{column}", source_alias="gone", target_alias="old"
            )
            merge.when_matched_delete().execute()

        def properties(wanted: Mapping[str, str]) -> Callable[[DeltaTable], None]:
            return lambda table: table.alter.set_table_properties(dict(wanted))

        self._commit(spec, delete)
        self._commit(spec, properties(_FORGET))
        table = DeltaTable(self.uri(spec))
        table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
        table.update_incremental()
        table.create_checkpoint()
        table.cleanup_metadata()
        self._commit(spec, properties(_REMEMBER))
        return DeltaTable(self.uri(spec)).version()

    def uri(self, spec: TableSpec) -> str:
        """Where a table lies."""
        return f"{self._root}/{spec.path}"

    def _commit(self, spec: TableSpec, operation: Callable[[DeltaTable], T]) -> T:
        """Run a write on the newest version, again if another writer committed first.

        Raises:
            BusyStorageError: Others kept committing first for the whole of the bounded retries.
        """
        table = self._open(spec)
        for attempt in range(_ATTEMPTS):
            try:
                return operation(table)
            except CommitFailedError:
                pause = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
                time.sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - jitter, not a secret
                table = DeltaTable(self.uri(spec))
        message = (
            f"table {spec.path}: other writers committed first {_ATTEMPTS} times. Run it again."
        )
        raise BusyStorageError(message)

    def _open(self, spec: TableSpec) -> DeltaTable:
        table = self._tables.newest(spec.path)
        if table is not None:
            return table
        private_folder(self._locks)
        with FileLock(self._locks / "tables.lock"):
            return DeltaTable.create(
                self.uri(spec),
                schema=_arrow_schema(spec),
                mode="ignore",
                configuration={**_PROPERTIES},
            )


def _rows(spec: TableSpec, table: DeltaTable | None) -> pl.LazyFrame:
    """The columns of a table that may be of an older version of this package; or no rows."""
    if table is None:
        return spec.empty().lazy()
    there = {field.name for field in table.schema().fields}
    lacking = [
        pl.lit(None, dtype=kind).alias(name)
        for name, kind in spec.schema.items()
        if name not in there
    ]
    return pl.scan_delta(table).with_columns(lacking).select(list(spec.schema))


def _in_files(spec: TableSpec, files: Sequence[str]) -> pl.DataFrame:
    """The rows of files of a table, which may be of an older version of this package."""
    return pl.scan_parquet(
        list(files),
        schema=dict(spec.schema),
        missing_columns="insert",
        extra_columns="ignore",
        glob=False,
        hive_partitioning=False,
        credential_provider=None,  # the environment's, as Delta's own
    ).collect()


def _batches(table: DeltaTable, columns: Sequence[str], size: int) -> Iterator[pl.DataFrame]:
    """Some columns of a table, at most `size` rows at a time, holding little more than those."""
    query = QueryBuilder(
        {
            "datafusion.execution.batch_size": str(size),
            "datafusion.execution.target_partitions": "1",
        }
    ).register("rows", table)
    names = ", ".join(f'"{name}"' for name in columns)
    for batch in query.execute(f"SELECT {names} FROM rows"):  # noqa: S608 - names of our own
        yield pl.DataFrame(batch)


class _Stream:
    """Frames as Delta reads them.

    What ends the frames early is kept as `error`: Delta raises one of its own instead, which turns
    a signal into a failed write and quotes the words of the other, and these may hold a note.
    """

    def __init__(self, spec: TableSpec, frames: Iterator[pl.DataFrame]) -> None:
        self.error: BaseException | None = None
        self._columns = list(spec.schema)
        self._schema = _arrow_schema(spec)
        self._frames = frames

    def reader(self) -> "pa.RecordBatchReader":
        import pyarrow as pa

        return pa.RecordBatchReader.from_batches(self._schema, self._batches())

    def _batches(self) -> "Iterator[pa.RecordBatch]":
        try:
            for frame in self._frames:
                yield from frame.select(self._columns).to_arrow().cast(self._schema).to_batches()
        except BaseException as error:
            self.error = error
            raise


def _arrow_schema(spec: TableSpec) -> "pa.Schema":
    import pyarrow as pa

    schema = spec.empty().to_arrow().schema
    return pa.schema([pa.field(f.name, _without_views(f.type)) for f in schema])


def _without_views(kind: "pa.DataType") -> "pa.DataType":
    """Polars' large and view strings and lists as the plain ones that Delta knows."""
    import pyarrow as pa

    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_large_list(kind):
        return pa.list_(_without_views(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([pa.field(f.name, _without_views(f.type)) for f in kind])
    return kind


def in_groups(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    """Group rows into lists of at most `size`."""
    iterator = iter(rows)
    while group := list(islice(iterator, size)):
        yield group
