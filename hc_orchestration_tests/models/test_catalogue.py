"""The model catalogue: keys that are unique and safe, sources, labels, and refused entries."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from hc_orchestration.errors import ConfigurationError, ModelError
from hc_orchestration.models.catalogue import (
    Catalogue,
    ModelCard,
    ModelEntry,
    ModelSource,
    load_catalogue,
)

SHIPPED = Path(__file__).parents[2] / "data" / "models.yaml"


def written(folder: Path, *entries: str) -> Path:
    path = folder / "models.yaml"
    lines = [f"  - {{{entry}}}" for entry in entries]
    path.write_text("\n".join(["models:", *lines]), encoding="utf-8")
    return path


def refusal(folder: Path, *entries: str) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load_catalogue(written(folder, *entries))
    return str(caught.value)


def entry(name: str = "demo", version: str = "1.0", **fields: object) -> ModelEntry:
    source = ModelSource(url="https://models.example/demo.tar.gz")
    given_fields = {"name": name, "version": version, "loader": "spacy", "source": source}
    return ModelEntry.model_validate(given_fields | fields)


def test_entry_of_all_keys_is_read(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(
        """
models:
  - name: en_core_sci_sm
    version: 0.5.4
    loader: spacy
    source: {url: "https://models.example/sm.tar.gz", sha256: %s}
    labels: {ENTITY: "*"}
    components: [tok2vec, ner]
    card: {license: CC-BY-SA-3.0, developer: Allen Institute for AI, intended_use: Research}
