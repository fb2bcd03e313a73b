"""The files that a corpus path stands for, on whatever store fsspec opens."""

import codecs
import hashlib
import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any, cast

from hc_orchestration.errors import CorpusError

_COMPRESSED = ("", ".gz")
_CHUNK = 2**20


@dataclass(frozen=True, slots=True)
class CorpusFile:
    """One file of a corpus.

    Attributes:
        name: Path below the corpus's folder, fit to be shown.
        outside: Whether it is a link that leads out of the folder it was found in.
        encoding: How its text is encoded.
    """

    filesystem: Any
    path: str
    name: str
    outside: bool = False
    encoding: str = "utf-8"

    @contextmanager
    def open(self) -> Iterator[IO[bytes]]:
        """The content, unpacked and in UTF-8; a byte that its encoding does not know stays so."""
        from fsspec.core import OpenFile, get_compression

        packing = get_compression(self.path, "infer")
        with OpenFile(self.filesystem, self.path, "rb", packing) as stream:
            yield stream if self.encoding == "utf-8" else _in_utf8(stream, self.encoding)

    def beside(self, suffix: str, other: str) -> "CorpusFile | None":
        """The file of this name that ends in `other` and not in `suffix`, if it is there."""
        base = self.path.removesuffix(".gz").removesuffix(suffix)
        for packed in _COMPRESSED:
            path = base + other + packed
            if self.filesystem.isfile(path):
                outside = _leads_out(self.filesystem, path, self.path.rpartition("/")[0])
                return CorpusFile(self.filesystem, path, shown_name(path), outside, self.encoding)
        return None

    def digest(self) -> str:
        """The sha256 (hex) of the stored bytes, packed as they are."""
        state = hashlib.sha256()
        with self.filesystem.open(self.path, "rb") as stream:
            while chunk := stream.read(_CHUNK):
                state.update(chunk)
        return state.hexdigest()


def corpus_files(
    corpus: str, path: str, form: str, suffixes: tuple[str, ...], *, encoding: str = "utf-8"
) -> Iterator[CorpusFile]:
    """The files at `path` (a file, a folder, a glob, a URL), in the order of their names.

    Raises:
        CorpusError: Nothing is there, or the store cannot be reached.
    """
    from fsspec.core import url_to_fs

    endings = tuple(suffix + packed for suffix in suffixes for packed in _COMPRESSED)
    shown = without_login(path)
    folder = ""
    try:
        filesystem, root = url_to_fs(path)
        if filesystem.isfile(root):
            paths = [root]
        elif filesystem.isdir(root):
            folder = root
            paths = [found for found in filesystem.find(root) if found.endswith(endings)]
        else:
            paths = [found for found in filesystem.glob(root) if filesystem.isfile(found)]
    except (OSError, ValueError, ImportError) as error:
        message = f"corpus '{corpus}': {shown} cannot be opened ({type(error).__name__})."
        raise CorpusError(message) from None
    if not paths:
        kinds = ", ".join(endings)
        message = (
            f"corpus '{corpus}': no {form} file at {shown}. "
            f"Mend `path` in the study file (a folder is searched for {kinds})."
        )
        raise CorpusError(message)
    for found in sorted(paths):
        below = found.removeprefix(folder).lstrip("/") if folder else found.rsplit("/", 1)[-1]
        outside = bool(folder) and _leads_out(filesystem, found, folder)
        yield CorpusFile(filesystem, found, shown_name(below), outside, encoding)


def _in_utf8(stream: IO[bytes], encoding: str) -> IO[bytes]:
    reader = codecs.getreader(encoding)(stream, "surrogateescape")
    return cast("IO[bytes]", io.BufferedReader(_Utf8(reader)))


class _Utf8(io.RawIOBase):
    """The characters of a reader as bytes of UTF-8."""

    def __init__(self, reader: codecs.StreamReader) -> None:
        self._reader = reader
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401 - a writable buffer
        if not self._rest:
            self._rest = self._reader.read(_CHUNK).encode("utf-8", "surrogateescape")
        taken, self._rest = self._rest[: len(buffer)], self._rest[len(buffer) :]
        buffer[: len(taken)] = taken
        return len(taken)


def without_login(path: str) -> str:
    """A path without the login that a URL may hold."""
    return re.sub(r"//[^/@]*@", "//", path)


def shown_name(name: str) -> str:
    """A name without the control characters and lone surrogates that a file name may hold."""
    return "".join(character if character.isprintable() else "?" for character in name)


def _leads_out(filesystem: Any, path: str, folder: str) -> bool:  # noqa: ANN401 - fsspec has no types
    if "file" not in filesystem.protocol:
        return False
    root = os.path.realpath(folder)
    return os.path.commonpath([root, os.path.realpath(path)]) != root
