"""Trying a model out: what is told of labels, warnings and speed, and what counts as trouble."""

import json
from pathlib import Path

import pytest
import spacy

from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.checking import SENTENCES, ModelCheck, check_model
from hc_orchestration.models.store import installed_model

STUDY_LABELS = ("DISEASE", "CHEMICAL")
PRIVATE = "Mr. Xanthoquill of Lane Street"


def pipeline(folder: Path, *patterns: tuple[str, str], spacy_version: str | None = None) -> Path:
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": label, "pattern": word} for label, word in patterns])
    nlp.to_disk(folder)
    if spacy_version:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        (folder / "meta.json").write_text(json.dumps(meta | {"spacy_version": spacy_version}))
    return folder


def check(folder: Path, fields: str, texts: tuple[str, ...] = SENTENCES) -> ModelCheck:
    catalogue = folder / "models.yaml"
    catalogue.write_text(f'models: [{{name: tried, version: "1", {fields}}}]\n', encoding="utf-8")
    (entry,) = load_catalogue(catalogue).models
    return check_model(installed_model(entry, folder / "store"), STUDY_LABELS, texts)


def test_labels_mentions_components_and_speed_are_told(tmp_path: Path) -> None:
    pipeline(
        tmp_path / "m", ("DISEASE", "hypertension"), ("CHEMICAL", "metformin"), ("TEST", "labs")
    )
    found = check(tmp_path, "loader: spacy, source: {path: m}")
    assert found.problems == ()
    assert found.found == {"CHEMICAL": 1, "DISEASE": 1, "TEST": 1}
    assert found.labels == ("CHEMICAL", "DISEASE", "TEST")
    assert found.unmapped == ("TEST",)
    assert found.never_given == ()
    assert (found.device, found.components) == ("cpu", ("entity_ruler",))
    assert found.words == sum(len(sentence.split()) for sentence in SENTENCES)
    assert found.words_per_second is not None
    assert found.words_per_second > 0


def test_a_label_that_is_mapped_and_never_given_is_named(tmp_path: Path) -> None:
    pipeline(tmp_path / "m", ("DIS", "hypertension"))
    found = check(
        tmp_path, "loader: spacy, source: {path: m}, labels: {DIS: DISEASE, DISEAES: DISEASE}"
    )
    assert found.never_given == ("DISEAES",)
    assert found.problems == ()


def test_a_model_of_which_nothing_would_count_is_trouble(tmp_path: Path) -> None:
    pipeline(tmp_path / "m", ("DIS", "hypertension"))
    (problem,) = check(tmp_path, "loader: spacy, source: {path: m}").problems
    assert "the study maps none of the model's labels (DIS)" in problem


def test_a_mapping_to_a_label_that_the_study_lacks_is_trouble(tmp_path: Path) -> None:
    pipeline(tmp_path / "m", ("DIS", "hypertension"))
    (problem,) = check(
        tmp_path, "loader: spacy, source: {path: m}, labels: {DIS: DISORDER}"
    ).problems
    assert "`labels` leads to DISORDER, but the study's labels are DISEASE, CHEMICAL" in problem


def test_the_warning_about_another_spacy_is_told(tmp_path: Path) -> None:
    pipeline(tmp_path / "m", ("DISEASE", "hypertension"), spacy_version=">=3.0.0,<3.1.0")
    found = check(tmp_path, "loader: spacy, source: {path: m}")
    (warning,) = found.warnings
    assert warning.startswith("tried-1: [W095] ")
    assert found.problems == ()


def test_a_model_that_does_not_load_is_trouble(tmp_path: Path) -> None:
    pipeline(tmp_path / "m", ("DISEASE", "hypertension"))
    (tmp_path / "m" / "config.cfg").write_text("]damaged[", encoding="utf-8")
    found = check(tmp_path, "loader: spacy, source: {path: m}")
    (problem,) = found.problems
    assert "cannot be loaded from" in problem
    assert found.words_per_second is None


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("raise ValueError(texts[0])", "raised ValueError on the sample"),
        ("return [[(0, 10_000, 'DISEASE')]]", "a span outside its text (0, 10000)"),
        ("return []", "gave 0 results for 1 texts"),
    ],
)
def test_what_goes_wrong_on_the_sample_is_told_without_its_words(
    tmp_path: Path, body: str, told: str
) -> None:
    module = f"tried_{abs(hash(body))}"
    (tmp_path / f"{module}.py").write_text(
        f"class Model:\n    def extract(self, texts):\n        {body}\n\n\n"
        "def make(options):\n    return Model()\n",
        encoding="utf-8",
    )
    found = check(tmp_path, f'loader: "{module}:make"', (PRIVATE,))
    (problem,) = found.problems
    assert told in problem
    assert "Xanthoquill" not in str(found)
