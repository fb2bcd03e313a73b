"""What a study says of a corpus, and how its path becomes a stream of notes and rejects."""

import hashlib
import re
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Literal

from pydantic import Field

from hc_orchestration.corpora.jsonl import read_jsonl
from hc_orchestration.corpora.notes import InvalidNoteError, Note, Reject, RejectReason
from hc_orchestration.corpora.pubtator import read_pubtator
from hc_orchestration.corpora.raw import RawItem, Unreadable
from hc_orchestration.errors import CorpusError
from hc_orchestration.yaml_model import StrictModel

if TYPE_CHECKING:
    from fsspec.core import OpenFile

Reader = Callable[[IO[bytes]], Iterator[RawItem]]

_READERS: dict[str, tuple[Reader, tuple[str, ...]]] = {
    "jsonl": (read_jsonl, (".jsonl", ".ndjson")),
    "pubtator": (read_pubtator, (".txt", ".pubtator")),
}
_COMPRESSED = ("", ".gz")


class CorpusSource(StrictModel):
    """One entry of `corpora:` in the study file."""

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    format: Literal["jsonl", "pubtator"]
    labels: dict[str, str] | None = None

    def resolved(self, base: Path) -> "CorpusSource":
        """The same source with a local path made absolute against the study file's folder."""
        if "://" in self.path:
            return self
        path = (base / Path(self.path).expanduser()).absolute()
        return self.model_copy(update={"path": str(path)})

    @property
    def shown(self) -> str:
        """The path without the login that a URL may hold."""
        return re.sub(r"//[^/@]*@", "//", self.path)


def read_source(source: CorpusSource) -> Iterator[Note | Reject]:
    """Stream a source: one `Note` or one `Reject` for each record found, in the order of the files.

    Args:
        source: A resolved source: a file, a folder (every file of the format in it), a glob, or any
            URL that fsspec opens; `.gz` is unpacked on the way.

    Raises:
        CorpusError: Nothing is there, or a file cannot be opened or unpacked.
    """
    reader, suffixes = _READERS[source.format]
    for file, name in _open_files(source, suffixes):
        try:
            with file as stream:
                for raw in reader(stream):
                    yield _checked(raw, source.name, f"{name} {raw.position}")
        except (OSError, EOFError, zlib.error) as error:
            message = (
                f"corpus '{source.name}': {name} cannot be read ({type(error).__name__}). "
                "Replace the file by an undamaged one."
            )
            raise CorpusError(message) from None


def _checked(raw: RawItem, source: str, position: str) -> Note | Reject:
    if isinstance(raw, Unreadable):
        reason: RejectReason = raw.reason
    else:
        try:
            return raw.note()
        except InvalidNoteError as error:
            reason = error.reason
    return Reject(source, position, reason, hashlib.sha256(raw.raw).hexdigest())


def _open_files(
    source: CorpusSource, suffixes: tuple[str, ...]
) -> Iterator[tuple["OpenFile", str]]:
    from fsspec.core import OpenFile, get_compression, url_to_fs

    endings = tuple(suffix + packed for suffix in suffixes for packed in _COMPRESSED)
    try:
        filesystem, root = url_to_fs(source.path)
        if filesystem.isfile(root):
            paths = [root]
        elif filesystem.isdir(root):
            paths = [path for path in filesystem.find(root) if path.endswith(endings)]
        else:
            paths = [path for path in filesystem.glob(root) if filesystem.isfile(path)]
    except (OSError, ValueError, ImportError) as error:
        message = (
            f"corpus '{source.name}': {source.shown} cannot be opened ({type(error).__name__})."
        )
        raise CorpusError(message) from None
    if not paths:
        kinds = ", ".join(endings)
        message = (
            f"corpus '{source.name}': no {source.format} file at {source.shown}. "
            f"Mend `path` in the study file (a folder is searched for {kinds})."
        )
        raise CorpusError(message)
    for path in sorted(paths):
        compression = get_compression(path, "infer")
        yield OpenFile(filesystem, path, "rb", compression), PurePosixPath(path).name
