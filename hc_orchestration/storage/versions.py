"""Rows at many old versions of a table, each of its files read once.

Opening every version by itself would replay the table's log and read its files a thousand times for
a thousand records. Here the log is replayed once, from the oldest version that is asked for.
"""

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import unquote

import polars as pl
from deltalake import DeltaTable

from hc_orchestration.errors import StorageError
from hc_orchestration.storage.delta import TableSpec, in_groups

_FILES_AT_ONCE = 64
_FILE = "__file"


class VersionGoneError(StorageError):
    """A version that can no longer be read: its log entry or one of its files is not there."""


class RowsChangedError(StorageError):
    """A file of a table whose bytes are no longer what was written."""


class TableVersions:
    """Which files a table consisted of at each of several versions, and their rows."""

    def __init__(self, uri: str, spec: TableSpec, versions: Iterable[int]) -> None:
        """Replay the log of the table at `uri` over `versions`."""
        from fsspec.core import url_to_fs

        self._uri = uri
        self._spec = spec
        self._filesystem, self._path = url_to_fs(uri)
        self._files: dict[int, frozenset[str] | StorageError] = {}
        self._replay(sorted(set(versions)))

    @property
    def spec(self) -> TableSpec:
        """The table."""
        return self._spec

    def files(self, version: int) -> frozenset[str]:
        """The files of a version.

        Raises:
            VersionGoneError: The version is gone.
        """
        files = self._files[version]
        if isinstance(files, StorageError):
            raise files
        return files

    @property
    def every_file(self) -> frozenset[str]:
        """The files of all versions that are there."""
        known = [files for files in self._files.values() if not isinstance(files, StorageError)]
        return frozenset().union(*known)

    def read(self, names: Iterable[str]) -> Iterator[tuple[str, pl.DataFrame | StorageError]]:
        """The rows of files, or why they cannot be had: `VersionGoneError`, `RowsChangedError`."""
        for group in in_groups(sorted(names), _FILES_AT_ONCE):
            paths = {f"{self._path}/{name}": name for name in group}
            for path, content in self._filesystem.cat(list(paths), on_error="return").items():
                try:
                    yield paths[path], self._decoded(content)
                except StorageError as error:
                    yield paths[path], error

    def rows(self, version: int) -> Iterator[pl.DataFrame]:
        """The rows of a version, a file at a time.

        Raises:
            VersionGoneError: The version or one of its files is gone.
            RowsChangedError: A file cannot be decoded.
            StorageError: The store cannot be reached.
        """
        for name in sorted(self.files(version)):
            for _, rows in self.read([name]):
                if isinstance(rows, StorageError):
                    raise rows
                yield rows

    def _replay(self, versions: Sequence[int]) -> None:
        live: set[str] | None = None
        at = -1
        for version in versions:
            live = self._advanced(live, at, version)
            if live is None:
                opened = self._opened(version)
                live = None if isinstance(opened, StorageError) else set(opened)
                self._files[version] = opened
            else:
                self._files[version] = frozenset(live)
            at = version

    def _advanced(self, live: set[str] | None, at: int, version: int) -> set[str] | None:
        """The files at `version`, from those at `at`; None when a log entry between is not here."""
        if live is None:
            return None
        files = set(live)
        for step in range(at + 1, version + 1):
            try:
                entry = self._filesystem.cat_file(f"{self._path}/_delta_log/{step:020}.json")
                actions = [json.loads(line) for line in entry.splitlines()]
                files -= {unquote(a["remove"]["path"]) for a in actions if "remove" in a}
                files |= {unquote(a["add"]["path"]) for a in actions if "add" in a}
            except (OSError, ValueError, KeyError, TypeError):
                return None
        return files

    def _opened(self, version: int) -> frozenset[str] | StorageError:
        try:
            adds = DeltaTable(self._uri, version=version).get_add_actions(flatten=True)
            return frozenset(unquote(path) for path in pl.DataFrame(adds)["path"])
        except Exception as error:  # noqa: BLE001 - deltalake raises many things
            message = (
                f"table {self._spec.path}: version {version} is gone ({type(error).__name__})."
            )
            return VersionGoneError(message)

    def _decoded(self, content: object) -> pl.DataFrame:
        name = f"table {self._spec.path}"
        if isinstance(content, FileNotFoundError):
            message = f"{name}: a file of this version is gone."
            raise VersionGoneError(message)
        if not isinstance(content, bytes):
            message = f"{name} cannot be reached ({type(content).__name__})."
            raise StorageError(message)
        try:
            rows = pl.read_parquet(io.BytesIO(content))
            return rows.select(
                pl.col(column).cast(kind)
                if column in rows.columns
                else pl.lit(None, kind).alias(column)  # an older table has fewer columns
                for column, kind in self._spec.schema.items()
            )
        except (Exception, pl.exceptions.PanicException) as error:  # noqa: BLE001
            message = f"{name}: a file of this version was changed ({type(error).__name__})."
            raise RowsChangedError(message) from None


class GroupedRows:
    """The rows of all those versions in memory, found by their value in one column."""

    def __init__(self, table: TableVersions, group: str) -> None:
        """Read every file of `table` once; rows are asked for by their value of `group`."""
        self._table = table
        self._unread: dict[str, StorageError] = {}
        frames = [table.spec.empty().with_columns(pl.lit("").alias(_FILE))]
        for name, rows in table.read(table.every_file):
            if isinstance(rows, StorageError):
                self._unread[name] = rows
            else:
                frames.append(rows.with_columns(pl.lit(name).alias(_FILE)))
        parts = pl.concat(frames).partition_by(group, as_dict=True)
        self._groups = {str(value): rows for (value,), rows in parts.items()}

    def rows(self, version: int, value: str) -> pl.DataFrame:
        """The rows of a version with this value.

        Raises:
            StorageError: As `TableVersions.rows` does.
        """
        files = self._table.files(version)
        for name in sorted(files & self._unread.keys()):
            raise self._unread[name]
        found = self._groups.get(value)
        if found is None:
            return self._table.spec.empty()
        return found.filter(pl.col(_FILE).is_in(list(files))).drop(_FILE)
