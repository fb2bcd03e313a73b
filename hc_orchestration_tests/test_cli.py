"""`hc` as people and programs call it: exit codes, standard output, and no traceback."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration_tests.calling import Outcome, call
from hc_orchestration_tests.conftest import (
    ABSENT,
    CATALOGUE,
    NOTES,
    RULER,
    STUDY,
    TERMS,
    write_notes,
)

DASH = "\N{EN DASH}"
SENTINEL = "xanthoquill"
MODEL_KEYS = {
    "key", "status", "error", "fingerprint", "notes", "entities", "reused", "extracted",
    "notes_per_second", "support", "metrics", "not_applicable", "evaluation_id",
    "evaluation_digest", "inputs_unchanged", "mlflow_run_id", "dagster_run_id", "provenance",
    "seconds",
}  # fmt: skip


Hc = Callable[..., Outcome]


@pytest.fixture
def fresh(settings: Settings) -> Settings:
    """A deployment in which nothing was run yet, for tests that call `hc`."""
    return settings


@dataclass(frozen=True)
class Evaluated:
    """A deployment after `hc evaluate --json`, shared by the tests that only read it."""

    environment: dict[str, str]
    outcome: Outcome


@pytest.fixture(scope="module")
def evaluated(
    tmp_path_factory: pytest.TempPathFactory, rule_model: Path, empty_mlflow: Path
) -> Evaluated:
    folder = tmp_path_factory.mktemp("evaluated")
    write_notes(folder, NOTES)
    (folder / "study.yaml").write_text(STUDY, encoding="utf-8")
    catalogue = CATALOGUE.replace("path: ruler", f"path: {rule_model}")
    (folder / "models.yaml").write_text(catalogue, encoding="utf-8")
    terms = "DISEASE\tasthma\nDISEASE\tgout flare\nCHEMICAL\tmetformin\nCHEMICAL\tcolchicine\n"
    (folder / "terms.tsv").write_text(terms, encoding="utf-8")
    (folder / "home").mkdir()
    (folder / "home" / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    environment = {
        "HC_HOME": str(folder / "home"),
        "HC_STUDY": str(folder / "study.yaml"),
        "HC_MODELS": str(folder / "models.yaml"),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return Evaluated(environment, call("evaluate", "--json"))


@pytest.fixture
def hc(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> Hc:
    """Calls `hc` on the deployment that was evaluated."""
    for name, value in evaluated.environment.items():
        monkeypatch.setenv(name, value)
    return call


def test_evaluate_gives_the_documented_document_and_nothing_else(evaluated: Evaluated) -> None:
    document = evaluated.outcome.json

    assert set(document) == {
        "corpus", "models", "comparison", "missing", "interrupted", "comparison_error",
    }  # fmt: skip
    assert document["comparison_error"] is None
    assert set(document["corpus"]) == {"digest", "version", "notes", "quarantined"}
    assert {frozenset(model) for model in document["models"]} == {frozenset(MODEL_KEYS)}
    assert {frozenset(model) for model in document["comparison"]} == {
        frozenset({"rank", "key", "evaluation_id", "metrics", "support", "notes_per_second"})
    }
    assert {frozenset(model) for model in document["missing"]} == {frozenset({"key", "reason"})}


def test_models_whose_files_are_absent_are_only_named(evaluated: Evaluated) -> None:
    document = evaluated.outcome.json

    assert evaluated.outcome.code == 0
    assert {model["key"]: model["status"] for model in document["models"]} == {
        TERMS: "evaluated",
        RULER: "evaluated",
    }
    (absent,) = document["missing"]
    assert absent["key"] == ABSENT
    assert "there is nothing at" in absent["reason"]


def test_evaluate_tells_scores_and_where_to_find_the_evidence(evaluated: Evaluated) -> None:
    terms, ruler = evaluated.outcome.json["models"]

    assert terms["metrics"]["strict.f1"] == pytest.approx(10 / 13)
    assert (terms["notes"], terms["reused"], terms["extracted"], terms["support"]) == (6, 0, 6, 7)
    assert terms["error"] is None
    record = json.loads(Path(terms["provenance"]).read_bytes())
    assert record["resourceType"] == "Bundle"
    assert terms["evaluation_id"] in json.dumps(record)
    assert ruler["not_applicable"] == ["strict", "type"]
    ranked = [(row["rank"], row["key"]) for row in evaluated.outcome.json["comparison"]]
    assert ranked == [(1, TERMS), (2, RULER)]


def test_progress_is_told_on_standard_error(evaluated: Evaluated) -> None:
    said = evaluated.outcome.err

    assert "reading the corpus" in said
    assert f"evaluating {RULER} (1 of 2)" in said  # the slower one first
    assert f"evaluating {TERMS} (2 of 2)" in said


def test_evaluating_one_model_again_reuses_its_rows_and_writes_only_json_to_the_descriptor(
    hc: Hc, capfd: pytest.CaptureFixture[str]
) -> None:
    """Programs read the file descriptor, which libraries can write to behind Python's back."""
    outcome = hc("evaluate", "--model", TERMS, "--json")

    (model,) = outcome.json["models"]
    assert outcome.code == 0
    assert (model["reused"], model["extracted"], model["inputs_unchanged"]) == (6, 0, True)
    assert capfd.readouterr().out == ""


