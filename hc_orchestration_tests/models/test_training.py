"""The recipe of the shipped models, on a corpus of a few sentences, and what it once produced."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import pytest
import spacy
from spacy.lang.en import English
from spacy.util import load_config, registry

from hc_orchestration.corpora.notes import Note, Span
from hc_orchestration.errors import CorpusError
from hc_orchestration.models import training
from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.document_consistency import ConsistencyRule
from hc_orchestration.models.figures import StrictCounts, folder_bytes, strict_counts
from hc_orchestration.models.loaders import ModelSpan, load_model
from hc_orchestration.models.spacy_parts import make_clinical_tokenizer
from hc_orchestration.models.store import InstalledModel
from hc_orchestration.models.training import Fit, LexiconRule, TermStatistics

SHIPPED = Path(__file__).parents[2] / "data" / "models"

Mentions = tuple[tuple[str, str], ...]

TRAINING_NOTES: tuple[tuple[str, Mentions], ...] = (
    ("Naloxone reverses hypertension.", (("Naloxone", "Chemical"), ("hypertension", "Disease"))),
    ("Lithium caused nausea.", (("Lithium", "Chemical"), ("nausea", "Disease"))),
    ("Cocaine caused seizures.", (("Cocaine", "Chemical"), ("seizures", "Disease"))),
    ("Naloxone was given for nausea.", (("Naloxone", "Chemical"), ("nausea", "Disease"))),
)
DEVELOPMENT_NOTES: tuple[tuple[str, Mentions], ...] = (
    ("Lithium caused seizures.", (("Lithium", "Chemical"), ("seizures", "Disease"))),
    ("Naloxone caused nausea.", (("Naloxone", "Chemical"), ("nausea", "Disease"))),
)
TINY = Fit(("training", "development"), steps=40)
LEXICON = {"lithium": "D01", "naloxone": "D03", "nausea": "C23"}


def pubtator(first_id: int, notes: Sequence[tuple[str, Mentions]]) -> str:
    """A PubTator file of titles with an empty abstract."""
    blocks = []
    for note_id, (title, mentions) in enumerate(notes, start=first_id):
        lines = [f"{note_id}|t|{title}", f"{note_id}|a|"]
        for mention, label in mentions:
            start = title.index(mention)
            lines.append(f"{note_id}\t{start}\t{start + len(mention)}\t{mention}\t{label}\tD0")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bc5cdr")
    training_file = folder / "CDR_TrainingSet.PubTator.txt"
    training_file.write_text(pubtator(1, TRAINING_NOTES), encoding="utf-8")
    development_file = folder / "CDR_DevelopmentSet.PubTator.txt"
    development_file.write_text(pubtator(9, DEVELOPMENT_NOTES), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def built(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Path]]:
    """The models of a term list of three names, which stands for the two packages."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "read_open_names", lambda folder: LEXICON)  # noqa: ARG005
        output = tmp_path_factory.mktemp("models")
        yield training.build_models(corpus, output, output, fit=TINY, seeds=(1, 2))


def clinical_english() -> English:
    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    return nlp


class Parrot:
    """A model that finds the same spans in every text."""

    def __init__(self, *spans: ModelSpan) -> None:
        self._spans = spans

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        return [list(self._spans) for _ in texts]


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("drug-induced", ["drug", "-", "induced"]),
        ("N/V/D", ["N", "/", "V", "/", "D"]),
        ("K(+) [3H]-naloxone", ["K", "(", "+", ")", "[", "3H", "]", "-", "naloxone"]),
        ("10-20 mg/kg", ["10", "-", "20", "mg", "/", "kg"]),
        ("5\u201310 days", ["5", "\u2013", "10", "days"]),
        ("e.g. 0.5 don't", ["e.g.", "0.5", "do", "n't"]),
    ],
)
def test_tokenizer_splits_where_mentions_end(text: str, tokens: list[str]) -> None:
    assert [token.text for token in clinical_english()(text)] == tokens


