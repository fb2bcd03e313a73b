"""The local engine: texts through one loaded model in this process, batch by batch."""

from collections.abc import Iterable, Iterator, Sequence

from hc_orchestration.errors import ModelError
from hc_orchestration.models.loaders import ModelSpan, NerModel
from hc_orchestration.models.predictions import NoteEntities, NoteText


def extract_batches(
    model: NerModel, batches: Iterable[Sequence[NoteText]]
) -> Iterator[list[NoteEntities]]:
    """Yield the entities of each batch as soon as the model has given them.

    Before a note that the model raises on ends all, the other notes of its batch are yielded.

    Raises:
        ModelError: The model raised on a note, or gave spans that do not lie in it; the message
            names the note's id and the exception's class, never the exception's own words, which
            may quote the note.
    """
    for batch in batches:
        failures: list[str] = []
        rows = _extract(model, batch, failures)
        if rows or not failures:
            yield rows
        if failures:
            more = f" (and on {len(failures) - 1} more)" if len(failures) > 1 else ""
            message = f"the model raised {failures[0]}{more}."
            raise ModelError(message)


def _extract(model: NerModel, batch: Sequence[NoteText], failures: list[str]) -> list[NoteEntities]:
    try:
        found = model.extract([note.text for note in batch])
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if len(batch) == 1:
            failures.append(f"{type(error).__name__} on note {batch[0].note_id}")
            return []
        middle = len(batch) // 2
        halves = (batch[:middle], batch[middle:])
        return [row for half in halves for row in _extract(model, half, failures)]
    if not isinstance(found, list) or not all(isinstance(spans, list) for spans in found):
        message = "the model gave no list of spans for each text."
        raise ModelError(message)
    if len(found) != len(batch):
        message = f"the model gave {len(found)} results for {len(batch)} texts."
        raise ModelError(message)
    return [_checked(note, spans) for note, spans in zip(batch, found, strict=True)]


def _checked(note: NoteText, spans: Sequence[ModelSpan]) -> NoteEntities:
    length = len(note.text)
    rows = []
    for span in spans:
        try:
            start, end, label = span[:3]
        except (TypeError, ValueError):
            message = f"the model gave no (start, end, label) for note {note.note_id}."
            raise ModelError(message) from None
        if not 0 <= start < end <= length or not label:
            message = f"the model gave a span outside note {note.note_id} ({start}, {end})."
            raise ModelError(message)
        rows.append((start, end, label, *(span[3:] or (None,))))
    return NoteEntities(note.note_id, note.text_sha256, tuple(rows))
