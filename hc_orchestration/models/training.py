"""The recipe of the shipped models, all from BC5CDR: a term list, a small CNN, an ensemble.

`python -m hc_orchestration.models.training --corpus DIR --output DIR` reads the Training and the
Development file of BC5CDR (Li et al. 2016, Database baw068), writes one folder a model, and then
opens Test once for the figures. The settings of a net are in `recipe.cfg`, beside this module.
"""

import argparse
import logging
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import spacy
from spacy.lang.en import English
from spacy.matcher import PhraseMatcher
from spacy.training import Example
from spacy.training.initialize import init_nlp
from spacy.training.loop import DIR_MODEL_LAST, train
from spacy.util import filter_spans, load_config, registry

from hc_orchestration.corpora.notes import Note, Reject, Span
from hc_orchestration.corpora.raw import PassedOver
from hc_orchestration.corpora.sources import CorpusSource, read_source
from hc_orchestration.errors import CorpusError, HcError
from hc_orchestration.models.document_consistency import ConsistencyRule
from hc_orchestration.models.figures import measure, strict_counts
from hc_orchestration.models.loaders import LexiconModel, SpacyModel
from hc_orchestration.models.model_cards import write_card
from hc_orchestration.models.open_names import fetch_packages, read_open_names
from hc_orchestration.models.spacy_parts import make_clinical_tokenizer

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc
    from spacy.tokens import Span as TokenSpan

RECIPE = Path(__file__).with_name("recipe.cfg")
TERMS_KEY = "bc5cdr_terms-1.0.0"
SMALL = ("bc5cdr_cnn_sm", "1.1.0")
ENSEMBLE = ("bc5cdr_ensemble", "1.0.0")
SEEDS = (1, 2, 3)

