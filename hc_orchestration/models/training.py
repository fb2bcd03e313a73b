"""The recipe of the two shipped models: a small CNN and a term list, both from BC5CDR.

`python -m hc_orchestration.models.training --corpus DIR --output DIR` reads the Training and the
Development file of BC5CDR (Li et al. 2016, Database baw068) and writes one folder a model. The Test
file is never opened. The settings of the net are in `recipe.cfg`, beside this module.
"""

import argparse
import logging
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import spacy
from spacy.lang.en import English
from spacy.matcher import PhraseMatcher
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import DIR_MODEL_BEST, train
from spacy.util import filter_spans, load_config, registry

from hc_orchestration.corpora.notes import Note, Reject, Span
from hc_orchestration.corpora.raw import PassedOver
from hc_orchestration.corpora.sources import CorpusSource, read_source
from hc_orchestration.errors import CorpusError, HcError
from hc_orchestration.models.loaders import LexiconModel, NerModel, SpacyModel
from hc_orchestration.models.spacy_parts import make_clinical_tokenizer

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.tokens import Span as TokenSpan

RECIPE = Path(__file__).with_name("recipe.cfg")
CNN_NAME = "bc5cdr_cnn_sm"
TERMS_NAME = "bc5cdr_terms"
VERSION = "1.0.0"

_LABELS = {"Chemical": "CHEMICAL", "Disease": "DISEASE"}
_TRAINING_FILE = "CDR_TrainingSet.PubTator.txt"
_DEVELOPMENT_FILE = "CDR_DevelopmentSet.PubTator.txt"
_META = {
    "name": CNN_NAME,
    "version": VERSION,
    "description": "Diseases and chemicals in English: a small CNN, trained on BC5CDR abstracts.",
    "author": "hc_orchestration project",
    "license": "Apache-2.0",
    "spacy_version": ">=3.8.7,<3.9.0",
    "sources": [
        {
            "name": "BC5CDR, Training and Development",
            "url": "https://doi.org/10.1093/database/baw068",
            "author": "Li et al. 2016",
            "license": "public domain (NLM)",
        }
    ],
}

_PIECE = re.compile(r"\w+|[^\w\s]")
_WORD_CHARACTER = re.compile(r"\w")

logger = logging.getLogger(__name__)

ExampleReader = Callable[["Language"], Iterator[Example]]


@dataclass(frozen=True, slots=True)
class Bc5cdr:
    """The notes of BC5CDR that the recipe may see, with the labels of the shipped models."""

    training: tuple[Note, ...]
    development: tuple[Note, ...]

    def for_weights(self, selection_notes: int) -> tuple[Note, ...]:
        """Training, and Development but for its last `selection_notes` notes."""
        return self.training + self.development[: len(self.development) - selection_notes]

    def for_selection(self, selection_notes: int) -> tuple[Note, ...]:
        """The last `selection_notes` notes of Development."""
        return self.development[len(self.development) - selection_notes :]


@dataclass(frozen=True, slots=True)
class StrictCounts:
    """Distinct mentions: in the gold, predicted, and both with the same boundary and label."""

    gold: int
    predicted: int
    correct: int

    @property
    def precision(self) -> float | None:
        """The share of the predictions that are right; None without predictions."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """The share of the gold that was found; None without gold."""
        return self.correct / self.gold if self.gold else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None without gold and predictions."""
        either = self.gold + self.predicted
        return 2 * self.correct / either if either else None


@dataclass(frozen=True, slots=True)
class LexiconRule:
    """Which terms a lexicon keeps.

    Attributes:
        share: The least share of a term's occurrences in the text that are gold mentions.
        length: The least number of characters.
    """

    share: float
    length: int


@dataclass(frozen=True, slots=True)
class TermStatistics:
    """A mention in lower case, and what the texts hold of it.

    Attributes:
        term: Lower-cased text of the mention.
        label: The label that most of its mentions have.
        occurrences: Places where the texts hold the term.
        gold: Those of them that are gold mentions with this label.
    """

    term: str
    label: str
    occurrences: int
    gold: int


# Two letters are out of the question: in clinical notes "cm" is a unit and "MR" an image.
LEXICON_RULES = tuple(
    LexiconRule(share, length)
    for share, length in product((0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8), (3, 4, 5))
)


def read_bc5cdr(folder: Path) -> Bc5cdr:
    """Read the two PubTator files in `folder` that may be trained on.

    Raises:
        CorpusError: A file is missing, or one of its notes cannot be used.
    """
    return Bc5cdr(_read_file(folder / _TRAINING_FILE), _read_file(folder / _DEVELOPMENT_FILE))


def _read_file(path: Path) -> tuple[Note, ...]:
    source = CorpusSource(name="BC5CDR", path=str(path), format="pubtator")
    items = read_source(source)
    return tuple(_relabelled(item) for item in items if not isinstance(item, PassedOver))


