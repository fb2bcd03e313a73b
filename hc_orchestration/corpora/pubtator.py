"""PubTator: `id|t|title`, `id|a|abstract`, then tab-separated mentions; blank line between notes.

Offsets count the code points of title, one separator and abstract; the separator becomes a newline.
Where the quoted mentions prove that they count UTF-16 units or bytes, they are converted.
Relation lines (`id<TAB>CID<TAB>…`) are not mentions and are passed over.
"""

from collections.abc import Iterator
from typing import IO

from hc_orchestration.corpora.lines import bounded_lines, too_long
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.offsets import in_code_points
from hc_orchestration.corpora.raw import RawItem, RawNote, RawSpan, Unreadable

_MENTION_FIELDS = 5
_RELATION_FIELDS = 4


def read_pubtator(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield one item for each block; memory holds one block at a time."""
    for first, block in _blocks(stream):
        raw = b"".join(block)
        position = f"line {first}"
        if any(map(too_long, block)):
            yield Unreadable(position, raw, RejectReason.OVER_LONG)
            continue
        try:
            lines = [line.decode("utf-8-sig").rstrip("\r\n") for line in block]
        except UnicodeDecodeError:
            yield Unreadable(position, raw, RejectReason.UNDECODABLE)
            continue
        yield _raw_note(lines, raw, position) or Unreadable(position, raw, RejectReason.BROKEN_LINE)


def _blocks(stream: IO[bytes]) -> Iterator[tuple[int, list[bytes]]]:
    block: list[bytes] = []
    first = 0
    for number, line in enumerate(bounded_lines(stream), start=1):
        if line.strip():
            first = first if block else number
            block.append(line)
        elif block:
            yield first, block
            block = []
    if block:
        yield first, block


def _raw_note(lines: list[str], raw: bytes, position: str) -> RawNote | None:
    """The note of a block, or None when a line is none of the forms above."""
    note_id, kind, title = _text_line(lines[0])
    abstract = ""
    rest = lines[1:]
    if rest and (second := _text_line(rest[0]))[1] == "a" and second[0] == note_id:
        abstract = second[2]
        rest = rest[1:]
    if kind != "t":
        return None
    spans: list[RawSpan] = []
    for line in rest:
        fields = line.split("\t")
        if fields[0] != note_id:
            return None
        if len(fields) == _RELATION_FIELDS and not fields[1].isdigit():
            continue
        span = _mention(fields)
        if span is None:
            return None
        spans.append(span)
    text = f"{title}\n{abstract}"
    placed, unit = in_code_points(text, spans)
    return RawNote(position, raw, note_id, text, placed, {}, unit=unit.value)


def _text_line(line: str) -> tuple[str, str, str]:
    """The id, kind (`t`, `a`, or empty when the line is no text line) and text of a line."""
    parts = line.split("|", maxsplit=2)
    if len(parts) < 3 or parts[1] not in {"t", "a"}:  # noqa: PLR2004 - id, kind, text
        return "", "", ""
    return parts[0], parts[1], parts[2]


def _mention(fields: list[str]) -> RawSpan | None:
    if len(fields) < _MENTION_FIELDS or not (_is_offset(fields[1]) and _is_offset(fields[2])):
        return None
    return RawSpan(int(fields[1]), int(fields[2]), fields[4], fields[3])


def _is_offset(field: str) -> bool:
    return field.isascii() and field.isdigit() and len(field) <= 12  # noqa: PLR2004 - no note is longer
