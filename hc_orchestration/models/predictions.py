"""The rows between a corpus and a model: a text to read, and the spans found in it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class PackedEntities:
    """The spans of many notes as arrays: small between processes, and a table's columns at once.

    Attributes:
        counts: How many spans each note has; the spans of all notes follow each other below.
        label_numbers: Of each span, its label's place in `labels`.
        scores: Of each span; None when no span has one.
        concepts: Of each span; None when no span has one.
    """

    note_ids: tuple[str, ...]
    text_sha256: tuple[str, ...]
    counts: "NDArray[np.int32]"
    starts: "NDArray[np.int32]"
    ends: "NDArray[np.int32]"
    label_numbers: "NDArray[np.int32]"
    labels: tuple[str, ...]
    scores: tuple[float | None, ...] | None
    concepts: tuple[str | None, ...] | None


def pack(rows: Sequence[NoteEntities]) -> PackedEntities:
    """Notes and their spans as arrays, in the same order."""
    import numpy as np

    spans = [span for row in rows for span in row.spans]
    numbers: dict[str, int] = {}
    label_numbers = [numbers.setdefault(span[2], len(numbers)) for span in spans]
    scores = tuple(span[3] for span in spans)
    concepts = tuple(span[4] if len(span) > 4 else None for span in spans)  # noqa: PLR2004
    return PackedEntities(
        note_ids=tuple(row.note_id for row in rows),
        text_sha256=tuple(row.text_sha256 for row in rows),
        counts=np.array([len(row.spans) for row in rows], dtype=np.int32),
        starts=np.array([span[0] for span in spans], dtype=np.int32),
        ends=np.array([span[1] for span in spans], dtype=np.int32),
        label_numbers=np.array(label_numbers, dtype=np.int32),
        labels=tuple(numbers),
        scores=scores if any(score is not None for score in scores) else None,
        concepts=concepts if any(concept is not None for concept in concepts) else None,
    )
