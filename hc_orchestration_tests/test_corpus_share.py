"""How much may be in quarantine, what a selection leaves in the records, and who is stored how."""

import json
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.home import salt
from hc_orchestration.reporting.csv_cells import inert
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.evaluation_view import evaluation_view
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import NOTES, STUDY, TERMS, write_notes
from hc_orchestration_tests.storage.parts import inputs_part, run_part

Run = Callable[..., dg.ExecuteInProcessResult]


def allow(settings: Settings, share: float) -> None:
    settings.study.write_text(f"{STUDY}quarantine: {{maximum_share: {share}}}\n", encoding="utf-8")


def ask(settings: Settings, entry: str) -> None:
    """Give the study's corpus more keys."""
    asked = STUDY.replace("format: jsonl}", f"format: jsonl, {entry}}}")
    settings.study.write_text(asked, encoding="utf-8")


def spoil(settings: Settings) -> None:
    """Two more notes, without text: a quarter of the eight that are read then."""
    write_notes(settings.study.parent, NOTES)
    with (settings.study.parent / "notes.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"note_id": "x1"}\n{"note_id": "x2"}\n')


@pytest.mark.parametrize("share", [0.24, 0.25])
def test_a_larger_share_than_the_study_allows_blocks_what_follows(
    settings: Settings, run_job: Run, share: float
) -> None:
    spoil(settings)
    allow(settings, share)
    result = run_job("refresh_corpus")
    checks = {found.check_name: found for found in result.get_asset_check_evaluations()}
    found = checks["quarantine_share_allowed"]
    assert (found.passed, found.blocking) == (share == 0.25, True)
    assert found.description == f"25.00% in quarantine, {share:.2%} allowed"


def test_without_a_limit_the_share_is_only_told(settings: Settings, run_job: Run) -> None:
    spoil(settings)
    found = next(
        check
        for check in run_job("refresh_corpus").get_asset_check_evaluations()
        if check.check_name == "quarantine_share_allowed"
    )
    assert found.passed
    assert found.description == "25.00% in quarantine, the study sets no limit"


def test_corpus_check_fails_above_the_share(settings: Settings) -> None:
    spoil(settings)
    allow(settings, 0.24)
    above = call("corpus", "check", "--json")
    allow(settings, 0.25)
    below = call("corpus", "check", "--json")

    assert (above.code, below.code) == (1, 0)
    assert "25.00% of the records would be in quarantine; the study allows 24.00%" in above.err
    assert above.json["quarantine_share"] == 0.25


@pytest.mark.usefixtures("settings")
def test_corpus_check_counts_by_label_type_source_and_length() -> None:
    document = call("corpus", "check", "--json").json

    assert document["gold"] == {"DISEASE": 4, "CHEMICAL": 3}
    assert document["note_types"] == {"ed_note": 3, "consult": 3}
    assert document["sources"] == {"notes": 6}
    assert document["lengths"] == {"under 500": 6}
    assert (document["gold_quoted"], document["notes_whose_quotes_differ"]) == (0, 0)


@pytest.mark.usefixtures("settings")
def test_corpus_check_shows_text_only_when_asked() -> None:
    without = call("corpus", "check")
    shown = call("corpus", "check", "--show-text")
    as_json = call("corpus", "check", "--show-text", "--json")

    assert "Doing well." not in without.out + without.err
    assert "Doing well." in shown.squeezed
    assert {"note_id": "n5", "text": "Doing well."} in as_json.json["texts"]


@pytest.mark.usefixtures("settings")
def test_corpus_check_reads_a_table_by_its_columns(tmp_path: Path) -> None:
    (tmp_path / "export.csv").write_text("ID,BODY\n7,Flu.\n8,\n", encoding="utf-8")
    path = str(tmp_path / "export.csv")
    columns = ("--column", "note_id=ID", "--column", "text=BODY")

    read = call("corpus", "check", path, "--format", "csv", *columns, "--json")
    half = call("corpus", "check", path, "--format", "csv", "--column", "text=BODY")

    assert (read.json["stored"], read.json["reasons"]) == (1, {"empty_text": 1})
    assert half.code == 2
    assert "names note_id=… and text=… at least" in " ".join(half.err.split())


def test_the_stored_corpus_shows_which_notes_changed(settings: Settings, run_job: Run) -> None:
    assert run_job("refresh_corpus").success
    other = {**NOTES[0], "text": "Pt denies asthma now. On metformin."}
    write_notes(settings.study.parent, [other, *NOTES[2:], {"note_id": "n7", "text": "New."}])
    assert run_job("refresh_corpus").success

    changes = call("corpus", "show", "--json").json["changes"]

    assert [(change["note_id"], change["change"]) for change in changes] == [
        ("n1", "changed"),
        ("n2", "removed"),
        ("n7", "added"),
    ]
    assert all(len(change["digest"]) == 64 for change in changes)


def test_what_was_selected_is_pinned_with_the_inputs_of_an_evaluation(
    settings: Settings, run_job: Run
) -> None:
    ask(settings, "where: {note_type: [consult]}, sample: {fraction: 1.0, seed: 4}")
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS, ["extracted_entities"]).success

    workspace = Workspace(settings)
    inputs = workspace.records.of_model(TERMS)[0].inputs
    assert inputs is not None
    assert json.loads(inputs.selection or "") == {
        "notes": {"where": {"note_type": ["consult"]}, "sample": {"fraction": 1.0, "seed": 4}}
    }
    counts = workspace.corpus.required().counts
    assert (counts["stored"], counts["not_selected"]) == (3, 3)


@pytest.mark.parametrize(("selection", "shown"), [('{"a": 1}', {'{"a": 1}'}), (None, set())])
def test_the_selection_is_a_parameter_of_the_mlflow_run(
    selection: str | None, shown: set[str]
) -> None:
    inputs = inputs_part(selection=selection)
    record = EvaluationRecord(evaluation_id="e1", model_key=TERMS, run=run_part(), inputs=inputs)
    parameters = evaluation_view(record, "http://dagster").params
    assert {parameters[name] for name in parameters if name == "corpus.selection"} == shown


def test_patients_are_stored_as_salted_digests_only(settings: Settings, run_job: Run) -> None:
    write_notes(settings.study.parent, [{**note, "patient": "mrn-0815"} for note in NOTES])
    assert run_job("refresh_corpus").success

    workspace = Workspace(settings)
    notes = workspace.corpus.notes(workspace.corpus.required().version).collect()
    attributes = notes["attributes"].explode().struct.unnest()
    digest = Pseudonyms(salt(settings)).of_patient("mrn-0815")
    patients = attributes.filter(pl.col("name") == "patient")["value"]
    assert patients.unique().to_list() == [digest]
    for file in settings.home.rglob("*"):
        assert not file.is_file() or b"mrn-0815" not in file.read_bytes()


def test_a_file_named_by_an_identifier_is_quarantined_under_a_pseudonym(
    settings: Settings,
) -> None:
    folder = settings.study.parent / "texts"
    folder.mkdir()
    (folder / "mrn-0815.txt").write_bytes(b"na\xefve")
    (folder / "mrn-4711.txt").write_bytes(b"Fine.")
    study = STUDY.replace("path: notes.jsonl, format: jsonl", "path: texts, format: text")
    settings.study.write_text(
        study.replace("privacy: {", "privacy: {pseudonymize_note_ids: true, "), encoding="utf-8"
    )

    document = call("corpus", "check", "--json").json

    assert document["reasons"] == {"undecodable_bytes": 1}
    assert "mrn-" not in json.dumps(document["rejects"])


@pytest.mark.parametrize("cell", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"])
def test_a_cell_that_a_spreadsheet_would_compute_is_written_as_text(cell: str) -> None:
    frame = pl.DataFrame({"slice": [cell, "plain", None], "f1": [-0.5, 1.0, None]})
    assert inert(frame)["slice"].to_list() == [f"'{cell}", "plain", None]
    assert inert(frame)["f1"].to_list() == [-0.5, 1.0, None]
