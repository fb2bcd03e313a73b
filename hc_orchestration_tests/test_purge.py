"""`hc corpus purge`: what is left of a note in a deployment that evaluated it, byte by byte."""

import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from hc_orchestration.cli.app import main
from hc_orchestration.errors import StorageError
from hc_orchestration.resources.purging import purge_notes
from hc_orchestration.settings import Settings
from hc_orchestration.storage.purges import Purge
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration_tests.calling import call_json
from hc_orchestration_tests.conftest import NOTES, STUDY, TERMS, write_notes
from hc_orchestration_tests.storage.parts import run_part
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs

Run = Callable[..., dg.ExecuteInProcessResult]
GONE = "ward7-zebrafish"
WORD = "quokka"
NOTE = {
    "note_id": GONE,
    "text": f"The {WORD} has asthma. No gout.",
    "spans": [{"start": 4, "end": 10, "label": "CHEMICAL"}],  # missed, so that reports quote it
}


def traces(folder: Path, *words: str) -> list[str]:
    """The files below a folder that hold one of the words, Parquet decoded, names of words too."""
    found = []
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        content = path.read_bytes()
        if path.suffix == ".parquet":
            rows = pl.read_parquet(io.BytesIO(content))
            content += json.dumps(rows.to_dicts(), default=str, ensure_ascii=False).encode()
        found += [f"{path.name}: {word}" for word in words if word.encode() in content]
    return found


def store_notes(settings: Settings, notes: list[dict[str, Any]]) -> None:
    """Read these notes into the tables."""
    write_notes(settings.study.parent, notes)
    workspace = Workspace(settings)
    workspace.corpus.ingest(workspace.new_ingestion)


@pytest.fixture
def evaluated(settings: Settings, run_job: Run) -> Settings:
    """A deployment whose reports may show text, evaluated on the note in two corpus versions."""
    study = STUDY.replace("privacy: {", "privacy: {note_text_in_reports: true, ")
    settings.study.write_text(study, encoding="utf-8")
    store_notes(settings, NOTES)
    store_notes(settings, [NOTE, *NOTES])
    assert run_job("evaluate_model", TERMS).success
    assert run_job("compare_models").success
    return settings


def purge_now(settings: Settings, note_id: str = GONE) -> tuple[Purge, ...]:
    """Remove a note as somebody."""
    return purge_notes(Workspace(settings), [note_id], "somebody", datetime.now(UTC))


