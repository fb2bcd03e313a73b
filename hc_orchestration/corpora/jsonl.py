"""JSON Lines notes: one object a line, `note_id` and `text`, `spans` if annotated.

Every other key is a note attribute. A span has `start`, `end`, `label`, and may quote its `text`.
"""

import json
from collections.abc import Iterator
from typing import IO, Any, TypeGuard

from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.raw import RawItem, RawNote, RawSpan, Unreadable

_OWN_KEYS = frozenset({"note_id", "text", "spans"})


class _UnreadableError(Exception):
    def __init__(self, reason: RejectReason) -> None:
        super().__init__(reason.value)
        self.reason = reason


def read_jsonl(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield one item for each line that is not blank; memory holds one line at a time."""
    for number, line in enumerate(stream, start=1):
        if not line.strip():
            continue
        position = f"line {number}"
        try:
            yield _raw_note(line, position)
        except _UnreadableError as error:
            yield Unreadable(position, line, error.reason)


def _raw_note(line: bytes, position: str) -> RawNote:
    record = _parse(line)
    note_id, text = record.get("note_id"), record.get("text")
    if isinstance(note_id, int) and not isinstance(note_id, bool):
        note_id = str(note_id)
    if not isinstance(note_id, str):
        raise _UnreadableError(RejectReason.MISSING_ID)
    if not isinstance(text, str):
        raise _UnreadableError(RejectReason.MISSING_TEXT)
    attributes = {
        key: _attribute(value)
        for key, value in record.items()
        if key not in _OWN_KEYS and value is not None
    }
    return RawNote(position, line, note_id, text, _spans(record.get("spans")), attributes)


def _parse(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise _UnreadableError(RejectReason.UNDECODABLE) from None
    except (ValueError, RecursionError):
        raise _UnreadableError(RejectReason.BROKEN_JSON) from None
    if not isinstance(record, dict):
        raise _UnreadableError(RejectReason.NOT_A_NOTE)
    return record


def _spans(value: object) -> tuple[RawSpan, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise _UnreadableError(RejectReason.BAD_SPAN)
    return tuple(_span(item) for item in value)


def _span(item: object) -> RawSpan:
    if not isinstance(item, dict):
        raise _UnreadableError(RejectReason.BAD_SPAN)
    start, end, label, text = (item.get(key) for key in ("start", "end", "label", "text"))
    if not (_is_offset(start) and _is_offset(end)):
        raise _UnreadableError(RejectReason.BAD_SPAN)
    if not isinstance(label, str) or not isinstance(text, str | None):
        raise _UnreadableError(RejectReason.BAD_SPAN)
    return RawSpan(start, end, label, text)


def _is_offset(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _attribute(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
