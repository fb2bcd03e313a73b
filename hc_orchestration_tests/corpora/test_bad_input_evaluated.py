"""Beside bad input of every kind, the rest of the corpus is stored, extracted and scored."""

import json
from pathlib import Path

import polars as pl
import pytest

from hc_orchestration.extraction.corpus import extract_corpus
from hc_orchestration.models.store import installed_model
from hc_orchestration.scoring.bootstrap import Resampling
from hc_orchestration.scoring.evaluation import evaluate
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.corpora.formats import FILES, TEXT, write
from hc_orchestration_tests.corpora.test_bad_input import CASES, SENTINEL, Case

STUDY = """\
name: bad-input
labels: [DISEASE, CHEMICAL]
corpora:
  - {{name: steady, path: steady.jsonl, format: jsonl}}
  - {{name: given, path: {folder}, format: {form}}}
context: {{organization: Test Hospital, purpose: Find out}}
"""
CATALOGUE = """\
models:
  - {name: terms, version: 1.0.0, loader: lexicon, source: {path: terms.tsv}}
"""
STEADY = [
    {"note_id": "s1", "text": "Flu again.", "spans": [{"start": 0, "end": 3, "label": "DISEASE"}]},
    {"note_id": "s2", "text": "No aspirin; no flu.", "spans": []},
]
KEY = "terms-1.0.0"


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    """One home for all cases, so that the tables are made once; each case has its own folder."""
    folder = tmp_path_factory.mktemp("bad-input")
    write(
        folder,
        {
            "models.yaml": CATALOGUE.encode(),
            "terms.tsv": b"DISEASE\tflu\nCHEMICAL\taspirin\n",
            "steady.jsonl": b"\n".join(json.dumps(note).encode() for note in STEADY),
        },
    )
    return Settings.from_environment(
        {
            "HC_HOME": str(folder / "home"),
            "HC_STUDY": str(folder / "study.yaml"),
            "HC_MODELS": str(folder / "models.yaml"),
        }
    )


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_rest_is_evaluated_and_the_counts_add_up(
    deployment: Settings, tmp_path: Path, case: Case
) -> None:
    write(tmp_path, {**FILES[case.form], **case.files})
    study = STUDY.format(folder=json.dumps(str(tmp_path)), form=case.form)
    deployment.study.write_text(study, encoding="utf-8")
    workspace = Workspace(deployment)

    corpus = workspace.corpus.ingest(workspace.new_ingestion)
    model = installed_model(workspace.catalogue.entry(KEY), deployment.model_store)
    settings = workspace.study.extraction
    extract_corpus(model, corpus.version, workspace.entities, deployment.locks, settings)
    version = workspace.entities.version(KEY) or 0
    found = workspace.entities.of_corpus(KEY, model.fingerprint, corpus.version, version)
    notes = workspace.corpus.notes(corpus.version)
    labels = {label: label for label in workspace.study.labels}
    result = evaluate(notes, found, workspace.study.scoring, labels, Resampling(1, 50))

    counts = corpus.counts
    outcomes = ("stored", "duplicates", "repeated_texts", "not_selected", "quarantined")
    assert counts["read"] == sum(counts[name] for name in outcomes)
    assert counts["quarantined"] == len(case.reasons)
    assert found.collect().height == corpus.notes
    stored = notes.filter(pl.col("gold").list.len() > 0).collect()
    repeats = stored.filter(pl.col("text").str.strip_chars() == TEXT).height
    assert stored.height == 1 + repeats
    # of TEXT the list finds flu, and neither the aspirin with a zero-width space nor the Hebrew
    true, missed, wrong = 1 + repeats, 2 * repeats, 2  # wrong: what s2 says
    assert result.values["strict.precision"] == pytest.approx(true / (true + wrong))
    assert result.values["strict.recall"] == pytest.approx(true / (true + missed))
    quarantine = workspace.corpus.quarantine(corpus.quarantine_version)
    assert SENTINEL not in str(quarantine.to_dicts())
