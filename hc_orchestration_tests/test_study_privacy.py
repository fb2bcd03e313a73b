"""What a study may say of its patients, and pseudonyms from the study file to the stored notes."""

from pathlib import Path

import dagster as dg
import pytest
from pydantic import ValidationError

from hc_orchestration.assets.corpus import notes_corpus
from hc_orchestration.corpora.ingest import CorpusNote
from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.errors import ConfigurationError
from hc_orchestration.home import salt
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.study import Study, load_study
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, STUDY, write_notes

MINIMAL = """
name: demo
labels: [DISEASE]
corpora: [{name: notes, path: notes.jsonl, format: jsonl}]
"""


def loaded(folder: Path, content: str) -> Study:
    path = folder / "study.yaml"
    path.write_text(MINIMAL + content, encoding="utf-8")
    return load_study(path)


def test_study_that_names_a_patient_is_refused_by_field_and_rule(tmp_path: Path) -> None:
    content = """
context:
  purpose: Review of MRN 4471123
  patient_context: {cohort: "Jane, seen 2024-03-12", exclusion_criteria: [none, jane@example.org]}
"""
    with pytest.raises(ConfigurationError) as caught:
        loaded(tmp_path, content)
    words = str(caught.value)
    for told in (
        "study.yaml",
        "context.purpose: MRN",
        "context.patient_context.cohort: exact date",
        "context.patient_context.exclusion_criteria[1]: e-mail",
        "describe the cohort in aggregate",
    ):
        assert told in words
    for value in ("4471123", "Jane", "2024-03-12", "jane@"):
        assert value not in words.replace(str(tmp_path), "")


def test_error_of_a_study_built_in_code_does_not_show_it_either() -> None:
    with pytest.raises(ValidationError) as caught:
        Study.model_validate_json(
            '{"name": "demo", "labels": ["A"],'
            ' "corpora": [{"name": "n", "path": "n.jsonl", "format": "jsonl"}],'
            ' "context": {"purpose": "MRN 4471123"}}'
        )
    assert "context.purpose: MRN" in str(caught.value)
    assert "4471123" not in str(caught.value)


def test_small_cohort_is_refused_by_the_study_s_own_limit(tmp_path: Path) -> None:
    cohort = "context: {patient_context: {sample_size: 10}}\n"
    with pytest.raises(ConfigurationError, match=r"sample_size: small cell \(fewer than 11"):
        loaded(tmp_path, cohort)
    with pytest.raises(ConfigurationError, match=r"small cell \(fewer than 20"):
        loaded(tmp_path, cohort + "privacy: {smallest_cell: 20}\n")
    assert loaded(tmp_path, cohort + "privacy: {smallest_cell: 10}\n").context.patient_context


@pytest.fixture
def deployment(tmp_path: Path) -> Settings:
    """A study of the small notes whose ids are identifiers."""
    write_notes(tmp_path, NOTES)
    (tmp_path / "study.yaml").write_text(
        STUDY.replace("smallest_cell: 1", "smallest_cell: 1, pseudonymize_note_ids: true"),
        encoding="utf-8",
    )
    (tmp_path / "models.yaml").write_text(CATALOGUE, encoding="utf-8")
    return Settings.from_environment(
        {
            "HC_HOME": str(tmp_path / "home"),
            "HC_STUDY": str(tmp_path / "study.yaml"),
            "HC_MODELS": str(tmp_path / "models.yaml"),
        }
    )


def test_corpus_asset_stores_pseudonyms(deployment: Settings) -> None:
    resources = {
        "workspace": WorkspaceResource.of(deployment),
        "mlflow": MlflowResource.of(deployment),
    }
    assert dg.materialize([notes_corpus], resources=resources).success
    workspace = Workspace(deployment)
    corpus = workspace.corpus.required()
    stored = workspace.corpus.notes(corpus.version).collect()["note_id"].to_list()
    names = Pseudonyms(salt(deployment))
    assert set(stored) == {names.of(note["note_id"]) for note in NOTES}

    read = workspace.new_ingestion()  # as `hc corpus check` reads
    list(read)
    assert read.digest == corpus.digest


def test_other_sources_are_read_with_the_study_s_pseudonyms(
    deployment: Settings, tmp_path: Path
) -> None:
    path = tmp_path / "other.jsonl"
    path.write_text('{"note_id": "4471", "text": "Well."}\n', encoding="utf-8")
    other = CorpusSource(name="given", path=str(path), format="jsonl")
    (note,) = Workspace(deployment).new_ingestion([other])
    assert isinstance(note, CorpusNote)
    assert note.note_id == Pseudonyms(salt(deployment)).of("4471")


def test_no_salt_is_made_for_a_study_that_asks_for_none(
    deployment: Settings, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(STUDY, encoding="utf-8")
    (first, *_) = Workspace(deployment).new_ingestion()
    assert isinstance(first, CorpusNote)
    assert first.note_id == NOTES[0]["note_id"]
    assert not (deployment.home / "secrets").exists()
