"""Installing a model: an archive or a folder is checked, unpacked beside the store, then renamed.

Nothing of a model is executed or unpickled. Until the last rename the store has no model of that
key, so a killed install leaves only a folder that the next one clears away.
"""

import hashlib
import json
import os
import shutil
import stat
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO

from filelock import FileLock

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ModelEntry
from hc_orchestration.models.store import is_archive

MOST_BYTES = 20_000_000_000
MOST_FILES = 20_000
_PARTIAL = ".partial-"
_CHUNK = 1 << 20
_PICKLES = (".pkl", ".pickle", ".joblib", ".dill", ".pt", ".pth", ".ckpt")
_MARKERS = {"spacy": "config.cfg", "transformers": "config.json", "lexicon": "terms.tsv"}


def install_model(entry: ModelEntry, origin: str, store: Path, lock_file: Path) -> Path:
    """Put the files of a model into `<store>/<key>`; returns that folder.

    Args:
        entry: The model.
        origin: A URL, an archive or a folder.
        store: The folder of models.
        lock_file: Keeps the sha256 of what was installed first, for entries that give none.

    Raises:
        ModelError: The origin is not there, has another digest, or holds what may not be installed;
            nothing is left behind.
    """
    store.mkdir(parents=True, exist_ok=True, mode=0o700)
    with FileLock(store / ".install.lock"):
        for left in store.glob(f"{_PARTIAL}*"):
            shutil.rmtree(left)
        with _folder(store) as work:
            source = _fetched(entry, origin, work)
            _verify(entry, _digest(source), lock_file)
            unpacked = work / "files"
            unpacked.mkdir()
            try:
                _unpack(entry, source, unpacked)
            except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
                raise _refused(entry, f"cannot be unpacked ({type(error).__name__})") from None
            inner = _model_folder(entry, unpacked)
            _refuse_pickles(entry, inner)
            _publish(inner, store / entry.key, work)
            _remember(entry, _digest(source), lock_file)
    return store / entry.key


def uninstall_model(entry: ModelEntry, store: Path) -> int:
    """Take the files of a model out of the store; returns their bytes, 0 when there were none."""
    place = store / entry.key
    if not place.is_dir():
        return 0
    with FileLock(store / ".install.lock"), _folder(store) as work:
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        place.rename(work / "removed")
    return size


@contextmanager
def _folder(store: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix=_PARTIAL, dir=store))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _refused(entry: ModelEntry, why: str) -> ModelError:
    return ModelError(f"model {entry.key} was not installed: {why}.")


def _fetched(entry: ModelEntry, origin: str, work: Path) -> Path:
    if not origin.startswith(("https://", "http://")):
        path = Path(origin)
        if not path.exists():
            raise _refused(entry, f"there is nothing at {path}")
        return path
    import httpx

    file = work / PurePosixPath(httpx.URL(origin).path).name
    if not is_archive(file):
        raise _refused(entry, f"{origin} names no archive")
    try:
        with httpx.stream("GET", origin, follow_redirects=True, timeout=60) as answer:
            answer.raise_for_status()
            with file.open("wb") as target:
                size = 0
                for chunk in answer.iter_bytes(_CHUNK):
                    size += len(chunk)
                    if size > MOST_BYTES:
                        raise _refused(entry, "the download is larger than any model")
                    target.write(chunk)
    except httpx.HTTPError as error:
        why = f"{origin} cannot be fetched ({type(error).__name__}); install from a file instead"
        raise _refused(entry, why) from None
    return file


def _digest(source: Path) -> str:
    """sha256 of an archive; of a folder, over the names and digests of its files."""
    if source.is_file():
        with source.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    names = sorted(path for path in source.rglob("*") if path.is_file())
    listing = [[path.relative_to(source).as_posix(), _digest(path)] for path in names]
    return hashlib.sha256(json.dumps(listing).encode()).hexdigest()


def _locked(lock_file: Path) -> dict[str, str]:
    if not lock_file.exists():
        return {}
    known: dict[str, str] = json.loads(lock_file.read_text(encoding="utf-8"))
    return known


def _verify(entry: ModelEntry, digest: str, lock_file: Path) -> None:
    given = entry.source.sha256 if entry.source else None
    expected = given or _locked(lock_file).get(entry.key)
    if expected is not None and expected != digest:
        where = "the catalogue" if given else lock_file.name
        why = f"its sha256 is {digest}, but {where} says {expected}. Get the right file"
        raise _refused(entry, why)


