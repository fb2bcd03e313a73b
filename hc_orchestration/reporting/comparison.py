"""The comparison: each model's evaluation of the current corpus, ranked; and who is missing."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from hc_orchestration.errors import ModelError, ModelNotInstalledError
from hc_orchestration.models.catalogue import ModelEntry
from hc_orchestration.models.store import absence, installed_model
from hc_orchestration.scoring.identity import evaluation_digest
from hc_orchestration.storage.corpus import CorpusVersion
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace

_NOTES_FOR_SPEED = 20
"""Fewer notes than these tell the speed of a model only if the corpus has no more."""


@dataclass(frozen=True, slots=True)
class ComparedModel:
    """One model of the catalogue: its evaluation of this corpus, or why there is none.

    Attributes:
        rank: 1 is best, by strict F1, then exact F1; None when missing.
        record: The evaluation compared, or None.
        missing: Why it is not compared, or None.
        notes_per_second: See `notes_per_second`; None when missing.
    """

    key: str
    rank: int | None
    record: EvaluationRecord | None
    missing: str | None
    notes_per_second: float | None = None

    def value(self, name: str) -> float | None:
        """A score by name, None when undefined or not applicable."""
        if self.record is None or self.record.metrics is None:
            return None
        return self.record.metrics.values.get(name)


def compare_models(workspace: Workspace) -> list[ComparedModel]:
    """Every model of the catalogue, best first, missing ones last.

    Only evaluations of the corpus that is stored now, with the labels of the study file and the
    files of the model as they are now, are compared; others are named as stale, never mixed in.

    Raises:
        StorageError: No corpus is stored.
    """
    corpus = workspace.corpus.required()
    records = workspace.records.by_model()
    found = [
        _newest(workspace, corpus, entry, records.get(entry.key, []))
        for entry in workspace.catalogue.models
    ]
    present = sorted((model for model in found if model.record), key=_order)
    ranked = [replace(model, rank=rank) for rank, model in enumerate(present, start=1)]
    return ranked + [model for model in found if not model.record]


def compared_model(workspace: Workspace, key: str) -> ComparedModel:
    """One model of the catalogue as it stands for a comparison, unranked.

    Raises:
        UnknownModelError: No such model.
        StorageError: No corpus is stored.
    """
    entry = workspace.catalogue.entry(key)
    return _newest(workspace, workspace.corpus.required(), entry, workspace.records.of_model(key))


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
            "strict_f1_low": model.value("strict.f1.ci_low"),
            "strict_f1_high": model.value("strict.f1.ci_high"),
            "exact_f1": model.value("exact.f1"),
            "exact_f1_low": model.value("exact.f1.ci_low"),
            "exact_f1_high": model.value("exact.f1.ci_high"),
            "support": _metrics(model, "support"),
            "notes_per_second": model.notes_per_second,
            "missing_reason": model.missing,
        }
        for model in models
    ]


def notes_per_second(
    record: EvaluationRecord, of_model: Iterable[EvaluationRecord]
) -> float | None:
    """Speed of the newest extraction of the same model that ran on enough notes to tell it.

    Args:
        record: An evaluation of the model.
        of_model: All evaluations of the model.

    Returns:
        None when no extraction with the same fingerprint ran on at least 20 notes, or on all notes
        of a smaller corpus: reusing stored rows is no speed.
    """
    if record.inputs is None:
        return None
    fingerprint, enough = (
        record.inputs.model_fingerprint,
        min(_NOTES_FOR_SPEED, record.inputs.notes),
    )
    told = [
        candidate.extraction
        for candidate in of_model
        if candidate.extraction is not None
        and candidate.extraction.notes_per_second is not None
        and candidate.extraction.extracted >= enough
        and candidate.inputs is not None
        and candidate.inputs.model_fingerprint == fingerprint
    ]
    newest = max(told, key=lambda extraction: extraction.started_at, default=None)
    return newest.notes_per_second if newest else None


def staleness(
    workspace: Workspace, corpus: CorpusVersion, entry: ModelEntry, record: EvaluationRecord
) -> str | None:
    """Why an evaluation does not tell of the model and the corpus as they are now, or None.

    A model whose files are not here any more is taken to be the one that was evaluated.
    """
    inputs, metrics = record.inputs, record.metrics
    if inputs is None or metrics is None:
        return "stale: its last evaluation has no scores"
    try:
        store = workspace.settings.model_store
        fingerprint = installed_model(entry, store, remembered=True).fingerprint
    except ModelNotInstalledError:
        fingerprint = inputs.model_fingerprint
    except ModelError as error:
        return f"stale: {error}"
    if inputs.model_fingerprint != fingerprint:
        return "stale: its last evaluation is of other model files, settings or another spaCy"
    plan = workspace.study.scoring
    mapping = entry.label_mapping(plan.labels)
    if metrics.evaluation_digest != evaluation_digest(corpus.digest, fingerprint, plan, mapping):
        return (
            "stale: its last evaluation is of another corpus or label mapping, or the study or "
            "the program scores otherwise now"
        )
    return None


def _metrics(model: ComparedModel, name: str) -> Any:  # noqa: ANN401 - a field's value
    metrics = model.record.metrics if model.record else None
    return getattr(metrics, name) if metrics else None


def _newest(
    workspace: Workspace,
    corpus: CorpusVersion,
    entry: ModelEntry,
    records: Sequence[EvaluationRecord],
) -> ComparedModel:
    for record in records:
        if record.state == Status.FAILED:
            return _missing(entry, f"its last evaluation failed: {_error(record)}")
        if record.metrics is None or record.inputs is None or record.state != Status.FINISHED:
            continue
        stale = staleness(workspace, corpus, entry, record)
        if stale is not None:
            return _missing(entry, stale)
        return ComparedModel(entry.key, None, record, None, notes_per_second(record, records))
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