def _relabelled(item: Note | Reject) -> Note:
    if isinstance(item, Reject):
        message = f"BC5CDR: {item.position} cannot be used ({item.reason}). Fetch the file again."
        raise CorpusError(message)
    spans = (Span(s.start, s.end, _LABELS[s.label]) for s in item.spans or () if s.label in _LABELS)
    return replace(item, spans=tuple(sorted(set(spans))))


def make_training_reader(folder: str, selection_notes: int) -> ExampleReader:
    """What spaCy's training loop calls for the notes that change the weights."""
    notes = read_bc5cdr(Path(folder)).for_weights(selection_notes)
    return lambda nlp: gold_examples(nlp, notes)


def make_selection_reader(folder: str, selection_notes: int) -> ExampleReader:
    """What spaCy's training loop calls for the notes that select the checkpoint."""
    notes = read_bc5cdr(Path(folder)).for_selection(selection_notes)
    return lambda nlp: gold_examples(nlp, notes)


registry.readers("hc_orchestration.Bc5cdrTraining.v1", func=make_training_reader)
registry.readers("hc_orchestration.Bc5cdrSelection.v1", func=make_selection_reader)


def gold_examples(nlp: "Language", notes: Iterable[Note]) -> Iterator[Example]:
    """Yield one example a note, with the gold that the tokens of `nlp` can express."""
    for note in notes:
        reference = nlp.make_doc(note.text)
        reference.set_ents(_token_spans(reference, note))
        yield Example(nlp.make_doc(note.text), reference)


def unreachable_gold(nlp: "Language", notes: Iterable[Note]) -> int:
    """Gold spans that `gold_examples` drops: not made of whole tokens, or inside a longer one."""
    return sum(
        len(note.spans or ()) - len(_token_spans(nlp.make_doc(note.text), note)) for note in notes
    )


def _token_spans(doc: "Doc", note: Note) -> list["TokenSpan"]:
    spans = (doc.char_span(s.start, s.end, label=s.label) for s in note.spans or ())
    return filter_spans(span for span in spans if span is not None)


def strict_counts(model: NerModel, notes: Sequence[Note]) -> dict[str, StrictCounts]:
    """Counts of the strict match on raw text, a label each and `micro` for all of them."""
    predicted: set[tuple[str, Span]] = set()
    for note, found in zip(notes, model.extract([note.text for note in notes]), strict=True):
        predicted.update((note.note_id, Span(start, end, label)) for start, end, label, *_ in found)
    gold = {(note.note_id, span) for note in notes for span in note.spans or ()}
    counts = {"micro": StrictCounts(len(gold), len(predicted), len(gold & predicted))}
    for label in sorted(_LABELS.values()):
        true = {item for item in gold if item[1].label == label}
        guessed = {item for item in predicted if item[1].label == label}
        counts[label] = StrictCounts(len(true), len(guessed), len(true & guessed))
    return counts


def train_cnn(folder: Path, overrides: Mapping[str, Any] | None = None) -> "Language":
    """Train the CNN and return the pipeline of the best checkpoint, with its meta data filled in.

    Args:
        folder: Where the two BC5CDR files are.
        overrides: Settings of `recipe.cfg` to change, by dotted name (`training.max_steps`).

    Raises:
        CorpusError: See `read_bc5cdr`.
    """
    corpus = read_bc5cdr(folder)
    config = load_config(RECIPE, overrides={"paths.corpus": str(folder), **(overrides or {})})
    selection_notes = config["split"]["selection_notes"]
    selection = corpus.for_selection(selection_notes)
    nlp = init_nlp(config)
    _log_reach("training", nlp, corpus.for_weights(selection_notes))
    _log_reach("selection", nlp, selection)
    with TemporaryDirectory() as checkpoints:
        train(nlp, Path(checkpoints), stdout=sys.stderr, stderr=sys.stderr)
        best = spacy.load(Path(checkpoints) / DIR_MODEL_BEST)
    best.config["paths"]["corpus"] = None
    best.meta.update(_META, performance=_performance(strict_counts(SpacyModel(best), selection)))
    return best


def _log_reach(part: str, nlp: "Language", notes: Sequence[Note]) -> None:
    gold = sum(len(note.spans or ()) for note in notes)
    dropped = unreachable_gold(nlp, notes)
    message = "%s: %d notes, %d gold spans; %d of these fit no tokens and are dropped"
    logger.info(message, part, len(notes), gold, dropped)


def _performance(counts: Mapping[str, StrictCounts]) -> dict[str, Any]:
    """The figures in spaCy's own form, which `spacy info` shows."""

    def scores(label: str) -> dict[str, float | None]:
        return {"p": counts[label].precision, "r": counts[label].recall, "f": counts[label].f1}

    micro = {f"ents_{name}": value for name, value in scores("micro").items()}
    return micro | {"ents_per_type": {label: scores(label) for label in counts if label != "micro"}}


def save_cnn(nlp: "Language", folder: Path) -> None:
    """Write the pipeline without its vocabulary, which holds no vectors and is rebuilt at load."""
    nlp.to_disk(folder, exclude=["vocab"])


