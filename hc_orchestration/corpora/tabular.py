"""Notes in tables: CSV, Parquet, and the MIMIC-IV-Note layout."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import IO, Any

from hc_orchestration.corpora.lines import LONGEST_RECORD, bounded_lines
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.raw import RawItem, RawNote, Unreadable, UnreadableError
from hc_orchestration.corpora.records import note_of_record

Columns = Mapping[str, str]
"""Field of a note (`note_id`, `text`, `spans`, or an attribute) → column of the table."""

_REQUIRED = ("note_id", "text")
_KNOWN = (*_REQUIRED, "spans", "note_type", "specialty", "patient")
_ROWS_A_BATCH = 256

MIMIC_COLUMNS: Columns = {
    "note_id": "note_id",
    "text": "text",
    "patient": "subject_id",
    "note_type": "note_type",
}
MIMIC_NOTE_TYPES = {
    "DS": "discharge_summary",
    "AD": "discharge_addendum",
    "RR": "radiology_report",
    "AR": "radiology_addendum",
}


def read_csv(stream: IO[bytes], columns: Columns | None) -> Iterator[RawItem]:
    """Yield one item for each row after the header; memory holds one row at a time.

    Without `columns`, the columns that are called like the fields of a note are taken. Others are
    left out, because a column that nobody named may repeat the text.
    """
    lines = _Lines(stream)
    previous = csv.field_size_limit(LONGEST_RECORD)
    try:
        rows = csv.reader(lines)
        header = _next_row(rows)
        wanted = _wanted(header or [], columns)
        if header is None or wanted is None:
            yield Unreadable("header", lines.take(), RejectReason.UNKNOWN_COLUMN)
            return
        lines.take()
        yield from _csv_notes(rows, lines, wanted, len(header))
    finally:
        csv.field_size_limit(previous)


def _csv_notes(
    rows: Iterator[list[str]], lines: "_Lines", wanted: dict[str, int], width: int
) -> Iterator[RawItem]:
    while True:
        position = f"line {lines.number + 1}"
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error:
            yield Unreadable(position, lines.take(), RejectReason.BROKEN_LINE)
            continue
        raw = lines.take()
        if not row:
            continue
        try:
            yield note_of_record(_csv_record(row, raw, wanted, width), raw, position)
        except UnreadableError as error:
            yield Unreadable(position, raw, error.reason)


def _csv_record(row: list[str], raw: bytes, wanted: dict[str, int], width: int) -> dict[str, Any]:
    if len(raw) > LONGEST_RECORD:
        raise UnreadableError(RejectReason.OVER_LONG)
    if len(row) != width:
        raise UnreadableError(RejectReason.BROKEN_LINE)
    record: dict[str, Any] = {field: row[index] for field, index in wanted.items()}
    if any(_was_undecodable(value) for value in record.values()):
        raise UnreadableError(RejectReason.UNDECODABLE)
    if "spans" in record:
        record["spans"] = _json_spans(record["spans"])
    return {
        field: value for field, value in record.items() if value or field in (*_REQUIRED, "spans")
    }


def read_mimic(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield one item for each row of a MIMIC-IV-Note table (discharge.csv, radiology.csv).

    Admission, times and sequence are left out; `subject_id` becomes the attribute `patient`.
    """
    for item in read_csv(stream, MIMIC_COLUMNS):
        if isinstance(item, RawNote) and "note_type" in item.attributes:
            code = item.attributes["note_type"]
            kept = {**item.attributes, "note_type": MIMIC_NOTE_TYPES.get(code, code)}
            yield replace(item, attributes=kept)
        else:
            yield item


def read_parquet(stream: IO[bytes], columns: Columns | None) -> Iterator[RawItem]:
    """Yield one item for each row; memory holds one row group's columns that are wanted.

    The columns are chosen as in `read_csv`.
    """
    import pyarrow as pa
    from pyarrow import parquet

    number = 0
    try:
        table = parquet.ParquetFile(stream, pre_buffer=False)
        names = list(table.schema_arrow.names)
        wanted = _wanted(names, columns)
        if wanted is None:
            yield Unreadable("header", repr(names).encode(), RejectReason.UNKNOWN_COLUMN)
            return
        chosen = {field: names[index] for field, index in wanted.items()}
        read = list(dict.fromkeys(chosen.values()))
        for batch in table.iter_batches(batch_size=_ROWS_A_BATCH, columns=read, use_threads=False):
            columns_read = [_python_values(batch.column(name)) for name in read]
            for values in zip(*columns_read, strict=True):
                number += 1
                row = dict(zip(read, values, strict=True))
                yield _row_note({f: row[c] for f, c in chosen.items()}, f"row {number}")
    except (pa.ArrowException, OSError, ValueError, OverflowError):
        where = f"after row {number}" if number else "file"
        yield Unreadable(where, b"", RejectReason.BROKEN_FILE)


def _python_values(column: Any) -> list[Any]:  # noqa: ANN401 - pyarrow has no types
    """The values of a column; text that is not UTF-8 comes as its bytes."""
    import pyarrow as pa

    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return list(column.cast(pa.binary(), safe=False).to_pylist())


def _row_note(record: dict[str, Any], position: str) -> RawItem:
    raw = json.dumps(record, default=str, sort_keys=True).encode("utf-8", "surrogatepass")
    try:
        record = {field: _decoded(value) for field, value in record.items()}
        if isinstance(record.get("spans"), str):
            record["spans"] = _json_spans(record["spans"])
        return note_of_record(record, raw, position)
    except UnreadableError as error:
        return Unreadable(position, raw, error.reason)


def _decoded(value: object) -> object:
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        raise UnreadableError(RejectReason.UNDECODABLE) from None


def _wanted(header: list[str], columns: Columns | None) -> dict[str, int] | None:
    """Field → index of its column; None when a column that is asked for is not there, or twice."""
    chosen = {name: name for name in _KNOWN if name in header} if columns is None else columns
    named = [*chosen.values()]
    if any(name not in chosen for name in _REQUIRED):
        return None
    if any(header.count(name) != 1 for name in named):
        return None
    return {field: header.index(name) for field, name in chosen.items()}


def _json_spans(value: str) -> object:
    """What a cell of spans holds; an empty cell: nobody annotated the note."""
    if not value.strip():
        return None
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UnreadableError(RejectReason.BAD_SPAN) from None


def _was_undecodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return True
    return False


def _next_row(rows: Iterator[list[str]]) -> list[str] | None:
    try:
        return next(rows, None)
    except csv.Error:
        return None


class _Lines:
    """Lines as text for the csv module, keeping the bytes of the row that it is in.

    Bytes that are not UTF-8 become lone surrogates: they cost their row, not the file.
    """

    def __init__(self, stream: IO[bytes]) -> None:
        self.number = 0
        self._lines = bounded_lines(stream)
        self._taken = io.BytesIO()

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number += 1
        self._taken.write(line)
        if self.number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        return line.decode("utf-8", "surrogateescape")

    def take(self) -> bytes:
        """The bytes of the lines since the last call."""
        taken = self._taken.getvalue()
        self._taken = io.BytesIO()
        return taken
