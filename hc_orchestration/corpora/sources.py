"""What a study says of a corpus, and how its path becomes a stream of notes and rejects."""

import hashlib
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from gzip import BadGzipFile
from pathlib import Path
from typing import IO, Any, Literal, Self

from pydantic import Field, model_validator

from hc_orchestration.corpora.bioc import read_bioc
from hc_orchestration.corpora.fhir import read_fhir_json, read_fhir_ndjson
from hc_orchestration.corpora.files import CorpusFile, corpus_files, without_login
from hc_orchestration.corpora.jsonl import read_jsonl
from hc_orchestration.corpora.notes import InvalidNoteError, Note, Reject, RejectReason
from hc_orchestration.corpora.pubtator import read_pubtator
from hc_orchestration.corpora.raw import PassedOver, RawItem, RawNote, Unreadable
from hc_orchestration.corpora.selection import Sample, Where
from hc_orchestration.corpora.standoff import read_brat, read_text
from hc_orchestration.corpora.tabular import read_csv, read_mimic, read_parquet
from hc_orchestration.errors import CorpusError
from hc_orchestration.yaml_model import StrictModel

Format = Literal["jsonl", "csv", "parquet", "text", "brat", "pubtator", "bioc", "fhir", "mimic"]

_SUFFIXES: dict[Format, tuple[str, ...]] = {
    "jsonl": (".jsonl", ".ndjson"),
    "csv": (".csv",),
    "parquet": (".parquet",),
    "text": (".txt",),
    "brat": (".txt",),
    "pubtator": (".txt", ".pubtator"),
    "bioc": (".xml", ".json"),
    "fhir": (".json", ".ndjson"),
    "mimic": (".csv",),
}
_STREAMED: dict[Format, Callable[[IO[bytes]], Iterator[RawItem]]] = {
    "jsonl": read_jsonl,
    "pubtator": read_pubtator,
    "bioc": read_bioc,
    "mimic": read_mimic,
}
_TEXT_FORMATS: tuple[Format, ...] = ("jsonl", "csv", "text", "brat", "pubtator", "mimic")
_IDS_BY_NAME: tuple[Format, ...] = ("text", "brat")
_DAMAGED = (BadGzipFile, EOFError, zlib.error)

LONGEST_NOTE = 1_000_000
"""Code points beyond which spaCy refuses a text, and so the default of `longest_note`."""


class CorpusSource(StrictModel):
    """One entry of `corpora:` in the study file.

    Attributes:
        labels: Source label → study label; None keeps the study's own.
        columns: For csv and parquet: field or attribute of a note → column.
        encoding: How the files are encoded, where their format does not fix it.
        longest_note: Code points above which a note is quarantined.
        repeated_texts: Whether a text that stands under several ids is kept each time, or once,
            under the id that sorts first.
        where: Attribute → value or values that a note must have.
        sample: Which random part of those notes.
        limit: How many of those at most, the first ones in the order of files and records.
    """

    name: str = Field(min_length=1)
    path: str = Field(min_length=1)
    format: Format
    labels: dict[str, str] | None = None
    columns: dict[str, str] | None = None
    encoding: str = "utf-8"
    longest_note: int = Field(default=LONGEST_NOTE, ge=1)
    repeated_texts: Literal["keep", "once"] = "keep"
    where: Where = Field(default_factory=dict)
    sample: Sample | None = None
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _columns_fit(self) -> Self:
        if self.columns is None:
            return self
        if self.format not in {"csv", "parquet"}:
            message = "columns are for csv and parquet"
            raise ValueError(message)
        if not {"note_id", "text"} <= self.columns.keys():
            message = "columns name at least note_id and text"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _encoding_fits(self) -> Self:
        if self.encoding == "utf-8":
            return self
        if self.format not in _TEXT_FORMATS:
            message = f"encoding is for {', '.join(_TEXT_FORMATS)}; the others say it themselves"
            raise ValueError(message)
        try:
            "".encode(self.encoding)
        except LookupError:
            message = f"Python knows no text encoding '{self.encoding}'"
            raise ValueError(message) from None
        return self

    def resolved(self, base: Path) -> "CorpusSource":
        """The same source with a local path made absolute against the study file's folder."""
        if "://" in self.path:
            return self
        path = (base / Path(self.path).expanduser()).absolute()
        return self.model_copy(update={"path": str(path)})

    @property
    def shown(self) -> str:
        """The path without the login that a URL may hold."""
        return without_login(self.path)

    @property
    def selection(self) -> dict[str, Any]:
        """What is asked for beyond the whole source; empty when nothing is."""
        chosen = self.model_dump(
            mode="json",
            include={"where", "sample", "limit", "repeated_texts"},
            exclude_defaults=True,
        )
        return {key: value for key, value in chosen.items() if value}


