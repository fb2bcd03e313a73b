"""The provenance step: build, check, sign and keep the record of an evaluation, and chain it."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import polars as pl
from filelock import FileLock

from hc_orchestration.errors import EvaluationError
from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.facts import (
    Artifact,
    EvaluationFacts,
    ForcedPromotion,
    SampleSize,
    Score,
    TableRows,
)
from hc_orchestration.healthcare.signing import (
    SigningKey,
    canonical_bytes,
    provenance_of,
    signed,
)
from hc_orchestration.healthcare.validity import check_provenance, check_record
from hc_orchestration.home import private_folder
from hc_orchestration.scoring.slices import sampling_units
from hc_orchestration.storage.records import (
    EvaluationRecord,
    InputsPart,
    ProvenancePart,
    RecordPart,
    Status,
)
from hc_orchestration.storage.rows_digest import rows_digest

if TYPE_CHECKING:
    from hc_orchestration.resources.evaluation import EvaluationStep
    from hc_orchestration.storage.workspace import Workspace

SCORING_STEP = "evaluation_metrics"


def record_provenance(step: "EvaluationStep") -> tuple[tuple[RecordPart, ...], ProvenancePart]:
    """Build and store the Provenance of the evaluation, unless nothing changed since the last one.

    A Provenance of an earlier evaluation's scores tells of the time and the software of that
    evaluation; only `recorded` is of now.

    Returns:
        The parts that the record names when it describes an earlier evaluation's scores, and the
        provenance part.
    """
    workspace = step.workspace
    record = step.record
    earlier = workspace.records.of_model(step.key)
    evaluated = _described(record, earlier) or record
    inputs, metrics, run = evaluated.inputs, evaluated.metrics, evaluated.run
    if inputs is None or metrics is None or run is None or record.run is None:
        message = f"model {step.key} has no scores. Materialize evaluation_metrics first."
        raise EvaluationError(message)
    copied: tuple[RecordPart, ...] = () if evaluated is record else (inputs, metrics)
    key = _key(step)
    before = _same_provenance(record, evaluated, earlier, key.key_id if key else None)
    if before is not None and not _untold_promotions(step):
        return copied, before
    now = datetime.now(UTC)
    status = evaluated.status
    ended = now if evaluated is record or status is None else status.at
    private_folder(workspace.settings.locks)
    with FileLock(workspace.settings.locks / f"provenance-{step.key}.lock"):
        part = _recorded(step, evaluated, ended, now)
        # Inside the lock: the next record of this model must see this one as the head.
        workspace.records.append_provenance(
            step.evaluation_id, step.key, workspace.study.name, part
        )
    return copied, part


def _recorded(
    step: "EvaluationStep", evaluated: EvaluationRecord, ended: datetime, now: datetime
) -> ProvenancePart:
    """Build, check, sign and keep one record after the head of the model's chain."""
    workspace = step.workspace
    key = _key(step)
    previous = _head(step)
    facts = _facts(step, evaluated, ended, now, previous)
    record = signed(build_bundle(facts), key)
    content = canonical_bytes(record)
    check_record(record, content)
    provenance = provenance_of(record)
    check_provenance(provenance)
    return ProvenancePart(
        file=workspace.files.put("fhir_provenance_bundle.json", content),
        resource=workspace.files.put("fhir_provenance.json", canonical_bytes(provenance)),
        previous=previous,
        of_evaluation=step.evaluation_id,
        evaluation_digest=_digest(evaluated) or "",
        key_id=key.key_id if key else None,
        forced=tuple(promotion.promotion_id for promotion in facts.forced),
        public_key=workspace.files.put(f"{key.key_id}.jwk", key.public) if key else None,
    )


def _key(step: "EvaluationStep") -> SigningKey | None:
    file = step.workspace.settings.signing_key
    return SigningKey.read(file) if file else None


def _head(step: "EvaluationStep") -> str | None:
    """The digest of the newest record of this model and study, or None when this is the first.

    The kept head, not what can be read now: if a record was lost, what follows still names it.
    """
    study = step.workspace.study.name
    kept = step.workspace.records.heads(step.key)
    return next((one.head.record for one in reversed(kept) if one.head.study == study), None)