def test_tokenizer_survives_a_save_and_a_load_in_another_process(tmp_path: Path) -> None:
    config = {"nlp": {"tokenizer": {"@tokenizers": "hc_orchestration.ClinicalTokenizer.v1"}}}
    nlp = English.from_config(config)
    nlp.to_disk(tmp_path)
    text = "Anti-TNF/steroid-induced [K(+)] 5\u201310 mg/kg, e.g. don't."
    script = (
        "import sys, spacy, hc_orchestration.models.spacy_parts\n"
        "print(ascii([token.text for token in spacy.load(sys.argv[1])(sys.argv[2])]))"
    )
    command = [sys.executable, "-c", script, str(tmp_path), text]
    run = subprocess.run(command, check=True, capture_output=True, text=True)
    expected = [token.text for token in clinical_english()(text)]
    assert run.stdout.strip() == ascii(expected)
    assert "TNF" in expected


def test_corpus_labels_and_parts(corpus: Path) -> None:
    bc5cdr = training.read_bc5cdr(corpus)
    first = bc5cdr.training[0]
    assert first.text == "Naloxone reverses hypertension.\n"
    assert first.spans == (Span(0, 8, "CHEMICAL"), Span(18, 30, "DISEASE"))
    assert [note.note_id for note in bc5cdr.notes(["training"])] == ["1", "2", "3", "4"]
    assert [note.note_id for note in bc5cdr.notes(["development"])] == ["9", "10"]


def test_gold_that_fits_no_tokens_is_dropped_and_counted() -> None:
    note = Note("n", "hepatitis overdose", (Span(0, 4, "DISEASE"), Span(10, 18, "DISEASE")))
    nlp = clinical_english()
    (example,) = training.gold_examples(nlp, [note])
    assert [entity.text for entity in example.reference.ents] == ["overdose"]
    assert training.unreachable_gold(nlp, [note]) == 1


SMALL, ENSEMBLE, TERMS = "bc5cdr_cnn_sm-1.1.0", "bc5cdr_ensemble-1.0.0", "bc5cdr_terms-1.0.0"


@pytest.mark.parametrize("key", [SMALL, ENSEMBLE])
def test_recipe_gives_a_model_that_has_learned_and_loads(built: dict[str, Path], key: str) -> None:
    nlp = spacy.load(built[key])
    found = {(entity.text, entity.label_) for entity in nlp("Naloxone reverses hypertension.").ents}
    assert found == {("Naloxone", "CHEMICAL"), ("hypertension", "DISEASE")}


def test_ensemble_holds_a_net_a_seed_that_differ(built: dict[str, Path]) -> None:
    nlp = spacy.load(built[ENSEMBLE])
    assert nlp.pipe_names == ["lexicon", "ner_1", "ner_2", "vote", "consistency"]
    first, second = (nlp.get_pipe(name).model.to_bytes() for name in ("ner_1", "ner_2"))
    assert first != second


@pytest.mark.parametrize("key", [SMALL, ENSEMBLE])
def test_our_loader_keeps_every_part_that_the_entities_need(
    built: dict[str, Path], key: str
) -> None:
    entry = ModelEntry(
        name="m", version="1", loader="spacy", source=ModelSource(path=str(built[key]))
    )
    model = load_model(InstalledModel(entry, built[key], (), ""))
    text = "Naloxone reverses hypertension."
    expected = [(e.start_char, e.end_char, e.label_) for e in spacy.load(built[key])(text).ents]
    assert model.extract([text]) == [expected]
    assert expected


def test_saved_model_says_what_it_is_and_not_where_it_was_made(
    built: dict[str, Path], corpus: Path
) -> None:
    nlp = spacy.load(built[SMALL])
    assert (nlp.meta["name"], nlp.meta["version"]) == ("bc5cdr_cnn_sm", "1.1.0")
    assert nlp.meta["license"] == "Apache-2.0; the lexicon CC-BY-SA-3.0"
    assert str(corpus) not in (built[SMALL] / "config.cfg").read_text(encoding="utf-8")
    assert not (built[SMALL] / "vocab").exists()


