"""The rows between a corpus and a model: a text to read, and the spans found in it."""

from dataclasses import dataclass

PredictedSpan = tuple[int, int, str, float | None] | tuple[int, int, str, float | None, str | None]


@dataclass(frozen=True, slots=True)
class NoteText:
    """What a model is shown of a note, and what identifies it."""

    note_id: str
    text: str
    text_sha256: str


@dataclass(frozen=True, slots=True)
class NoteEntities:
    """The spans that a model found in one note, in the model's own labels.

    Attributes:
        spans: `(start, end, label, score)`, and a concept id after it where the model gave one;
            half-open, in code points of the text; score or None.
    """

    note_id: str
    text_sha256: str
    spans: tuple[PredictedSpan, ...]
