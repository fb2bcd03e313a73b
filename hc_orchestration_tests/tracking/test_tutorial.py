"""The tutorial's Python blocks, in its order, with what each leaves behind.

Changed as said in the issue only: the import path, the names of the models, the store (MLflow
refuses `mlruns`), and spaCy's `Language` for HealthChain's `Pipeline`, `Document` and `SpacyNLP`
(so an entity is a span, not a dictionary).
"""

import json
from pathlib import Path
from typing import Any

import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc

from hc_orchestration.healthcare.provenance import check_provenance
from hc_orchestration_tests.tracking.test_tracker import Store, set_up_store

TERMS = (
    ("hypertension", "DISEASE"),
    ("diabetes", "DISEASE"),
    ("type 2 diabetes mellitus", "DISEASE"),
    ("pneumonia", "DISEASE"),
    ("chronic kidney disease", "DISEASE"),
    ("congestive heart failure", "DISEASE"),
    ("COPD", "DISEASE"),
    ("atrial fibrillation", "DISEASE"),
    ("antibiotics", "CHEMICAL"),
    ("steroids", "CHEMICAL"),
)
PER_NOTE = [2, 2, 2, 2, 1]


def load(model: str) -> Language:
    """Stands for `SpacyNLP.from_model_id`: the longer the name, the more it knows."""
    nlp = spacy.blank("en")
    ruler: Any = nlp.add_pipe("entity_ruler")
    terms = TERMS if model == "rules_lg" else [t for t in TERMS if t[1] == "DISEASE"]
    ruler.add_patterns([{"label": label, "pattern": term} for term, label in terms])
    return nlp


