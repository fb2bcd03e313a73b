"""Delta tables that stay open: to look for newer commits is far cheaper than to open one again."""

import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from hc_orchestration.errors import StorageError

if TYPE_CHECKING:
    from deltalake.fs import DeltaStorageHandler

_PINNED = 16  # old versions that a thread keeps open


class _Open(NamedTuple):
    """An open table, and what told then the commit of its version from any other."""

    table: DeltaTable
    version: int
    commit: object


class _OfThread(threading.local):
    """What a thread keeps open, by path: newest versions, and old ones."""

    def __init__(self) -> None:
        self.newest: dict[str, _Open] = {}
        self.pinned: dict[tuple[str, int], _Open] = {}


class OpenTables:
    """The tables below one root URI; each thread has its own."""

    def __init__(self, root: str) -> None:
        """Open nothing yet."""
        self._root = root
        self._local = "://" not in root
        self._kept = _OfThread()
        self._filesystems: dict[str, DeltaStorageHandler] = {}

    def newest(self, path: str) -> DeltaTable | None:
        """A table's newest version, None if there is no table; for use at once, as it moves on.

        Raises:
            StorageError: It cannot be read.
        """
        kept = self._kept.newest
        known = kept.pop(path, None)
        if known is not None and self._continues(path, known):
            with suppress(DeltaError, OSError):  # opening it anew says what is wrong
                known.table.update_incremental()
                kept[path] = known
                return known.table
        table = self._opened(path, None)
        if table is not None:
            kept[path] = self._with_commit(path, table)
        return table

    def at(self, path: str, version: int | None) -> DeltaTable | None:
        """A table at a version; or at the newest (None), opened anew, and None if there is none.

        Raises:
            StorageError: There is no such version, or it cannot be read.
        """
        if version is None:
            return self._opened(path, None)
        kept = self._kept.pinned
        known = kept.pop((path, version), None)
        if known is None or not self._continues(path, known):
            table = self._opened(path, version)
            if table is None:
                return None
            known = self._with_commit(path, table)
        kept[path, version] = known
        while len(kept) > _PINNED:
            kept.pop(next(iter(kept)))
        return known.table

    def _opened(self, path: str, version: int | None) -> DeltaTable | None:
        try:
            return DeltaTable(f"{self._root}/{path}", version=version)
        except TableNotFoundError:
            if version is None:
                return None
            message = (
                f"table {path} has no version {version}: there is no such table, or a purge "
                "removed that version."
            )
            raise StorageError(message) from None
        except Exception as error:  # noqa: BLE001 - deltalake raises many things
            which = "its newest version" if version is None else f"version {version}"
            message = f"table {path}: {which} cannot be read ({type(error).__name__})."
            raise StorageError(message) from None

    def _with_commit(self, path: str, table: DeltaTable) -> _Open:
        version = table.version()
        return _Open(table, version, self._commit(path, version))

    def _continues(self, path: str, known: _Open) -> bool:
        """Whether it is certainly still the table that was opened, and not another in its place.

        The commit of its version is there no more when it was purged, and is another when the table
        was made anew.
        """
        commit = self._commit(path, known.version)
        return commit is not None and commit == known.commit

    def _commit(self, path: str, version: int) -> object:
        """What tells the commit of a version from any other; None if it cannot be seen."""
        name = f"_delta_log/{version:020}.json"
        try:
            if self._local:
                found = Path(self._root, path, name).stat()
                return found.st_ino, found.st_mtime_ns, found.st_size
            return self._filesystem(path).open_input_file(name).read()
        except (OSError, DeltaError):
            return None

    def _filesystem(self, path: str) -> "DeltaStorageHandler":
        """The files of a table on an object store; its connections are used again."""
        found = self._filesystems.get(path)
        if found is None:
            from deltalake.fs import DeltaStorageHandler

            found = self._filesystems[path] = DeltaStorageHandler(f"{self._root}/{path}")
        return found
