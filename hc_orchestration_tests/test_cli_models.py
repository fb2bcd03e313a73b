"""`hc models add`, `check` and `remove`, as people and programs call them."""

from collections.abc import Callable

import dagster as dg
import pytest
from filelock import FileLock

from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import ABSENT, CATALOGUE, RULER, TERMS

Run = Callable[..., dg.ExecuteInProcessResult]


def test_an_added_model_is_in_the_catalogue_and_can_be_evaluated(settings: Settings) -> None:
    drugs = settings.catalogue.parent / "drugs.tsv"
    drugs.write_text("DRUG\tmetformin\n", encoding="utf-8")
    added = call(
        *("models", "add", "drugs", "2.0", "--loader", "lexicon", "--path", str(drugs)),
        *("--label", "DRUG=CHEMICAL", "--license", "MIT", "--developer", "Us: ours", "--json"),
    )

    assert added.code == 0, added.err
    assert added.json["key"] == "drugs-2.0"
    assert added.json["installed"] is True
    assert "no `hc ui` of this HC_HOME runs here" in added.json["definitions"]
    assert settings.catalogue.read_text(encoding="utf-8").startswith(CATALOGUE)
    entry = load_catalogue(settings.catalogue).models[-1]
    assert entry.labels == {"DRUG": "CHEMICAL"}
    assert (entry.card.license, entry.card.developer) == ("MIT", "Us: ours")
    evaluated = call("evaluate", "--model", "drugs-2.0", "--json")
    (model,) = evaluated.json["models"]
    assert model["metrics"]["strict.recall.label.CHEMICAL"] == pytest.approx(2 / 3)


def test_a_path_below_the_catalogue_is_written_from_there(settings: Settings) -> None:
    inside = settings.catalogue.parent / "ruler"
    assert call("models", "add", "again", "1", "--path", str(inside)).code == 0
    assert (
        "source: {path: ruler}" in settings.catalogue.read_text(encoding="utf-8")[len(CATALOGUE) :]
    )


