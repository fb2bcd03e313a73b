"""The chain in Dagster: what a run leaves in the tables, the record, MLflow and Dagster."""

from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import NOTES, RULER, TERMS, write_notes

Run = Callable[..., dg.ExecuteInProcessResult]


def mlflow_runs(settings: Settings, kind: str = "evaluation") -> list[Any]:
    """The MLflow runs of one kind, in the study's experiment."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiments = [e.experiment_id for e in client.search_experiments() if e.name == "test-study"]
    of_kind = f"tags.`hc.kind` = '{kind}'"
    return client.search_runs(experiments, of_kind) if experiments else []


def only_record(settings: Settings, key: str) -> EvaluationRecord:
    records = Workspace(settings).records.of_model(key)
    assert len(records) == 1
    return records[0]


def test_a_full_run_scores_the_annotated_notes(settings: Settings, run_job: Run) -> None:
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success

    record = only_record(settings, TERMS)
    assert record.state is Status.FINISHED
    assert record.extraction
    assert record.metrics
    assert (record.extraction.notes, record.extraction.extracted) == (6, 6)
    # Gold 7; found: asthma x2 (n6 is not annotated), metformin x2, colchicine, and "Gout flare",
    # whose boundary differs from gold "Gout".
    assert record.metrics.support == 7
    assert record.metrics.annotated == 5
    assert record.metrics.values["strict.precision"] == pytest.approx(5 / 6)
    assert record.metrics.values["strict.recall"] == pytest.approx(5 / 7)
    assert record.metrics.values["strict.f1"] == pytest.approx(10 / 13)
    assert record.metrics.values["strict.recall.label.CHEMICAL"] == pytest.approx(1.0)


def test_mlflow_shows_one_finished_run_with_context_and_links(
    settings: Settings, run_job: Run
) -> None:
    run_job("refresh_corpus")
    result = run_job("evaluate_model", TERMS)

    (run,) = mlflow_runs(settings)
    record = only_record(settings, TERMS)
    assert run.info.status == "FINISHED"
    assert run.info.run_name == TERMS
    assert {k: v for k, v in run.data.params.items() if k.startswith("healthcare.")} == {
        "healthcare.model_id": "terms",
        "healthcare.model_version": "1.0.0",
        "healthcare.organization": "Test Hospital",
        "healthcare.purpose": "Find out",
        "healthcare.data_sources": "ehr-a; ehr-b",
        "healthcare.regulatory_tags": "IRB-approved",
        "healthcare.patient_cohort": "Test cohort",
        "healthcare.patient_age_range": "18-90",
        "healthcare.patient_sample_size": "6",
        "healthcare.inclusion_criteria": "Has a note",
        "healthcare.exclusion_criteria": "None",
    }
    assert run.data.metrics["strict.f1"] == pytest.approx(10 / 13)
    assert run.data.metrics["total_documents"] == 6
    assert run.data.tags["dagster_run_id"] == result.run_id
    assert run.data.tags["dagster.partition_key"] == TERMS
    assert run.data.tags["dagster.asset_keys"] == (
        "model_files,extracted_entities,evaluation_metrics,provenance"
    )
    assert record.provenance
    assert run.data.tags["hc.provenance_digest"] == record.provenance.file.sha256
    events = result.get_asset_materialization_events()
    shown = {
        event.asset_key.to_user_string(): event.materialization.metadata["mlflow_run_id"].value
        for event in events
        if event.asset_key
    }
    assert shown == dict.fromkeys(
        ("model_files", "extracted_entities", "evaluation_metrics", "provenance"), run.info.run_id
    )


def test_mlflow_holds_the_artifacts_by_their_names(settings: Settings, run_job: Run) -> None:
    from mlflow import MlflowClient

    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)

    (run,) = mlflow_runs(settings)
    client = MlflowClient(tracking_uri=settings.tracking_uri)
    assert {item.path for item in client.list_artifacts(run.info.run_id)} == {
        "entity_distribution.json",
        "error_analysis.json",
        "fhir_provenance.json",
        "fhir_provenance_bundle.json",
        "healthcare_context.json",
        "metrics.parquet",
        "model_card.json",
        "per_note.parquet",
    }
    history = client.get_metric_history(run.info.run_id, "doc_entity_count")
    assert [(m.step, m.value) for m in sorted(history, key=lambda m: m.step)] == [
        (0, 2.0),
        (1, 1.0),
        (2, 1.0),
        (3, 2.0),
        (4, 0.0),
        (5, 1.0),
    ]


def test_an_untyped_model_has_exact_scores_and_no_strict_ones(
    settings: Settings, run_job: Run
) -> None:
    run_job("refresh_corpus")
    assert run_job("evaluate_model", RULER).success

    record = only_record(settings, RULER)
    assert record.metrics
    assert record.metrics.not_applicable == ("strict", "type")
    assert [name for name in record.metrics.values if name.startswith("strict")] == []
    # asthma in n1 and n2, gout in n2 and n4: all four lie on gold boundaries.
    assert record.metrics.values["exact.precision"] == pytest.approx(1.0)
    assert record.metrics.values["exact.recall"] == pytest.approx(4 / 7)


def test_nothing_changed_extracts_nothing_and_makes_no_new_provenance(
    settings: Settings, run_job: Run
) -> None:
    for _ in range(2):
        assert run_job("refresh_corpus").success
        assert run_job("evaluate_model", TERMS).success

    second, first = Workspace(settings).records.of_model(TERMS)
    assert second.extraction
    assert first.provenance
    assert second.provenance
    assert second.metrics
    assert (second.extraction.extracted, second.extraction.reused) == (0, 6)
    assert second.metrics.inputs_unchanged
    assert second.provenance == first.provenance
    assert second.inputs
    assert first.inputs
    assert second.inputs.corpus_version == first.inputs.corpus_version
    assert len(mlflow_runs(settings)) == 2


def test_one_edited_note_is_one_note_extracted(settings: Settings, run_job: Run) -> None:
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)
    edited = [dict(note) for note in NOTES]
    edited[4]["text"] = "Doing well on metformin."
    write_notes(settings.study.parent, edited)

    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)

    record = Workspace(settings).records.of_model(TERMS)[0]
    assert record.extraction
    assert (record.extraction.extracted, record.extraction.reused) == (1, 5)


def test_later_steps_alone_stand_by_themselves(settings: Settings, run_job: Run) -> None:
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)
    assert run_job("evaluate_model", TERMS, ["evaluation_metrics"]).success
    assert run_job("evaluate_model", TERMS, ["provenance"]).success

    provenance, metrics, full = Workspace(settings).records.of_model(TERMS)
    assert {record.state for record in (provenance, metrics, full)} == {Status.FINISHED}
    assert metrics.metrics
    assert full.metrics
    assert metrics.metrics.values == full.metrics.values
    assert metrics.inputs == full.inputs
    assert provenance.provenance == full.provenance
    assert provenance.metrics
    assert {run.info.status for run in mlflow_runs(settings)} == {"FINISHED"}


def test_scores_without_entities_fail_and_say_what_to_do(settings: Settings, run_job: Run) -> None:
    run_job("refresh_corpus")

    assert not run_job("evaluate_model", TERMS, ["evaluation_metrics"]).success

    record = only_record(settings, TERMS)
    assert record.state is Status.FAILED
    assert record.status
    assert record.status.error == (
        f"model {TERMS} has no extracted entities. Materialize extracted_entities."
    )


def test_a_damaged_model_fails_without_scores(settings: Settings, run_job: Run) -> None:
    (settings.catalogue.parent / "ruler" / "config.cfg").write_text("[nlp\nbroken", "utf-8")
    run_job("refresh_corpus")

    assert not run_job("evaluate_model", RULER).success
    assert run_job("evaluate_model", TERMS).success

    by_name = {run.info.run_name: run for run in mlflow_runs(settings)}
    assert by_name[RULER].info.status == "FAILED"
    assert by_name[RULER].data.tags["error.class"] == "ModelError"
    assert not {name for name in by_name[RULER].data.metrics if "f1" in name}
    assert by_name[TERMS].info.status == "FINISHED"


def test_an_absent_model_fails_saying_where_its_files_should_be(
    settings: Settings, run_job: Run
) -> None:
    run_job("refresh_corpus")

    assert not run_job("evaluate_model", "absent-1.0").success

    record = only_record(settings, "absent-1.0")
    assert record.status
    assert record.status.error_class == "ModelNotInstalledError"
    assert "there is nothing at" in (record.status.error or "")


def test_a_failed_blocking_check_closes_the_evaluation_as_failed(
    settings: Settings, run_job: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hc_orchestration.storage import integrity

    run_job("refresh_corpus")
    monkeypatch.setattr(integrity, "misplaced_spans", lambda *_: 3)

    assert not run_job("evaluate_model", TERMS).success

    record = only_record(settings, TERMS)
    assert record.state is Status.FAILED
    assert record.status
    assert record.status.error_class == "AssetCheckFailed"
    assert record.metrics is None
    (run,) = mlflow_runs(settings)
    assert run.info.status == "FAILED"


def test_the_comparison_ranks_the_evaluated_and_names_the_rest(
    settings: Settings, run_job: Run
) -> None:
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)
    (settings.catalogue.parent / "ruler" / "config.cfg").unlink()
    run_job("evaluate_model", RULER)

    assert run_job("compare_models").success

    table = Workspace(settings).comparisons.latest()
    rows = {row["model_key"]: row for row in table.to_dicts()}
    assert rows[TERMS]["rank"] == 1
    assert rows[TERMS]["strict_f1"] == pytest.approx(10 / 13)
    assert rows[RULER]["rank"] is None
    assert rows[RULER]["missing_reason"].startswith("its last evaluation failed: model ruler-2.0")
    assert "there is nothing at" in rows["absent-1.0"]["missing_reason"]


def test_an_evaluation_of_another_corpus_is_stale_not_ranked(
    settings: Settings, run_job: Run
) -> None:
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)
    write_notes(settings.study.parent, NOTES[:3])
    run_job("refresh_corpus")

    run_job("compare_models")

    rows = {r["model_key"]: r for r in Workspace(settings).comparisons.latest().to_dicts()}
    assert rows[TERMS]["rank"] is None
    assert rows[TERMS]["missing_reason"].startswith("stale")
