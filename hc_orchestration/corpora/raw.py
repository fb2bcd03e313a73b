"""What a reader hands on before a note is checked: the fields found, or why there are none."""

from collections.abc import Mapping
from dataclasses import dataclass

from hc_orchestration.corpora.notes import (
    GoldReading,
    InvalidNoteError,
    Note,
    RejectReason,
    Span,
)


@dataclass(frozen=True, slots=True)
class RawSpan:
    """A gold mention as written in a file; `text` is the quoted surface form if the file has it."""

    start: int
    end: int
    label: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class RawNote:
    """The fields of one record, `raw` being the bytes they came from.

    Attributes:
        discontinuous: Mentions in several pieces that the reader left out.
        unit: What the offsets counted before the reader converted them to code points.
    """

    position: str
    raw: bytes
    note_id: str
    text: str
    spans: tuple[RawSpan, ...] | None
    attributes: Mapping[str, str]
    discontinuous: int = 0
    unit: str = "code_point"

    def note(self) -> Note:
        """The checked note.

        Raises:
            InvalidNoteError: See `Note`; or a quoted mention differs from the text at its offsets.
        """
        if self.spans is None:
            return Note(self.note_id, self.text, None, self.attributes)
        spans = tuple(Span(span.start, span.end, span.label) for span in self.spans)
        quoted = [span for span in self.spans if span.text is not None]
        reading = GoldReading(len(quoted), self.discontinuous, self.unit)
        note = Note(self.note_id, self.text, spans, self.attributes, reading)
        if any(self.text[span.start : span.end] != span.text for span in quoted):
            raise InvalidNoteError(RejectReason.SPAN_TEXT_DIFFERS)
        return note


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A record whose fields could not even be read."""

    position: str
    raw: bytes
    reason: RejectReason


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A record that is no note and is none by right: a FHIR resource of another kind."""

    kind: str


RawItem = RawNote | Unreadable | PassedOver


class UnreadableError(Exception):
    """A record that is no note; carries the reason only, because the text must not travel."""

    def __init__(self, reason: RejectReason) -> None:
        """Keep the reason."""
        super().__init__(reason.value)
        self.reason = reason
