"""What MLflow shows of an evaluation's record."""

import json
from collections.abc import Mapping

from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.records import CHAIN, EvaluationRecord, Status
from hc_orchestration.tracking.context_params import context_params
from hc_orchestration.tracking.run_view import (
    CorpusInput,
    PerNoteSteps,
    RunView,
    TakenOver,
    cohort_table,
    fitting_params,
    fitting_tags,
)

_PER_NOTE_FILE = "per_note.parquet"


def evaluation_view(record: EvaluationRecord, dagster_url: str) -> RunView:
    """The MLflow run of an evaluation as its record stands.

    Raises:
        ValueError: The record has no run part.
    """
    run = record.run
    if run is None:
        message = f"evaluation {record.evaluation_id} has no run part to project"
        raise ValueError(message)
    over = record.status is not None and record.state is not Status.RUNNING
    return RunView(
        kind=record.kind,
        identity=record.evaluation_id,
        name=record.model_key,
        experiment=run.experiment,
        started_at=run.started_at,
        status=record.state,
        ended_at=record.status.at if over and record.status else None,
        params=fitting_params(_params(record)),
        tags=run.shown_in.tags
        | fitting_tags(_tags(record, dagster_url))
        | fitting_tags({"mlflow.parentRunId": run.shown_in.parent_run_id}),
        metrics=_metrics(record),
        corpus=_corpus(record),
        documents={"healthcare_context.json": json.dumps(run.context.to_dict(), indent=2).encode()},
        files=tuple(_files(record)),
        rows=record.rows,
        per_note=_per_note(record),
        taken_over=TakenOver(run.shown_in.run_id, run.dagster_run_id),
    )


def _corpus(record: EvaluationRecord) -> CorpusInput | None:
    if record.inputs is None or record.run is None:
        return None
    inputs = record.inputs
    return CorpusInput(
        record.run.study,
        inputs.corpus_digest,
        inputs.corpus_version,
        inputs.notes,
        inputs.quarantined,
    )


def _per_note(record: EvaluationRecord) -> PerNoteSteps | None:
    files = record.extraction.files if record.extraction else ()
    file = next((file for file in files if file.name == _PER_NOTE_FILE), None)
    if file is None or record.run is None:
        return None
    return PerNoteSteps(file, record.run.shown_in.per_note_steps)


def _files(record: EvaluationRecord) -> list[StoredFile]:
    files: list[StoredFile] = []
    if record.extraction:
        files += record.extraction.files
    if record.metrics:
        files += record.metrics.files
    if record.provenance:
        files.append(record.provenance.file)
        if record.provenance.resource:
            files.append(record.provenance.resource)
    return files


def _params(record: EvaluationRecord) -> dict[str, object]:
    params: dict[str, object] = {}
    if record.run:
        params |= context_params(record.run.context)
    if record.inputs:
        params |= {
            "model.fingerprint": record.inputs.model_fingerprint,
            "model.loader": record.inputs.loader,
            "model.bytes": record.inputs.model_bytes,
            "corpus.digest": record.inputs.corpus_digest,
            "corpus.version": record.inputs.corpus_version,
            "corpus.notes": record.inputs.notes,
            "corpus.quarantined": record.inputs.quarantined,
            **({"corpus.selection": record.inputs.selection} if record.inputs.selection else {}),
        }
    if record.extraction:
        params |= {
            "extraction.engine": "local",
            "extraction.device": record.extraction.device,
            "extraction.reused": record.extraction.reused,
            "extraction.extracted": record.extraction.extracted,
        }
    return params


def _metrics(record: EvaluationRecord) -> Mapping[str, float]:
    metrics: dict[str, float] = {}
    if record.extraction:
        done = record.extraction
        metrics |= {
            "total_documents": done.notes,
            "total_entities": done.entities,
            "seconds": done.seconds,
        }
        if done.notes:
            metrics["avg_entities_per_doc"] = done.entities / done.notes
        if done.notes_per_second is not None:
            metrics["notes_per_second"] = done.notes_per_second
    if record.metrics:
        metrics |= record.metrics.values
    return metrics


def _tags(record: EvaluationRecord, dagster_url: str) -> dict[str, str | None]:
    tags: dict[str, str | None] = {"hc.model": record.model_key}
    if run := record.run:
        tags |= {
            "dagster_run_id": run.dagster_run_id,
            "dagster.partition_key": run.partition_key,
            "dagster.attempt": str(run.attempt),
            "dagster.backfill": run.backfill_id,
            "dagster.job": run.job,
            "dagster.asset_keys": ",".join(step for step in record.done if step in CHAIN),
            "hc.dagster_url": f"{dagster_url}/runs/{run.dagster_run_id}",
            "hc.software": ", ".join(f"{k} {v}" for k, v in run.software.items()),
            **run.process.as_tags(),
        }
    if inputs := record.inputs:
        tags |= {
            "hc.model_fingerprint": inputs.model_fingerprint,
            "hc.corpus_digest": inputs.corpus_digest,
            "hc.corpus_version": str(inputs.corpus_version),
        }
    if record.extraction:
        tags["hc.entities_version"] = str(record.extraction.entities_version)
    if metrics := record.metrics:
        tags |= {
            "hc.evaluation_digest": metrics.evaluation_digest,
            "hc.inputs_unchanged": str(metrics.inputs_unchanged).lower(),
            "hc.metrics_version": str(metrics.metrics_version),
            "hc.not_applicable": ", ".join(metrics.not_applicable) or None,
        }
    if record.gates:
        tags["hc.gates"] = record.gates.outcome
    if record.provenance:
        tags["hc.provenance_digest"] = record.provenance.file.sha256
    tags["mlflow.note.content"] = _run_note(record, dagster_url)
    if (status := record.status) and status.error_class:
        tags |= {
            "error.class": status.error_class,
            "error.message": status.error,
            "error.step": status.failed_step,
        }
    return tags


def _run_note(record: EvaluationRecord, dagster_url: str) -> str:
    """The run's description in Markdown: headline, cohort, links."""
    lines = [f"**{record.model_key}** on the notes of *{record.run.study if record.run else '?'}*"]
    if record.metrics:
        f1 = record.metrics.values.get("strict.f1")
        shown = "not applicable or undefined" if f1 is None else f"{f1:.3f}"
        lines.append(
            f"strict F1 {shown}, {record.metrics.support} gold mentions in "
            f"{record.metrics.annotated} annotated notes"
        )
    if record.run:
        lines.append(cohort_table(record.run.context.patient_context))
        lines.append(f"[Dagster run]({dagster_url}/runs/{record.run.dagster_run_id})")
    if record.status and record.status.error:
        lines.append(f"Ended by: {record.status.error}")
    return "\n\n".join(lines)
