"""The loaders: what a term list and a spaCy pipeline find, and damaged ones."""

import json
from pathlib import Path

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from hc_orchestration.errors import ModelError
from hc_orchestration.extraction.local import extract_batches
from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.loaders import LexiconModel, NerModel, load_model, vocabulary
from hc_orchestration.models.loaders import lexicon as lexicon_module
from hc_orchestration.models.predictions import NoteText
from hc_orchestration.models.store import InstalledModel


def installed(
    location: Path, loader: str, components: tuple[str, ...] | None = None
) -> InstalledModel:
    entry = ModelEntry(
        name="demo",
        version="1.0",
        loader=loader,
        source=ModelSource(path=str(location)),
        components=components,
    )
    return InstalledModel(entry, location, (), "f" * 64)


def lexicon(folder: Path, *lines: str) -> NerModel:
    (folder / "terms.tsv").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return load_model(installed(folder, "lexicon"))


def quoted(model: NerModel, text: str) -> list[tuple[str, str]]:
    (spans,) = model.extract([text])
    return [(text[span[0] : span[1]], span[2]) for span in spans]


class TestLexicon:
    """Lines `LABEL<TAB>term`."""

    def test_terms_are_found_in_any_case_at_their_offsets(self, tmp_path: Path) -> None:
        model = lexicon(tmp_path, "DISEASE\tasthma", "CHEMICAL\tMetformin")
        assert model.extract(["Has \U0001f637 ASTHMA, on metformin.", "Well."]) == [
            [(6, 12, "DISEASE"), (17, 26, "CHEMICAL")],
            [],
        ]

    def test_longest_term_wins(self, tmp_path: Path) -> None:
        model = lexicon(tmp_path, "CHEMICAL\tlead", "DISEASE\tlead poisoning", "DISEASE\tpoisoning")
        assert quoted(model, "Lead poisoning by lead") == [
            ("Lead poisoning", "DISEASE"),
            ("lead", "CHEMICAL"),
        ]

    def test_of_two_overlapping_terms_of_one_length_the_first_in_the_text_wins(
        self, tmp_path: Path
    ) -> None:
        model = lexicon(tmp_path, "CHEMICAL\tpoisoning lead", "DISEASE\tlead poisoning")
        assert quoted(model, "lead poisoning lead") == [("lead poisoning", "DISEASE")]

    def test_term_with_two_labels_is_found_once(self, tmp_path: Path) -> None:
        model = lexicon(tmp_path, "CHEMICAL\tiron", "DISEASE\tiron")
        ((mention, label),) = quoted(model, "Low iron.")
        assert mention == "iron"
        assert label in {"CHEMICAL", "DISEASE"}

    def test_term_matches_whole_tokens_only(self, tmp_path: Path) -> None:
        model = lexicon(tmp_path, "CHEMICAL\tlead")
        assert quoted(model, "leads mislead leaded") == []
        assert quoted(model, "lead-induced, (lead)") == [("lead", "CHEMICAL"), ("lead", "CHEMICAL")]

    def test_one_file_is_a_lexicon_too(self, tmp_path: Path) -> None:
        (tmp_path / "drugs.tsv").write_bytes(b"\xef\xbb\xbfCHEMICAL\tmetformin\r\n")
        model = load_model(installed(tmp_path / "drugs.tsv", "lexicon"))
        assert quoted(model, "On metformin.") == [("metformin", "CHEMICAL")]

    @pytest.mark.parametrize(
        "line", ["asthma", "DISEASE asthma", "\tasthma", "DISEASE\t", "", "A\t "]
    )
    def test_broken_line_is_named(self, tmp_path: Path, line: str) -> None:
        with pytest.raises(
            ModelError, match=r"model demo-1\.0: terms\.tsv line 2 is not LABEL<TAB>term"
        ):
            lexicon(tmp_path, "DISEASE\tflu", line, "DISEASE\tgout")

    def test_empty_term_list_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match="holds no terms"):
            lexicon(tmp_path)

    def test_folder_without_a_term_list_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"terms\.tsv cannot be read \(FileNotFoundError\)"):
            load_model(installed(tmp_path, "lexicon"))

    def test_term_list_that_is_not_utf_8_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "terms.tsv").write_bytes(b"DISEASE\tgripe \xe9\n")
        with pytest.raises(ModelError, match=r"terms\.tsv cannot be read \(UnicodeDecodeError\)"):
            load_model(installed(tmp_path, "lexicon"))


@Language.component("hc_test_unneeded")
def unneeded(doc: Doc) -> Doc:
    message = f"this component need not run on {len(doc)} tokens"
    raise RuntimeError(message)


@Language.component("hc_test_silent_writer")
def silent_writer(doc: Doc) -> Doc:
    """Writes entities without saying so to spaCy."""
    doc.set_ents([spacy.tokens.Span(doc, 0, 1, label="FIRST")])
    return doc


def ruler_pipeline() -> Language:
    """A pipeline whose ruler finds diseases, between two components that raise when run."""
    nlp = spacy.blank("en")
    nlp.add_pipe("hc_test_unneeded", name="before")
    ruler = nlp.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "DISEASE", "pattern": [{"LOWER": "asthma"}]}])
    nlp.add_pipe("hc_test_unneeded", name="after")
    return nlp


