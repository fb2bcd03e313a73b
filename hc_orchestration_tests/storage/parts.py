"""Parts of a made-up evaluation record, for the tests of whoever reads records."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hc_orchestration.healthcare.contexts import HealthcareRunContext, PatientContext
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.promotions import Promotion
from hc_orchestration.storage.records import (
    CHAIN,
    EvaluationRecord,
    ExtractionPart,
    InputsPart,
    MetricsPart,
    ProvenancePart,
    RunPart,
    Status,
    StatusPart,
)

BEGUN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CONTEXT = HealthcareRunContext(
    model_id="terms",
    version="1",
    organization="Test Hospital",
    purpose="Find out",
    data_sources=["ehr-a", "ehr-b"],
    patient_context=PatientContext(cohort="Test cohort", sample_size=6),
)


def run_part(**changes: Any) -> RunPart:
    """A Dagster run that evaluates terms-1 with the whole chain."""
    fields: dict[str, Any] = {
        "dagster_run_id": "run-1",
        "root_run_id": "run-1",
        "job": "evaluate_model",
        "partition_key": "terms-1",
        "attempt": 1,
        "backfill_id": None,
        "planned": CHAIN,
        "process": ProcessIdentity("host", 1, 0.0),
        "study": "test-study",
        "software": {"hc-orchestration": "0.1.0", "python": "3.11"},
        "context": CONTEXT,
        "started_at": BEGUN,
    }
    return RunPart(**{**fields, **changes})


def inputs_part(**changes: Any) -> InputsPart:
    """Six notes of corpus version 3."""
    fields: dict[str, Any] = {
        "corpus_version": 3,
        "corpus_digest": "c" * 64,
        "notes": 6,
        "quarantined": 1,
        "model_fingerprint": "f" * 64,
        "loader": "lexicon",
        "model_bytes": 100,
        "pinned_by": "e1",
    }
    return InputsPart(**{**fields, **changes})


def extraction_part(*files: StoredFile, **changes: Any) -> ExtractionPart:
    """Six notes extracted, nine mentions found."""
    fields: dict[str, Any] = {
        "notes": 6,
        "reused": 0,
        "extracted": 6,
        "entities": 9,
        "labels": {"DISEASE": 9},
        "seconds": 2.0,
        "notes_per_second": 3.0,
        "entities_version": 1,
        "files": files,
        "started_at": BEGUN,
    }
    return ExtractionPart(**{**fields, **changes})


def metrics_part(*files: StoredFile, **changes: Any) -> MetricsPart:
    """A strict F1 of 0.75 over seven gold mentions."""
    fields: dict[str, Any] = {
        "evaluation_digest": "d" * 64,
        "inputs_unchanged": False,
        "values": {"strict.f1": 0.75, "exact.f1": 0.8},
        "support": 7,
        "annotated": 5,
        "predicted_unmapped": 0,
        "not_applicable": (),
        "metrics_version": 2,
        "files": files,
    }
    return MetricsPart(**{**fields, **changes})


def provenance_part(file: StoredFile) -> ProvenancePart:
    """A Provenance made by the evaluation itself."""
    return ProvenancePart(file=file, of_evaluation="e1", evaluation_digest="d" * 64)


def status_part(status: Status, seconds: int = 0, **details: str) -> StatusPart:
    """How it stands so many seconds after the begin; details: error_class, error, failed_step."""
    return StatusPart(status=status, at=BEGUN + timedelta(seconds=seconds), **details)


def promotion_on(study: str, record: EvaluationRecord) -> Promotion:
    """A promotion on an evaluation, as if its gates had held."""
    assert record.inputs
    assert record.metrics
    assert record.provenance
    return Promotion(
        promotion_id=study,
        study=study,
        model_key=record.model_key,
        fingerprint=record.inputs.model_fingerprint,
        evaluation_id=record.evaluation_id,
        evaluation_digest=record.metrics.evaluation_digest,
        provenance_sha256=record.provenance.file.sha256,
        previous=None,
        previous_evaluation_id=None,
        forced_reason=None,
        by="somebody",
        gates=(),
        at=datetime.now(UTC),
    )