_LABELS = {"Chemical": "CHEMICAL", "Disease": "DISEASE"}
_TRAINING_FILE = "CDR_TrainingSet.PubTator.txt"
_DEVELOPMENT_FILE = "CDR_DevelopmentSet.PubTator.txt"
_TEST_FILE = "CDR_TestSet.PubTator.txt"
_META = {
    "description": "Diseases and chemicals in English, trained on BC5CDR abstracts.",
    "author": "hc_orchestration project",
    "license": "Apache-2.0; the lexicon CC-BY-SA-3.0",
    "spacy_version": ">=3.8.7,<3.9.0",
    "sources": [
        {
            "name": "BC5CDR, Training and Development",
            "url": "https://doi.org/10.1093/database/baw068",
            "author": "Li et al. 2016",
            "license": "public domain (NLM)",
        },
        {
            "name": "MeSH, DrugBank open vocabulary, Wikipedia, NHS (hashed names)",
            "url": "https://fastdatascience.com",
            "author": "NLM, DrugBank, Wikipedia contributors, NHS; joined by Fast Data Science",
            "license": "CC-BY-SA-3.0",
        },
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

    def notes(self, parts: Iterable[str]) -> tuple[Note, ...]:
        """The notes of the parts `training` and `development`, as named."""
        named = {"training": self.training, "development": self.development}
        return tuple(note for part in parts for note in named[part])


@dataclass(frozen=True, slots=True)
class Fit:
    """On which notes a net is trained, and how long.

    Attributes:
        parts: The parts of BC5CDR.
        steps: Updates of the weights.
    """

    parts: tuple[str, ...]
    steps: int


# Eight passes each, as batches of 200 words grow to 1,000.
SELECTION = Fit(("training",), 1750)
FINAL = Fit(("training", "development"), 2750)


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

CONSISTENCY_RULES = tuple(
    ConsistencyRule(share, length, abbreviations=True)
    for share, length in product((0.0, 0.2, 0.34, 0.5), (2, 3))
)
CONSISTENCY = ConsistencyRule(least_share=0.0, least_length=2, abbreviations=True)


def agreeing(members: int) -> int:
    """How many of the nets must agree on a span."""
    return members


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


def make_reader(folder: str, parts: list[str]) -> ExampleReader:
    """What spaCy's training loop calls for the notes of these parts of BC5CDR."""
    notes = read_bc5cdr(Path(folder)).notes(parts)
    return lambda nlp: gold_examples(nlp, notes)


def make_open_names(folder: str) -> dict[str, str]:
    """What spaCy calls for the entries of the lexicon tagger; see `read_open_names`."""
    return read_open_names(Path(folder))


registry.readers("hc_orchestration.Bc5cdr.v1", func=make_reader)
registry.misc("hc_orchestration.OpenNames.v1", func=make_open_names)


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


def train_net(folder: Path, names: Path, fit: Fit, seed: int) -> "Language":
    """Train one net, and return its pipeline: the lexicon tagger and spaCy's NER.

    The weights are the averages after the last step: no checkpoint is chosen, so no note that is
    trained on has to select.

    Args:
        folder: Where the two BC5CDR files are.
        names: Where the two packages of `open_names` are.
        fit: On which notes, and how long.
        seed: Of the first weights, the order of the notes and the dropout.

    Raises:
        CorpusError: See `read_bc5cdr`.
        ModelError: See `read_open_names`.
    """
    nlp = init_nlp(load_config(RECIPE, overrides=_overrides(folder, names, fit, seed)))
    _log_reach(" + ".join(fit.parts), nlp, read_bc5cdr(folder).notes(fit.parts))
    with TemporaryDirectory() as checkpoints:
        train(nlp, Path(checkpoints), stdout=sys.stderr, stderr=sys.stderr)
        return spacy.load(Path(checkpoints) / DIR_MODEL_LAST)


def _overrides(folder: Path, names: Path, fit: Fit, seed: int) -> dict[str, Any]:
    """What `recipe.cfg` leaves open.

    The learning rate is constant for 40 % of the steps, and the line after it has 60 %. It ends at
    5 % of the rate if it would reach zero 0.05 / 0.95 of its length later.
    """
    constant = fit.steps * 2 // 5
    return {
        "paths.corpus": str(folder),
        "paths.names": str(names),
        "split.parts": list(fit.parts),
        "system.seed": seed,
        "training.max_steps": fit.steps,
        "training.optimizer.learn_rate.steps": constant,
        "training.optimizer.learn_rate.schedule.total_steps": round((fit.steps - constant) / 0.95),
    }


def compose(nets: Sequence["Language"], least: int, rule: ConsistencyRule) -> "Language":
    """Join nets of `train_net` to one pipeline: the tagger, the nets, their vote, consistency.

    Args:
        nets: Trained with the same names.
        least: How many nets must agree on a span.
        rule: Of the document consistency.
    """
    tokenizer = {"@tokenizers": "hc_orchestration.ClinicalTokenizer.v1"}
    nlp = English.from_config({"nlp": {"tokenizer": tokenizer}})
    nlp.batch_size = nets[0].batch_size
    tagger: Any = nets[0].get_pipe("lexicon")
    own_tagger: Any = nlp.add_pipe("hc_lexicon_tagger", "lexicon")
    own_tagger.from_bytes(tagger.to_bytes())
    members = [f"ner_{number}" for number in range(1, len(nets) + 1)]
    for name, net in zip(members, nets, strict=True):
        model = net.config["components"]["ner"]["model"]
        member: Any = nlp.add_pipe("hc_ner_member", name, config={"model": model})
        trained: Any = net.get_pipe("ner")
        with TemporaryDirectory() as folder:
            trained.to_disk(folder, exclude=["vocab"])
            member.from_disk(folder, exclude=["vocab"])
    nlp.add_pipe("hc_ner_vote", "vote", config={"members": members, "least": least})
    nlp.add_pipe("hc_document_consistency", "consistency", config=asdict(rule))
    return nlp


def _log_reach(part: str, nlp: "Language", notes: Sequence[Note]) -> None:
    gold = sum(len(note.spans or ()) for note in notes)
    dropped = unreachable_gold(nlp, notes)
    message = "%s: %d notes, %d gold spans; %d of these fit no tokens and are dropped"
    logger.info(message, part, len(notes), gold, dropped)


def save_pipeline(nlp: "Language", folder: Path) -> None:
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
    folder: Path, names: Path, output: Path, *, fit: Fit = FINAL, seeds: Sequence[int] = SEEDS
) -> dict[str, Path]:
    """Build the shipped models from the BC5CDR files in `folder`.

    Args:
        folder: Where Training and Development are.
        names: Where the two packages of `open_names` are.
        output: Gets one folder a model.
        fit: How each net is trained.
        seeds: One net each; the small model is the first net alone.

    Returns:
        The folder of each model, by the model's key.
    """
    corpus = read_bc5cdr(folder)
    statistics = term_statistics(corpus.training)
    rule = choose_lexicon_rule(statistics, corpus.development)
    logger.info("chosen: %s", rule)
    built = {TERMS_KEY: output / TERMS_KEY}
    save_lexicon(lexicon_terms(statistics, rule), built[TERMS_KEY])
    nets = [train_net(folder, names, fit, seed) for seed in seeds]
    for name, version, members, least in (
        (*SMALL, nets[:1], 1),
        (*ENSEMBLE, nets, agreeing(len(nets))),
    ):
        nlp = compose(members, least, CONSISTENCY)
        nlp.meta.update(_META, name=name, version=version)
        key = f"{name}-{version}"
        save_pipeline(nlp, output / key)
        built[key] = output / key
    return built


def report_selection(folder: Path, names: Path) -> None:
    """Log what every vote and every consistency rule gives on Development.

    The nets are trained on Training alone. `CONSISTENCY` and `agreeing` were chosen by this.
    """
    nets = [train_net(folder, names, SELECTION, seed) for seed in SEEDS]
    development = read_bc5cdr(folder).development
    for members in (nets[:1], nets):
        for least in range(len(members) // 2 + 1, len(members) + 1):
            for rule in CONSISTENCY_RULES:
                figures = measure(SpacyModel(compose(members, least, rule)), development)
                logger.info("%d of %d, %s: %s", least, len(members), rule, figures)


def write_cards(folder: Path, built: Iterable[Path]) -> None:
    """Measure the finished spaCy models on Test, which nothing before has read; write their cards.

    Args:
        folder: Where the Test file of BC5CDR is.
        built: Folders of the models.
    """
    notes = _read_file(folder / _TEST_FILE)
    for location in built:
        nlp = spacy.load(location)
        lexicon: Any = nlp.get_pipe("lexicon")
        vote = nlp.get_pipe_config("vote")
        figures = measure(SpacyModel(nlp), notes)
        logger.info("%s: %s", location.name, figures)
        write_card(
            location,
            nlp.meta["name"],
            nlp.meta["version"],
            names=len(lexicon),
            members=len(vote["members"]),
            least=vote["least"],
            figures=figures,
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Build the models from the command line; exits with status 1 if that cannot be done."""
    parser = argparse.ArgumentParser(prog="python -m hc_orchestration.models.training")
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the BC5CDR files")
    parser.add_argument("--output", type=Path, required=True, help="gets one folder a model")
    parser.add_argument("--select", action="store_true", help="compare settings on Development")
    options = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    logger.setLevel(logging.INFO)
    try:
        read_bc5cdr(options.corpus)
        with TemporaryDirectory() as folder:
            names = Path(folder)
            fetch_packages(names)
            if options.select:
                report_selection(options.corpus, names)
            else:
                built = build_models(options.corpus, names, options.output)
                built.pop(TERMS_KEY)  # its card is written by hand
                write_cards(options.corpus, built.values())
    except HcError as error:
        parser.exit(1, f"{error}\n")


if __name__ == "__main__":
    main()