class TestSpacy:
    """Folders that spaCy wrote."""

    def test_only_the_components_that_entities_need_are_run(self, tmp_path: Path) -> None:
        ruler_pipeline().to_disk(tmp_path)
        with pytest.raises(RuntimeError, match="need not run"):
            spacy.load(tmp_path)("No asthma.")
        model = load_model(installed(tmp_path, "spacy"))
        assert model.extract(["\U0001f637 No asthma.", "Well.", ""]) == [
            [(5, 11, "DISEASE")],
            [],
            [],
        ]

    def test_shared_layer_that_the_recognizer_listens_to_is_run(self, tmp_path: Path) -> None:
        nlp = spacy.blank("en")
        nlp.add_pipe("tok2vec")
        nlp.add_pipe("hc_test_unneeded")
        listener = {"@architectures": "spacy.Tok2VecListener.v1", "width": 96, "upstream": "*"}
        ner = nlp.add_pipe("ner", config={"model": {"tok2vec": listener}})
        ner.add_label("DISEASE")
        with nlp.select_pipes(disable="hc_test_unneeded"):
            nlp.initialize()
        nlp.to_disk(tmp_path)
        model = load_model(installed(tmp_path, "spacy"))
        assert model.components == ("tok2vec", "ner")  # type: ignore[attr-defined]
        assert len(model.extract(["No asthma."])) == 1

    def test_named_components_are_run_and_no_others(self, tmp_path: Path) -> None:
        nlp = ruler_pipeline()
        nlp.add_pipe("hc_test_silent_writer")
        nlp.to_disk(tmp_path)
        model = load_model(installed(tmp_path, "spacy", ("hc_test_silent_writer",)))
        assert quoted(model, "Asthma since 1990") == [("Asthma", "FIRST")]

    def test_named_component_that_the_pipeline_lacks_is_refused(self, tmp_path: Path) -> None:
        ruler_pipeline().to_disk(tmp_path)
        with pytest.raises(ModelError) as caught:
            load_model(installed(tmp_path, "spacy", ("entity_ruler", "nre")))
        assert str(caught.value) == (
            f"model demo-1.0: {tmp_path} has no component nre. "
            "Mend `components`; it has: before, entity_ruler, after."
        )

    def test_pipeline_that_writes_no_entities_is_refused(self, tmp_path: Path) -> None:
        nlp = spacy.blank("en")
        nlp.add_pipe("sentencizer")
        nlp.to_disk(tmp_path)
        with pytest.raises(ModelError, match=r"no component of .* writes entities"):
            load_model(installed(tmp_path, "spacy"))

    def test_missing_factory_is_named(self, tmp_path: Path) -> None:
        ruler_pipeline().to_disk(tmp_path)
        config = tmp_path / "config.cfg"
        text = config.read_text(encoding="utf-8").replace("hc_test_unneeded", "team_factory")
        config.write_text(text, encoding="utf-8")
        with pytest.raises(ModelError) as caught:
            load_model(installed(tmp_path, "spacy"))
        message = str(caught.value)
        assert message.startswith(f"model demo-1.0 cannot be loaded from {tmp_path}: ")
        assert "'team_factory'" in message
        assert "\n" not in message

    @pytest.mark.parametrize("damage", ["config.cfg", "meta.json", "entity_ruler/patterns.jsonl"])
    def test_damaged_folder_is_a_model_error(self, tmp_path: Path, damage: str) -> None:
        nlp = spacy.blank("en")
        nlp.add_pipe("entity_ruler").add_patterns([{"label": "DISEASE", "pattern": "asthma"}])
        nlp.to_disk(tmp_path)
        (tmp_path / damage).write_text("]damaged[", encoding="utf-8")
        with pytest.raises(ModelError, match=r"model demo-1\.0 cannot be loaded from"):
            load_model(installed(tmp_path, "spacy"))

    def test_folder_without_a_pipeline_is_a_model_error(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"cannot be loaded from .*OSError"):
            load_model(installed(tmp_path, "spacy"))

    def test_warning_of_spacy_is_logged_with_the_key_of_the_model(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        ruler_pipeline().to_disk(tmp_path)
        meta = json.loads((tmp_path / "meta.json").read_text(encoding="utf-8"))
        meta["spacy_version"] = ">=3.0.0,<3.1.0"
        (tmp_path / "meta.json").write_text(json.dumps(meta), encoding="utf-8")
        load_model(installed(tmp_path, "spacy"))
        (logged,) = caplog.messages
        assert logged.startswith("demo-1.0: [W095] ")
        assert "3.0.0" in logged
        assert "\n" not in logged


class TestBoundedVocabulary:
    """spaCy's memory of words, which would grow with the corpus."""

    def test_model_is_loaded_again_when_it_remembers_too_much_and_finds_the_same(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vocabulary, "MOST_STRINGS", 100)
        (tmp_path / "terms.tsv").write_text("DISEASE\tasthma\n", encoding="utf-8")
        loads = []

        def load() -> LexiconModel:
            loads.append(lexicon_module._load(installed(tmp_path, "lexicon")))
            return loads[-1]

        model = vocabulary.BoundedVocabulary(load)
        assert len(loads) == 1
        for number in range(300):
            assert quoted(model, f"Asthma, see word{number}") == [("Asthma", "DISEASE")]
        assert 2 < len(loads) < 30
        assert max(loaded.strings for loaded in loads) < 100 + 10 + load().strings

    def test_model_that_is_gone_when_it_is_loaded_again_is_no_fault_of_a_note(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(vocabulary, "MOST_STRINGS", 0)
        model = lexicon(tmp_path, "DISEASE\tasthma")
        batches = [[NoteText("n1", "Unheard of", "d1")], [NoteText("n2", "asthma", "d2")]]
        results = extract_batches(model, batches)
        next(results)
        (tmp_path / "terms.tsv").unlink()
        with pytest.raises(ModelError, match=r"terms\.tsv cannot be read"):
            next(results)