def test_asking_for_an_absent_model_fails_saying_where_its_files_should_be(hc: Hc) -> None:
    outcome = hc("evaluate", "--model", ABSENT)

    assert outcome.code == 1
    assert f"failed {ABSENT}: model {ABSENT}: there is nothing at" in outcome.squeezed
    assert TERMS in outcome.out


def test_an_unknown_model_is_refused_naming_the_known_ones(hc: Hc) -> None:
    outcome = hc("evaluate", "--model", "unknown-1")

    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err == (
        f"hc: model 'unknown-1' is not in the catalogue. It holds: {TERMS}, {RULER}, {ABSENT}.\n"
    )


def test_asking_for_one_model_and_for_all_is_bad_use(hc: Hc) -> None:
    outcome = hc("evaluate", "--model", TERMS, "--all")

    assert outcome.code == 2
    assert "give either --model or --all" in outcome.err


@pytest.mark.parametrize(
    "arguments", [("evaluate",), ("corpus", "check"), ("evaluate", "--json")], ids=" ".join
)
def test_a_broken_study_file_is_bad_use_and_names_file_and_key(
    fresh: Settings, arguments: tuple[str, ...]
) -> None:
    fresh.study.write_text(STUDY.replace("labels:", "lables:"), encoding="utf-8")

    outcome = call(*arguments)

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.startswith(f"hc: {fresh.study}")
    assert "lables" in outcome.err


