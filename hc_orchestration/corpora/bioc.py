"""BioC, XML and JSON: passages put together into one note, annotations into its gold.

XML goes through defusedxml first: entities and external references are refused, so that a bomb is
one reject. Each document then goes to the `bioc` package on its own, so that memory holds one.
Offsets count from the start of the document in code points; where the quoted mentions prove another
unit they are converted. An annotation of several locations is left out and counted.
"""

import json
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

from hc_orchestration.corpora.json_stream import array_elements
from hc_orchestration.corpora.lines import LONGEST_RECORD
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.offsets import OffsetUnit, converted, quotes_agree, width
from hc_orchestration.corpora.raw import RawItem, RawNote, RawSpan, Unreadable, UnreadableError

if TYPE_CHECKING:
    from bioc import BioCAnnotation, BioCDocument

_PEEKED = 256
_ATTRIBUTES = ("note_type", "specialty", "patient")


def read_bioc(stream: IO[bytes]) -> Iterator[RawItem]:
    """Yield one item for each document; which of the two forms it is, its first character says."""
    head = stream.read(_PEEKED)
    whole = _Replayed(head, stream)
    is_json = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in {b"{", b"["}
    documents = _json_documents(whole) if is_json else _xml_documents(whole)
    number = 0
    try:
        for number, (raw, decode) in enumerate(documents, start=1):
            yield _item(raw, decode, f"document {number}")
    except UnreadableError as error:
        yield Unreadable(f"after document {number}", head, error.reason)


def _item(raw: bytes, decode: Any, position: str) -> RawItem:  # noqa: ANN401 - a function of bioc
    try:
        document = decode(raw)
    except _DECODING_ERRORS:
        return Unreadable(position, raw, RejectReason.NOT_A_NOTE)
    try:
        return _raw_note(document, raw, position)
    except UnreadableError as error:
        return Unreadable(position, raw, error.reason)


_DECODING_ERRORS = (
    KeyError,
    ValueError,
    TypeError,
    AttributeError,
    IndexError,
    RecursionError,
    SyntaxError,
)


def _json_documents(stream: Any) -> Iterator[tuple[bytes, Any]]:  # noqa: ANN401
    from bioc import biocjson

    for element in array_elements(stream, "documents"):
        raw = json.dumps(element).encode("utf-8")
        yield raw, lambda content: biocjson.decoder.parse_doc(_completed(json.loads(content)))


def _completed(element: Any) -> Any:  # noqa: ANN401 - whatever JSON holds
    """The document with the empty lists and mappings that writers other than bioc leave out."""
    if not isinstance(element, dict):
        return element
    lists: dict[str, Any] = {
        "annotations": [],
        "relations": [],
        "sentences": [],
        "infons": {},
        "passages": [],
    }
    return {
        **{key: empty for key, empty in lists.items() if key not in element},
        **{
            key: [_completed(item) for item in value]
            if isinstance(value, list) and key in lists
            else value
            for key, value in element.items()
        },
    }


def _xml_documents(stream: Any) -> Iterator[tuple[bytes, Any]]:  # noqa: ANN401
    from xml.etree.ElementTree import ParseError, tostring

    from bioc import biocxml
    from defusedxml import DefusedXmlException
    from defusedxml.ElementTree import iterparse

    def decode(raw: bytes) -> "BioCDocument":
        collection = biocxml.loads(f"<collection>{raw.decode('utf-8')}</collection>")
        return collection.documents[0]

    try:
        events = iterparse(stream, events=("start", "end"), forbid_dtd=False)
        _, root = next(events)
        for event, element in events:
            if event == "end" and element.tag == "document":
                # a carriage return written as a reference must stay one
                yield tostring(element).replace(b"\r", b"&#13;"), decode
                root.clear()
    except (ParseError, DefusedXmlException, StopIteration, LookupError, ValueError):
        raise UnreadableError(RejectReason.BROKEN_XML) from None


def _raw_note(document: "BioCDocument", raw: bytes, position: str) -> RawNote:
    if len(raw) > LONGEST_RECORD:
        raise UnreadableError(RejectReason.OVER_LONG)
    if not isinstance(document.id, str):
        raise UnreadableError(RejectReason.MISSING_ID)
    pieces = _pieces(document)
    annotations = list(_annotations(document))
    whole = [found for found in annotations if len(found.locations) == 1]
    for unit in OffsetUnit:
        text, first = _assembled(pieces, unit)
        if text is None:
            continue
        spans = converted(text, [_span(found, first) for found in whole], unit)
        if spans is not None and quotes_agree(text, spans):
            break
    else:
        unit = OffsetUnit.CODE_POINT
        text, first = _assembled(pieces, unit)
        spans = [_span(found, first) for found in whole]
    if text is None:  # passages that overlap
        raise UnreadableError(RejectReason.SPAN_OUT_OF_RANGE)
    attributes = {
        key: value
        for key, value in document.infons.items()
        if key in _ATTRIBUTES and isinstance(value, str)
    }
    left_out = len(annotations) - len(whole)
    return RawNote(
        position, raw, document.id, text, tuple(spans or ()), attributes, left_out, unit.value
    )


def _pieces(document: "BioCDocument") -> list[tuple[int, str]]:
    """Offset and text of the passages, or of their sentences where those hold the text."""
    pieces = []
    for passage in document.passages:
        holders = [passage] if passage.text is not None else passage.sentences
        pieces += [(holder.offset, holder.text) for holder in holders if holder.text is not None]
    if not pieces:
        raise UnreadableError(RejectReason.MISSING_TEXT)
    if not all(type(offset) is int and isinstance(text, str) for offset, text in pieces):
        raise UnreadableError(RejectReason.NOT_A_NOTE)
    return pieces


def _assembled(pieces: list[tuple[int, str]], unit: OffsetUnit) -> tuple[str | None, int]:
    """The text with a line end and blanks where offsets leave room, and the first offset.

    None when the pieces overlap or leave room without end.
    """
    first = position = pieces[0][0]
    parts: list[str] = []
    for offset, text in pieces:
        gap = offset - position
        if not 0 <= gap <= LONGEST_RECORD:
            return None, first
        parts += ["\n" + " " * (gap - 1) if gap else "", text]
        position = offset + width(text, unit)
    return "".join(parts), first


def _annotations(document: "BioCDocument") -> Iterator["BioCAnnotation"]:
    yield from document.annotations
    for passage in document.passages:
        yield from passage.annotations
        for sentence in passage.sentences:
            yield from sentence.annotations


def _span(annotation: "BioCAnnotation", first: int) -> RawSpan:
    (location,) = annotation.locations
    label, text = annotation.infons.get("type"), annotation.text
    if not (type(location.offset) is int and type(location.length) is int):
        raise UnreadableError(RejectReason.BAD_SPAN)
    if not isinstance(label, str) or not isinstance(text, str | None):
        raise UnreadableError(RejectReason.BAD_SPAN)
    start = location.offset - first
    return RawSpan(start, start + location.length, label, text or None)


class _Replayed:
    """A stream of which the head was read already."""

    def __init__(self, head: bytes, stream: IO[bytes]) -> None:
        self._head = head
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        if not self._head:
            return self._stream.read(size)
        head, self._head = self._head, b""
        return head
