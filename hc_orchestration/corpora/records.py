"""A note as a mapping of fields: our own, Prodigy's and doccano's names for the same things."""

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.raw import RawNote, RawSpan, UnreadableError

_OWN = frozenset({"note_id", "text", "spans"})
_PRODIGY = frozenset({"answer", "tokens", "meta", "options", "accept"})
_DOCCANO = frozenset({"data", "label", "labels", "entities", "relations", "Comments", "comments"})
_TRIPLE = 3


def note_of_record(record: Mapping[str, Any], raw: bytes, position: str) -> RawNote:
    """The note of one record.

    Ours has `note_id`, `text`, `spans`. Prodigy's has `spans` and `_input_hash`, and is taken only
    when it was accepted; doccano's has `entities` with `start_offset`, or `label` triples.

    Raises:
        UnreadableError: The record is no note.
    """
    if "note_id" in record:
        fields, foreign = dict(record), frozenset[str]()
    elif "_input_hash" in record or "_task_hash" in record:
        fields, foreign = _from_prodigy(record), _PRODIGY
    else:
        fields, foreign = _from_doccano(record), _DOCCANO
    note_id, text = fields.get("note_id"), fields.get("text")
    if isinstance(note_id, int) and not isinstance(note_id, bool):
        note_id = str(note_id)
    if not isinstance(note_id, str):
        raise UnreadableError(RejectReason.MISSING_ID)
    if not isinstance(text, str):
        raise UnreadableError(RejectReason.MISSING_TEXT)
    attributes = {
        key: _attribute(value)
        for key, value in fields.items()
        if key not in _OWN and key not in foreign and value is not None
    }
    return RawNote(position, raw, note_id, text, _spans(fields.get("spans")), attributes)


def _from_prodigy(record: Mapping[str, Any]) -> dict[str, Any]:
    if record.get("answer", "accept") != "accept":
        raise UnreadableError(RejectReason.NOT_ACCEPTED)
    meta = record.get("meta")
    described = meta if isinstance(meta, dict) else {}
    plain = {key: value for key, value in described.items() if isinstance(value, str | int)}
    fields = {key: value for key, value in record.items() if not key.startswith("_")}
    found = next(
        (
            value
            for value in (fields.pop("id", None), plain.pop("note_id", None), plain.pop("id", None))
            if value is not None
        ),
        record.get("_input_hash"),
    )
    return {**plain, **fields, "note_id": found}


def _from_doccano(record: Mapping[str, Any]) -> dict[str, Any]:
    fields = dict(record)
    fields["note_id"] = fields.pop("id", None)
    fields.setdefault("text", record.get("data"))
    if "spans" in fields:
        return fields
    entities = record.get("entities")
    triples = record.get("labels", record.get("label"))
    if isinstance(entities, list):
        fields["spans"] = [_from_entity(entity) for entity in entities]
    elif isinstance(triples, list):
        fields["spans"] = [_from_triple(triple) for triple in triples]
    return fields


def _from_entity(entity: object) -> object:
    if not isinstance(entity, dict):
        return entity
    return {
        "start": entity.get("start_offset"),
        "end": entity.get("end_offset"),
        "label": entity.get("label"),
    }


def _from_triple(triple: object) -> object:
    if not isinstance(triple, list) or len(triple) != _TRIPLE:
        return triple
    return dict(zip(("start", "end", "label"), triple, strict=True))


def _spans(value: object) -> tuple[RawSpan, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise UnreadableError(RejectReason.BAD_SPAN)
    return tuple(_span(item) for item in value)


def _span(item: object) -> RawSpan:
    if not isinstance(item, dict):
        raise UnreadableError(RejectReason.BAD_SPAN)
    start, end, label, text = (item.get(key) for key in ("start", "end", "label", "text"))
    if not (_is_offset(start) and _is_offset(end)):
        raise UnreadableError(RejectReason.BAD_SPAN)
    if not isinstance(label, str) or not isinstance(text, str | None):
        raise UnreadableError(RejectReason.BAD_SPAN)
    return RawSpan(start, end, label, text)


def _is_offset(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _attribute(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
