"""scispaCy's own components beside a model: abbreviations, sentences, concepts."""

import json
from pathlib import Path

import pytest
import spacy

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ModelEntry, ModelSource, load_catalogue
from hc_orchestration.models.loaders import NerModel, load_model
from hc_orchestration.models.store import installed_model

pytest.importorskip("scispacy", reason="scispacy is not installed (extra scispacy)")

CONCEPTS = [
    {
        "concept_id": "D007676",
        "canonical_name": "Kidney Failure, Chronic",
        "aliases": ["chronic kidney disease", "chronic renal failure"],
        "types": ["T047"],
        "definition": "The end stage of chronic renal insufficiency.",
    },
    {
        "concept_id": "D001249",
        "canonical_name": "Asthma",
        "aliases": ["bronchial asthma"],
        "types": ["T047"],
        "definition": "A form of bronchial disorder.",
    },
    {
        "concept_id": "D008687",
        "canonical_name": "Metformin",
        "aliases": ["dimethylbiguanidine"],
        "types": ["T109"],
        "definition": None,
    },
]
TEXT = "Chronic kidney disease (CKD) stage 3. CKD is stable; no asthma. On metformin, not warfarin."


def concepts(folder: Path) -> Path:
    file = folder / "kb.jsonl"
    file.write_text("".join(f"{json.dumps(line)}\n" for line in CONCEPTS), encoding="utf-8")
    return file


def entry(folder: Path, loader: str, *components: str, knowledge_base: str = "") -> ModelEntry:
    """An entry as the catalogue of `folder` holds it."""
    base = f", knowledge_base: {knowledge_base}" if knowledge_base else ""
    (folder / "models.yaml").write_text(
        f'models:\n  - {{name: demo, version: "1", loader: {loader}, source: {{path: model}}, '
        f"components: [{', '.join(components)}]{base}}}\n",
        encoding="utf-8",
    )
    (read,) = load_catalogue(folder / "models.yaml").models
    return read


def lexicon(folder: Path, *components: str, knowledge_base: str = "") -> NerModel:
    (folder / "model").mkdir(exist_ok=True)
    (folder / "model" / "terms.tsv").write_text(
        "DISEASE\tkidney disease\nDISEASE\tasthma\nCHEMICAL\tmetformin\nCHEMICAL\twarfarin\n",
        encoding="utf-8",
    )
    made = entry(folder, "lexicon", *components, knowledge_base=knowledge_base)
    return load_model(installed_model(made, folder))


def pipeline(folder: Path, *components: str, knowledge_base: str = "") -> NerModel:
    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    words = ("chronic kidney disease", "CKD", "asthma", "metformin", "warfarin")
    ruler.add_patterns([{"label": "ENTITY", "pattern": word} for word in words])
    nlp.to_disk(folder / "model")
    made = entry(folder, "spacy", "entity_ruler", *components, knowledge_base=knowledge_base)
    return load_model(installed_model(made, folder))


def quoted(model: NerModel, text: str = TEXT) -> list[tuple[str, str]]:
    (spans,) = model.extract([text])
    return [(text[span[0] : span[1]], span[2]) for span in spans]


def linked(model: NerModel, text: str = TEXT) -> list[tuple[str, object]]:
    (spans,) = model.extract([text])
    return [(text[span[0] : span[1]], span[4] if len(span) == 5 else None) for span in spans]


def test_an_abbreviation_gets_the_label_of_its_long_form_wherever_it_stands(tmp_path: Path) -> None:
    without = [("kidney disease", "DISEASE"), ("asthma", "DISEASE"), ("metformin", "CHEMICAL")]
    assert quoted(lexicon(tmp_path))[:3] == without
    assert quoted(lexicon(tmp_path, "abbreviation_detector")) == [
        ("kidney disease", "DISEASE"),
        ("CKD", "DISEASE"),
        ("CKD", "DISEASE"),
        ("asthma", "DISEASE"),
        ("metformin", "CHEMICAL"),
        ("warfarin", "CHEMICAL"),
    ]


def test_an_abbreviation_of_what_is_no_mention_gets_no_label(tmp_path: Path) -> None:
    model = lexicon(tmp_path, "abbreviation_detector")
    text = "Magnetic resonance imaging (MRI) for asthma; MRI was normal. MS was not found."
    assert quoted(model, text) == [("asthma", "DISEASE")]


def test_an_abbreviation_is_defined_for_its_own_note_only(tmp_path: Path) -> None:
    model = lexicon(tmp_path, "abbreviation_detector")
    _, second = model.extract([TEXT, "CKD is stable."])
    assert second == []


