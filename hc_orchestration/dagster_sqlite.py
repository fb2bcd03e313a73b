"""Dagster's SQLite storage with its databases kept open, for the runs of one process of ours.

Dagster opens a database anew for every event that it writes or looks up, which takes four times as
long as the event; a run of our jobs has about two hundred. Tables, files and their places are
Dagster's: any other process may use the same home with its own storage.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Lock

from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.event_log.sqlite.sqlite_event_log import (
    INDEX_SHARD_NAME,
    SqliteEventLogStorage,
)
from dagster._core.storage.runs.sqlite.sqlite_run_storage import SqliteRunStorage
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS
from dagster._core.storage.sqlite_storage import DagsterSqliteStorage, SqliteStorageConfig
from dagster._serdes import ConfigurableClassData
from sqlalchemy import Connection, Engine, create_engine

_KEPT = 4
"""Databases that are open at once: the index, and the runs used last."""


def kept_open(ref: InstanceRef) -> InstanceRef:
    """The same instance with this storage in place of Dagster's for SQLite; others stay."""
    data = ref.storage_data
    if data is None or data.class_name != DagsterSqliteStorage.__name__:
        return ref
    ours = ConfigurableClassData(__name__, KeptOpenStorage.__name__, data.config_yaml)
    return ref._replace(storage_data=ours)


class KeptOpenStorage(DagsterSqliteStorage):
    """See the module."""

    def __init__(self, base_dir: str, inst_data: ConfigurableClassData | None = None) -> None:
        """Keep the databases below `base_dir`, as Dagster does."""
        super().__init__(base_dir, inst_data)
        self._run_storage = _KeptOpenRuns(self._run_storage)
        self._event_log_storage = _KeptOpenEventLog(self._event_log_storage)

    @classmethod
    def from_config_value(  # type: ignore[override]  # as Dagster's own overrides it
        cls, inst_data: ConfigurableClassData | None, config_value: SqliteStorageConfig
    ) -> "KeptOpenStorage":
        """As Dagster makes it from a configuration."""
        return cls.from_local(inst_data=inst_data, **config_value)


class _Databases:
    """Open SQLite databases; one connection at a time, as Dagster's own storage has it."""

    def __init__(self) -> None:
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._using = Lock()

    @contextmanager
    def transaction(
        self, url: str, made: Callable[[], AbstractContextManager[object]]
    ) -> Iterator[Connection]:
        """A transaction in the database at `url`, which `made` has made, once it was entered."""
        with self._using:
            engine = self._engines.pop(url, None)
            if engine is None:
                with made():
                    pass
                waits = {"timeout": SQLITE_BUSY_TIMEOUT_SECONDS}
                engine = create_engine(url, connect_args=waits)
            self._engines[url] = engine  # the last one is the one used last
            while len(self._engines) > _KEPT:
                self._engines.popitem(last=False)[1].dispose()
            with engine.begin() as connection:
                yield connection

    def close(self) -> None:
        """Close them; what is used again is opened again."""
        with self._using:
            while self._engines:
                self._engines.popitem()[1].dispose()


class _KeptOpenEventLog(SqliteEventLogStorage):
    def __init__(self, like: SqliteEventLogStorage) -> None:
        self._databases = _Databases()
        super().__init__(like._base_dir)  # noqa: SLF001

    def run_connection(self, run_id: str | None = None) -> AbstractContextManager[Connection]:
        return self._transaction(run_id or "")

    def index_connection(self) -> AbstractContextManager[Connection]:
        return self._transaction(INDEX_SHARD_NAME)

    def _transaction(self, shard: str) -> AbstractContextManager[Connection]:
        url = self.conn_string_for_shard(shard)
        return self._databases.transaction(url, lambda: self._connect(shard))

    def wipe(self) -> None:
        self._databases.close()
        super().wipe()

    def dispose(self) -> None:
        self._databases.close()
        super().dispose()


class _KeptOpenRuns(SqliteRunStorage):
    def __init__(self, like: SqliteRunStorage) -> None:
        self._databases = _Databases()
        super().__init__(like._conn_string)  # noqa: SLF001

    @contextmanager
    def connect(self) -> Iterator[Connection]:
        with self._databases.transaction(self._conn_string, super().connect) as connection:
            yield connection

    def dispose(self) -> None:
        self._databases.close()
        super().dispose()
