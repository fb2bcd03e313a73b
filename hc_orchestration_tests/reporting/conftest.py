"""A workspace with stored results, made without running anything."""

from collections.abc import Callable
from typing import Any

import pytest

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.models.store import installed_model
from hc_orchestration.scoring.identity import evaluation_digest
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.storage.parts import (
    extraction_part,
    inputs_part,
    metrics_part,
    run_part,
    status_part,
)

FINGERPRINT = "f" * 64


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    """The deployment with its corpus stored, and no evaluation."""
    opened = Workspace(settings)
    study = opened.study
    opened.corpus.ingest(lambda: Ingestion(study.corpora, study.labels))
    return opened


@pytest.fixture
def record_evaluation(workspace: Workspace) -> Callable[..., EvaluationRecord]:
    """Writes the record of an evaluation of the stored corpus by the model as it is now."""

    def write(
        evaluation_id: str,
        key: str,
        values: dict[str, float],
        status: Status = Status.FINISHED,
        fingerprint: str | None = None,
        **changes: Any,
    ) -> EvaluationRecord:
        corpus = workspace.corpus.required()
        plan = workspace.study.scoring
        entry = workspace.catalogue.entry(key)
        mapping = entry.label_mapping(plan.labels)
        store = workspace.settings.model_store
        model = fingerprint or installed_model(entry, store).fingerprint
        parts = {
            "run": run_part(partition_key=key),
            "inputs": inputs_part(
                corpus_version=corpus.version,
                corpus_digest=corpus.digest,
                model_fingerprint=model,
                pinned_by=evaluation_id,
            ),
            "extraction": extraction_part(),
            "metrics": metrics_part(
                values=values,
                evaluation_digest=evaluation_digest(corpus.digest, model, plan, mapping),
            ),
            "status": status_part(status),
            **changes,
        }
        written = [part for part in parts.values() if part is not None]
        workspace.records.append(evaluation_id, key, *written)
        return workspace.records.required(evaluation_id)

    return write