def test_the_sentence_segmenter_of_scispacy_runs_before_or_after_a_model(tmp_path: Path) -> None:
    """Its sentences end where it says: a doctor's title is no end."""
    model = pipeline(tmp_path, "pysbd_sentencizer")
    assert model.components == ("entity_ruler", "pysbd_sentencizer")  # type: ignore[attr-defined]
    doc = model._model._nlp("Seen by Dr. Ito for asthma. Stable.")  # type: ignore[attr-defined]
    assert [sentence.text for sentence in doc.sents] == ["Seen by Dr. Ito for asthma.", "Stable."]
    assert quoted(model, "Seen by Dr. Ito for asthma. Stable.") == [("asthma", "ENTITY")]
    assert quoted(lexicon(tmp_path, "pysbd_sentencizer"), "Has asthma. Well.") == [
        ("asthma", "DISEASE")
    ]


def test_concepts_of_the_knowledge_base_stand_on_the_spans(tmp_path: Path) -> None:
    concepts(tmp_path)
    model = pipeline(tmp_path, "scispacy_linker", knowledge_base="kb.jsonl")
    assert linked(model) == [
        ("Chronic kidney disease", "D007676"),
        ("CKD", None),
        ("CKD", None),
        ("asthma", "D001249"),
        ("metformin", "D008687"),
        ("warfarin", None),
    ]


def test_the_linker_reads_an_abbreviation_as_its_long_form(tmp_path: Path) -> None:
    concepts(tmp_path)
    parts = ("abbreviation_detector", "scispacy_linker")
    assert ("CKD", "D007676") in linked(pipeline(tmp_path, *parts, knowledge_base="kb.jsonl"))
    found = linked(lexicon(tmp_path, *parts, knowledge_base="kb.jsonl"))
    assert found.count(("CKD", "D007676")) == 2
    assert ("asthma", "D001249") in found


def test_concepts_are_those_of_scispacy_s_approximate_index(tmp_path: Path) -> None:
    """The graph of nmslib over the same vectors, as scispaCy builds it; so small, it is exact."""
    import nmslib

    from hc_orchestration.models.loaders.concepts import AliasIndex, make_linker

    linker = make_linker(spacy.blank("en"), "linker", str(concepts(tmp_path)))
    generator = linker.candidate_generator
    vectors = generator.vectorizer.transform(generator.ann_concept_aliases_list)
    theirs = nmslib.init(
        method="hnsw", space="cosinesimil_sparse", data_type=nmslib.DataType.SPARSE_VECTOR
    )
    theirs.addDataPointBatch(vectors)
    theirs.createIndex({"M": 100, "efConstruction": 2000, "post": 0})
    asked = generator.vectorizer.transform(["chronic kidney failure", "asthmatic", "metformine"])
    for ours, other in zip(
        AliasIndex(vectors).knnQueryBatch(asked, 3), theirs.knnQueryBatch(asked, k=3), strict=True
    ):
        assert ours[0][0] == other[0][0]
        assert ours[1] == pytest.approx(other[1][: len(ours[1])], abs=1e-5)


@pytest.mark.parametrize("knowledge_base", ["", "nowhere.jsonl"])
def test_without_its_knowledge_base_the_linker_says_how_to_get_one(
    tmp_path: Path, knowledge_base: str
) -> None:
    with pytest.raises(ModelError) as caught:
        pipeline(tmp_path, "scispacy_linker", knowledge_base=knowledge_base)
    message = str(caught.value)
    assert message.startswith("model demo-1: ")
    assert knowledge_base in message
    assert "umls_mesh_2022.jsonl" in message
    assert "`knowledge_base` in the catalogue" in message


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "holds no concept"),
        ("[]\n", "cannot be read as a knowledge base (TypeError)"),
        ("{\n", "cannot be read as a knowledge base (JSONDecodeError)"),
        ('{"concept_id": "C1"}\n', "cannot be read as a knowledge base (KeyError)"),
    ],
)
def test_a_damaged_knowledge_base_is_named(tmp_path: Path, content: str, told: str) -> None:
    (tmp_path / "kb.jsonl").write_text(content, encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        pipeline(tmp_path, "scispacy_linker", knowledge_base="kb.jsonl")
    assert told in str(caught.value)


def test_other_concepts_are_another_fingerprint(tmp_path: Path) -> None:
    file = concepts(tmp_path)
    (tmp_path / "model").write_text("DISEASE\tasthma\n", encoding="utf-8")
    made = entry(tmp_path, "lexicon", "scispacy_linker", knowledge_base="kb.jsonl")
    seen = {installed_model(made, tmp_path).fingerprint}
    file.write_text(json.dumps(CONCEPTS[0]) + "\n", encoding="utf-8")
    seen.add(installed_model(made, tmp_path).fingerprint)
    without = ModelEntry(
        name="demo", version="1", loader="lexicon", source=ModelSource(path=str(tmp_path / "model"))
    )
    seen.add(installed_model(without, tmp_path).fingerprint)
    assert len(seen) == 3


def test_a_component_that_nobody_knows_is_refused_naming_those_that_can_be_added(
    tmp_path: Path,
) -> None:
    with pytest.raises(ModelError, match=r"no component negex to add.*scispacy_linker"):
        lexicon(tmp_path, "negex")