def _remember(entry: ModelEntry, digest: str, lock_file: Path) -> None:
    known = _locked(lock_file)
    if known.get(entry.key) == digest:
        return
    partial = lock_file.with_name(f"{lock_file.name}.{os.getpid()}")
    text = json.dumps(known | {entry.key: digest}, indent=1, sort_keys=True)
    partial.write_text(text + "\n", encoding="utf-8")
    partial.replace(lock_file)


def _unpack(entry: ModelEntry, source: Path, target: Path) -> None:
    room = _Room(entry)
    if source.is_dir():
        for path in sorted(source.rglob("*")):
            mode = path.lstat().st_mode
            name = path.relative_to(source).as_posix()
            if stat.S_ISDIR(mode):
                continue
            _refuse_odd(entry, name, regular=stat.S_ISREG(mode))
            with path.open("rb") as stream:
                room.write(stream, target, name)
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for item in archive.infolist():
                kind = stat.S_IFMT(item.external_attr >> 16)
                _refuse_odd(entry, item.filename, regular=kind in (0, stat.S_IFREG, stat.S_IFDIR))
                if not item.is_dir():
                    with archive.open(item) as stream:
                        room.write(stream, target, item.filename)
    else:
        with tarfile.open(source, "r:*") as archive:
            for member in archive:
                _refuse_odd(entry, member.name, regular=member.isfile() or member.isdir())
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    room.write(content, target, member.name)


def _refuse_odd(entry: ModelEntry, name: str, *, regular: bool) -> None:
    path = PurePosixPath(name.replace("\\", "/"))
    if not regular:
        raise _refused(entry, f"it holds {name!r}, a link or a device")
    if path.is_absolute() or ":" in path.parts[0:1] or name[1:2] == ":":
        raise _refused(entry, f"it holds {name!r}, an absolute path")
    if ".." in path.parts:
        raise _refused(entry, f"it holds {name!r}, which leads out of its folder")


class _Room:
    """Writes files while there is room: an archive may unpack to far more than its own size."""

    def __init__(self, entry: ModelEntry) -> None:
        self._entry = entry
        self._bytes = 0
        self._files = 0

    def write(self, stream: IO[bytes], target: Path, name: str) -> None:
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._files += 1
        with path.open("xb") as file:
            while chunk := stream.read(_CHUNK):
                self._bytes += len(chunk)
                if self._bytes > MOST_BYTES or self._files > MOST_FILES:
                    raise _refused(self._entry, "it unpacks to more than any model is")
                file.write(chunk)


def _model_folder(entry: ModelEntry, unpacked: Path) -> Path:
    """The folder of the model itself; a package wraps it in others."""
    marker = _MARKERS.get(entry.loader, "")
    found = sorted(unpacked.rglob(marker) if marker else [], key=lambda path: len(path.parts))
    if not found:
        raise _refused(entry, f"it holds no {marker}, which the loader {entry.loader} reads")
    return found[0].parent


def _refuse_pickles(entry: ModelEntry, folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        allowed = {path.name, name} & set(entry.allow_pickle)
        if path.is_file() and not allowed and _is_pickle(path):
            why = f"{name!r} is a pickle, which runs code when read; `allow_pickle` may name it"
            raise _refused(entry, why)


def _is_pickle(path: Path) -> bool:
    """By the name, by the first bytes of protocol 2 and later, or inside a file of another form.

    PyTorch saves a zip file that holds `data.pkl`; spaCy puts such a one into the middle of the
    weights of a component that wraps a network of PyTorch.
    """
    if path.suffix in _PICKLES or path.name == "pytorch_model.bin":
        return True
    with path.open("rb") as stream:
        head = stream.read(2)
        size = stream.seek(0, os.SEEK_END)
        if len(head) == 2 and head[0] == 0x80 and head[1] in range(2, 6):  # noqa: PLR2004
            stream.seek(size - 1)
            return stream.read(1) == b"."
    if head == b"PK" and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return any(PurePosixPath(name).suffix in _PICKLES for name in archive.namelist())
    return _holds(path, b"/data.pkl")


def _holds(path: Path, wanted: bytes) -> bool:
    before = b""
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            if wanted in before + chunk:
                return True
            before = chunk[-len(wanted) :]
    return False


def _publish(inner: Path, place: Path, work: Path) -> None:
    if place.exists():
        place.rename(work / "replaced")
    inner.rename(place)
