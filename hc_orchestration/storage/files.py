"""Files kept under the sha256 of their bytes, so that what a record names can be checked."""

import hashlib
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hc_orchestration.errors import StorageError


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A stored file: the name it is shown under, sha256 (hex) and size in bytes."""

    name: str
    sha256: str
    size: int


class FileGoneError(StorageError):
    """A file that is not in the store."""


class FileChangedError(StorageError):
    """A file whose bytes are not those that were stored."""


class FileStore:
    """Immutable files below `<root>/files`."""

    def __init__(self, root: str) -> None:
        """Keep the files below the storage root `root` (a folder or an fsspec URL)."""
        self._root = f"{root}/files"

    def put(self, name: str, content: bytes) -> StoredFile:
        """Store bytes; storing the same bytes again changes nothing."""
        digest = hashlib.sha256(content).hexdigest()
        filesystem, path = self._locate(digest, Path(name).suffix)
        if not filesystem.exists(path):
            filesystem.makedirs(path.rpartition("/")[0], exist_ok=True)
            partial = f"{path}.{uuid.uuid4().hex}"
            filesystem.pipe_file(partial, content)
            filesystem.mv(partial, path)
        return StoredFile(name, digest, len(content))

    def get(self, file: StoredFile) -> bytes:
        """The bytes of a file.

        Raises:
            FileGoneError: It is not there.
            FileChangedError: Its bytes are no longer those that were stored.
            StorageError: The store cannot be reached.
        """
        content = self.get_anyway(file)
        if hashlib.sha256(content).hexdigest() != file.sha256:
            message = f"{file.name} ({file.sha256[:12]}) was changed after it was stored."
            raise FileChangedError(message)
        return content

    def get_anyway(self, file: StoredFile) -> bytes:
        """The bytes that lie where a file was stored, changed or not.

        Raises:
            FileGoneError: There are none.
            StorageError: The store cannot be reached.
        """
        filesystem, path = self._locate(file.sha256, Path(file.name).suffix)
        try:
            content: bytes = filesystem.cat_file(path)
        except FileNotFoundError:
            message = f"{file.name} ({file.sha256[:12]}) is no longer in the file store."
            raise FileGoneError(message) from None
        except OSError as error:
            message = f"{file.name} ({file.sha256[:12]}) cannot be read ({type(error).__name__})."
            raise StorageError(message) from None
        return content

    def of_kind(self, suffix: str) -> list[StoredFile]:
        """The files that were stored under names with a suffix, e.g. `.html`."""
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(self._root)
        paths = [Path(str(path)) for path in filesystem.glob(f"{root}/*/*{suffix}")]
        return [StoredFile(path.name, path.stem, int(filesystem.size(str(path)))) for path in paths]

    def holds(self, file: StoredFile) -> bool:
        """Whether the bytes of a file are there."""
        filesystem, path = self._locate(file.sha256, Path(file.name).suffix)
        return bool(filesystem.exists(path))

    def remove(self, file: StoredFile) -> None:
        """Delete the bytes of a file, if they are there; whatever names it then cannot read it."""
        filesystem, path = self._locate(file.sha256, Path(file.name).suffix)
        if filesystem.exists(path):
            filesystem.rm_file(path)

    def location(self, file: StoredFile) -> str:
        """The path or URL of a file, for people."""
        return f"{self._root}/{file.sha256[:2]}/{file.sha256}{Path(file.name).suffix}"

    def _locate(self, digest: str, suffix: str) -> tuple[Any, str]:
        from fsspec.core import url_to_fs

        filesystem, root = url_to_fs(self._root)
        return filesystem, f"{root}/{digest[:2]}/{digest}{suffix}"
