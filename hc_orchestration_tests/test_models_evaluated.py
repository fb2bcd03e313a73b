"""Models of every loader through the whole path: `hc` and Dagster, to scores and cards."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import CATALOGUE, NOTES, TERMS
from hc_orchestration_tests.models.tiny_models import packaged_pipeline, save_transformer

Run = Callable[..., dg.ExecuteInProcessResult]
CHOKES = """\
class Model:
    labels = ("DISEASE",)

    def extract(self, texts):
        for text in texts:
            if "gout" in text and {chokes}:
                raise ValueError(f"cannot digest {{text!r}}")
        found = [text.find("asthma") for text in texts]
        return [[] if at < 0 else [(at, at + 6, "DISEASE")] for at in found]


def make(options):
    return Model()
"""


def add_models(settings: Settings, *entries: str) -> None:
    lines = "".join(f"  - {{{entry}}}\n" for entry in entries)
    settings.catalogue.write_text(CATALOGUE + lines, encoding="utf-8")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is reached beyond this machine."""
    connect = socket.socket.connect

    def refuse(self: socket.socket, address: Any) -> None:
        if self.family in {socket.AF_INET, socket.AF_INET6} and address[0] != "127.0.0.1":
            message = f"a test reached for {address[0]}"
            raise AssertionError(message)
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.usefixtures("offline")
def test_two_versions_of_one_package_are_evaluated_side_by_side_from_archives(
    settings: Settings, tmp_path: Path
) -> None:
    old = packaged_pipeline(tmp_path, "0.2.4", "asthma")
    new = packaged_pipeline(tmp_path, "0.5.4", "asthma", "gout", "metformin")
    entry = 'name: en_core_sci_sm, version: {}, loader: spacy, labels: {{ENTITY: "*"}}, source: {}'
    add_models(
        settings,
        entry.format("0.2.4", "{url: 'https://models.example/en_core_sci_sm-0.2.4.tar.gz'}"),
        entry.format("0.5.4", f"{{path: '{new}'}}"),
    )
    keys = ["en_core_sci_sm-0.2.4", "en_core_sci_sm-0.5.4"]

    assert call("models", "install", str(old), "--model", keys[0]).code == 0
    assert call("models", "install", keys[1]).code == 0
    outcome = call("evaluate", "--model", keys[0], "--model", keys[1], "--json")

    assert outcome.code == 0, outcome.err
    first, second = outcome.json["models"]
    assert [first["key"], second["key"]] == keys
    assert first["fingerprint"] != second["fingerprint"]
    # Gold 7: asthma 2, gout 2 (one of them "Gout"), metformin 2, colchicine.
    assert first["metrics"]["exact.recall"] == pytest.approx(2 / 7)
    assert second["metrics"]["exact.recall"] == pytest.approx(6 / 7)
    assert {row["key"] for row in outcome.json["comparison"]} == set(keys)
    compared = call("compare", keys[1], keys[0], "--json").json
    assert {row["metric"] for row in compared} >= {"exact.f1"}
    assert {path.name for path in settings.model_store.glob("en_*")} == set(keys)
    lock = settings.catalogue.with_suffix(".lock.json")
    assert set(json.loads(lock.read_text(encoding="utf-8"))) == set(keys)


@pytest.mark.usefixtures("offline")
def test_a_transformer_of_random_weights_is_evaluated(settings: Settings) -> None:
    pytest.importorskip("torch", reason="torch is not installed (extra transformers)")
    save_transformer(settings.catalogue.parent / "tiny", byte_level=False)
    add_models(settings, "name: tiny, version: '1', loader: transformers, source: {path: tiny}")

    outcome = call("evaluate", "--model", "tiny-1", "--json")

    assert outcome.code == 0, outcome.err
    (model,) = outcome.json["models"]
    assert (model["status"], model["notes"], model["support"]) == ("evaluated", 6, 7)
    assert model["entities"] > 0
    assert 0 <= model["metrics"]["strict.f1"] <= 1
    workspace = Workspace(settings)
    (record,) = workspace.records.of_model("tiny-1")
    assert record.extraction is not None
    assert record.extraction.device in {"cpu", "cuda:0"}
    rows = workspace.entities.of_corpus("tiny-1", model["fingerprint"], 0, None).collect()
    texts = {note["note_id"]: note["text"] for note in NOTES}
    for note_id, spans in rows.select("note_id", "spans").iter_rows():
        for span in spans:
            mention = texts[note_id][span["start"] : span["end"]]
            assert mention
            assert mention == mention.strip()
            assert 0 < span["score"] <= 1


