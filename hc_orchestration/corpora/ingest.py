"""From sources to the notes that are stored: label mapping, duplicates, counts, corpus digest."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from hc_orchestration.corpora.notes import Note, Reject, RejectReason, Span, text_digest
from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.corpora.raw import PassedOver
from hc_orchestration.corpora.seen import FirstIds, SeenNotes, corpus_digest
from hc_orchestration.corpora.selection import fits, sample_rule
from hc_orchestration.corpora.sources import CorpusSource, read_source
from hc_orchestration.errors import CorpusError

__all__ = ["CorpusCounts", "CorpusNote", "Ingestion", "corpus_digest", "corpus_note"]


@dataclass(frozen=True, slots=True)
class CorpusNote:
    """A note as it is stored: gold mapped to the study's labels, with its digests.

    Attributes:
        gold: Distinct mapped spans in order, or None when the note is not annotated.
        gold_unmapped: Gold spans left out because the study does not map their label.
        digest: sha256 over id, text digest, source, attributes and mapped gold.
    """

    note_id: str
    text: str
    text_sha256: str
    source: str
    attributes: tuple[tuple[str, str], ...]
    gold: tuple[Span, ...] | None
    gold_unmapped: int
    digest: str


@dataclass
class CorpusCounts:
    """What became of every record that was read.

    read = stored + duplicates + repeated_texts + not_selected + purged + quarantined.

    Attributes:
        duplicates: Notes given again with the same id and content.
        repeated_texts: Notes left out because their text stands under another id, where the source
            asks for that (`repeated_texts: once`).
        duplicate_texts: Stored notes whose text stands under another id too, beyond the first.
        not_selected: Notes that the source's `where`, `sample` or `limit` leaves out; what lies
            beyond the note that meets the limit is not read.
        purged: Notes left out because `hc corpus purge` removed them once.
        gold_quoted: Stored mentions whose quoted surface form agreed with the text.
        gold_discontinuous: Mentions in several pieces, left out.
        offsets: Stored notes with gold by what their source's offsets counted.
        lengths: Stored notes by `length_band`.
        passed_over: FHIR resources that are no notes, by kind; they are not among what was read.
        selection: What each source asks for beyond all of its notes.
    """

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    repeated_texts: int = 0
    not_selected: int = 0
    purged: int = 0
    quarantined: int = 0
    annotated: int = 0
    duplicate_texts: int = 0
    gold: Counter[str] = field(default_factory=Counter)
    gold_unmapped: Counter[str] = field(default_factory=Counter)
    gold_discontinuous: int = 0
    gold_quoted: int = 0
    offsets: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    note_types: Counter[str] = field(default_factory=Counter)
    lengths: Counter[str] = field(default_factory=Counter)
    passed_over: Counter[str] = field(default_factory=Counter)
    selection: dict[str, Any] = field(default_factory=dict)

    @property
    def quarantine_share(self) -> float | None:
        """Quarantined part of what was read; None when nothing was."""
        return self.quarantined / self.read if self.read else None


_BANDS = ((500, "under 500"), (2_000, "500 to 1,999"), (8_000, "2,000 to 7,999"))


def length_band(text: str) -> str:
    """Which of four bands of characters the length of a text is in."""
    return next((name for below, name in _BANDS if len(text) < below), "8,000 and more")


def _none_purged(_: str) -> bool:
    return False


def _no_salt() -> Pseudonyms:
    message = (
        "the corpus names patients, who are stored as salted digests only, and no salt was given."
    )
    raise CorpusError(message)


class Ingestion:
    """One pass over the sources of a study.

    Iterating gives each `CorpusNote` to store and each `Reject`; when the iteration is over,
    `counts` and `digest` describe the corpus. Memory does not grow with the corpus.
    """

    def __init__(
        self,
        sources: Sequence[CorpusSource],
        labels: Sequence[str],
        pseudonyms: Pseudonyms | None = None,
        salted: Callable[[], Pseudonyms] = _no_salt,
        purged: Callable[[str], bool] = _none_purged,
    ) -> None:
        """Prepare a pass over resolved `sources` for the study's `labels`.

        With `pseudonyms`, notes are stored and digested under the pseudonym of their id; the id
        itself goes no further than this pass. `salted` gives the pseudonyms of what is never
        stored as it is: patients, and the ids of MIMIC. Notes whose id is `purged` are left out.
        """
        self.counts = CorpusCounts(
            selection={source.name: source.selection for source in sources if source.selection}
        )
        self._sources = sources
        self._labels = labels
        self._pseudonyms = pseudonyms
        self._salted = salted if pseudonyms is None else lambda: pseudonyms
        self._purged = purged
        self._seen = SeenNotes()

    def __iter__(self) -> Iterator[CorpusNote | Reject]:
        """Yield what is stored and what is rejected; a note given twice is counted, not yielded."""
        for source in self._sources:
            own = {label: label for label in self._labels}
            mapping = own if source.labels is None else source.labels
            yield from self._pass(source, mapping)

    @property
    def digest(self) -> str:
        """The sha256 (hex) over the sorted digests of the notes; the order of input has no part."""
        return self._seen.corpus_digest()

    def _pass(
        self, source: CorpusSource, mapping: Mapping[str, str]
    ) -> Iterator[CorpusNote | Reject]:
        selected = self._selected(source)
        once = self._ids_of_texts(source, selected) if source.repeated_texts == "once" else None
        stored = 0
        for item in self._read(source):
            if isinstance(item, PassedOver):
                self.counts.passed_over[item.kind] += 1
                continue
            self.counts.read += 1
            if isinstance(item, Note) and self._purged(item.note_id):
                self.counts.purged += 1
                continue
            if isinstance(item, Note) and not selected(item):
                self.counts.not_selected += 1
                continue
            if isinstance(item, Note) and once is not None and not once.keeps(item):
                self.counts.repeated_texts += 1
                continue
            outcome = item if isinstance(item, Reject) else self._accept(item, source, mapping)
            if isinstance(outcome, Reject):
                self.counts.quarantined += 1
                self.counts.reasons[outcome.reason.value] += 1
            if outcome is not None:
                yield outcome
            stored += isinstance(outcome, CorpusNote)
            if stored == source.limit:
                return

    def _read(self, source: CorpusSource) -> Iterator[Note | Reject | PassedOver]:
        """The source's notes as they may be stored: under pseudonyms where those are called for."""
        hidden = self._pseudonyms
        if hidden is None and source.format == "mimic":
            hidden = self._salted()
        file_names = str if hidden is None else hidden.of_file
        for item in read_source(source, file_names):
            if not isinstance(item, Note):
                yield item
                continue
            note = item if hidden is None else replace(item, note_id=hidden.of(item.note_id))
            patient = note.attributes.get("patient")
            if patient is None:
                yield note
            else:
                digest = self._salted().of_patient(patient)
                yield replace(note, attributes={**note.attributes, "patient": digest})

    def _selected(self, source: CorpusSource) -> Callable[[Note], bool]:
        def ids() -> Iterator[str]:
            return (
                item.note_id
                for item in self._read(source)
                if isinstance(item, Note) and fits(item, source.where)
            )

        drawn = sample_rule(source.sample, ids)
        return lambda note: fits(note, source.where) and drawn(note.note_id)

    def _ids_of_texts(self, source: CorpusSource, selected: Callable[[Note], bool]) -> FirstIds:
        first = FirstIds()
        for item in self._read(source):
            if isinstance(item, Note) and selected(item) and not self._purged(item.note_id):
                first.add(item)
        return first

    def _accept(
        self, note: Note, source: CorpusSource, mapping: Mapping[str, str]
    ) -> CorpusNote | Reject | None:
        stored = corpus_note(note, source.name, mapping)
        digest = bytes.fromhex(stored.digest)
        known = self._seen.digest_of(note.note_id)
        if known == digest:
            self.counts.duplicates += 1
            return None
        if known is not None:
            shown = text_digest(note.note_id)[:12] if self._pseudonyms is None else note.note_id
            position = f"note_id {shown}"
            return Reject(source.name, position, RejectReason.DUPLICATE_ID, stored.digest)
        self._seen.add_note(note.note_id, digest)
        self._count(note, stored, mapping)
        return stored

    def _count(self, note: Note, stored: CorpusNote, mapping: Mapping[str, str]) -> None:
        counts = self.counts
        counts.stored += 1
        counts.sources[stored.source] += 1
        if "note_type" in note.attributes:
            counts.note_types[note.attributes["note_type"]] += 1
        counts.lengths[length_band(stored.text)] += 1
        counts.duplicate_texts += not self._seen.add_text(bytes.fromhex(stored.text_sha256))
        if stored.gold is None:
            return
        counts.annotated += 1
        counts.gold.update(span.label for span in stored.gold)
        counts.gold_unmapped.update(s.label for s in note.spans or () if s.label not in mapping)
        counts.gold_discontinuous += note.reading.discontinuous
        counts.gold_quoted += note.reading.quoted
        counts.offsets[note.reading.unit] += 1


def corpus_note(note: Note, source: str, mapping: Mapping[str, str]) -> CorpusNote:
    """Map a note's gold with `mapping` (source label → study label) and compute its digests."""
    gold: tuple[Span, ...] | None = None
    unmapped = 0
    if note.spans is not None:
        kept = [span for span in note.spans if span.label in mapping]
        unmapped = len(note.spans) - len(kept)
        gold = tuple(sorted({Span(s.start, s.end, mapping[s.label]) for s in kept}))
    attributes = tuple(sorted(note.attributes.items()))
    text_sha256 = text_digest(note.text)
    spans = None if gold is None else [(s.start, s.end, s.label) for s in gold]
    digest = note_digest(note.note_id, text_sha256, source, attributes, spans)
    return CorpusNote(
        note.note_id, note.text, text_sha256, source, attributes, gold, unmapped, digest
    )


def note_digest(
    note_id: str,
    text_sha256: str,
    source: str,
    attributes: Sequence[tuple[str, str]],
    gold: Sequence[tuple[int, int, str]] | None,
) -> str:
    """The digest of a note: see `CorpusNote`."""
    identity = [note_id, text_sha256, source, attributes, gold]
    return text_digest(json.dumps(identity, separators=(",", ":"), ensure_ascii=False))