def _facts(
    step: "EvaluationStep",
    evaluated: EvaluationRecord,
    ended: datetime,
    now: datetime,
    previous: str | None,
) -> EvaluationFacts:
    inputs, metrics, run = evaluated.inputs, evaluated.metrics, evaluated.run
    own = step.record.run
    if inputs is None or metrics is None or run is None or own is None:
        message = f"model {step.key} has no scores. Materialize evaluation_metrics first."
        raise EvaluationError(message)
    workspace = step.workspace
    extraction = workspace.records.required(inputs.pinned_by).extraction
    files = (*(extraction.files if extraction else ()), *metrics.files)
    card = step.entry.card.model_dump(mode="json", exclude_none=True)
    scores = workspace.metrics.scores(step.key, metrics.evaluation_digest, metrics.metrics_version)
    tables = [
        TableRows(
            f"metrics/{step.key}",
            metrics.metrics_version,
            rows_digest(scores),
            scores.height,
        )
    ]
    if extraction is not None:
        entities = workspace.entities.of_corpus(
            step.key, inputs.model_fingerprint, inputs.corpus_version, extraction.entities_version
        ).collect()
        digest = rows_digest(entities)
        name, version = f"entities/{step.key}", extraction.entities_version
        tables.append(TableRows(name, version, digest, entities.height))
    return EvaluationFacts(
        evaluation_id=step.evaluation_id,
        evaluation_digest=metrics.evaluation_digest,
        model_key=step.key,
        study=own.study,
        context=own.context,
        model_fingerprint=inputs.model_fingerprint,
        model_card=json.dumps(card, sort_keys=True, ensure_ascii=False).encode(),
        corpus_digest=inputs.corpus_digest,
        corpus_version=inputs.corpus_version,
        notes=inputs.notes,
        artifacts=tuple(
            Artifact(file.name, file.sha256, file.size)
            for file in sorted(files, key=lambda file: file.name)
        ),
        tables=tuple(tables),
        scores=record_scores(scores, workspace.study.privacy.smallest_cell),
        software=run.software,
        dagster_run_id=step.run_id,
        started=run.started_at,
        ended=ended,
        recorded=now,
        sample=_sample(workspace, inputs),
        previous=previous,
        forced=_untold_promotions(step),
        profile=workspace.study.provenance,
    )


def _untold_promotions(step: "EvaluationStep") -> tuple[ForcedPromotion, ...]:
    """The promotions of the model by force that no record of its chain tells of, oldest first."""
    workspace = step.workspace
    told = {
        identity
        for record in workspace.records.of_model(step.key)
        if record.provenance is not None
        for identity in record.provenance.forced
    }
    return tuple(
        ForcedPromotion(made.promotion_id, made.evaluation_id, made.forced_reason, made.at)
        for made in reversed(workspace.promotions.of_study(workspace.study.name))
        if made.model_key == step.key
        and made.forced_reason is not None
        and made.promotion_id not in told
    )


def _sample(workspace: "Workspace", inputs: InputsPart) -> SampleSize | None:
    """What was read, in the study's sampling units; None when it is a small cell."""
    cluster = workspace.study.cluster
    if cluster is None:
        count = inputs.notes
    else:
        count = sampling_units(workspace.corpus.notes(inputs.corpus_version), cluster)
    if count < workspace.study.privacy.smallest_cell:
        return None
    return SampleSize(count, cluster or "note")


def record_scores(scores: pl.DataFrame, smallest_cell: int) -> tuple[Score, ...]:
    """The scores as a record tells them; where there are too few mentions they are withheld."""
    names = tuple(name for name in Score.__dataclass_fields__ if name != "withheld")
    small = [pl.col(name).is_between(1, smallest_cell - 1) for name in ("gold", "predicted")]
    withheld = pl.col("withheld") | pl.any_horizontal(small).fill_null(value=False)
    rows = scores.with_columns(withheld).select(*names, "withheld")
    return tuple(Score(**row) for row in rows.iter_rows(named=True))


def _same_provenance(
    record: EvaluationRecord,
    evaluated: EvaluationRecord,
    of_model: Sequence[EvaluationRecord],
    key_id: str | None,
) -> ProvenancePart | None:
    """A stored Provenance that says all that one of `evaluated` would, the times left out.

    One that is to be signed with a key is none that was not signed with it.
    """
    for other in of_model:
        if other.evaluation_id == record.evaluation_id or other.state != Status.FINISHED:
            continue
        described = _described(other, of_model)
        if (
            other.provenance is not None
            and other.provenance.key_id == key_id
            and described is not None
            and _digest(described) == _digest(evaluated)
            and _circumstances(other) == _circumstances(record)
            and _software(described) == _software(evaluated)
        ):
            return other.provenance
    return None


def _described(
    record: EvaluationRecord, of_model: Sequence[EvaluationRecord]
) -> EvaluationRecord | None:
    """The evaluation that made the scores which a record's Provenance is of: itself or an earlier.

    Args:
        record: The record.
        of_model: The records of the model, those that were touched last first.
    """
    if _scored(record):
        return record
    ids = [other.evaluation_id for other in of_model]
    start = ids.index(record.evaluation_id) if record.evaluation_id in ids else -1
    return next(filter(_scored, of_model[start + 1 :]), None)


def _scored(record: EvaluationRecord) -> bool:
    """Whether its own run made its scores; a Provenance made alone copies those of another."""
    return record.metrics is not None and SCORING_STEP in record.done


def _digest(record: EvaluationRecord) -> str | None:
    return record.metrics.evaluation_digest if record.metrics else None


def _software(record: EvaluationRecord) -> dict[str, str] | None:
    return record.run.software if record.run else None


def _circumstances(record: EvaluationRecord) -> object:
    return (record.run.context, record.run.software) if record.run else None