def read_source(
    source: CorpusSource, file_names: Callable[[str], str] = str
) -> Iterator[Note | Reject | PassedOver]:
    """Stream a source: one item for each record found, in the order of the files.

    Args:
        source: A resolved source: a file, a folder (every file of the format in it), a glob, or any
            URL that fsspec opens; `.gz` is unpacked on the way.
        file_names: How a file is named in a position where its name is the id of its note.

    Raises:
        CorpusError: Nothing is there, or a file cannot be opened. A damaged file is one reject, and
            what was read before the damage stands.
    """
    suffixes = _SUFFIXES[source.format]
    for file in corpus_files(
        source.name, source.path, source.format, suffixes, encoding=source.encoding
    ):
        shown = file_names(file.name) if source.format in _IDS_BY_NAME else file.name
        try:
            if file.outside:
                digest = hashlib.sha256(file.path.encode("utf-8", "surrogateescape")).hexdigest()
                yield Reject(source.name, shown, RejectReason.OUTSIDE_FOLDER, digest)
                continue
            yield from _read_file(source, file, shown)
        except OSError as error:
            message = (
                f"corpus '{source.name}': {shown} cannot be read ({type(error).__name__}). "
                "Make it readable, or leave it out of `path`."
            )
            raise CorpusError(message) from None


def _read_file(
    source: CorpusSource, file: CorpusFile, shown: str
) -> Iterator[Note | Reject | PassedOver]:
    try:
        for raw in _items(source, file):
            if isinstance(raw, PassedOver):
                yield raw
            else:
                yield _checked(raw, source, f"{shown} {raw.position}")
    except _DAMAGED:
        yield Reject(source.name, f"{shown} file", RejectReason.BROKEN_FILE, file.digest())
    except UnicodeError:
        yield Reject(source.name, f"{shown} file", RejectReason.UNDECODABLE, file.digest())


def _items(source: CorpusSource, file: CorpusFile) -> Iterator[RawItem]:
    if source.format == "text":
        yield from read_text(file)
    elif source.format == "brat":
        yield from read_brat(file)
    else:
        with file.open() as stream:
            yield from _stream_reader(source, file)(stream)


def _stream_reader(
    source: CorpusSource, file: CorpusFile
) -> Callable[[IO[bytes]], Iterator[RawItem]]:
    if source.format == "csv":
        return partial(read_csv, columns=source.columns)
    if source.format == "parquet":
        return partial(read_parquet, columns=source.columns)
    if source.format == "fhir":
        lines = file.path.removesuffix(".gz").endswith((".ndjson", ".jsonl"))
        return read_fhir_ndjson if lines else read_fhir_json
    return _STREAMED[source.format]


def _checked(raw: RawNote | Unreadable, source: CorpusSource, position: str) -> Note | Reject:
    if isinstance(raw, Unreadable):
        reason: RejectReason = raw.reason
    elif len(raw.text) > source.longest_note:
        reason = RejectReason.OVER_LONG
    else:
        try:
            return raw.note()
        except InvalidNoteError as error:
            reason = error.reason
    return Reject(source.name, position, reason, hashlib.sha256(raw.raw).hexdigest())
