"""What each step of an evaluation does with the workspace: read, call, put into record parts."""

import io
import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import polars as pl

from hc_orchestration.errors import EvaluationError
from hc_orchestration.extraction.corpus import extract_corpus
from hc_orchestration.healthcare.provenance import (
    EvaluationFacts,
    build_provenance,
    provenance_bytes,
)
from hc_orchestration.models.catalogue import UNTYPED, ModelEntry
from hc_orchestration.models.store import installed_model
from hc_orchestration.reporting.comparison import compare_models, comparison_rows
from hc_orchestration.reporting.metadata import markdown_table
from hc_orchestration.resources.integrity import pinned_extraction
from hc_orchestration.scoring.evaluation import evaluate
from hc_orchestration.scoring.identity import evaluation_digest
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.records import (
    EvaluationRecord,
    ExtractionPart,
    InputsPart,
    MetricsPart,
    ProvenancePart,
    RecordPart,
    Status,
)
from hc_orchestration.storage.workspace import Workspace

SCORING_STEP = "evaluation_metrics"

if TYPE_CHECKING:
    from hc_orchestration.resources.evaluation import EvaluationStep


def extract(step: "EvaluationStep") -> tuple[InputsPart, ExtractionPart]:
    """Pin the inputs and extract what is missing."""
    workspace = step.workspace
    corpus = workspace.corpus.required()
    installed = installed_model(step.entry, workspace.settings.model_store)
    inputs = InputsPart(
        corpus_version=corpus.version,
        corpus_digest=corpus.digest,
        notes=corpus.notes,
        quarantined=int(corpus.counts["quarantined"]),
        model_fingerprint=installed.fingerprint,
        loader=step.entry.loader,
        model_bytes=installed.size,
        pinned_by=step.evaluation_id,
    )
    outcome = extract_corpus(
        installed, corpus.version, workspace.entities, workspace.settings.locks
    )
    version = workspace.entities.version(step.key) or 0
    per_note, labels = _summary(workspace, step.key, inputs, version)
    entities = int(per_note["entities"].sum())
    rate = outcome.extracted / outcome.seconds if outcome.extracted else None
    files = (
        _keep(workspace, "per_note.parquet", parquet_bytes(per_note)),
        _keep(workspace, "entity_distribution.json", _json_bytes(labels)),
        _keep(workspace, "model_card.json", _json_bytes(model_card(step.entry))),
    )
    return inputs, ExtractionPart(
        notes=per_note.height,
        reused=outcome.reused,
        extracted=outcome.extracted,
        entities=entities,
        labels=labels,
        seconds=outcome.seconds,
        notes_per_second=rate,
        entities_version=version,
        files=files,
        started_at=step.begun,
        device=outcome.device,
    )


def model_card(entry: ModelEntry) -> dict[str, Any]:
    """What is said of a model, with its key, as an artifact."""
    return {"model": entry.key, **entry.card.model_dump(exclude_none=True)}


def score(step: "EvaluationStep") -> tuple[InputsPart, MetricsPart, pl.DataFrame]:
    """Score the extracted entities of the pinned corpus version."""
    workspace, entry = step.workspace, step.entry
    inputs = step.inputs()
    extraction = pinned_extraction(step)
    labels = workspace.study.labels
    mapping = checked_mapping(entry, labels)
    entities = workspace.entities.of_corpus(
        step.key, inputs.model_fingerprint, inputs.corpus_version, extraction.entities_version
    )
    notes = workspace.corpus.notes(inputs.corpus_version).select("note_id", "gold")
    result = evaluate(notes, entities, labels, mapping, untyped=entry.untyped)
    digest = evaluation_digest(inputs.corpus_digest, inputs.model_fingerprint, labels, mapping)
    version = workspace.metrics.insert(step.key, digest, result.scores, result.counts)
    return (
        inputs,
        MetricsPart(
            evaluation_digest=digest,
            inputs_unchanged=_evaluated_before(step, digest) is not None,
            values=result.values,
            support=result.support,
            annotated=result.annotated,
            predicted_unmapped=result.predicted_unmapped,
            not_applicable=result.not_applicable,
            metrics_version=version,
            files=(_keep(workspace, "metrics.parquet", parquet_bytes(result.scores)),),
        ),
        result.scores,
    )