def purge(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """What `hc corpus purge --json` prints."""
    monkeypatch.setattr(sys, "argv", ["hc", "corpus", "purge", "--note", GONE, "--yes", "--json"])
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    printed: dict[str, Any] = json.loads(capsys.readouterr().out)
    return printed


def test_nothing_of_a_purged_note_is_left_anywhere(
    evaluated: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = traces(evaluated.home, GONE, WORD)
    assert any(trace.endswith(WORD) and ".html" in trace for trace in before)
    assert any(trace.startswith("per_note.parquet") for trace in before)

    done = purge(monkeypatch, capsys)

    assert traces(evaluated.home, GONE, WORD) == []
    assert {table["name"] for table in done["tables"]} == {
        "corpus_changes",
        f"entities/{TERMS}",
        f"note_counts/{TERMS}",
        "notes",
    }


def test_scores_and_records_stay_and_the_log_explains_what_is_gone(evaluated: Settings) -> None:
    workspace = Workspace(evaluated)
    (newest,) = workspace.records.of_model(TERMS)
    assert newest.metrics
    assert newest.inputs
    assert newest.extraction
    scores = workspace.metrics.scores(TERMS, newest.metrics.evaluation_digest)
    per_note = next(f for f in newest.extraction.files if f.name == "per_note.parquet")

    done = purge_now(evaluated)

    after = Workspace(evaluated)
    assert after.metrics.scores(TERMS, newest.metrics.evaluation_digest).equals(scores)
    (again,) = after.records.of_model(TERMS)
    assert again.metrics
    assert again.metrics.values == newest.metrics.values
    with pytest.raises(StorageError, match="a purge removed that version"):
        after.corpus.notes(newest.inputs.corpus_version)
    assert after.purges.all() == done
    assert {purge.by for purge in done} == {"somebody"}
    assert GONE not in str(done)

    def told(subject: str, version: int | None) -> bool:
        return any(purge.covers(subject, version) for purge in after.purges.all())

    assert told("notes", newest.inputs.corpus_version)
    assert not told("notes", after.corpus.required().version)
    assert not told("metrics/terms-1.0.0", 0)
    assert told(per_note.sha256, None)
    assert not told("0" * 64, None)


def test_verify_tells_what_a_purge_took_and_finds_nothing_wrong(evaluated: Settings) -> None:
    assert call_json("provenance", "verify")[1]["counts"]["purged"] == 0

    purge_now(evaluated)

    code, told = call_json("provenance", "verify")
    assert code == 0
    assert told["clean"]
    assert told["counts"]["purged"] > 0
    assert told["counts"]["mismatch"] == told["counts"]["unreachable"] == 0
    assert GONE not in str(told)


def test_mlflow_gets_the_tables_without_the_note_and_no_second_history(
    evaluated: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store = MlflowStore(evaluated.tracking_uri, evaluated.home, evaluated.mlflow_url)
    client = open_client(store)
    run_id = mlflow_runs(evaluated)[0].info.run_id
    before = client.get_metric_history(run_id, "doc_entity_count")

    purge(monkeypatch, capsys)

    rows = pl.read_parquet(client.download_artifacts(run_id, "per_note.parquet"))
    assert rows.height == len(before)
    assert rows["note_id"].null_count() == 1
    assert client.get_metric_history(run_id, "doc_entity_count") == before


def test_the_note_does_not_come_back_with_its_source(evaluated: Settings, run_job: Run) -> None:
    workspace = Workspace(evaluated)
    stored = workspace.corpus.required()
    purge_now(evaluated)
    left = Workspace(evaluated).corpus.required()

    store_notes(evaluated, [NOTE, *NOTES])
    assert run_job("evaluate_model", TERMS).success

    again = Workspace(evaluated)
    now = again.corpus.required()
    assert (left.notes, left.counts["purged"]) == (stored.notes - 1, 1)
    assert (now.notes, now.counts["purged"]) == (left.notes, 1)
    assert (now.version, now.digest) == (left.version, left.digest)
    assert not again.corpus.notes(now.version).filter(note_id=GONE).collect().height
    (record, *_) = again.records.of_model(TERMS)
    assert record.state is Status.FINISHED
    assert record.extraction
    assert (record.extraction.extracted, record.extraction.notes) == (0, left.notes)


def test_a_purge_that_was_stopped_is_finished_by_another(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    store_notes(settings, [NOTE, *NOTES])
    workspace = Workspace(settings)
    with monkeypatch.context() as patched:
        patched.setattr(workspace.delta, "purge", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            purge_notes(workspace, [GONE], "somebody", datetime.now(UTC))
    assert traces(settings.home, GONE, WORD) != []

    purge_now(settings)

    notes = [p for p in Workspace(settings).purges.all() if p.subject == "notes"]
    assert len(notes) == 2
    assert traces(settings.home, GONE, WORD) == []


def test_a_note_that_only_older_versions_hold_is_removed_too(settings: Settings) -> None:
    store_notes(settings, [NOTE, *NOTES])
    store_notes(settings, NOTES)

    purge_now(settings)

    assert traces(settings.home, GONE, WORD) == []
    assert Workspace(settings).corpus.required().notes == len(NOTES)


def test_a_note_that_nobody_knows_is_refused_and_not_recorded(settings: Settings) -> None:
    store_notes(settings, NOTES)

    with pytest.raises(StorageError, match="nothing is stored of n99"):
        purge_now(settings, "n99")

    assert Workspace(settings).purges.all() == ()


def test_no_purge_while_an_evaluation_runs(settings: Settings) -> None:
    store_notes(settings, [NOTE, *NOTES])
    workspace = Workspace(settings)
    workspace.records.append("e1", TERMS, run_part())

    with pytest.raises(StorageError, match=f"an evaluation of {TERMS} is running"):
        purge_now(settings)


def test_a_note_stored_under_a_pseudonym_is_found_by_its_own_id(
    settings: Settings,
) -> None:
    study = STUDY.replace("privacy: {", "privacy: {pseudonymize_note_ids: true, ")
    settings.study.write_text(study, encoding="utf-8")
    store_notes(settings, NOTES)

    purge_now(settings, "n1")

    after = Workspace(settings)
    assert after.corpus.required().notes == len(NOTES) - 1
    hidden = after.pseudonyms.of("n1")
    version = after.corpus.required().version
    assert hidden not in set(after.corpus.notes(version).collect()["note_id"])
