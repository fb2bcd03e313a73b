"""One loaded model in one process: batches of texts in, checked and packed spans out."""

from collections.abc import Generator, Iterable, Sequence

from hc_orchestration.errors import ModelError
from hc_orchestration.extraction.results import Extracted, Unprocessed
from hc_orchestration.models.loaders import ModelSpan, NerModel
from hc_orchestration.models.predictions import NoteEntities, NoteText, pack


def extract_batches(model: NerModel, batches: Iterable[Sequence[NoteText]]) -> Generator[Extracted]:
    """Yield the entities of each batch as soon as the model has given them.

    A note that the model raises on is set aside by its id and the exception's class, never the
    exception's own words, which may quote the note; the others of its batch are done.

    Raises:
        ModelError: The model broke its contract: no list of spans for each text, or a span that
            does not lie in its note. The message names the note's id.
    """
    return (extract_batch(model, batch) for batch in batches)


def extract_batch(model: NerModel, batch: Sequence[NoteText]) -> Extracted:
    """The entities of one batch; see `extract_batches`."""
    unprocessed: list[Unprocessed] = []
    rows = _extract(model, batch, unprocessed)
    return Extracted(pack(rows), sum(len(note.text) for note in batch), tuple(unprocessed))


def _extract(
    model: NerModel, batch: Sequence[NoteText], unprocessed: list[Unprocessed]
) -> list[NoteEntities]:
    try:
        found = model.extract([note.text for note in batch])
    except ModelError:  # no fault of a note: it could not be loaded again
        raise
    except Exception as error:  # noqa: BLE001 - a model may raise anything
        if len(batch) == 1:
            unprocessed.append(Unprocessed(batch[0].note_id, f"raised {type(error).__name__}"))
            return []
        middle = len(batch) // 2
        halves = (batch[:middle], batch[middle:])
        return [row for half in halves for row in _extract(model, half, unprocessed)]
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