def test_a_process_of_its_own_ends_the_same_way(fresh: Settings) -> None:
    """In a new process the code location itself is loaded with the broken file."""
    fresh.catalogue.write_text("models:\n  - {name: a, version: 1-1, loader: spacy}\n", "utf-8")
    code = "from hc_orchestration.cli.app import main; main()"

    ended = subprocess.run(
        [sys.executable, "-c", code, "evaluate", "--json"],
        env=dict(os.environ),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert (ended.returncode, ended.stdout) == (2, "")
    assert str(fresh.catalogue) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_misspelt_setting_is_bad_use(hc: Hc, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HC_STUDDY", "x")

    assert hc("models", "list").code == 2
    assert "did you mean HC_STUDY?" in hc("models", "list").err


def test_models_are_listed_with_whether_they_are_here(hc: Hc) -> None:
    rows = hc("models", "list", "--json").json

    assert {row["key"]: row["installed"] for row in rows} == {
        TERMS: True,
        RULER: True,
        ABSENT: False,
    }
    assert f"{ABSENT} spacy False" in hc("models", "list").squeezed


def test_an_installed_model_is_shown_with_its_fingerprint(hc: Hc, evaluated: Evaluated) -> None:
    shown = hc("models", "show", TERMS, "--json").json

    (terms, _) = evaluated.outcome.json["models"]
    assert shown["installed"] is True
    assert shown["fingerprint"] == terms["fingerprint"]
    assert shown["files"] == 1
    assert f"fingerprint {terms['fingerprint']}" in hc("models", "show", TERMS).squeezed


def test_an_absent_model_is_shown_with_the_reason(hc: Hc) -> None:
    outcome = hc("models", "show", ABSENT, "--json")

    assert outcome.code == 0
    assert outcome.json["installed"] is False
    assert "there is nothing at" in outcome.json["reason"]
    assert "fingerprint" not in outcome.json


def test_a_model_that_is_not_in_the_catalogue_cannot_be_shown(hc: Hc) -> None:
    outcome = hc("models", "show", "unknown-1")

    assert outcome.code == 2
    assert "'unknown-1' is not in the catalogue" in outcome.err


def test_corpus_check_counts_without_storing(fresh: Settings) -> None:
    outcome = call("corpus", "check", "--json")

    assert outcome.code == 0
    document = outcome.json
    assert (document["read"], document["stored"], document["annotated"]) == (6, 6, 5)
    assert document["gold"] == {"DISEASE": 4, "CHEMICAL": 3}
    assert document["rejects"] == []
    assert not (fresh.home / "tables").exists()


@pytest.fixture
def rejected(tmp_path: Path) -> Path:
    """Notes of which one cannot be used; its text holds a made-up word."""
    span = {"start": 0, "end": 99, "label": "DISEASE"}
    notes = [
        {"note_id": "n1", "text": "Asthma."},
        {"note_id": "n2", "text": f"Seen with {SENTINEL}.", "spans": [span]},
        {"note_id": "n3", "texts": f"Also {SENTINEL}."},
    ]
    file = tmp_path / "given.jsonl"
    file.write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")
    return file


@pytest.mark.usefixtures("fresh")
def test_corpus_check_names_rejects_by_place_and_reason_and_shows_no_text(rejected: Path) -> None:
    as_json = call("corpus", "check", str(rejected), "--format", "jsonl", "--json")
    as_table = call("corpus", "check", str(rejected), "--format", "jsonl")

    assert (as_json.code, as_table.code) == (0, 0)
    assert as_json.json["rejects"] == [
        {"source": "given", "position": "given.jsonl line 2", "reason": "span_out_of_range"},
        {"source": "given", "position": "given.jsonl line 3", "reason": "missing_text"},
    ]
    assert "given.jsonl line 2 span_out_of_range" in as_table.squeezed
    assert SENTINEL not in as_json.out + as_json.err + as_table.out + as_table.err


@pytest.mark.usefixtures("fresh")
def test_corpus_check_fails_when_nothing_would_be_stored(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text('{"note_id": "n1"}\n', encoding="utf-8")

    outcome = call("corpus", "check", str(tmp_path / "bad.jsonl"), "--format", "jsonl", "--json")

    assert outcome.code == 1
    assert outcome.json["reasons"] == {"missing_text": 1}


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("form", [(), ("--format", "word")], ids=["none", "unknown"])
def test_a_path_needs_a_known_format(rejected: Path, form: tuple[str, ...]) -> None:
    outcome = call("corpus", "check", str(rejected), *form)

    assert outcome.code == 2
    assert "--format jsonl" in outcome.err


@pytest.mark.usefixtures("fresh")
def test_a_corpus_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    outcome = call("corpus", "check", str(tmp_path / "nowhere.jsonl"), "--format", "jsonl")

    assert outcome.code == 1
    assert "no jsonl file at" in outcome.err


@pytest.mark.usefixtures("fresh")
def test_before_any_ingestion_there_is_no_corpus_to_show() -> None:
    outcome = call("corpus", "show")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("hc: no corpus is stored yet.")


def test_the_stored_corpus_is_shown(hc: Hc, evaluated: Evaluated) -> None:
    shown = hc("corpus", "show", "--json").json

    corpus = evaluated.outcome.json["corpus"]
    assert (shown["digest"], shown["version"]) == (corpus["digest"], corpus["version"])
    assert (shown["stored"], shown["rejects"]) == (6, [])
    assert "stored 6" in hc("corpus", "show").squeezed


def test_metrics_in_every_form_hold_the_same_scores(hc: Hc) -> None:
    rows = hc("metrics", "--format", "json").json

    assert rows == hc("metrics", "--json").json
    assert {row["model"] for row in rows} == {TERMS, RULER}
    csv = pl.read_csv(io.StringIO(hc("metrics", "--format", "csv").out))
    assert csv["value"].to_list() == [row["value"] for row in rows]
    markdown = hc("metrics", "--format", "markdown").out.splitlines()
    assert len(markdown) == len(rows) + 2
    assert markdown[0].startswith("| model | mode | average | label |")
    (f1,) = [
        row["value"]
        for row in rows
        if (row["model"], row["mode"], row["average"], row["statistic"])
        == (TERMS, "strict", "micro", "f1")
    ]
    assert f1 == pytest.approx(10 / 13)


def test_metrics_for_people_are_a_table_a_model(hc: Hc) -> None:
    outcome = hc("metrics")

    assert outcome.code == 0
    assert outcome.squeezed.index(TERMS) < outcome.squeezed.index(RULER)
    assert f"strict micro 0.833 0.714 0.769 {DASH} 7 6 5" in outcome.squeezed


def test_metrics_of_one_model_are_its_own(hc: Hc) -> None:
    rows = hc("metrics", "--model", RULER, "--json").json

    assert {(row["model"], row["mode"]) for row in rows} == {
        (RULER, "exact"),
        (RULER, "partial"),
    }


def test_metrics_hold_intervals_and_what_they_rest_on(hc: Hc) -> None:
    rows = hc("metrics", "--model", TERMS, "--json").json

    (f1,) = [
        row
        for row in rows
        if (row["mode"], row["average"], row["statistic"]) == ("strict", "micro", "f1")
    ]
    assert (f1["ci_low"], f1["clusters"], f1["notes"], f1["resamples"]) == (None, 4, 5, 2_000)
    assert isinstance(f1["seed"], int)
    assert {row["mode"] for row in rows} == {"strict", "exact", "partial", "type"}


def test_two_models_are_compared_in_every_form(hc: Hc) -> None:
    rows = hc("compare", TERMS, RULER, "--json").json

    (f1,) = [row for row in rows if row["metric"] == "exact.f1"]
    assert (f1["first"], f1["second"]) == (TERMS, RULER)
    assert f1["difference"] == pytest.approx(10 / 13 - 8 / 11)
    assert 0 < f1["p"] <= 1
    assert {row["metric"].split(".")[0] for row in rows} == {"exact", "partial"}
    assert rows == hc("compare", TERMS, RULER, "--format", "json").json
    csv = pl.read_csv(io.StringIO(hc("compare", TERMS, RULER, "--format", "csv").out))
    assert csv["metric"].to_list() == [row["metric"] for row in rows]
    markdown = hc("compare", TERMS, RULER, "--format", "markdown").out.splitlines()
    assert len(markdown) == len(rows) + 2
    said = hc("compare", RULER, TERMS).squeezed
    assert said.startswith(f"{RULER} minus {TERMS} metric")
    assert "exact.f1 0.727 0.769 -0.042" in said


@pytest.mark.parametrize(
    ("models", "code", "said"),
    [
        ((TERMS, TERMS), 1, "is named twice"),
        ((TERMS, ABSENT), 1, f"{ABSENT} cannot be compared: "),
        ((TERMS, "nobody-1"), 2, "is not in the catalogue"),
    ],
)
def test_a_comparison_that_cannot_be_made_says_why(
    hc: Hc, models: tuple[str, str], code: int, said: str
) -> None:
    outcome = hc("compare", *models)

    assert outcome.code == code
    assert said in outcome.err


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("form", ["table", "json", "csv", "markdown"])
def test_before_any_evaluation_there_are_no_metrics(form: str) -> None:
    outcome = call("metrics", "--format", form)

    assert outcome.code == 1
    assert outcome.err == "hc: no model has a finished evaluation. Run: hc evaluate\n"
    assert "0." not in outcome.out


@pytest.mark.usefixtures("fresh")
def test_metrics_without_evaluation_are_an_empty_json_list() -> None:
    outcome = call("metrics", "--model", TERMS, "--json")

    assert (outcome.code, outcome.json) == (1, [])
    assert f"model {TERMS} has no finished evaluation" in outcome.err


@pytest.mark.parametrize(
    ("what", "name", "version"),
    [
        ("entities", "out.jsonl", "entities_version"),
        ("metrics", "out.parquet", "metrics_version"),
        ("provenance", "out.json", "sha256"),
    ],
)
def test_results_are_exported_with_their_versions(
    hc: Hc, tmp_path: Path, what: str, name: str, version: str
) -> None:
    output = tmp_path / name

    outcome = hc("export", what, "--model", TERMS, "--output", str(output), "--json")

    assert outcome.code == 0
    assert outcome.json["file"] == str(output)
    assert outcome.json[version]
    assert output.stat().st_size > 0


def test_an_export_is_told_to_people_too(hc: Hc, tmp_path: Path) -> None:
    outcome = hc("export", "entities", "--model", TERMS, "--output", str(tmp_path / "o.jsonl"))

    assert outcome.code == 0
    assert f"6 {TERMS}" in outcome.squeezed


def test_an_export_of_what_is_not_there_fails(hc: Hc, tmp_path: Path) -> None:
    output = str(tmp_path / "out.jsonl")

    absent = hc("export", "entities", "--model", ABSENT, "--output", output)
    folder = tmp_path / "folder.jsonl"
    folder.mkdir()
    unwritable = hc("export", "entities", "--model", TERMS, "--output", str(folder))

    assert (absent.code, unwritable.code) == (1, 1)
    assert f"Run: hc evaluate --model {ABSENT}" in absent.err
    assert f"hc: {folder} cannot be written" in unwritable.err


@pytest.mark.parametrize("arguments", [("export", "entities"), ("nonsense",), ("evaluate", "-x")])
def test_bad_use_ends_with_two(hc: Hc, arguments: tuple[str, ...]) -> None:
    assert hc(*arguments).code == 2


@pytest.mark.usefixtures("fresh")
def test_a_key_that_is_set_later_signs_a_new_record_of_the_same_scores(
    hc: Hc, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "keys" / "key.pem"
    made = hc("provenance", "keygen", str(path), "--json")
    assert (made.code, path.stat().st_mode & 0o777) == (0, 0o600)
    assert hc("provenance", "keygen", str(path)).code == 2
    before = hc("evaluate", "--model", TERMS, "--json").json["models"][0]["provenance"]
    monkeypatch.setenv("HC_SIGNING_KEY", str(path))

    signed, again = (
        hc("evaluate", "--model", TERMS, "--json").json["models"][0]["provenance"] for _ in range(2)
    )

    assert "signature" not in json.loads(Path(before).read_bytes())
    record = json.loads(Path(signed).read_bytes())
    assert record["signature"]["sigFormat"] == "application/jose"
    assert again == signed != before