def test_a_model_that_raises_on_one_note_fails_naming_it_and_goes_on_after_the_mending(
    settings: Settings, run_job: Run, capfd: pytest.CaptureFixture[str]
) -> None:
    module = settings.catalogue.parent / "choking.py"
    flag = settings.catalogue.parent / "choke"
    flag.touch()
    module.write_text(
        CHOKES.format(chokes=f"__import__('os').path.exists({str(flag)!r})"), encoding="utf-8"
    )
    add_models(settings, 'name: choking, version: "1", loader: "choking:make"')
    assert run_job("refresh_corpus").success

    failed = run_job_anew(settings, "evaluate_model", "choking-1")

    (record,) = Workspace(settings).records.of_model("choking-1")
    assert not failed.success
    assert record.state is Status.FAILED
    assert record.status is not None
    assert "n2" in (record.status.error or "")
    assert "ValueError" in (record.status.error or "")
    events = " ".join(event.message or "" for event in failed.all_events)
    errors = [event.event_specific_data for event in failed.all_events if event.is_failure]
    said = "".join((record.status.error or "", events, str(errors), *capfd.readouterr()))
    assert "Long-standing" not in said
    assert record.metrics is None

    flag.unlink()  # the service that the model asks is mended; the model is the same
    assert run_job_anew(settings, "evaluate_model", "choking-1").success

    mended = Workspace(settings).records.of_model("choking-1")[0]
    assert mended.state is Status.FINISHED
    assert mended.extraction is not None
    assert (mended.extraction.reused, mended.extraction.extracted) == (5, 1)
    assert mended.metrics is not None
    assert mended.metrics.values["strict.recall"] == pytest.approx(2 / 7)


def run_job_anew(settings: Settings, job: str, key: str) -> dg.ExecuteInProcessResult:
    """Run a job of the definitions as the catalogue is now."""
    from hc_orchestration.definitions import build_definitions

    with dg.DagsterInstance.get() as instance:
        return (
            build_definitions(settings)
            .resolve_job_def(job)
            .execute_in_process(
                instance=instance,
                partition_key=key,
                raise_on_error=False,
                run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
            )
        )


def test_the_card_of_a_model_is_shown_by_hc_dagster_and_mlflow(
    settings: Settings, run_job: Run
) -> None:
    card = (
        'developer: "Us", license: MIT, intended_use: "Tests", training_data: "None", '
        'limits: "Knows four words", figures: {strict.f1: "0.77 (0.40-1.00) on six notes"}'
    )
    text = CATALOGUE.replace(
        "source: {path: terms.tsv}", f"source: {{path: terms.tsv}}, card: {{{card}}}"
    )
    settings.catalogue.write_text(text, encoding="utf-8")
    run_job("refresh_corpus")

    result = run_job_anew(settings, "evaluate_model", TERMS)

    shown = call("models", "show", TERMS, "--json").json["card"]
    assert shown["developer"] == "Us"
    assert shown["figures"] == {"strict.f1": "0.77 (0.40-1.00) on six notes"}
    (event,) = result.asset_materializations_for_node("model_files")
    assert event.metadata["card"].value == shown
    from mlflow import MlflowClient

    (record,) = Workspace(settings).records.of_model(TERMS)
    assert record.mlflow is not None
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    file = client.download_artifacts(record.mlflow.run_id, "model_card.json")
    assert json.loads(Path(file).read_text(encoding="utf-8")) == {"model": TERMS, **shown}
