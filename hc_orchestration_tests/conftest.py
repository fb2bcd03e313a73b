"""A small deployment for tests: eight notes, a term list and a rule model, all in a temp folder."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.home import prepare_home
from hc_orchestration.settings import Settings
from hc_orchestration_tests.integration.server_fixtures import (
    logged_in,
    mlflow_server,
    postgres,
    postgres_folder,
)

__all__ = ["logged_in", "mlflow_server", "postgres", "postgres_folder"]

TERMS = "terms-1.0.0"
RULER = "ruler-2.0"
ABSENT = "absent-1.0"

NOTES: list[dict[str, Any]] = [
    {"note_id": "n1", "text": "Pt denies asthma. On metformin.", "note_type": "ed_note"},
    {"note_id": "n2", "text": "Long-standing asthma; no gout.", "note_type": "ed_note"},
    {"note_id": "n3", "text": "Metformin held.", "note_type": "consult"},
    {"note_id": "n4", "text": "Gout flare 38.5 °C, colchicine 0.6 mg.", "note_type": "consult"},
    {"note_id": "n5", "text": "Doing well.", "note_type": "consult"},
    {"note_id": "n6", "text": "Not annotated: asthma.", "note_type": "ed_note"},
]
GOLD: dict[str, list[tuple[str, str]]] = {
    "n1": [("asthma", "DISEASE"), ("metformin", "CHEMICAL")],
    "n2": [("asthma", "DISEASE"), ("gout", "DISEASE")],
    "n3": [("Metformin", "CHEMICAL")],
    "n4": [("Gout", "DISEASE"), ("colchicine", "CHEMICAL")],
    "n5": [],
}
STUDY = """\
name: test-study
labels: [DISEASE, CHEMICAL]
corpora:
  - {name: notes, path: notes.jsonl, format: jsonl}
context:
  organization: Test Hospital
  purpose: Find out
  data_sources: [ehr-a, ehr-b]
  regulatory_tags: [IRB-approved]
  patient_context: {cohort: Test cohort, age_range: "18-90", sample_size: 6,
                    inclusion_criteria: [Has a note], exclusion_criteria: [None]}
privacy: {smallest_cell: 1}
"""
CATALOGUE = """\
models:
  - {name: terms, version: 1.0.0, loader: lexicon, source: {path: terms.tsv}}
  - {name: ruler, version: "2.0", loader: spacy, source: {path: ruler}, labels: {ENTITY: "*"}}
  - {name: absent, version: "1.0", loader: spacy, source: {path: nowhere}}
"""


def note_line(note: dict[str, Any]) -> str:
    """A JSON line of a note, with the gold spans of `GOLD`."""
    record = dict(note)
    mentions = GOLD.get(note["note_id"])
    if mentions is not None:
        record["spans"] = [
            {"start": (at := note["text"].index(word)), "end": at + len(word), "label": label}
            for word, label in mentions
        ]
    return json.dumps(record, ensure_ascii=False)


def write_notes(folder: Path, notes: list[dict[str, Any]]) -> None:
    """Write the notes file of the study."""
    lines = [note_line(note) for note in notes]
    (folder / "notes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the settings of the person who runs it."""
    for name in [name for name in os.environ if name.startswith(("HC_", "MLFLOW_", "DAGSTER_"))]:
        monkeypatch.delenv(name)


@pytest.fixture(scope="session")
def rule_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spaCy pipeline saved on disk whose ruler finds asthma and gout as ENTITY."""
    import spacy

    nlp = spacy.blank("en")
    ruler = nlp.add_pipe("entity_ruler", config={"phrase_matcher_attr": "LOWER"})
    ruler.add_patterns([{"label": "ENTITY", "pattern": word} for word in ("asthma", "gout")])
    path = tmp_path_factory.mktemp("models") / "ruler"
    nlp.to_disk(path)
    return path


@pytest.fixture(scope="session")
def empty_mlflow(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database that holds the schema only; making one costs seconds, copying none."""
    from hc_orchestration.tracking.client import MlflowStore, open_client

    home = tmp_path_factory.mktemp("mlflow")
    open_client(MlflowStore(f"sqlite:///{home / 'mlflow.db'}", home, "http://127.0.0.1:5000"))
    return home / "mlflow.db"


@pytest.fixture
def settings(
    tmp_path: Path, rule_model: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """The settings of a small deployment of its own, in the environment too."""
    data = tmp_path / "data"
    data.mkdir()
    write_notes(data, NOTES)
    (data / "study.yaml").write_text(STUDY, encoding="utf-8")
    (data / "models.yaml").write_text(CATALOGUE, encoding="utf-8")
    (data / "terms.tsv").write_text(
        "DISEASE\tasthma\nDISEASE\tgout flare\nCHEMICAL\tmetformin\nCHEMICAL\tcolchicine\n",
        encoding="utf-8",
    )
    shutil.copytree(rule_model, data / "ruler")
    for name, value in {
        "HC_HOME": tmp_path / "home",
        "HC_STUDY": data / "study.yaml",
        "HC_MODELS": data / "models.yaml",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setenv("DAGSTER_HOME", "")  # prepare_home sets it; undone after the test
    made = Settings.from_environment()
    prepare_home(made)
    shutil.copy(empty_mlflow, made.home / "mlflow.db")
    return made


@pytest.fixture
def instance(settings: Settings) -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of the deployment."""
    assert settings.dagster_home.is_dir()
    with dg.DagsterInstance.get() as opened:
        yield opened


@pytest.fixture
def run_job(
    settings: Settings, instance: dg.DagsterInstance
) -> Callable[..., dg.ExecuteInProcessResult]:
    """Runs a job of the deployment in this process: `run_job("evaluate_model", "terms-1.0.0")`."""
    from hc_orchestration.definitions import build_definitions

    definitions = build_definitions(settings)

    def run(
        job: str, key: str | None = None, selection: list[str] | None = None
    ) -> dg.ExecuteInProcessResult:
        return definitions.resolve_job_def(job).execute_in_process(
            instance=instance,
            partition_key=key,
            asset_selection=[dg.AssetKey(name) for name in selection] if selection else None,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )

    return run