def test_training_twice_gives_the_same_weights(
    built: dict[str, Path], corpus: Path, tmp_path: Path
) -> None:
    net = training.train_net(corpus, tmp_path, TINY, seed=1)
    rule = ConsistencyRule(0.0, 2, abbreviations=True)
    training.save_pipeline(training.compose([net], 1, rule), tmp_path)
    weights = Path("ner_1", "model")
    assert (tmp_path / weights).read_bytes() == (built[SMALL] / weights).read_bytes()


def test_card_shows_figures_of_test_and_what_the_model_is(
    built: dict[str, Path], corpus: Path
) -> None:
    notes = [("Naloxone caused nausea.", (("Naloxone", "Chemical"), ("nausea", "Disease")))]
    test_file = corpus / "CDR_TestSet.PubTator.txt"
    test_file.write_text(pubtator(20, notes), encoding="utf-8")
    training.write_cards(corpus, [built[ENSEMBLE]])
    card = (built[ENSEMBLE] / "README.md").read_text(encoding="utf-8")
    assert card.startswith("# bc5cdr_ensemble 1.0.0\n")
    assert "| BC5CDR Test | all | 2 | 1.000 | 1.000 | 1.000 | 1.000 to 1.000 |" in card
    assert "holds\n   3 names" in card
    assert "2 such nets as in bc5cdr_cnn_sm, of different seeds; 2 must agree" in card


def test_learning_rate_is_constant_and_then_falls_to_a_twentieth(tmp_path: Path) -> None:
    overrides = training._overrides(tmp_path, tmp_path, Fit(("training",), steps=1000), seed=1)
    config = load_config(training.RECIPE, overrides=overrides)["training"]["optimizer"]
    rates = list(islice(registry.resolve({"rate": config["learn_rate"]})["rate"], 1001))
    assert [round(rates[step], 5) for step in (0, 400, 700, 1000)] == [
        0.001,
        0.001,
        0.00053,
        0.00005,
    ]


def test_lexicon_statistics_count_word_bounded_occurrences_in_any_case() -> None:
    # "lead" stands four times as a word (once glued with a hyphen), and is gold in two places;
    # "leads" and "mislead" are other words. "lead colic" is a disease, so "lead" in it is not gold.
    first = Note(
        "1",
        "Lead is toxic: leads mislead, lead-free.",
        (Span(0, 4, "CHEMICAL"), Span(30, 34, "CHEMICAL")),
    )
    second = Note("2", "They lead. Lead colic", (Span(11, 21, "DISEASE"),))
    assert training.term_statistics([first, second]) == [
        TermStatistics("lead", "CHEMICAL", occurrences=4, gold=2),
        TermStatistics("lead colic", "DISEASE", occurrences=1, gold=1),
    ]


def test_lexicon_term_takes_the_label_of_most_of_its_mentions() -> None:
    note = Note(
        "1",
        "Pan, pan, PAN",
        (Span(0, 3, "DISEASE"), Span(5, 8, "CHEMICAL"), Span(10, 13, "DISEASE")),
    )
    assert training.term_statistics([note]) == [
        TermStatistics("pan", "DISEASE", occurrences=3, gold=2)
    ]


def test_lexicon_leaves_out_what_a_line_cannot_hold() -> None:
    note = Note("1", "heart\nfailure", (Span(0, 13, "DISEASE"),))
    assert training.term_statistics([note]) == []


def test_lexicon_rule_bounds_share_and_length_from_below() -> None:
    statistics = [
        TermStatistics("lead", "CHEMICAL", occurrences=4, gold=2),
        TermStatistics("salt", "CHEMICAL", occurrences=5, gold=2),
        TermStatistics("mi", "DISEASE", occurrences=1, gold=1),
    ]
    assert training.lexicon_terms(statistics, LexiconRule(0.5, 3)) == {"lead": "CHEMICAL"}


def test_lexicon_rule_is_the_one_that_does_best_on_development() -> None:
    statistics = [
        TermStatistics("lead", "CHEMICAL", occurrences=20, gold=9),
        TermStatistics("lithium", "CHEMICAL", occurrences=20, gold=13),
    ]
    development = [Note("1", "Patients lead lives on lithium.", (Span(23, 30, "CHEMICAL"),))]
    rule = training.choose_lexicon_rule(statistics, development)
    assert training.lexicon_terms(statistics, rule) == {"lithium": "CHEMICAL"}