@pytest.fixture
def store(tmp_path: Path, empty_mlflow: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    return set_up_store(tmp_path, empty_mlflow, monkeypatch)


def runs_of(store: Store, experiment: str) -> list[Any]:
    """The runs of an experiment, oldest first."""
    found = store.client.get_experiment_by_name(experiment)
    assert found is not None
    runs = store.client.search_runs([found.experiment_id], order_by=["start_time ASC"])
    return list(runs)


def test_the_tutorial_from_top_to_bottom(  # noqa: C901, PLR0915 - a page of a tutorial
    store: Store, capsys: pytest.CaptureFixture[str]
) -> None:
    # Verify MLflow Installation

    from hc_orchestration.tracking import is_mlflow_available

    if is_mlflow_available():
        print("MLflow ready!")  # noqa: T201
    else:
        print("Install mlflow: pip install mlflow")  # noqa: T201

    assert capsys.readouterr().out == "MLflow ready!\n"

    # Quick Start: Track a Single Run

    from hc_orchestration.tracking import track_model

    nlp = load("rules_lg")

    @track_model(
        experiment="clinical-ner",
        tags={"model": "rules_lg", "task": "entity-extraction"},
    )
    def extract_conditions(text: str) -> list[dict[str, str]]:
        """Extract medical conditions from clinical text."""
        doc = nlp(text)
        return [{"text": e.text, "label": e.label_} for e in doc.ents]

    result: Any = extract_conditions("Patient presents with hypertension and diabetes.")

    assert result == [
        {"text": "hypertension", "label": "DISEASE"},
        {"text": "diabetes", "label": "DISEASE"},
    ]
    (quick,) = runs_of(store, "clinical-ner")
    assert (quick.info.run_name, quick.info.status) == ("extract_conditions", "FINISHED")
    assert quick.data.tags["model"] == "rules_lg"
    assert quick.data.params["function_name"] == "extract_conditions"
    assert quick.data.metrics["execution_time_seconds"] > 0

    # Configure MLflow

    from hc_orchestration.tracking import MLFlowConfig, MLFlowTracker

    config = MLFlowConfig(
        # Local tracking (or use remote server URL)
        tracking_uri=store.uri,
        # Experiment groups related runs
        experiment_name="clinical-ner-evaluation",
        # Default tags for all runs
        tags={
            "team": "nlp-research",
            "environment": "development",
        },
    )

    tracker = MLFlowTracker(config)

    assert tracker.current_run() is None

    # Define Healthcare Context

    from hc_orchestration.tracking import HealthcareRunContext, PatientContext

    patient_context = PatientContext(
        cohort="General Medicine Inpatients",
        age_range="18-90",
        sample_size=500,
        inclusion_criteria=[
            "Admitted to general medicine ward",
            "Has discharge summary",
            "English-language notes",
        ],
        exclusion_criteria=[
            "Psychiatric admission",
            "Pediatric patients",
        ],
    )

    healthcare_context = HealthcareRunContext(
        model_id="clinical-ner-scispacy",
        version="1.0.0",
        patient_context=patient_context,
        organization="Research Hospital AI Lab",
        purpose="Extract diagnoses from discharge summaries",
        data_sources=["internal-ehr", "mimic-iv-notes"],
        regulatory_tags=["HIPAA", "IRB-approved"],
    )

    check_provenance(json.loads(healthcare_context.to_fhir_provenance().json()))

    # Build the Tracked Pipeline

    from hc_orchestration.tracking import MLFlowComponent

    nlp = load("rules_lg")
    nlp.add_pipe(
        "mlflow_component",
        name="tracking",
        config={
            "tracking_uri": config.tracking_uri,
            "experiment_name": config.experiment_name,
            "track_predictions": True,
            "track_timing": True,
            "prefix": "ner",
        },
    )

    assert nlp.pipe_names == ["entity_ruler", "tracking"]
    assert isinstance(nlp.get_pipe("tracking"), MLFlowComponent)

    # Run the Experiment

    clinical_notes = [
        "Patient is a 65-year-old male with history of hypertension and type 2 diabetes mellitus.",
        "Assessment: Community-acquired pneumonia. Plan: IV antibiotics and respiratory therapy.",
        "The patient has chronic kidney disease stage 3 and congestive heart failure.",
        "Diagnosis: Acute exacerbation of COPD. Started on bronchodilators and steroids.",
        "History of atrial fibrillation on anticoagulation. No active bleeding.",
    ]

    with tracker.start_run(run_name="scispacy-v1.0.0-eval"):
        # Log healthcare context (includes FHIR Provenance)
        tracker.log_healthcare_context(healthcare_context)

        # Log model configuration
        tracker.log_params(
            {
                "spacy_model": "rules_lg",
                "pipeline_version": "1.0.0",
                "batch_size": len(clinical_notes),
            }
        )

        # Process documents
        all_entities = []
        for i, note in enumerate(clinical_notes):
            doc = nlp(note)
            entities = doc.ents
            all_entities.extend(entities)

            # Log per-document metrics
            tracker.log_metrics(
                {
                    "doc_entity_count": len(entities),
                    "doc_text_length": len(note),
                },
                step=i,
            )

        # Log aggregate metrics
        tracker.log_metrics(
            {
                "total_documents": len(clinical_notes),
                "total_entities": len(all_entities),
                "avg_entities_per_doc": len(all_entities) / len(clinical_notes),
            }
        )

        # Log entity distribution as artifact
        entity_counts: dict[str, int] = {}
        for e in all_entities:
            label = e.label_ or "UNKNOWN"
            entity_counts[label] = entity_counts.get(label, 0) + 1

        tracker.log_dict(entity_counts, "entity_distribution.json")

    (run,) = runs_of(store, "clinical-ner-evaluation")
    assert (run.info.run_name, run.info.status) == ("scispacy-v1.0.0-eval", "FINISHED")
    assert (run.data.tags["team"], run.data.tags["environment"]) == ("nlp-research", "development")
    assert run.data.params["spacy_model"] == "rules_lg"
    assert run.data.params["batch_size"] == "5"
    assert run.data.params["healthcare.patient_cohort"] == "General Medicine Inpatients"
    assert run.data.params["healthcare.regulatory_tags"] == "HIPAA; IRB-approved"
    assert store.points(run, "doc_entity_count") == list(enumerate(PER_NOTE))
    assert store.points(run, "ner.entity_count") == list(enumerate(PER_NOTE, start=1))
    assert store.points(run, "ner.call_count") == [(n, n) for n in range(1, 6)]
    assert len(store.points(run, "ner.elapsed_seconds")) == 5
    assert run.data.metrics["total_documents"] == 5
    assert run.data.metrics["total_entities"] == sum(PER_NOTE)
    assert run.data.metrics["avg_entities_per_doc"] == 1.8
    assert json.loads(store.text(run, "entity_distribution.json")) == {"DISEASE": 7, "CHEMICAL": 2}
    provenance = json.loads(store.text(run, "fhir_provenance.json"))
    check_provenance(provenance)
    assert provenance["agent"][0]["who"]["display"] == "clinical-ner-scispacy 1.0.0"

    # Comparing Model Versions

    models_to_evaluate = [
        ("rules_sm", "1.0.0"),
        ("rules_lg", "1.0.0"),
        ("rules_lg", "1.1.0"),
    ]

    for model_name, version in models_to_evaluate:
        # Build pipeline for this model
        nlp = load(model_name)

        # Update context for this model
        healthcare_context.model_id = f"clinical-ner-{model_name}"
        healthcare_context.version = version

        with tracker.start_run(run_name=f"{model_name}-eval"):
            tracker.log_healthcare_context(healthcare_context)
            tracker.log_params({"spacy_model": model_name})

            # Run evaluation
            total_entities = 0
            for note in clinical_notes:
                doc = nlp(note)
                total_entities += len(doc.ents)

            tracker.log_metrics(
                {
                    "total_entities": total_entities,
                    "avg_entities_per_doc": total_entities / len(clinical_notes),
                }
            )

    compared = runs_of(store, "clinical-ner-evaluation")[1:]
    assert [
        (
            run.info.run_name,
            run.info.status,
            run.data.params["healthcare.model_id"],
            run.data.params["healthcare.model_version"],
            run.data.metrics["total_entities"],
        )
        for run in compared
    ] == [
        ("rules_sm-eval", "FINISHED", "clinical-ner-rules_sm", "1.0.0", 7),
        ("rules_lg-eval", "FINISHED", "clinical-ner-rules_lg", "1.0.0", 9),
        ("rules_lg-eval", "FINISHED", "clinical-ner-rules_lg", "1.1.0", 9),
    ]

    # Pipeline Lifecycle Tracking

    from hc_orchestration.tracking.components import (
        MLFlowEndRunComponent,
        MLFlowStartRunComponent,
    )

    where = {"tracking_uri": config.tracking_uri, "experiment_name": config.experiment_name}
    nlp = load("rules_lg")
    nlp.add_pipe("mlflow_start_run", config={**where, "run_name": "batch-processing"}, first=True)
    nlp.add_pipe("mlflow_component", config={**where, "prefix": "ner"})
    nlp.add_pipe("mlflow_end_run", config=where, last=True)

    assert isinstance(nlp.get_pipe("mlflow_start_run"), MLFlowStartRunComponent)
    assert isinstance(nlp.get_pipe("mlflow_end_run"), MLFlowEndRunComponent)

    # Each pipeline execution is a complete tracked run
    for note in clinical_notes:
        doc = nlp(note)

    batches = runs_of(store, "clinical-ner-evaluation")[4:]
    assert [(run.info.run_name, run.info.status) for run in batches] == [
        ("batch-processing", "FINISHED")
    ] * 5
    assert [run.data.metrics["ner.entity_count"] for run in batches] == PER_NOTE
    assert [run.data.metrics["ner.call_count"] for run in batches] == [1] * 5
    assert doc.user_data == {}

    # Using the TrackedPipeline Wrapper

    from hc_orchestration.tracking.decorators import TrackedPipeline

    # Existing pipeline (unchanged)
    nlp = load("rules_lg")

    # Wrap with tracking
    tracked_nlp = TrackedPipeline(
        pipeline=nlp,
        config=config,
        run_name_prefix="inference",
    )

    # Each call is tracked as a separate run
    for note in clinical_notes:
        doc = tracked_nlp(note)

    inference = runs_of(store, "clinical-ner-evaluation")[9:]
    assert isinstance(doc, Doc)
    assert [run.info.run_name for run in inference] == [f"inference-{n}" for n in range(1, 6)]
    assert [run.data.metrics["pipeline.entity_count"] for run in inference] == PER_NOTE
    assert {run.info.status for run in inference} == {"FINISHED"}

    # Batch Processing with Decorators

    from hc_orchestration.tracking import track_pipeline

    @track_pipeline(
        experiment="clinical-batch-processing",
        log_input_shape=True,
        log_output_shape=True,
    )
    def process_patient_notes(notes: list[str]) -> list[dict[str, Any]]:
        """Process a batch of clinical notes."""
        results = []
        for note in notes:
            doc = nlp(note)
            results.append(
                {
                    "text": note[:100],
                    "entity_count": len(doc.ents),
                }
            )
        return results

    # Automatically logs: input_count, output_count, execution time
    batch_results = process_patient_notes(clinical_notes)

    assert [result["entity_count"] for result in batch_results] == PER_NOTE
    (batch,) = runs_of(store, "clinical-batch-processing")
    assert (batch.data.metrics["input_count"], batch.data.metrics["output_count"]) == (5, 5)
    assert batch.data.metrics["pipeline_execution_seconds"] > 0

    # Custom Metric Extractors

    def count_conditions(data: Any) -> float:
        """Count FHIR conditions in the document."""
        if hasattr(data, "fhir") and hasattr(data.fhir, "problem_list"):
            return float(len(data.fhir.problem_list))
        return 0.0

    def has_high_confidence_entities(data: Any) -> float:
        """Check if any entities have high confidence."""
        high_conf = [e for e in data.ents if e.label_ == "DISEASE"]
        return 1.0 if high_conf else 0.0

    tracking_component = MLFlowComponent(
        tracker,
        metric_extractors={
            "condition_count": count_conditions,
            "has_high_confidence": has_high_confidence_entities,
        },
    )

    with tracker.start_run(run_name="custom-metrics"):
        tracking_component(nlp(clinical_notes[0]))

    last = runs_of(store, "clinical-ner-evaluation")[-1]
    assert last.info.run_name == "custom-metrics"
    assert last.data.metrics["pipeline.condition_count"] == 0
    assert last.data.metrics["pipeline.has_high_confidence"] == 1
    assert {run.info.status for run in store.runs()} == {"FINISHED"}