def test_a_team_s_own_model_is_added_with_its_options(settings: Settings) -> None:
    added = call(
        *("models", "add", "ours", "1", "--loader", "our_ner:make"),
        *("--options", '{"word": "gout", "least": 0.5}', "--json"),
    )
    assert added.json["installed"] is False
    assert "Put the module our_ner beside the catalogue" in added.json["reason"]
    entry = load_catalogue(settings.catalogue).models[-1]
    assert entry.options == {"word": "gout", "least": 0.5}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("terms", "1.0.0", "--path", "x"), f"the key {TERMS} stands twice"),
        (("new", "1-0", "--path", "x"), "version"),
        (("new", "1"), "the loader spacy needs a source"),
        (("new", "1", "--path", "x", "--loader", "spcy"), "unknown loader"),
        (("new", "1", "--path", "x", "--sha256", "abc"), "sha256"),
        (("new", "1", "--path", "x", "--label", "DRUG"), "--label DRUG is not"),
        (("new", "1", "--loader", "m:make", "--options", "[]"), "--options is no JSON object"),
    ],
)
def test_what_cannot_be_added_is_bad_use_and_changes_nothing(
    settings: Settings, arguments: tuple[str, ...], told: str
) -> None:
    outcome = call("models", "add", *arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert told in " ".join(outcome.err.split())
    assert settings.catalogue.read_text(encoding="utf-8") == CATALOGUE


@pytest.mark.usefixtures("settings")
def test_check_tells_labels_speed_and_device() -> None:
    outcome = call("models", "check", TERMS, "--json")
    assert outcome.code == 0, outcome.err
    document = outcome.json
    assert document["ok"] is True
    assert document["sample"] == "8 made-up sentences"
    assert document["labels"] == ["CHEMICAL", "DISEASE"]
    assert document["found"] == {"CHEMICAL": 1}
    assert (document["unmapped"], document["warnings"], document["problems"]) == ([], [], [])
    assert document["device"] == "cpu"
    assert document["words_per_second"] > 0
    assert "words_per_second" in call("models", "check", RULER).out


def test_check_on_stored_notes_shows_nothing_of_them(settings: Settings, run_job: Run) -> None:
    assert run_job("refresh_corpus").success
    outcome = call("models", "check", RULER, "--notes", "4", "--json")
    assert outcome.json["sample"] == "4 stored notes"
    assert outcome.json["found"] == {"ENTITY": 4}
    assert "asthma" not in outcome.out + outcome.err
    assert settings.catalogue.exists()


def test_check_of_a_model_that_cannot_be_evaluated_fails(settings: Settings) -> None:
    catalogue = CATALOGUE.replace("path: ruler}, labels: {ENTITY", "path: ruler}, labels: {PROBLEM")
    settings.catalogue.write_text(catalogue, encoding="utf-8")
    outcome = call("models", "check", RULER, "--json")
    assert outcome.code == 1
    assert outcome.json["ok"] is False
    assert "the study maps none of the model's labels (ENTITY)" in outcome.json["problems"][0]
    assert outcome.json["unmapped"] == ["ENTITY"]
    assert outcome.json["never_given"] == ["PROBLEM"]


@pytest.mark.usefixtures("settings")
def test_check_of_an_absent_or_unknown_model_says_so() -> None:
    absent = call("models", "check", ABSENT)
    assert absent.code == 1
    assert "there is nothing at" in absent.err
    assert call("models", "check", "unknown-1").code == 2


def test_removing_keeps_what_was_found(settings: Settings, run_job: Run) -> None:
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)
    outcome = call("models", "remove", TERMS, "--yes", "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json["evaluations_kept"] == 1
    assert outcome.json["left_in_place"] == str(settings.catalogue.parent / "terms.tsv")
    assert (settings.catalogue.parent / "terms.tsv").is_file()
    assert load_catalogue(settings.catalogue).keys == (RULER, ABSENT)
    workspace = Workspace(settings)
    (record,) = workspace.records.of_model(TERMS)
    assert record.metrics is not None
    assert workspace.entities.version(TERMS) is not None


def test_removing_takes_the_files_out_of_the_store(settings: Settings) -> None:
    archive = settings.catalogue.parent / "ruler"
    added = ("models", "add", "kept", "1", "--url", "https://models.example/kept-1.tar.gz")
    assert call(*added).code == 0
    assert call("models", "install", str(archive), "--model", "kept-1").code == 0
    assert (settings.model_store / "kept-1" / "config.cfg").is_file()
    outcome = call("models", "remove", "kept-1", "--yes", "--json")
    assert outcome.json["bytes_freed"] > 0
    assert [path.name for path in settings.model_store.iterdir()] == [".install.lock"]
    assert settings.catalogue.read_text(encoding="utf-8") == CATALOGUE


def test_an_archive_is_installed_as_the_model_that_its_name_says(settings: Settings) -> None:
    for version in ("1", "1.2"):
        call("models", "add", "kept", version, "--url", "https://models.example/kept.tar.gz")
    folder = settings.catalogue.parent / "kept-1.2"
    folder.mkdir()
    (settings.catalogue.parent / "ruler").rename(folder / "kept")

    outcome = call("models", "install", str(folder), "--json")

    assert outcome.json["key"] == "kept-1.2"
    assert not (settings.model_store / "kept-1").exists()
    nameless = call("models", "install", str(folder / "kept"))
    assert nameless.code == 2
    assert "kept does not say which model of the catalogue it is" in " ".join(nameless.err.split())
    assert call("models", "install", "kept").code == 2


def test_removing_asks_first(settings: Settings) -> None:
    outcome = call("models", "remove", TERMS)
    assert outcome.code == 2
    assert "Give --yes" in outcome.err
    assert settings.catalogue.read_text(encoding="utf-8") == CATALOGUE


def test_a_model_that_runs_now_is_not_removed(settings: Settings) -> None:
    with FileLock(settings.locks / f"extract-{TERMS}.lock"):
        outcome = call("models", "remove", TERMS, "--yes")
    assert outcome.code == 1
    assert f"model {TERMS} is being run" in outcome.err
    assert settings.catalogue.read_text(encoding="utf-8") == CATALOGUE
