"""The comparison: each model's evaluation of the current corpus, ranked; and who is missing."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from hc_orchestration.models.catalogue import ModelEntry
from hc_orchestration.models.store import absence
from hc_orchestration.scoring.identity import evaluation_digest
from hc_orchestration.storage.corpus import CorpusVersion
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model of the catalogue: its evaluation of this corpus, or why there is none.

    Attributes:
        rank: 1 is best, by strict F1, then exact F1; None when missing.
        record: The evaluation compared, or None.
        missing: Why it is not compared, or None.
    """

    key: str
    rank: int | None
    record: EvaluationRecord | None
    missing: str | None

    def value(self, name: str) -> float | None:
        """A score by name, None when undefined or not applicable."""
        if self.record is None or self.record.metrics is None:
            return None
        return self.record.metrics.values.get(name)


def compare_models(workspace: Workspace) -> list[ComparedModel]:
    """Every model of the catalogue, best first, missing ones last.

    Only evaluations of the corpus that is stored now, with the labels of the study file as it is
    now, are compared; others are named as stale, never mixed in.

    Raises:
        StorageError: No corpus is stored.
    """
    corpus = workspace.corpus.required()
    found = [_newest(workspace, corpus, entry) for entry in workspace.catalogue.models]
    present = sorted((model for model in found if model.record), key=_order)
    ranked = [
        ComparedModel(model.key, rank, model.record, None)
        for rank, model in enumerate(present, start=1)
    ]
    return ranked + [model for model in found if not model.record]


def comparison_rows(models: Iterable[ComparedModel], corpus: CorpusVersion) -> list[dict[str, Any]]:
    """The rows to store, without the comparison's id and time."""
    return [
        {
            "corpus_digest": corpus.digest,
            "corpus_version": corpus.version,
            "rank": model.rank,
            "model_key": model.key,
            "evaluation_id": model.record.evaluation_id if model.record else None,
            "evaluation_digest": _metrics(model, "evaluation_digest"),
            "strict_f1": model.value("strict.f1"),
            "strict_precision": model.value("strict.precision"),
            "strict_recall": model.value("strict.recall"),
            "exact_f1": model.value("exact.f1"),
            "support": _metrics(model, "support"),
            "notes_per_second": _speed(model),
            "missing_reason": model.missing,
        }
        for model in models
    ]


def _metrics(model: ComparedModel, name: str) -> Any:  # noqa: ANN401 - a field's value
    metrics = model.record.metrics if model.record else None
    return getattr(metrics, name) if metrics else None


def _speed(model: ComparedModel) -> float | None:
    extraction = model.record.extraction if model.record else None
    return extraction.notes_per_second if extraction else None


def _newest(workspace: Workspace, corpus: CorpusVersion, entry: ModelEntry) -> ComparedModel:
    mapping = entry.label_mapping(workspace.study.labels)
    for record in workspace.records.of_model(entry.key):
        if record.state == Status.FAILED:
            return _missing(entry, f"its last evaluation failed: {_error(record)}")
        if record.metrics is None or record.inputs is None or record.state != Status.FINISHED:
            continue
        expected = evaluation_digest(
            corpus.digest, record.inputs.model_fingerprint, workspace.study.labels, mapping
        )
        if record.metrics.evaluation_digest == expected:
            return ComparedModel(entry.key, None, record, None)
        return _missing(entry, "stale: its last evaluation is of another corpus or label mapping")
    reason = absence(entry, workspace.settings.model_store)
    return _missing(entry, reason or "not evaluated yet")


def _missing(entry: ModelEntry, reason: str) -> ComparedModel:
    return ComparedModel(entry.key, None, None, reason)


def _error(record: EvaluationRecord) -> str:
    status = record.status
    if status is None:
        return "unknown"
    return status.error or f"{status.error_class} in {status.failed_step}"


def _order(model: ComparedModel) -> tuple[float, float, str]:
    strict, exact = model.value("strict.f1"), model.value("exact.f1")
    return _place(strict), _place(exact), model.key


def _place(value: float | None) -> float:
    """The best score first, 0 after all others, an undefined one after 0."""
    return 0.0 if value is None else -value - 1.0
