"""`hc backup` and `hc restore`: one file that holds a deployment, and HC_HOME made from it again.

SQLite databases are copied with SQLite's own backup, which is consistent while others write. Tables
need no such care: a version that was committed before the copy is in it, and what is committed
meanwhile may be. PostgreSQL and object stores have backups of their own: see deploy/README.md.
"""

import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path

from hc_orchestration.errors import ConfigurationError, StorageError
from hc_orchestration.home import private_folder
from hc_orchestration.settings import Settings

_ABOUT = "hc-backup.json"
_FORMAT = 1
_LEFT_OUT = ("locks", "logs")
_SECRETS = "secrets"
_LOG = "_delta_log"
_SQLITE = b"SQLite format 3\x00"
_BESIDE = ("-journal", "-shm", "-wal")
_HOME, _TABLES, _SETTINGS = "home", "tables", "settings"


@dataclass(frozen=True, slots=True)
class Backup:
    """What a backup holds.

    Attributes:
        at: When it was begun.
        home: HC_HOME of the deployment; paths in MLflow's database lie below it.
        secrets: Whether the salt and other secrets of HC_HOME are in it.
        software: Version of hc_orchestration that wrote it.
        files: Number of files.
    """

    at: str
    home: str
    secrets: bool
    software: str
    files: int


def back_up(settings: Settings, target: Path, *, secrets: bool, at: datetime) -> Backup:
    """Copy a deployment into one compressed file, readable for its owner only.

    It holds HC_HOME, the tables, the study and the catalogue; not the sources of the notes, nor
    models outside of HC_HOME, nor tables and MLflow stores that are not on this machine.

    Raises:
        StorageError: The file exists already, or cannot be written.
    """
    files = list(_files(settings, secrets=secrets))
    made = Backup(
        at=at.isoformat(),
        home=str(settings.home),
        secrets=secrets,
        software=version("hc-orchestration"),
        files=len(files),
    )
    partial = target.with_name(f"{target.name}.partial")
    try:
        _refuse_existing(target)
        with (
            os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as raw,
            tarfile.open(fileobj=raw, mode="w:gz") as archive,
            tempfile.TemporaryDirectory(dir=settings.home) as scratch,
        ):
            about = {name: getattr(made, name) for name in Backup.__dataclass_fields__}
            _add_bytes(archive, _ABOUT, json.dumps({"format": _FORMAT, **about}).encode())
            for name, path in files:
                _add(archive, name, path, Path(scratch))
        partial.replace(target)
    except OSError as error:
        partial.unlink(missing_ok=True)
        message = f"{target} cannot be written ({type(error).__name__})."
        raise StorageError(message) from None
    return made


def restore(settings: Settings, source: Path) -> Backup:
    """Make HC_HOME, and the tables if they lie elsewhere, from a backup.

    The study and the catalogue are put below `HC_HOME/restored`, as those in use are the user's.
    Paths in MLflow's database are changed to the new HC_HOME.

    Raises:
        ConfigurationError: HC_HOME holds something already.
        StorageError: The file is no whole backup.
    """
    if settings.home.exists() and any(settings.home.iterdir()):
        message = f"HC_HOME {settings.home} is not empty. Restore into another, or move it away."
        raise ConfigurationError(message)
    try:
        with tarfile.open(source, mode="r:gz") as archive:
            made = _about(archive, source)
            for member in archive:
                if member.isfile() and member.name != _ABOUT:
                    _extract(archive, member, _place(settings, member.name))
    except (OSError, tarfile.TarError, EOFError) as error:
        message = f"{source} is not a whole backup ({type(error).__name__})."
        raise StorageError(message) from None
    _move_artifacts(settings, made.home)
    return made


def _refuse_existing(target: Path) -> None:
    if target.exists():
        message = f"{target} exists already. Give another name."
        raise StorageError(message)


def _files(settings: Settings, *, secrets: bool) -> Iterator[tuple[str, Path]]:
    """Names in the backup and paths here."""
    yield f"{_SETTINGS}/study.yaml", settings.study
    yield f"{_SETTINGS}/models.yaml", settings.catalogue
    tables = None if "://" in settings.storage else Path(settings.storage)
    left_out = {settings.home / name for name in _LEFT_OUT}
    if not secrets:
        left_out.add(settings.home / _SECRETS)
    if tables is not None:
        left_out.add(tables)
        # Looked for before the data, which a writer writes first: so all that they name is there.
        logs = sorted(path for path in _below(tables) if _LOG in path.parts)
        data = sorted(path for path in _below(tables) if _LOG not in path.parts)
        yield from ((f"{_TABLES}/{path.relative_to(tables)}", path) for path in logs + data)
    for path in sorted(_below(settings.home)):
        if not left_out.intersection(path.parents) and not path.name.endswith(_BESIDE):
            yield f"{_HOME}/{path.relative_to(settings.home)}", path


def _below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _add(archive: tarfile.TarFile, name: str, path: Path, scratch: Path) -> None:
    if not _is_sqlite(path):
        archive.add(path, arcname=name, recursive=False)
        return
    copy = scratch / "copy.db"
    copy.unlink(missing_ok=True)
    with closing(sqlite3.connect(path)) as live, closing(sqlite3.connect(copy)) as copied:
        live.backup(copied)
    archive.add(copy, arcname=name, recursive=False)


def _is_sqlite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_SQLITE)) == _SQLITE


def _add_bytes(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    member.mode = 0o600
    archive.addfile(member, io.BytesIO(content))


def _about(archive: tarfile.TarFile, source: Path) -> Backup:
    first = archive.next()
    file = archive.extractfile(first) if first is not None and first.name == _ABOUT else None
    about = json.loads(file.read()) if file is not None else {}
    if about.pop("format", None) != _FORMAT:
        message = f"{source} is no backup that this version of hc can read."
        raise StorageError(message)
    return Backup(**about)


def _place(settings: Settings, name: str) -> Path:
    """Where a file of the backup goes; a name that leads elsewhere is refused."""
    part, _, rest = name.partition("/")
    roots = {
        _HOME: settings.home,
        _TABLES: None if "://" in settings.storage else Path(settings.storage),
        _SETTINGS: settings.home / "restored",
    }
    root = roots.get(part)
    if root is None or not rest or ".." in Path(rest).parts or Path(rest).is_absolute():
        message = f"the backup holds {name!r}, which has no place here (HC_STORAGE is remote?)."
        raise StorageError(message)
    return root / rest


def _extract(archive: tarfile.TarFile, member: tarfile.TarInfo, path: Path) -> None:
    content = archive.extractfile(member)
    assert content is not None  # noqa: S101 - it is a file
    private_folder(path.parent)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := content.read(1 << 20):
            file.write(block)


def _move_artifacts(settings: Settings, before: str) -> None:
    """MLflow keeps the place of artifacts as URIs: those below the old HC_HOME go below the new."""
    database = settings.home / "mlflow.db"
    if not database.exists():
        return
    old, new = (Path(home).as_uri() + "/" for home in (before, str(settings.home)))
    with closing(sqlite3.connect(database)) as connection, connection:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            connection.execute(
                f"UPDATE {table} SET {column} = ? || substr({column}, ?) "  # noqa: S608 - constants
                f"WHERE substr({column}, 1, ?) = ?",
                (new, len(old) + 1, len(old), old),
            )
