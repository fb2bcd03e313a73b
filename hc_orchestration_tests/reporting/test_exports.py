"""Exports: the stored results of the last finished evaluation, in the documented forms."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.corpora.notes import text_digest
from hc_orchestration.errors import EvaluationError, ModelError, StorageError
from hc_orchestration.models.predictions import NoteEntities
from hc_orchestration.reporting.exports import write_entities, write_metrics, write_provenance
from hc_orchestration.reporting.scores import COLUMNS, last_finished, last_scores
from hc_orchestration.scoring.evaluation import complete_scores
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import NOTES, RULER, TERMS, write_notes
from hc_orchestration_tests.reporting.conftest import FINGERPRINT
from hc_orchestration_tests.storage.parts import extraction_part, provenance_part

Evaluate = Callable[..., EvaluationRecord]
Export = Callable[[Workspace, str, Path], dict[str, Any]]

PROVENANCE = '{"resourceType":"Provenance","note":"é"}'.encode()
SCORES = complete_scores(
    pl.DataFrame(
        {
            "mode": "strict",
            "average": "micro",
            "label": "",
            "slice": "all",
            "statistic": ["f1", "precision"],
            "value": [0.5, None],
            "gold": 2,
            "predicted": 0,
            "credit": 1.0,
        }
    )
)
COUNTS = pl.DataFrame(
    {
        "note_id": ["n1"],
        "mode": "exact",
        "label": "",
        "gold": 2,
        "predicted": 0,
        "same": 0,
        "overlapping": 0,
    }
)


def _entities(spans: tuple[tuple[int, int, str, float | None], ...] = ()) -> list[NoteEntities]:
    """Rows for all notes of the corpus, the spans in the first one."""
    return [
        NoteEntities(note["note_id"], text_digest(note["text"]), spans if index == 0 else ())
        for index, note in enumerate(NOTES)
    ]


@pytest.fixture
def evaluated(workspace: Workspace, record_evaluation: Evaluate) -> Workspace:
    """A finished evaluation of terms-1.0.0: one mention in n1, two scores, a Provenance."""
    found = ((10, 16, "DISEASE", None), (21, 30, "CHEMICAL", 0.5))
    workspace.entities.insert(TERMS, FINGERPRINT, _entities(found))
    stored = workspace.files.put("fhir_provenance.json", PROVENANCE)
    record = record_evaluation(
        "e1",
        TERMS,
        {"strict.f1": 0.5},
        fingerprint=FINGERPRINT,
        extraction=extraction_part(entities_version=workspace.entities.version(TERMS)),
        provenance=provenance_part(stored),
    )
    assert record.metrics
    workspace.metrics.insert(TERMS, record.metrics.evaluation_digest, SCORES, COUNTS)
    return workspace


def test_entities_are_one_json_line_a_note(evaluated: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "entities.jsonl"

    written = write_entities(evaluated, TERMS, output)

    lines = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [line["note_id"] for line in lines] == ["n1", "n2", "n3", "n4", "n5", "n6"]
    assert lines[0] == {
        "note_id": "n1",
        "text_sha256": text_digest("Pt denies asthma. On metformin."),
        "spans": [
            {"start": 10, "end": 16, "label": "DISEASE", "score": None, "concept": None},
            {"start": 21, "end": 30, "label": "CHEMICAL", "score": 0.5, "concept": None},
        ],
    }
    assert lines[1]["spans"] == []
    assert written == {
        "file": str(output),
        "rows": 6,
        "model": TERMS,
        "evaluation_id": "e1",
        "corpus_version": evaluated.corpus.required().version,
        "entities_version": evaluated.entities.version(TERMS),
    }


def test_entities_as_parquet_hold_the_same_rows(evaluated: Workspace, tmp_path: Path) -> None:
    for name in ("entities.jsonl", "entities.parquet"):
        write_entities(evaluated, TERMS, tmp_path / name)

    lines = (tmp_path / "entities.jsonl").read_text(encoding="utf-8").splitlines()
    assert pl.read_parquet(tmp_path / "entities.parquet").to_dicts() == [
        json.loads(line) for line in lines
    ]


def test_the_entities_are_those_of_the_evaluated_corpus_and_not_of_a_newer_one(
    evaluated: Workspace, tmp_path: Path
) -> None:
    newer = [{"note_id": "n6", "text": "Changed text, asthma."}]
    write_notes(evaluated.settings.study.parent, newer)
    study = evaluated.study
    evaluated.corpus.ingest(lambda: Ingestion(study.corpora, study.labels))
    rows = [NoteEntities("n6", text_digest("Changed text, asthma."), ((0, 7, "A", None),))]
    evaluated.entities.insert(TERMS, FINGERPRINT, rows)

    assert write_entities(evaluated, TERMS, tmp_path / "entities.jsonl")["rows"] == 6
    lines = (tmp_path / "entities.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(lines[5])["text_sha256"] == text_digest("Not annotated: asthma.")


def test_metrics_are_exported_with_undefined_ones_as_null(
    evaluated: Workspace, tmp_path: Path
) -> None:
    written = write_metrics(evaluated, TERMS, tmp_path / "metrics.jsonl")

    lines = (tmp_path / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    assert {(row["statistic"], row["value"]) for row in map(json.loads, lines)} == {
        ("f1", 0.5),
        ("precision", None),
    }
    assert (written["rows"], written["metrics_version"]) == (2, 2)


def test_the_provenance_is_exported_byte_for_byte(evaluated: Workspace, tmp_path: Path) -> None:
    output = tmp_path / "provenance.json"

    written = write_provenance(evaluated, TERMS, output)

    assert output.read_bytes() == PROVENANCE
    record = evaluated.records.required("e1")
    assert record.provenance
    assert (
        hashlib.sha256(output.read_bytes()).hexdigest()
        == written["sha256"]
        == record.provenance.file.sha256
    )


def test_a_provenance_that_was_tampered_with_is_not_exported(
    evaluated: Workspace, tmp_path: Path
) -> None:
    record = evaluated.records.required("e1")
    assert record.provenance
    Path(evaluated.files.location(record.provenance.file)).write_bytes(b"{}")

    with pytest.raises(StorageError, match="was changed after it was stored"):
        write_provenance(evaluated, TERMS, tmp_path / "provenance.json")
    assert not (tmp_path / "provenance.json").exists()


@pytest.mark.parametrize("export", [write_entities, write_metrics, write_provenance])
@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_an_output_that_cannot_be_written_is_named(
    evaluated: Workspace, tmp_path: Path, export: Export, name: str
) -> None:
    output = tmp_path / "no such folder" / name

    with pytest.raises(StorageError, match=rf"no such folder/{name} cannot be written"):
        export(evaluated, TERMS, output)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is full")
@pytest.mark.parametrize("name", ["x.jsonl", "x.parquet"])
def test_a_full_disk_is_told_and_not_a_traceback(
    evaluated: Workspace, tmp_path: Path, name: str
) -> None:
    (tmp_path / name).symlink_to("/dev/full")

    with pytest.raises(StorageError, match="cannot be written"):
        write_entities(evaluated, TERMS, tmp_path / name)


@pytest.mark.parametrize("export", [write_entities, write_metrics, write_provenance])
def test_a_model_without_a_finished_evaluation_exports_nothing(
    evaluated: Workspace, tmp_path: Path, export: Export
) -> None:
    with pytest.raises(EvaluationError, match=f"Run: hc evaluate --model {RULER}"):
        export(evaluated, RULER, tmp_path / "x.jsonl")
    with pytest.raises(ModelError, match="'nobody-1' is not in the catalogue"):
        export(evaluated, "nobody-1", tmp_path / "x.jsonl")


def test_an_evaluation_without_provenance_says_which_asset_to_materialize(
    evaluated: Workspace, record_evaluation: Evaluate, tmp_path: Path
) -> None:
    record_evaluation("e2", TERMS, {"strict.f1": 0.5})

    with pytest.raises(EvaluationError, match="has no Provenance; materialize provenance"):
        write_provenance(evaluated, TERMS, tmp_path / "x.json")


def test_a_later_evaluation_that_did_not_finish_is_passed_over(
    evaluated: Workspace, record_evaluation: Evaluate
) -> None:
    record_evaluation("e2", TERMS, {"strict.f1": 0.9}, status=Status.KILLED)

    record = last_finished(evaluated, TERMS)
    assert record
    assert record.evaluation_id == "e1"


def test_the_scores_of_all_models_are_one_table(evaluated: Workspace) -> None:
    table = last_scores(evaluated, [TERMS, RULER])

    assert tuple(table.columns) == COLUMNS
    assert set(table["model"]) == {TERMS}
    assert dict(table.select("statistic", "value").iter_rows()) == {"f1": 0.5, "precision": None}
    assert last_scores(evaluated, [RULER]).is_empty()
