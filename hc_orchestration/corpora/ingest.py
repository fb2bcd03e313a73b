"""From sources to the notes that are stored: label mapping, duplicates, counts, corpus digest."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from hc_orchestration.corpora.notes import Note, Reject, RejectReason, Span, text_digest
from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.corpora.sources import CorpusSource, read_source


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
    """What became of every record read: read = stored + duplicates + quarantined."""

    read: int = 0
    stored: int = 0
    duplicates: int = 0
    quarantined: int = 0
    annotated: int = 0
    duplicate_texts: int = 0
    gold: Counter[str] = field(default_factory=Counter)
    gold_unmapped: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)


class Ingestion:
    """One pass over the sources of a study.

    Iterating gives each `CorpusNote` to store and each `Reject`; when the iteration is over,
    `counts` and `digest` describe the corpus. Memory holds 64 bytes a note, never the texts.
    """

    def __init__(
        self,
        sources: Sequence[CorpusSource],
        labels: Sequence[str],
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        """Prepare a pass over resolved `sources` for the study's `labels`.

        With `pseudonyms`, notes are stored and digested under the pseudonym of their id; the id
        itself goes no further than this pass.
        """
        self.counts = CorpusCounts()
        self._sources = sources
        self._labels = labels
        self._pseudonyms = pseudonyms
        self._note_digests: dict[str, bytes] = {}
        self._texts: set[bytes] = set()

    def __iter__(self) -> Iterator[CorpusNote | Reject]:
        """Yield what is stored and what is rejected; a note given twice is counted, not yielded."""
        for source in self._sources:
            own = {label: label for label in self._labels}
            mapping = own if source.labels is None else source.labels
            for item in read_source(source):
                self.counts.read += 1
                outcome = item if isinstance(item, Reject) else self._accept(item, source, mapping)
                if isinstance(outcome, Reject):
                    self.counts.quarantined += 1
                    self.counts.reasons[outcome.reason.value] += 1
                if outcome is not None:
                    yield outcome

    @property
    def digest(self) -> str:
        """The sha256 (hex) over the sorted digests of the notes; the order of input has no part."""
        return corpus_digest(self._note_digests.values())

    def _accept(
        self, note: Note, source: CorpusSource, mapping: Mapping[str, str]
    ) -> CorpusNote | Reject | None:
        shown = text_digest(note.note_id)[:12]
        if self._pseudonyms is not None:
            shown = self._pseudonyms.of(note.note_id)
            note = replace(note, note_id=shown)
        stored = corpus_note(note, source.name, mapping)
        digest = bytes.fromhex(stored.digest)
        known = self._note_digests.get(note.note_id)
        if known == digest:
            self.counts.duplicates += 1
            return None
        if known is not None:
            position = f"note_id {shown}"
            return Reject(source.name, position, RejectReason.DUPLICATE_ID, stored.digest)
        self._note_digests[note.note_id] = digest
        self._count(note, stored, mapping)
        return stored

    def _count(self, note: Note, stored: CorpusNote, mapping: Mapping[str, str]) -> None:
        counts = self.counts
        counts.stored += 1
        counts.sources[stored.source] += 1
        text = bytes.fromhex(stored.text_sha256)
        counts.duplicate_texts += text in self._texts
        self._texts.add(text)
        if stored.gold is None:
            return
        counts.annotated += 1
        counts.gold.update(span.label for span in stored.gold)
        counts.gold_unmapped.update(s.label for s in note.spans or () if s.label not in mapping)


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
    spans = None if gold is None else [[s.start, s.end, s.label] for s in gold]
    identity = [note.note_id, text_sha256, source, attributes, spans]
    digest = text_digest(json.dumps(identity, separators=(",", ":"), ensure_ascii=False))
    return CorpusNote(
        note.note_id, note.text, text_sha256, source, attributes, gold, unmapped, digest
    )


def corpus_digest(note_digests: Iterable[bytes]) -> str:
    """The identity of a corpus: sha256 (hex) over the sorted 32-byte digests of its notes."""
    return hashlib.sha256(b"".join(sorted(note_digests))).hexdigest()