def test_lexicon_rule_drops_a_term_that_changes_nothing_on_development() -> None:
    statistics = [
        TermStatistics("absent", "CHEMICAL", occurrences=20, gold=9),
        TermStatistics("lithium", "CHEMICAL", occurrences=20, gold=20),
    ]
    development = [Note("1", "Patients on lithium.", (Span(12, 19, "CHEMICAL"),))]
    rule = training.choose_lexicon_rule(statistics, development)
    assert training.lexicon_terms(statistics, rule) == {"lithium": "CHEMICAL"}


def test_terms_are_written_sorted_with_their_label(built: dict[str, Path]) -> None:
    assert (built[TERMS] / "terms.tsv").read_text(encoding="utf-8") == (
        "CHEMICAL\tcocaine\nCHEMICAL\tlithium\nCHEMICAL\tnaloxone\n"
        "DISEASE\thypertension\nDISEASE\tnausea\nDISEASE\tseizures\n"
    )


def test_strict_counts_want_boundary_and_label() -> None:
    notes = [Note("1", "Naloxone x", (Span(0, 8, "CHEMICAL"),)), Note("2", "Nausea etc.", ())]
    model = Parrot((0, 8, "CHEMICAL"), (0, 8, "DISEASE"), (0, 7, "CHEMICAL"))
    assert strict_counts(model, notes) == {
        "micro": StrictCounts(gold=1, predicted=6, correct=1),
        "CHEMICAL": StrictCounts(gold=1, predicted=4, correct=1),
        "DISEASE": StrictCounts(gold=0, predicted=2, correct=0),
    }


def test_ratios_without_a_denominator_are_undefined() -> None:
    empty = StrictCounts(gold=0, predicted=0, correct=0)
    assert (empty.precision, empty.recall, empty.f1) == (None, None, None)
    some = StrictCounts(gold=4, predicted=2, correct=1)
    assert (some.precision, some.recall, some.f1) == (1 / 2, 1 / 4, 1 / 3)


def test_note_that_cannot_be_used_stops_the_recipe(tmp_path: Path) -> None:
    bad = "1|t|Naloxone\n1|a|\n1\t0\t5\tOther\tChemical\tD0\n"
    for part in ("Training", "Development"):
        (tmp_path / f"CDR_{part}Set.PubTator.txt").write_text(bad, encoding="utf-8")
    with pytest.raises(CorpusError, match="line 1 cannot be used"):
        training.read_bc5cdr(tmp_path)


def test_command_line_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^1$"):
        training.main(["--corpus", str(tmp_path), "--output", str(tmp_path / "out")])
    assert "CDR_TrainingSet.PubTator.txt" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("key", [SMALL, ENSEMBLE])
def test_shipped_model_finds_mentions_in_a_plain_sentence(key: str) -> None:
    nlp = spacy.load(SHIPPED / key)
    doc = nlp("The patient developed hypotension and renal failure after lithium.")
    found = {(entity.text, entity.label_) for entity in doc.ents}
    assert {("hypotension", "DISEASE"), ("lithium", "CHEMICAL")} <= found


def test_shipped_models_are_small() -> None:
    sizes = {key: folder_bytes(SHIPPED / key) for key in (SMALL, ENSEMBLE, TERMS)}
    assert sizes[SMALL] <= 8_000_000
    assert sizes[ENSEMBLE] <= 25_000_000
    assert sum(sizes.values()) <= 36_000_000


def test_shipped_terms_are_sorted_and_of_two_labels() -> None:
    content = (SHIPPED / "bc5cdr_terms-1.0.0" / "terms.tsv").read_text(encoding="utf-8")
    lines = content.splitlines()
    assert lines == sorted(set(lines))
    assert {line.split("\t")[0] for line in lines} == {"CHEMICAL", "DISEASE"}
    assert all(term == term.lower() and term for _, term in (line.split("\t") for line in lines))