"""
        % ("0a" * 32),
        encoding="utf-8",
    )
    (read,) = load_catalogue(path).models
    assert read == ModelEntry(
        name="en_core_sci_sm",
        version="0.5.4",
        loader="spacy",
        source=ModelSource(url="https://models.example/sm.tar.gz", sha256="0a" * 32),
        labels={"ENTITY": "*"},
        components=("tok2vec", "ner"),
        card=ModelCard(
            license="CC-BY-SA-3.0", developer="Allen Institute for AI", intended_use="Research"
        ),
    )
    assert read.key == "en_core_sci_sm-0.5.4"


def test_shipped_catalogue_is_read_and_its_files_are_there() -> None:
    catalogue = load_catalogue(SHIPPED)
    paths = [model.source.path for model in catalogue.models if model.source.path]
    assert paths
    assert all(Path(path).is_dir() for path in paths)
    assert {model.card.license for model in catalogue.models} >= {"Apache-2.0", "CC-BY-SA-3.0"}


def test_each_published_model_of_scispacy_has_an_entry_with_licence_and_labels() -> None:
    published = {m.name: m for m in load_catalogue(SHIPPED).models if m.version == "0.5.4"}
    labels = {name: len(model.card.labels or ()) for name, model in published.items()}
    assert labels == {
        "en_core_sci_sm": 1,
        "en_core_sci_md": 1,
        "en_core_sci_lg": 1,
        "en_core_sci_scibert": 1,
        "en_ner_craft_md": 6,
        "en_ner_jnlpba_md": 5,
        "en_ner_bc5cdr_md": 2,
        "en_ner_bionlp13cg_md": 16,
    }
    for model in published.values():
        assert model.card.license == "CC-BY-SA-3.0"
        assert model.origin.url is not None
        assert model.origin.url.endswith(f"/releases/v0.5.4/{model.key}.tar.gz")
        assert set(model.labels or ()) <= set(model.card.labels or ())


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (
            "name: a, version: '1', loader: spacy, source: {path: x}, lables: {}",
            "models.0.lables: unknown key; did you mean 'labels'?",
        ),
        (
            "name: a, version: '1', loader: spacy, source: {pth: x}",
            "models.0.source.pth: unknown key; did you mean 'path'?",
        ),
        (
            "name: a, version: '1', loader: spacy, source: {path: x}, card: {licence: MIT}",
            "models.0.card.licence: unknown key; did you mean 'license'?",
        ),
        (
            "name: a, version: 1.0, loader: spacy, source: {path: x}",
            "models.0.version: Input should be a valid string; YAML reads it as another type.",
        ),
        (
            "name: a, version: '1', loader: spcy, source: {path: x}",
            "unknown loader; known loaders: lexicon, spacy",
        ),
        (
            "name: a, version: '1', loader: spacy, source: {path: x, package: y}",
            "give exactly one of url, path and package",
        ),
        (
            "name: a, version: '1', loader: spacy, source: {}",
            "give exactly one of url, path and package",
        ),
        (
            "name: a, version: '1', loader: spacy, source: {url: x, sha256: ABC}",
            "models.0.source.sha256",
        ),
        (
            "name: a, version: '1', loader: spacy, source: {package: en-core}",
            "models.0.source.package",
        ),
        (
            "name: a, version: '1', loader: spacy",
            "models.0: Value error, the loader spacy needs a source",
        ),
    ],
)
def test_slip_in_an_entry_is_named(tmp_path: Path, fields: str, expected: str) -> None:
    assert expected in refusal(tmp_path, fields)


def test_key_given_twice_in_other_case_is_refused(tmp_path: Path) -> None:
    first = "name: Demo, version: '1.0', loader: spacy, source: {path: a}"
    second = "name: demo, version: '1.0', loader: lexicon, source: {path: b}"
    message = refusal(tmp_path, first, second)
    assert "the key demo-1.0 stands twice (upper and lower case count as the same)" in message


def test_versions_of_one_name_are_two_models(tmp_path: Path) -> None:
    first = "name: demo, version: '1.0', loader: spacy, source: {path: a}"
    second = "name: demo, version: '1.1', loader: spacy, source: {path: a}"
    assert load_catalogue(written(tmp_path, first, second)).keys == ("demo-1.0", "demo-1.1")


@pytest.mark.parametrize("version", ["1.0-rc1", "", "-1", "../1", "1/2", "1 0", "1\n", "1" * 51])
def test_version_that_would_spoil_the_key_is_refused(version: str) -> None:
    with pytest.raises(ValidationError):
        entry(version=version)


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a\\b", "-a", "a b", "é", "a\x00"])
def test_name_that_would_spoil_the_key_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        entry(name=name)


@given(
    st.text("ab.-_/\\ \n", max_size=4),
    st.text("12.+-/", max_size=4),
    st.text("ab.-_", max_size=4),
    st.text("12.+", max_size=4),
)
def test_key_is_one_folder_name_and_belongs_to_one_entry(
    name: str, version: str, other_name: str, other_version: str
) -> None:
    try:
        one = entry(name, version)
        other = entry(other_name, other_version)
    except ValidationError:
        return
    store = Path("/store")
    assert (store / one.key).parent == store
    assert one.key not in {".", ".."}
    assert (one.key == other.key) == ((name, version) == (other_name, other_version))


def test_relative_path_is_taken_from_the_folder_of_the_catalogue(tmp_path: Path) -> None:
    relative = "name: a, version: '1', loader: spacy, source: {path: models/a}"
    absolute = "name: b, version: '1', loader: spacy, source: {path: /models/b}"
    sources = [
        model.source for model in load_catalogue(written(tmp_path, relative, absolute)).models
    ]
    assert [source.path for source in sources] == [str(tmp_path / "models" / "a"), "/models/b"]


def test_unknown_key_names_the_known_ones() -> None:
    catalogue = Catalogue(models=(entry("a"), entry("b")))
    assert catalogue.entry("b-1.0") == entry("b")
    with pytest.raises(ModelError, match=r"model 'c-1\.0' is not in .*holds: a-1\.0, b-1\.0\."):
        catalogue.entry("c-1.0")


def test_model_without_a_mapping_speaks_the_labels_of_the_study() -> None:
    study_labels = ("DISEASE", "CHEMICAL")
    assert entry().label_mapping(study_labels) == {"DISEASE": "DISEASE", "CHEMICAL": "CHEMICAL"}
    assert entry(labels={"DIS": "DISEASE"}).label_mapping(study_labels) == {"DIS": "DISEASE"}
    assert entry(labels={}).label_mapping(study_labels) == {}


def test_model_is_untyped_when_a_label_is_mapped_to_the_star() -> None:
    assert entry(labels={"ENTITY": "*"}).untyped
    assert not entry(labels={"DIS": "DISEASE"}).untyped
    assert not entry().untyped
