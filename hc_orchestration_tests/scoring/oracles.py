"""What others make of the same predictions: set arithmetic, spaCy's Scorer, seqeval."""

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hc_orchestration.corpora.notes import Note
from hc_orchestration.corpora.sources import CorpusSource, read_source
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.store import installed_model
from hc_orchestration_tests.scoring.frames import Mention

ROOT = Path(__file__).parents[2]
BC5CDR_TEST = ROOT / ".." / "shared" / "corpora" / "bc5cdr" / "CDR_TestSet.PubTator.txt"
LABELS = {"Disease": "DISEASE", "Chemical": "CHEMICAL"}
MODELS = ("bc5cdr_terms-1.0.0", "bc5cdr_cnn_sm-1.1.0")
Scores = dict[str, float]


@dataclass(frozen=True)
class Predicted:
    """A note with its gold mentions and those that a model found."""

    note_id: str
    text: str
    gold: list[Mention]
    found: list[Mention]


def bc5cdr_predictions(key: str, notes: int) -> list[Predicted]:
    """The shipped model's mentions in the first abstracts of BC5CDR Test."""
    entry = load_catalogue(ROOT / "data" / "models.yaml").entry(key)
    model = load_model(installed_model(entry, ROOT / "nowhere"))
    source = CorpusSource(name="test", path=str(BC5CDR_TEST), format="pubtator")
    abstracts = [note for note in read_source(source) if isinstance(note, Note)][:notes]
    found = model.extract([note.text for note in abstracts])
    return [
        Predicted(
            note.note_id,
            note.text,
            sorted({(s.start, s.end, LABELS[s.label]) for s in note.spans or ()}),
            sorted({(span[0], span[1], span[2]) for span in spans}),
        )
        for note, spans in zip(abstracts, found, strict=True)
    ]


def by_sets(notes: Iterable[Predicted], labels: Sequence[str]) -> Scores:
    """Intersections of sets of (note, start, end, label)."""
    gold = {(note.note_id, *mention) for note in notes for mention in note.gold}
    found = {(note.note_id, *mention) for note in notes for mention in note.found}
    scores = _rates("", len(gold & found), len(found), len(gold))
    for label in labels:
        of_gold = {mention for mention in gold if mention[3] == label}
        of_found = {mention for mention in found if mention[3] == label}
        right = len(of_gold & of_found)
        scores |= _rates(f".label.{label}", right, len(of_found), len(of_gold))
    return scores


def _rates(suffix: str, right: int, found: int, gold: int) -> Scores:
    return {
        f"strict.precision{suffix}": right / found,
        f"strict.recall{suffix}": right / gold,
        f"strict.f1{suffix}": 2 * right / (found + gold),
    }


def by_spacy(notes: Iterable[Predicted], labels: Sequence[str]) -> Scores:
    """`Scorer.score_spans` on documents of one token per character, so that every mention fits."""
    from spacy.scorer import Scorer
    from spacy.tokens import Doc, Span
    from spacy.training import Example
    from spacy.vocab import Vocab

    vocab = Vocab()

    def document(note: Predicted, mentions: Iterable[Mention]) -> Doc:
        doc = Doc(vocab, words=["x"] * len(note.text), spaces=[False] * len(note.text))
        doc.spans["mentions"] = [Span(doc, start, end, label) for start, end, label in mentions]
        return doc

    examples = [Example(document(note, note.found), document(note, note.gold)) for note in notes]
    scored = Scorer.score_spans(
        examples, "mentions", getter=lambda doc, key: doc.spans[key], allow_overlap=True
    )
    names = {"p": "precision", "r": "recall", "f": "f1"}
    scores = {f"strict.{name}": scored[f"mentions_{short}"] for short, name in names.items()}
    for label in labels:
        for short, name in names.items():
            of_label = scored["mentions_per_type"][label]
            scores[f"strict.{name}.label.{label}"] = of_label[short]
    return scores


def by_seqeval(notes: Iterable[Predicted], labels: Sequence[str]) -> Scores:
    """What seqeval says on character IOB2; for notes without overlaps on either side."""
    from seqeval.metrics import classification_report
    from seqeval.scheme import IOB2

    listed = list(notes)
    report = classification_report(
        [_tags(note.text, note.gold) for note in listed],
        [_tags(note.text, note.found) for note in listed],
        output_dict=True,
        mode="strict",
        scheme=IOB2,
    )
    names = {"precision": "precision", "recall": "recall", "f1": "f1-score"}
    scores = {
        f"strict.{name}": float(report["micro avg"][theirs]) for name, theirs in names.items()
    }
    for label in labels:
        for name, theirs in names.items():
            scores[f"strict.{name}.label.{label}"] = float(report[label][theirs])
    return scores


def _tags(text: str, mentions: Iterable[Mention]) -> list[str]:
    tags = ["O"] * len(text)
    for start, end, label in mentions:
        tags[start:end] = [f"B-{label}"] + [f"I-{label}"] * (end - start - 1)
    return tags


def without_overlap(notes: Iterable[Predicted]) -> list[Predicted]:
    """Notes in which no two gold mentions and no two predictions overlap."""
    return [note for note in notes if not _overlap(note.gold) and not _overlap(note.found)]


def _overlap(mentions: Sequence[Mention]) -> bool:
    ordered = sorted(mentions)
    return any(left[1] > right[0] for left, right in itertools.pairwise(ordered))
