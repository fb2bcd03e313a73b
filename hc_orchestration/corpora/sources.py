"""What a study says of a corpus, and how its path becomes a stream of notes and rejects."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Literal

from pydantic import Field

from hc_orchestration.corpora.jsonl import read_jsonl
from hc_orchestration.corpora.notes import InvalidNoteError, Note, Reject, RejectReason
from hc_orchestration.corpora.pubtator import read_pubtator
from hc_orchestration.corpora.raw import RawItem, Unreadable
from hc_orchestration.errors import CorpusError
from hc_orchestration.yaml_model import StrictModel

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
        return self.model_copy(update={"path": str((base / self.path).absolute())})


def read_source(source: CorpusSource) -> Iterator[Note | Reject]:
    """Stream a source: one `Note` or one `Reject` for each record found, in the order of the files.

    Args:
        source: A resolved source: a file, a folder (every file of the format in it), a glob, or any
            URL that fsspec opens; `.gz` is unpacked on the way.

    Raises:
        CorpusError: Nothing is there, or a file cannot be opened.
    """
    reader, suffixes = _READERS[source.format]
    for file, name in _open_files(source, suffixes):
        with file as stream:
            for raw in reader(stream):
                yield _checked(raw, source.name, f"{name} {raw.position}")


def _checked(raw: RawItem, source: str, position: str) -> Note | Reject:
    if isinstance(raw, Unreadable):
        reason: RejectReason = raw.reason
    else:
        try:
            return raw.note()
        except InvalidNoteError as error:
            reason = error.reason
    return Reject(source, position, reason, hashlib.sha256(raw.raw).hexdigest())


def _open_files(source: CorpusSource, suffixes: tuple[str, ...]) -> Iterator[tuple[IO[bytes], str]]:
    import fsspec
    from fsspec.core import url_to_fs

    endings = tuple(suffix + packed for suffix in suffixes for packed in _COMPRESSED)
    try:
        filesystem, root = url_to_fs(source.path)
        if filesystem.isdir(root):
            paths = [path for path in filesystem.find(root) if str(path).endswith(endings)]
        elif any(character in root for character in "*?["):
            paths = filesystem.glob(root)
        else:
            paths = [root] if filesystem.exists(root) else []
        protocol = "" if "://" not in source.path else source.path.split("://")[0] + "://"
        urls = [protocol + path if protocol else path for path in sorted(paths)]
        files = fsspec.open_files(urls, mode="rb", compression="infer") if urls else []
    except (OSError, ValueError, ImportError) as error:
        message = (
            f"corpus '{source.name}': {source.path} cannot be opened ({type(error).__name__})."
        )
        raise CorpusError(message) from None
    if not files:
        kinds = ", ".join(endings)
        message = (
            f"corpus '{source.name}': no {source.format} file at {source.path}. "
            f"Mend `path` in the study file (a folder is searched for {kinds})."
        )
        raise CorpusError(message)
    for file in files:
        yield file, Path(file.path).name