def checked_mapping(entry: ModelEntry, labels: tuple[str, ...]) -> dict[str, str]:
    """The model's label mapping.

    Raises:
        EvaluationError: It leads to a label that the study does not have, so that every such
            mention would count as wrong.
    """
    mapping = entry.label_mapping(labels)
    unknown = sorted(set(mapping.values()) - {*labels, UNTYPED})
    if unknown:
        message = (
            f"model {entry.key} maps to {', '.join(unknown)}, but the study's labels are "
            f"{', '.join(labels)}. Mend `labels` of the model in the catalogue."
        )
        raise EvaluationError(message)
    return mapping


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
    before = _same_provenance(record, evaluated, earlier)
    if before is not None:
        return copied, before
    now = datetime.now(UTC)
    status = evaluated.status
    ended = now if evaluated is record or status is None else status.at
    extraction = evaluated.extraction
    resource = build_provenance(
        EvaluationFacts(
            evaluation_id=step.evaluation_id,
            evaluation_digest=metrics.evaluation_digest,
            context=record.run.context,
            model_fingerprint=inputs.model_fingerprint,
            corpus_digest=inputs.corpus_digest,
            corpus_version=inputs.corpus_version,
            notes=inputs.notes,
            artifacts={
                file.name: file.sha256
                for file in (*(extraction.files if extraction else ()), *metrics.files)
            },
            software=run.software,
            dagster_run_id=step.run_id,
            started=run.started_at,
            ended=ended,
            recorded=now,
        )
    )
    return copied, ProvenancePart(
        file=_keep(workspace, "fhir_provenance.json", provenance_bytes(resource)),
        of_evaluation=step.evaluation_id,
        evaluation_digest=metrics.evaluation_digest,
    )


def compare(
    workspace: Workspace, comparison_id: str
) -> tuple[list[dict[str, Any]], dict[str, Any], str]:
    """Compare all models, store the rows; returns them with metadata and a digest of them."""
    import hashlib

    import dagster as dg

    models = compare_models(workspace)
    rows = comparison_rows(models, workspace.corpus.required())
    now = datetime.now(UTC)
    workspace.comparisons.append(
        [{**row, "comparison_id": comparison_id, "compared_at": now} for row in rows]
    )
    digests = sorted((row["model_key"], row["evaluation_digest"]) for row in rows)
    shown = [
        {name: row[name] for name in ("rank", "model_key", "strict_f1", "exact_f1", "support")}
        for row in rows
        if row["rank"] is not None
    ]
    missing = [
        {"model": row["model_key"], "reason": row["missing_reason"]}
        for row in rows
        if row["rank"] is None
    ]
    metadata = {
        "ranking": dg.MetadataValue.md(markdown_table(shown)),
        "missing": dg.MetadataValue.md(markdown_table(missing)),
        "compared": len(shown),
    }
    return rows, metadata, hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def parquet_bytes(frame: pl.DataFrame) -> bytes:
    """A frame as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.write_parquet(buffer)
    return buffer.getvalue()


def _summary(
    workspace: Workspace, key: str, inputs: InputsPart, version: int
) -> tuple[pl.DataFrame, dict[str, int]]:
    """note_id, text_length and entities of each note; and mentions by model label."""
    rows = workspace.entities.of_corpus(
        key, inputs.model_fingerprint, inputs.corpus_version, version
    )
    lengths = workspace.corpus.notes(inputs.corpus_version).select(
        "note_id", text_length=pl.col("text").str.len_chars().cast(pl.Int64)
    )
    per_note = rows.select("note_id", entities=pl.col("spans").list.len().cast(pl.Int64))
    labels = (
        rows.select(pl.col("spans").explode().struct.field("label"))
        .drop_nulls()
        .group_by("label")
        .len()
        .sort("label")
        .collect()
    )
    joined = per_note.join(lengths, on="note_id", how="inner").sort("note_id").collect()
    return joined.select("note_id", "text_length", "entities"), dict(labels.iter_rows())


def _evaluated_before(step: "EvaluationStep", digest: str) -> EvaluationRecord | None:
    """An earlier finished evaluation of this model with the same digest and a Provenance."""
    for record in step.workspace.records.of_model(step.key):
        other = record.evaluation_id != step.evaluation_id
        same = record.metrics is not None and record.metrics.evaluation_digest == digest
        if other and same and record.provenance and record.state == Status.FINISHED:
            return record
    return None


def _same_provenance(
    record: EvaluationRecord, evaluated: EvaluationRecord, of_model: Sequence[EvaluationRecord]
) -> ProvenancePart | None:
    """A stored Provenance that says all that one of `evaluated` would, the times left out."""
    for other in of_model:
        if other.evaluation_id == record.evaluation_id or other.state != Status.FINISHED:
            continue
        described = _described(other, of_model)
        if (
            other.provenance is not None
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


def _keep(workspace: Workspace, name: str, content: bytes) -> StoredFile:
    return workspace.files.put(name, content)


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1).encode("utf-8")
