"""JSON Lines notes: one object a line, `note_id` and `text`, `spans` if annotated.

Every other key is a note attribute. A span has `start`, `end`, `label`, and may quote its `text`.
Lines as Prodigy and doccano export them are read too.
"""

import json
from collections.abc import Iterator
from typing import IO, Any

from hc_orchestration.corpora.lines import bounded_lines, too_long
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.raw import RawItem, Unreadable, UnreadableError
from hc_orchestration.corpora.records import note_of_record


def read_jsonl(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield one item for each line that is not blank; memory holds one line at a time."""
    for number, line in enumerate(bounded_lines(stream), start=1):
        if not line.strip():
            continue
        position = f"line {number}"
        try:
            yield note_of_record(json_object(line), line, position)
        except UnreadableError as error:
            yield Unreadable(position, line, error.reason)


def json_object(line: bytes) -> dict[str, Any]:
    """The JSON object that a line holds.

    Raises:
        UnreadableError: It is too long, not UTF-8, not JSON, or not an object.
    """
    if too_long(line):
        raise UnreadableError(RejectReason.OVER_LONG)
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise UnreadableError(RejectReason.UNDECODABLE) from None
    except (ValueError, RecursionError):
        raise UnreadableError(RejectReason.BROKEN_JSON) from None
    if not isinstance(record, dict):
        raise UnreadableError(RejectReason.NOT_A_NOTE)
    return record