def term_statistics(notes: Iterable[Note]) -> list[TermStatistics]:
    """What the notes say of each mention in lower case.

    A term has the label that most of its mentions have (of equals, the first in the alphabet).
    Occurrences are word-bounded and in any case: "lead" is a chemical now and then, and mostly a
    verb. One that lies inside a longer mention is an occurrence that is not gold.
    """
    notes = tuple(notes)
    labels = _majority_labels(notes)
    seen: Counter[str] = Counter()
    gold: Counter[str] = Counter()
    for note in notes:
        spans = set(note.spans or ())
        for start, term in _occurrences(_lowered(note.text), labels):
            seen[term] += 1
            gold[term] += Span(start, start + len(term), labels[term]) in spans
    return [TermStatistics(term, labels[term], seen[term], gold[term]) for term in sorted(seen)]


def _majority_labels(notes: Iterable[Note]) -> dict[str, str]:
    labels: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for note in notes:
        for span in note.spans or ():
            term = _lowered(note.text[span.start : span.end])
            if term == " ".join(term.split()):  # no tab or line break: terms.tsv could not hold it
                labels[term][span.label] += 1
    return {
        term: min(counts, key=lambda label: (-counts[label], label))
        for term, counts in labels.items()
    }


def _occurrences(text: str, terms: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Every start of a term in `text` with no letter, digit or underscore right beside it."""
    by_first_piece: defaultdict[str, list[str]] = defaultdict(list)
    for term in terms:
        by_first_piece[_PIECE.findall(term)[0]].append(term)
    for piece in _PIECE.finditer(text):
        start = piece.start()
        for term in by_first_piece.get(piece[0], ()):
            if text.startswith(term, start) and _is_bounded(text, start, start + len(term)):
                yield start, term


def _is_bounded(text: str, start: int, end: int) -> bool:
    beside = text[max(start - 1, 0) : start] + text[end : end + 1]
    return _WORD_CHARACTER.search(beside) is None


def _lowered(text: str) -> str:
    """Lower case of the same length (dotted capital I is the one character that grows)."""
    return text.replace("\u0130", "i").lower()


def lexicon_terms(statistics: Iterable[TermStatistics], rule: LexiconRule) -> dict[str, str]:
    """The label of each term that passes `rule`."""
    return {
        item.term: item.label
        for item in statistics
        if item.gold >= rule.share * item.occurrences and len(item.term) >= rule.length
    }


def choose_lexicon_rule(
    statistics: Sequence[TermStatistics], development: Sequence[Note]
) -> LexiconRule:
    """The rule whose terms have the best strict F1 on Development.

    Of rules that are equal to three decimals, the one that keeps fewer terms: a difference of a few
    mentions says nothing, and a doubtful term does most harm in texts of another kind.
    """
    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    scores: dict[LexiconRule, tuple[float, int]] = {}
    for rule in LEXICON_RULES:
        terms = lexicon_terms(statistics, rule)
        micro = strict_counts(_lexicon_model(nlp, terms), development)["micro"]
        scores[rule] = round(micro.f1 or 0.0, 3), -len(terms)
        logger.info("%s: %d terms; on Development %s", rule, len(terms), micro)
    return max(scores, key=scores.__getitem__)


def _lexicon_model(nlp: "Language", terms: Mapping[str, str]) -> LexiconModel:
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    for term, label in terms.items():
        matcher.add(label, [nlp.make_doc(term)])
    return LexiconModel(nlp, matcher)


def save_lexicon(terms: Mapping[str, str], folder: Path) -> None:
    """Write `terms.tsv`: sorted lines `LABEL<TAB>term`."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = sorted(f"{label}\t{term}\n" for term, label in terms.items())
    (folder / "terms.tsv").write_text("".join(lines), encoding="utf-8", newline="\n")


def build_models(
    folder: Path, output: Path, overrides: Mapping[str, Any] | None = None
) -> tuple[Path, Path]:
    """Build both models from the BC5CDR files in `folder`; see `train_cnn` for `overrides`.

    Returns:
        The folders below `output` that hold the CNN and the term list.
    """
    corpus = read_bc5cdr(folder)
    statistics = term_statistics(corpus.training)
    rule = choose_lexicon_rule(statistics, corpus.development)
    logger.info("chosen: %s", rule)
    terms_folder = output / f"{TERMS_NAME}-{VERSION}"
    save_lexicon(lexicon_terms(statistics, rule), terms_folder)
    nlp = train_cnn(folder, overrides)
    logger.info("best checkpoint on the selection notes: %s", nlp.meta["performance"])
    cnn_folder = output / f"{CNN_NAME}-{VERSION}"
    save_cnn(nlp, cnn_folder)
    return cnn_folder, terms_folder


def main(arguments: Sequence[str] | None = None) -> None:
    """Build both models from the command line; exits with status 1 if the corpus cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m hc_orchestration.models.training")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the BC5CDR files")
    parser.add_argument("--output", type=Path, required=True, help="gets one folder a model")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        build_models(options.corpus, options.output)
    except HcError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
