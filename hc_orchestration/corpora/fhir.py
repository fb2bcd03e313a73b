"""FHIR R4: the text attachments of DocumentReference and DiagnosticReport.

A Bundle, a single resource, or NDJSON as the bulk export writes it. Each base64 `text/plain`
attachment is a note. Resources of other kinds are passed over and counted by kind.
FHIR has no gold, so no note is annotated.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from email.message import Message
from typing import IO, Any

from hc_orchestration.corpora.json_stream import array_elements
from hc_orchestration.corpora.jsonl import json_object
from hc_orchestration.corpora.lines import bounded_lines
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.raw import (
    PassedOver,
    RawItem,
    RawNote,
    Unreadable,
    UnreadableError,
)

_ATTACHMENTS = {"DocumentReference": "content", "DiagnosticReport": "presentedForm"}
_KIND = re.compile(r"[A-Z][A-Za-z]{1,39}")
_LOINC = "http://loinc.org"
NOTE_TYPES = {
    "11488-4": "consult",
    "18842-5": "discharge_summary",
    "34117-2": "history_and_physical",
    "11506-3": "progress_note",
    "28570-0": "procedure_note",
    "11504-8": "operative_note",
    "34133-9": "summary_of_episode",
    "57133-1": "referral_note",
    "18748-4": "radiology_report",
    "11502-2": "laboratory_report",
    "11526-1": "pathology_report",
    "34111-5": "ed_note",
    "34746-8": "nursing_note",
    "11503-0": "medical_record",
}
"""Usual document types of LOINC; any other code is the note type `loinc_<code>`."""


def read_fhir_ndjson(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield the notes of a bulk export, one resource a line."""
    for number, line in enumerate(bounded_lines(stream), start=1):
        if not line.strip():
            continue
        position = f"line {number}"
        try:
            yield from _notes(json_object(line), line, position)
        except UnreadableError as error:
            yield Unreadable(position, line, error.reason)


def read_fhir_json(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield the notes of a Bundle, or of the one resource in the file."""
    number = 0
    try:
        for number, entry in enumerate(array_elements(stream, "entry"), start=1):
            position = f"entry {number}"
            raw = json.dumps(entry, sort_keys=True).encode("utf-8")
            inner = entry.get("resource") if isinstance(entry, dict) else None
            resource = entry if inner is None else inner
            if not isinstance(resource, dict):
                yield Unreadable(position, raw, RejectReason.NOT_A_NOTE)
                continue
            yield from _notes(resource, raw, position)
    except UnreadableError as error:
        yield Unreadable(f"after entry {number}", b"", error.reason)


def _notes(resource: dict[str, Any], raw: bytes, position: str) -> Iterator[RawItem]:
    kind = resource.get("resourceType")
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        yield Unreadable(position, raw, RejectReason.NOT_A_NOTE)
        return
    if kind not in _ATTACHMENTS:
        yield PassedOver(kind)
        return
    if "entered-in-error" in (resource.get("status"), resource.get("docStatus")):
        yield Unreadable(position, raw, RejectReason.ENTERED_IN_ERROR)
        return
    texts = [found for found in _attachments(resource, kind) if _media_type(found) == "text/plain"]
    if not texts:
        yield Unreadable(position, raw, RejectReason.MISSING_TEXT)
    for number, attachment in enumerate(texts, start=1):
        suffix = f"#{number}" if len(texts) > 1 else ""
        try:
            yield _note(resource, attachment, suffix, raw, position)
        except UnreadableError as error:
            yield Unreadable(position + suffix, raw, error.reason)


def _note(
    resource: dict[str, Any], attachment: dict[str, Any], suffix: str, raw: bytes, position: str
) -> RawNote:
    note_id = resource.get("id")
    if not isinstance(note_id, str) or not note_id.strip():
        raise UnreadableError(RejectReason.MISSING_ID)
    text = _text(attachment)
    return RawNote(position + suffix, raw, note_id + suffix, text, None, _attributes(resource))


def _text(attachment: dict[str, Any]) -> str:
    data = attachment.get("data")
    if not isinstance(data, str):
        raise UnreadableError(RejectReason.MISSING_TEXT)
    try:
        content = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError):
        raise UnreadableError(RejectReason.BROKEN_BASE64) from None
    charset = _content_type(attachment).get_content_charset("utf-8")
    try:
        return content.decode("utf-8-sig" if charset in {"utf-8", "utf8"} else charset)
    except (UnicodeError, LookupError, ValueError):
        raise UnreadableError(RejectReason.UNDECODABLE) from None


def _attachments(resource: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    found = resource.get(_ATTACHMENTS[kind])
    items = found if isinstance(found, list) else []
    if kind == "DocumentReference":
        items = [item.get("attachment") for item in items if isinstance(item, dict)]
    return [item for item in items if isinstance(item, dict)]


def _media_type(attachment: dict[str, Any]) -> str:
    return _content_type(attachment).get_content_type() if "contentType" in attachment else ""


def _content_type(attachment: dict[str, Any]) -> Message:
    message = Message()
    stated = attachment.get("contentType")
    message["Content-Type"] = stated if isinstance(stated, str) else ""
    return message


def _attributes(resource: dict[str, Any]) -> dict[str, str]:
    kind = resource.get("type", resource.get("code"))
    attributes: dict[str, str] = {}
    for coding in _codings(kind):
        code = coding.get("code")
        if coding.get("system") == _LOINC and isinstance(code, str) and code:
            attributes["note_type"] = NOTE_TYPES.get(code, f"loinc_{code}")
            attributes["loinc"] = code
            break
    context = resource.get("context")
    setting = context.get("practiceSetting") if isinstance(context, dict) else None
    named = [coding.get("display") or coding.get("code") for coding in _codings(setting)]
    if named and isinstance(named[0], str):
        attributes["specialty"] = named[0]
    subject = resource.get("subject")
    reference = subject.get("reference") if isinstance(subject, dict) else None
    if isinstance(reference, str) and reference:
        attributes["patient"] = reference
    return attributes


def _codings(concept: object) -> list[dict[str, Any]]:
    found = concept.get("coding") if isinstance(concept, dict) else None
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []
