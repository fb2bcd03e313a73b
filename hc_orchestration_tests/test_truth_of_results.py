"""Results that must not say more than is so: stale ones, reused ones, missing ones."""

import hashlib
import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import polars as pl
import pytest

from hc_orchestration import evaluate as evaluating
from hc_orchestration.errors import ConfigurationError, ModelError
from hc_orchestration.evaluate import ModelOutcome, run_evaluation
from hc_orchestration.models.catalogue import UnknownModelError
from hc_orchestration.models.store import installed_model
from hc_orchestration.reporting.comparison import (
    ComparedModel,
    compare_models,
    comparison_rows,
    notes_per_second,
)
from hc_orchestration.reporting.exports import write_entities, write_metrics
from hc_orchestration.reporting.scores import last_scores
from hc_orchestration.resources import evaluation as steps_frame
from hc_orchestration.settings import Settings
from hc_orchestration.storage import remembered
from hc_orchestration.storage.entities import EntityTables
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import ABSENT, RULER, STUDY, TERMS
from hc_orchestration_tests.storage.parts import BEGUN, extraction_part, inputs_part

Run = Callable[..., dg.ExecuteInProcessResult]


def change_terms(settings: Settings) -> None:
    """Other files of the same catalogue entry."""
    (settings.catalogue.parent / "terms.tsv").write_text("DISEASE\tasthma\n", encoding="utf-8")


def change_organization(settings: Settings) -> None:
    settings.study.write_text(STUDY.replace("Test Hospital", "Other Hospital"), encoding="utf-8")


def change_software(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {**steps_frame.software_versions(), "spacy": "99.0"}
    monkeypatch.setattr(steps_frame, "software_versions", lambda: versions)


def compared(settings: Settings) -> dict[str, ComparedModel]:
    return {model.key: model for model in compare_models(Workspace(settings))}


def newest(settings: Settings, key: str = TERMS) -> EvaluationRecord:
    return Workspace(settings).records.of_model(key)[0]


def provenance(settings: Settings, record: EvaluationRecord) -> dict[str, Any]:
    assert record.provenance
    bundle = json.loads(Workspace(settings).files.get(record.provenance.file))
    resources: list[dict[str, Any]] = [entry["resource"] for entry in bundle["entry"]]
    (content,) = (each for each in resources if each["resourceType"] == "Provenance")
    return content


@pytest.fixture
def evaluated(settings: Settings, run_job: Run) -> Settings:
    """The deployment after one evaluation of the term list."""
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success
    return settings


def change_labels(settings: Settings) -> None:
    """Another label mapping of the study."""
    text = settings.study.read_text(encoding="utf-8")
    assert "DISEASE" in text
    settings.study.write_text(text.replace("DISEASE", "ILLNESS"), encoding="utf-8")


def change_nothing_but_times(settings: Settings) -> None:
    settings.catalogue.touch()


def lose_terms(settings: Settings) -> None:
    (settings.catalogue.parent / "terms.tsv").unlink()


@pytest.mark.parametrize(
    "change", [change_terms, change_labels, change_nothing_but_times, lose_terms]
)
def test_metrics_that_are_remembered_are_those_that_would_be_read(
    evaluated: Settings, monkeypatch: pytest.MonkeyPatch, change: Callable[[Settings], None]
) -> None:
    monkeypatch.setattr(remembered, "_SETTLED", 0)
    kept = evaluated.home / "cache" / "scores.json"
    first = call("metrics", "--json")
    made_from = json.loads(kept.read_text(encoding="utf-8"))["made_from"]
    tables = Path(evaluated.storage)
    assert {str(log) for log in tables.rglob("_delta_log")} <= set(made_from)
    assert call("metrics", "--json") == first
    time.sleep(0.02)  # a clock's tick

    change(evaluated)
    said = call("metrics", "--json")
    kept.unlink(missing_ok=True)

    assert said == call("metrics", "--json")
    stale = {row["stale"] for row in said.json}
    assert stale == {change in (change_terms, change_labels)}


def test_metrics_remembered_are_forgotten_with_the_next_evaluation(
    evaluated: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_SETTLED", 0)
    call("metrics")
    change_terms(evaluated)
    assert run_job("evaluate_model", TERMS).success

    (evaluation,) = {row["evaluation_id"] for row in call("metrics", "--json").json}
    assert evaluation == newest(evaluated).evaluation_id


def test_metrics_remembered_need_none_of_what_reads_tables(
    evaluated: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remembered, "_SETTLED", 0)
    shown = call("metrics")
    assert (evaluated.home / "cache" / "scores.json").is_file()
    program = (
        "import os, sys; sys.argv = ['hc', 'metrics']; from hc_orchestration.cli.app import app\n"
        "try: app()\n"
        "finally: print(*{'polars', 'deltalake', 'ruamel', 'dagster'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "COLUMNS": "200"},
    )

    assert done.stdout == shown.out + "\n"


def test_a_model_with_other_files_is_stale(evaluated: Settings) -> None:
    assert compared(evaluated)[TERMS].rank == 1

    change_terms(evaluated)

    model = compared(evaluated)[TERMS]
    assert model.rank is None
    assert str(model.missing).startswith("stale: its last evaluation is of other model files")


def test_a_model_whose_files_are_gone_keeps_its_place(evaluated: Settings) -> None:
    (evaluated.catalogue.parent / "terms.tsv").unlink()

    assert compared(evaluated)[TERMS].rank == 1


def test_metrics_say_in_every_form_whether_they_are_stale(evaluated: Settings) -> None:
    assert {row["stale"] for row in call("metrics", "--json").json} == {False}
    assert "stale" not in call("metrics").out

    change_terms(evaluated)

    assert {row["stale"] for row in call("metrics", "--json").json} == {True}
    csv = pl.read_csv(io.StringIO(call("metrics", "--format", "csv").out))
    assert set(csv["stale"]) == {True}
    head = call("metrics", "--format", "markdown").out.splitlines()[0]
    assert head.endswith("| stale |")
    assert f"{TERMS} stale: not of the corpus" in call("metrics").squeezed
    assert last_scores(Workspace(evaluated), [TERMS])["stale"].all()


def test_a_file_that_did_not_change_is_read_once(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = settings.catalogue.parent / "terms.tsv"
    os.utime(file, (1, 1))
    entry = Workspace(settings).catalogue.entry(TERMS)
    read: list[object] = []
    digest = hashlib.file_digest

    def counted(*arguments: Any) -> object:
        read.append(arguments)
        return digest(*arguments)

    monkeypatch.setattr(hashlib, "file_digest", counted)
    first = installed_model(entry, settings.model_store, remembered=True)
    again = installed_model(entry, settings.model_store, remembered=True)
    assert first == again
    assert len(read) == 1

    installed_model(entry, settings.model_store)
    assert len(read) == 2, "what is about to be run is always read"
    change_terms(settings)
    changed = installed_model(entry, settings.model_store, remembered=True)
    assert changed.fingerprint != first.fingerprint


@pytest.mark.parametrize("what", ["context", "software"])
def test_provenance_is_made_anew_when_what_it_says_has_changed(
    evaluated: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    first = newest(evaluated)
    if what == "context":
        change_organization(evaluated)
    else:
        change_software(monkeypatch)

    assert run_job("evaluate_model", TERMS).success

    second = newest(evaluated)
    assert first.metrics
    assert second.metrics
    assert second.metrics.evaluation_digest == first.metrics.evaluation_digest
    assert second.provenance != first.provenance
    said = json.dumps(provenance(evaluated, second))
    assert ("Other Hospital" if what == "context" else "99.0") in said

    assert run_job("evaluate_model", TERMS).success
    assert newest(evaluated).provenance == second.provenance, "nothing changed since"


def test_provenance_made_alone_later_tells_of_the_evaluation_that_it_describes(
    evaluated: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = newest(evaluated)
    change_organization(evaluated)
    change_software(monkeypatch)
    real = Workspace(evaluated).records.required(scored.evaluation_id)
    assert real.run
    assert real.status
    hour = timedelta(hours=1)
    ended = real.status.at - hour
    Workspace(evaluated).records.append(
        scored.evaluation_id,
        TERMS,
        real.run.model_copy(update={"started_at": real.run.started_at - 2 * hour}),
        real.status.model_copy(update={"at": ended}),
        done=real.done,
    )

    assert run_job("evaluate_model", TERMS, ["provenance"]).success

    made = provenance(evaluated, newest(evaluated))
    assert made["occurredPeriod"]["end"] == ended.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert made["recorded"] > made["occurredPeriod"]["end"]
    assert "99.0" not in json.dumps(made)
    assert "Other Hospital" in json.dumps(made)

    kept = newest(evaluated).provenance
    assert run_job("evaluate_model", TERMS, ["provenance"]).success
    assert newest(evaluated).provenance == kept, "nothing changed since"


def test_the_checks_look_at_the_version_of_the_entities_that_is_scored(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int | None] = []
    read = EntityTables.of_corpus

    def noted(
        self: EntityTables, key: str, fingerprint: str, corpus: int, version: int | None
    ) -> pl.LazyFrame:
        asked.append(version)
        return read(self, key, fingerprint, corpus, version)

    run_job("refresh_corpus")
    monkeypatch.setattr(EntityTables, "of_corpus", noted)
    assert run_job("evaluate_model", TERMS).success

    extraction = newest(settings).extraction
    assert extraction
    # the summary, the checks, and the scores
    assert asked.count(extraction.entities_version) >= 4


def quiet(line: str) -> None:
    del line


def test_models_without_a_rank_are_named_with_the_reason(evaluated: Settings) -> None:
    change_terms(evaluated)

    report = run_evaluation(evaluated, [RULER], say=quiet)

    missing = dict(report.missing)
    assert set(missing) == {TERMS, ABSENT}
    assert missing[TERMS].startswith("stale")
    assert "there is nothing at" in missing[ABSENT]


def test_a_model_that_failed_in_the_call_is_told_once(evaluated: Settings) -> None:
    failed = ModelOutcome(ABSENT, evaluating.FAILED, "no", "run", None)
    rows = compare_models(Workspace(evaluated))

    missing = dict(evaluating._missing(Workspace(evaluated), rows, [ABSENT], [failed]))

    assert missing == {RULER: "not evaluated yet"}


def test_models_after_an_interrupt_are_named_as_not_reached(evaluated: Settings) -> None:
    stopped = ModelOutcome(RULER, evaluating.FAILED, "stopped", "run", None)
    rows = compare_models(Workspace(evaluated))

    missing = dict(evaluating._missing(Workspace(evaluated), rows, [RULER, TERMS], [stopped]))

    assert missing[TERMS] == "not reached: interrupted"
    assert RULER not in missing


def test_an_absent_model_that_is_ranked_from_earlier_is_named_too(evaluated: Settings) -> None:
    (evaluated.catalogue.parent / "terms.tsv").unlink()
    rows = compare_models(Workspace(evaluated))

    missing = dict(evaluating._missing(Workspace(evaluated), rows, [], []))

    assert "there is nothing at" in missing[TERMS]


def extracted(identity: str, minutes: int, fingerprint: str = "f", **part: Any) -> EvaluationRecord:
    return EvaluationRecord(
        evaluation_id=identity,
        model_key=TERMS,
        inputs=inputs_part(notes=100, model_fingerprint=fingerprint),
        extraction=extraction_part(started_at=BEGUN + timedelta(minutes=minutes), **part),
    )


def test_speed_is_of_the_newest_extraction_that_can_tell_it() -> None:
    reused = extracted("e5", 5, extracted=0, notes_per_second=None)
    few = extracted("e4", 4, extracted=19, notes_per_second=1.0)
    other = extracted("e3", 3, "0", extracted=100, notes_per_second=2.0)
    enough = extracted("e2", 2, extracted=20, notes_per_second=3.0)
    older = extracted("e1", 1, extracted=100, notes_per_second=4.0)

    assert notes_per_second(reused, [reused, few, other, older, enough]) == 3.0
    assert notes_per_second(reused, [reused, few, other]) is None


def test_both_places_tell_the_same_speed(evaluated: Settings, run_job: Run) -> None:
    first = newest(evaluated)
    assert first.extraction
    assert run_job("evaluate_model", TERMS).success

    workspace = Workspace(evaluated)
    rows = comparison_rows(compare_models(workspace), workspace.corpus.required())
    document = call("evaluate", "--model", TERMS, "--json").json

    (stored,) = [row for row in rows if row["model_key"] == TERMS]
    (shown,) = [row for row in document["comparison"] if row["key"] == TERMS]
    assert stored["notes_per_second"] == first.extraction.notes_per_second
    assert shown["notes_per_second"] == first.extraction.notes_per_second
    assert document["comparison_error"] is None


def test_an_export_is_in_the_form_that_its_suffix_names(
    evaluated: Settings, tmp_path: Path
) -> None:
    workspace = Workspace(evaluated)
    for name in ("m.csv", "m.json", "m.ndjson", "m.parquet"):
        write_metrics(workspace, TERMS, tmp_path / name)
    write_entities(workspace, TERMS, tmp_path / "e.JSON")

    rows = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    assert pl.read_csv(tmp_path / "m.csv")["value"].to_list() == [row["value"] for row in rows]
    assert pl.read_ndjson(tmp_path / "m.ndjson").height == len(rows)
    assert pl.read_parquet(tmp_path / "m.parquet").height == len(rows)
    notes = json.loads((tmp_path / "e.JSON").read_text(encoding="utf-8"))
    assert [note["note_id"] for note in notes] == ["n1", "n2", "n3", "n4", "n5", "n6"]


def test_an_unknown_suffix_is_refused_and_nothing_is_written(
    settings: Settings, tmp_path: Path
) -> None:
    workspace = Workspace(settings)
    with pytest.raises(ConfigurationError, match=r"one of \.jsonl, \.ndjson, \.json, \.parquet\."):
        write_entities(workspace, TERMS, tmp_path / "x.csv")
    with pytest.raises(ConfigurationError, match=r"\.parquet, \.csv\."):
        write_metrics(workspace, TERMS, tmp_path / "x.txt")

    outcome = call("export", "entities", "--model", TERMS, "--output", str(tmp_path / "x.csv"))
    assert outcome.code == 2
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize(
    "arguments",
    [
        ("evaluate", "--model", "unknown-1"),
        ("models", "show", "unknown-1"),
        ("metrics", "--model", "unknown-1"),
        ("export", "metrics", "--model", "unknown-1", "--output", "x.csv"),
    ],
    ids=" ".join,
)
def test_an_unknown_model_is_bad_use(arguments: tuple[str, ...]) -> None:
    outcome = call(*arguments)

    assert outcome.code == 2
    assert "'unknown-1' is not in the catalogue" in outcome.err
    assert issubclass(UnknownModelError, ModelError)
