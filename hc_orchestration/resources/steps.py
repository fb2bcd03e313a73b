"""What each step of an evaluation does with the workspace: read, call, put into record parts."""

import io
import json
from typing import TYPE_CHECKING, Any

import polars as pl

from hc_orchestration.errors import EvaluationError
from hc_orchestration.extraction.corpus import extract_corpus
from hc_orchestration.models.catalogue import UNTYPED, ModelEntry
from hc_orchestration.models.store import installed_model
from hc_orchestration.reporting.gates import gates_part
from hc_orchestration.resources.integrity import pinned_extraction
from hc_orchestration.scoring.bootstrap import Resampling
from hc_orchestration.scoring.evaluation import evaluate
from hc_orchestration.scoring.identity import evaluation_digest, seed_of
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.records import (
    EvaluationRecord,
    ExtractionPart,
    GatesPart,
    InputsPart,
    MetricsPart,
    Status,
)
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.study import ExtractionSettings

if TYPE_CHECKING:
    from hc_orchestration.resources.evaluation import EvaluationStep


def extract(step: "EvaluationStep", ray_cluster: object) -> tuple[InputsPart, ExtractionPart]:
    """Pin the inputs and extract what is missing.

    Args:
        step: The step that extracts.
        ray_cluster: What Dagster gives as the cluster for this run; see `on_cluster`.
    """
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
        selection=corpus.selection,
    )
    outcome = extract_corpus(
        installed,
        corpus.version,
        workspace.entities,
        workspace.settings.locks,
        on_cluster(workspace.study.extraction, ray_cluster),
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
        engine=outcome.engine,
        processes=outcome.processes,
        workers_lost=outcome.lost,
    )


def on_cluster(extraction: ExtractionSettings, ray_cluster: object) -> ExtractionSettings:
    """The study's settings, with the address of the cluster that Dagster gives, if it gives one.

    Args:
        extraction: The study's settings.
        ray_cluster: A `RayResource` of dagster-ray, which made the cluster for this run and, if it
            is so set, connected this process to it; None where the study's address holds.
    """
    address = getattr(ray_cluster, "ray_address", None)
    return extraction.model_copy(update={"ray_address": address}) if address else extraction


def model_card(entry: ModelEntry) -> dict[str, Any]:
    """What is said of a model, with its key, as an artifact."""
    return {"model": entry.key, **entry.card.model_dump(exclude_none=True)}


def score(step: "EvaluationStep") -> tuple[InputsPart, MetricsPart, GatesPart, pl.DataFrame]:
    """Score the extracted entities of the pinned corpus version, and hold them to the gates."""
    workspace, entry = step.workspace, step.entry
    inputs = step.inputs()
    extraction = pinned_extraction(step)
    plan = workspace.study.scoring
    mapping = checked_mapping(entry, plan.labels)
    entities = workspace.entities.of_corpus(
        step.key, inputs.model_fingerprint, inputs.corpus_version, extraction.entities_version
    )
    notes = workspace.corpus.notes(inputs.corpus_version)
    digest = evaluation_digest(inputs.corpus_digest, inputs.model_fingerprint, plan, mapping)
    resampling = Resampling(seed_of("bootstrap", digest))
    result = evaluate(notes, entities, plan, mapping, resampling)
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
            withheld=result.withheld,
            metrics_version=version,
            files=(
                _keep(workspace, "metrics.parquet", parquet_bytes(result.scores)),
                _keep(workspace, "error_analysis.json", result.errors.as_json()),
            ),
        ),
        gates_part(workspace.study.gates, result.scores, result.not_applicable),
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


def _keep(workspace: Workspace, name: str, content: bytes) -> StoredFile:
    return workspace.files.put(name, content)


def _json_bytes(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, indent=1).encode("utf-8")
