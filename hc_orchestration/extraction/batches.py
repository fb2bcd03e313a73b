"""Length-aware batches: texts of about the same length together, the longest first."""

from collections.abc import Iterable, Iterator, Sequence

from hc_orchestration.models.predictions import NoteText

NOTES_A_WINDOW = 2_048
"""Notes that are sorted at once: what an engine holds of the corpus, whatever its size."""

_NOTES = 32
_CHARACTERS = 64_000


def length_aware(windows: Iterable[Sequence[NoteText]]) -> Iterator[list[NoteText]]:
    """Cut each window into batches of at most so many notes and characters.

    A model computes a batch to the end of its longest text; a long one that comes last would keep
    one worker busy while the others have nothing left to do. A text above the limit goes alone.
    """
    for window in windows:
        batch: list[NoteText] = []
        characters = 0
        for note in sorted(window, key=lambda note: len(note.text), reverse=True):
            full = len(batch) == _NOTES or characters + len(note.text) > _CHARACTERS
            if batch and full:
                yield batch
                batch, characters = [], 0
            batch.append(note)
            characters += len(note.text)
        if batch:
            yield batch
