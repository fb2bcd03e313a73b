"""A note, its gold spans, and the reject that a bad input becomes."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from types import MappingProxyType


class RejectReason(StrEnum):
    """Why an input went to quarantine. The values are stored and shown: add, never rename."""

    UNDECODABLE = "undecodable_bytes"
    BROKEN_JSON = "broken_json"
    NOT_A_NOTE = "not_a_note"
    BROKEN_LINE = "broken_line"
    MISSING_ID = "missing_id"
    MISSING_TEXT = "missing_text"
    EMPTY_TEXT = "empty_text"
    NUL_CHARACTER = "nul_character"
    LONE_SURROGATE = "lone_surrogate"
    BAD_SPAN = "bad_span"
    SPAN_OUT_OF_RANGE = "span_out_of_range"
    SPAN_TEXT_DIFFERS = "span_text_differs"
    DUPLICATE_ID = "duplicate_id_different_content"
    OVER_LONG = "over_long"
    UNKNOWN_COLUMN = "unknown_column"
    BROKEN_FILE = "broken_file"
    BROKEN_XML = "broken_xml"
    BROKEN_BASE64 = "broken_base64"
    NOT_ACCEPTED = "not_accepted"
    ENTERED_IN_ERROR = "entered_in_error"
    OUTSIDE_FOLDER = "outside_folder"


class InvalidNoteError(ValueError):
    """A note that breaks a rule; carries the reason only, because the text must not travel."""

    def __init__(self, reason: RejectReason) -> None:
        """Keep the reason."""
        super().__init__(reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A labelled mention: half-open `[start, end)` in Unicode code points of the note text."""

    start: int
    end: int
    label: str

    def __post_init__(self) -> None:
        """Refuse a span that no text can hold."""
        if not self.label or not 0 <= self.start < self.end:
            raise InvalidNoteError(RejectReason.BAD_SPAN)


@dataclass(frozen=True, slots=True)
class GoldReading:
    """How the gold of one note was read.

    Attributes:
        quoted: Mentions whose quoted surface form agreed with the text at their offsets.
        discontinuous: Mentions in several pieces, which are left out.
        unit: What the source's offsets count: code points, or what they were converted from.
    """

    quoted: int = 0
    discontinuous: int = 0
    unit: str = "code_point"


@dataclass(frozen=True, slots=True)
class Note:
    """One note as its source gave it.

    Attributes:
        note_id: Unique in the corpus.
        text: Exactly as ingested; all offsets refer to it.
        spans: Gold mentions with the source's own labels; None when nobody annotated the note, an
            empty tuple when somebody did and found nothing.
        attributes: What slices and clusters refer to (note_type, specialty, patient, …).
        reading: How the gold was read; no part of what the note is.

    Raises:
        InvalidNoteError: An empty id or text, a character that no store can hold, or a span that
            does not lie in the text.
    """

    note_id: str
    text: str
    spans: tuple[Span, ...] | None = None
    attributes: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    reading: GoldReading = field(default=GoldReading(), compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a note that breaks a rule."""
        if not self.note_id.strip():
            raise InvalidNoteError(RejectReason.MISSING_ID)
        if not self.text.strip():
            raise InvalidNoteError(RejectReason.EMPTY_TEXT)
        if "\x00" in self.text or "\x00" in self.note_id:
            raise InvalidNoteError(RejectReason.NUL_CHARACTER)
        labels = (span.label for span in self.spans or ())
        attributes = chain.from_iterable(self.attributes.items())
        if not all(map(_encodable, (self.note_id, self.text, *attributes, *labels))):
            raise InvalidNoteError(RejectReason.LONE_SURROGATE)
        for span in self.spans or ():
            if span.end > len(self.text):
                raise InvalidNoteError(RejectReason.SPAN_OUT_OF_RANGE)


@dataclass(frozen=True, slots=True)
class Reject:
    """A raw input that did not become a note.

    Attributes:
        source: Name of the corpus in the study file.
        position: Where in the source, e.g. `notes.jsonl line 7`.
        reason: The rule that it broke.
        digest: sha256 of the raw bytes, so that the input can be found again; never its text.
    """

    source: str
    position: str
    reason: RejectReason
    digest: str


def text_digest(text: str) -> str:
    """The sha256 (hex) of the UTF-8 bytes of a text."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _encodable(text: str) -> bool:
    """Whether UTF-8 can hold the text (a lone surrogate from a JSON escape cannot be encoded)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
