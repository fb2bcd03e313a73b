"""The MLflow runs of the corpus and of the comparison: one each, true, and made up for later."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.resources.workspace import mlflow_projection
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import ShownIn
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration.tracking.sync import lacking, synchronize
from hc_orchestration_tests.conftest import ABSENT, NOTES, RULER, STUDY, TERMS, write_notes
from hc_orchestration_tests.storage.parts import promotion_on
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs
from hc_orchestration_tests.tracking.away import refusing

Run = Callable[..., dg.ExecuteInProcessResult]
GATES = "gates: [{metric: exact.f1, regression: 0.02}]\n"


def materialized(result: dg.ExecuteInProcessResult, asset: str) -> dict[str, Any]:
    """The metadata of the only materialization of an asset."""
    (event,) = result.asset_materializations_for_node(asset)
    return {name: value.value for name, value in event.metadata.items()}


def up_to_date(result: dg.ExecuteInProcessResult) -> tuple[bool, dg.AssetCheckSeverity]:
    """Whether the check on MLflow passed, and how grave it is."""
    (check,) = [
        e for e in result.get_asset_check_evaluations() if e.check_name == "mlflow_up_to_date"
    ]
    return check.passed, check.severity


def artifact(settings: Settings, run: Any, name: str) -> bytes:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    return Path(client.download_artifacts(run.info.run_id, name)).read_bytes()


def told(run: Any) -> dict[str, Any]:
    """All that MLflow says of a run, but for its own id."""
    datasets = [(used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs]
    times = (run.info.start_time, run.info.end_time)
    named = (run.info.run_name, run.info.status)
    return {
        "run": (*named, *times),
        "params": run.data.params,
        "metrics": run.data.metrics,
        "tags": run.data.tags,
        "datasets": datasets,
    }


@pytest.fixture
def compared(settings: Settings, run_job: Run) -> dg.ExecuteInProcessResult:
    """A comparison of two models with a champion and a regression gate."""
    settings.study.write_text(STUDY + GATES, encoding="utf-8")
    assert run_job("refresh_corpus").success
    for key in (TERMS, RULER):
        assert run_job("evaluate_model", key).success
    workspace = Workspace(settings)
    (record,) = workspace.records.of_model(TERMS)
    workspace.promotions.append(promotion_on("test-study", record))
    return run_job("compare_models")


@pytest.fixture
def away() -> Iterator[pytest.MonkeyPatch]:
    """MLflow is away until this is undone."""
    yield from refusing(MlflowProjection)


def test_a_stored_corpus_is_a_run_with_its_counts(settings: Settings, run_job: Run) -> None:
    write_notes(settings.study.parent, [*NOTES, NOTES[0]])
    with (settings.study.parent / "notes.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"note_id": "broken", "text": ""}\n')

    result = run_job("refresh_corpus")

    (run,) = mlflow_runs(settings, "corpus")
    corpus = Workspace(settings).corpus.required()
    assert (run.info.run_name, run.info.status) == ("corpus 1", "FINISHED")
    assert run.data.metrics == {
        "corpus.read": 8,
        "corpus.stored": 6,
        "corpus.duplicates": 1,
        "corpus.repeated_texts": 0,
        "corpus.duplicate_texts": 0,
        "corpus.not_selected": 0,
        "corpus.quarantined": 1,
        "corpus.quarantined.reason.empty_text": 1,
        "corpus.annotated": 5,
        "corpus.gold": 7,
        "corpus.gold.label.CHEMICAL": 3,
        "corpus.gold.label.DISEASE": 4,
        "corpus.gold_unmapped": 0,
        "corpus.gold_discontinuous": 0,
    }
    params = run.data.params
    assert (params["corpus.digest"], params["corpus.notes"]) == (corpus.digest, "6")
    assert params["healthcare.patient_cohort"] == "Test cohort"
    tags = run.data.tags
    assert (tags["hc.corpus_digest"], tags["hc.corpus_version"]) == (corpus.digest, "1")
    assert tags["dagster_run_id"] == result.run_id
    assert tags["dagster.asset_keys"] == "notes_corpus"
    assert tags["hc.dagster_url"].endswith(f"/runs/{result.run_id}")
    assert [used.dataset.digest for used in run.inputs.dataset_inputs] == [corpus.digest[:36]]
    assert materialized(result, "notes_corpus")["mlflow_run_id"] == run.info.run_id
    assert up_to_date(result) == (True, dg.AssetCheckSeverity.WARN)
    assert not [note for note in NOTES if note["text"] in str(told(run))]


def test_an_unchanged_corpus_keeps_its_run_and_a_changed_one_gets_another(
    settings: Settings, run_job: Run
) -> None:
    run_job("refresh_corpus")
    (first,) = mlflow_runs(settings, "corpus")

    again = run_job("refresh_corpus")

    (kept,) = mlflow_runs(settings, "corpus")
    assert told(kept) == told(first)
    assert materialized(again, "notes_corpus")["mlflow_run_id"] == first.info.run_id

    write_notes(settings.study.parent, NOTES[:4])
    changed = run_job("refresh_corpus")

    names = {run.info.run_name: run.info.run_id for run in mlflow_runs(settings, "corpus")}
    assert set(names) == {"corpus 1", "corpus 2"}
    assert materialized(changed, "notes_corpus")["mlflow_run_id"] == names["corpus 2"]


def test_a_comparison_is_a_run_with_ranking_differences_gates_and_report(
    settings: Settings, compared: dg.ExecuteInProcessResult
) -> None:
    (run,) = mlflow_runs(settings, "comparison")
    workspace = Workspace(settings)
    records = {r.model_key: r for r in workspace.records.all()}
    corpus = workspace.corpus.required()
    tags, params, metrics = run.data.tags, run.data.params, run.data.metrics

    assert (run.info.run_name, run.info.status) == ("comparison", "FINISHED")
    assert params["comparison.ranking"] == f"{TERMS}; {RULER}"
    assert params["comparison.missing"] == ABSENT
    assert params["comparison.champion"] == tags["hc.champion"] == TERMS
    ids = [records[key].evaluation_id for key in (TERMS, RULER)]
    assert tags["hc.evaluation_ids"] == ",".join(ids)
    assert tags["hc.comparison_id"] == tags["dagster_run_id"] == compared.run_id
    assert (tags["hc.study"], tags["hc.corpus_digest"]) == ("test-study", corpus.digest)
    assert metrics[f"strict.f1.model.{TERMS}"] == pytest.approx(10 / 13)
    assert metrics[f"rank.model.{RULER}"] == 2
    scores = records[TERMS].metrics
    assert scores
    assert metrics[f"exact.f1.model.{TERMS}"] == scores.values["exact.f1"]
    assert f"strict.f1.model.{RULER}" not in metrics  # not applicable: undefined is left out
    (pair,) = [
        d
        for d in workspace.comparisons.pairs(compared.run_id).to_dicts()
        if d["metric"] == "exact.f1"
    ]
    shown = {name: value for name, value in metrics.items() if name.startswith("exact.f1.diff")}
    name = f"exact.f1.difference.{TERMS}.vs.{RULER}"
    assert shown.pop(name) == pair["difference"]
    assert shown == {
        f"{name}.{end}": pair[end]
        for end in ("ci_low", "ci_high", "p", "p_holm")
        if pair[end] is not None
    }
    assert tags["hc.gates"] in {"passed", "failed", "inconclusive"}
    document = json.loads(artifact(settings, run, "comparison.json"))
    assert [gate["name"] for gate in document["gates"][RULER]] == ["exact_f1_regression_0_02"]
    report = artifact(settings, run, "report.html")
    assert report == (settings.home / "report.html").read_bytes()
    assert materialized(compared, "model_comparison")["mlflow_run_id"] == run.info.run_id
    assert up_to_date(compared) == (True, dg.AssetCheckSeverity.WARN)


def test_mlflow_away_leaves_corpus_and_comparison_materialized_and_is_made_up_for_once(
    settings: Settings, run_job: Run, away: pytest.MonkeyPatch
) -> None:
    results = [run_job("refresh_corpus"), run_job("compare_models")]

    for result, asset in zip(results, ("notes_corpus", "model_comparison"), strict=True):
        assert result.success
        assert up_to_date(result) == (False, dg.AssetCheckSeverity.WARN)
        assert materialized(result, asset)["mlflow_run"] == "MLflow lacks it"
    workspace = Workspace(settings)
    kinds = [record.kind for record in lacking(workspace)]
    assert kinds == ["corpus", "comparison"]
    away.undo()

    projection = mlflow_projection(settings.tracking_uri, workspace)
    assert len(synchronize(workspace, projection, ask_mlflow=False).projected) == 2
    before = [told(run) for kind in kinds for run in mlflow_runs(settings, kind)]
    for record in workspace.materializations.all():
        projection.project(record)
    assert synchronize(workspace, projection, ask_mlflow=True).projected == ()
    assert [told(run) for kind in kinds for run in mlflow_runs(settings, kind)] == before
    assert len(before) == 2


def test_an_empty_database_is_refilled_with_both(
    settings: Settings, compared: dg.ExecuteInProcessResult, empty_mlflow: Path
) -> None:
    assert compared.success
    kinds = ("corpus", "comparison")
    before = [told(run) for kind in kinds for run in mlflow_runs(settings, kind)]
    shutil.copy(empty_mlflow, settings.home / "mlflow.db")
    assert mlflow_runs(settings, "corpus") == []

    workspace = Workspace(settings)
    projection = mlflow_projection(settings.tracking_uri, workspace)
    synchronize(workspace, projection, ask_mlflow=True)

    assert [told(run) for kind in kinds for run in mlflow_runs(settings, kind)] == before


def test_a_stored_corpus_whose_record_a_crash_prevented_gets_it_next_time(
    settings: Settings, run_job: Run
) -> None:
    workspace = Workspace(settings)
    workspace.corpus.ingest(workspace.new_ingestion)

    run_job("refresh_corpus")

    assert len(mlflow_runs(settings, "corpus")) == 1


def test_an_evaluation_never_takes_over_a_run_of_another_kind(
    settings: Settings, run_job: Run
) -> None:
    """A Dagster run that holds the corpus and a model: dagster-mlflow is to find the model's."""
    workspace = Workspace(settings)
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)
    (corpus,) = workspace.materializations.all()
    (evaluation,) = workspace.records.of_model(TERMS)
    assert evaluation.run
    shown_in = ShownIn(experiment="mixed")
    mixed = corpus.made.model_copy(
        update={"shown_in": shown_in, "dagster_run_id": "r", "partition_key": TERMS}
    )
    alone = mixed.model_copy(update={"partition_key": None})
    run = evaluation.run.model_copy(update={"shown_in": shown_in, "dagster_run_id": "r"})
    projection = mlflow_projection(settings.tracking_uri, workspace)

    shown = [
        projection.project(corpus.model_copy(update={"identity": "a", "made": mixed})),
        projection.project(corpus.model_copy(update={"identity": "b", "made": alone})),
        projection.project(evaluation.model_copy(update={"run": run})),
    ]

    assert len({part.run_id for part in shown}) == 3
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    tagged = ["dagster_run_id" in client.get_run(part.run_id).data.tags for part in shown]
    assert tagged == [False, True, True]
