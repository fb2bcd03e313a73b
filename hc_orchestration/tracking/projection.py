"""Bringing MLflow up to date from an evaluation record: idempotent, one run per evaluation.

Only `MlflowClient` and explicit ids are used: no fluent state, no active run, nothing at exit. What
MLflow has already is read first and only the difference is written, so a replay changes nothing.
"""

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from hc_orchestration.storage.files import FileStore, StoredFile
from hc_orchestration.storage.records import CHAIN, EvaluationRecord, MlflowPart, Status
from hc_orchestration.tracking.client import MlflowStore, experiment_id, guarded, open_client
from hc_orchestration.tracking.names import LONGEST_PARAM, LONGEST_TAG, metric_name, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EVALUATION_TAG = "hc.evaluation_id"
_FILES_TAG = "hc.files"
_BATCH = 500
_PARAMS_A_BATCH = 100
PER_NOTE_LIMIT = 200


class MlflowProjection:
    """Writes evaluation records into one MLflow store."""

    def __init__(self, store: MlflowStore, files: FileStore, dagster_url: str) -> None:
        """Project into `store`, reading artifacts from `files`; nothing is opened yet."""
        self._store = store
        self._files = files
        self._dagster_url = dagster_url
        self._opened: MlflowClient | None = None
        self._experiments: dict[str, str] = {}

    def project(self, record: EvaluationRecord) -> MlflowPart:
        """Make MLflow say what `record` says.

        Raises:
            TrackingError: MLflow could not be reached or refused; the record is not touched, and
                the next call catches up.
        """
        if record.run is None:
            message = f"evaluation {record.evaluation_id} has no run part to project"
            raise ValueError(message)
        experiment = self._experiment(record.run.study)
        run = self._find(experiment, record.evaluation_id) or self._create(experiment, record)
        run_id = run.info.run_id
        guarded(lambda: self._write_values(run, record))
        guarded(lambda: self._write_files(run, record))
        guarded(lambda: self._write_status(run, record))
        return MlflowPart(run_id=run_id, url=self._url(experiment, run_id))

    def _url(self, experiment: str, run_id: str) -> str:
        return f"{self._store.url}/#/experiments/{experiment}/runs/{run_id}"

    @property
    def _client(self) -> "MlflowClient":
        if self._opened is None:
            self._opened = open_client(self._store)
        return self._opened

    def _experiment(self, name: str) -> str:
        if name not in self._experiments:
            self._experiments[name] = experiment_id(self._client, self._store, name)
        return self._experiments[name]

    def _find(self, experiment: str, evaluation_id: str) -> "Run | None":
        where = f"tags.`{EVALUATION_TAG}` = '{evaluation_id}'"
        runs = guarded(lambda: self._client.search_runs([experiment], where))
        return min(runs, key=_age, default=None)

    def _create(self, experiment: str, record: EvaluationRecord) -> "Run":
        """Create, then look again: of two racing writers the oldest run stays."""
        run_part = record.run
        assert run_part is not None  # noqa: S101 - checked by project()
        created = guarded(
            lambda: self._client.create_run(
                experiment,
                start_time=_milliseconds(run_part.started_at),
                run_name=record.model_key,
                tags={EVALUATION_TAG: record.evaluation_id, "hc.kind": "evaluation"},
            )
        )
        oldest = self._find(experiment, record.evaluation_id) or created
        if oldest.info.run_id != created.info.run_id:
            guarded(lambda: self._client.delete_run(created.info.run_id))
        return oldest

    def _write_values(self, run: "Run", record: EvaluationRecord) -> None:
        from mlflow.entities import Param, RunTag

        run_id = run.info.run_id
        params = [
            Param(name, value)
            for name, value in _params(record).items()
            if name not in run.data.params
        ]
        changed = {
            name: value
            for name, value in _params(record).items()
            if name in run.data.params and run.data.params[name] != value
        }
        wanted = {**_tags(record, self._dagster_url), **changed}
        tags = [RunTag(k, v) for k, v in wanted.items() if run.data.tags.get(k) != v]
        metrics = list(self._new_metrics(run, record))
        self._client.log_batch(run_id, tags=tags)
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_BATCH])
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _new_metrics(self, run: "Run", record: EvaluationRecord) -> "Iterator[Metric]":
        from mlflow.entities import Metric

        assert record.run is not None  # noqa: S101 - checked by project()
        at = _milliseconds(record.run.started_at)
        for name, value in _metrics(record).items():
            if run.data.metrics.get(metric_name(name)) != value:
                yield Metric(metric_name(name), value, at, 0)
        if record.extraction and "doc_entity_count" not in run.data.metrics:
            for step, entities, length in self._per_note(record.extraction.files):
                yield Metric("doc_entity_count", entities, at, step)
                yield Metric("doc_text_length", length, at, step)

    def _per_note(self, files: tuple[StoredFile, ...]) -> Iterator[tuple[int, int, int]]:
        import polars as pl

        file = next((file for file in files if file.name == "per_note.parquet"), None)
        if file is None:
            return
        table = pl.read_parquet(io.BytesIO(self._files.get(file))).head(PER_NOTE_LIMIT)
        columns = table.select("entities", "text_length")
        for step, (entities, length) in enumerate(columns.iter_rows()):
            yield step, entities, length

    def _write_files(self, run: "Run", record: EvaluationRecord) -> None:
        known = json.loads(run.data.tags.get(_FILES_TAG, "{}"))
        wanted = {file.name: file for file in _files(record)}
        run_id = run.info.run_id
        new = {name: file for name, file in wanted.items() if known.get(name) != file.sha256}
        if new:
            with tempfile.TemporaryDirectory() as folder:
                for name, file in new.items():
                    path = Path(folder) / name
                    path.write_bytes(self._files.get(file))
                    self._client.log_artifact(run_id, str(path))
            digests = {**known, **{name: file.sha256 for name, file in new.items()}}
            self._client.set_tag(run_id, _FILES_TAG, json.dumps(digests, sort_keys=True))
        if "healthcare_context.json" not in known and record.run is not None:
            self._client.log_dict(run_id, record.run.context.to_dict(), "healthcare_context.json")
            slugs = _slugs(record)
            if slugs:
                self._client.log_dict(run_id, slugs, "metric_names.json")

    def _write_status(self, run: "Run", record: EvaluationRecord) -> None:
        run_id = run.info.run_id
        if record.state == Status.RUNNING or record.status is None:
            if run.info.status != Status.RUNNING:
                self._client.update_run(run_id, status=Status.RUNNING.value)
        elif run.info.status != record.state.value:
            end = _milliseconds(record.status.at)
            self._client.set_terminated(run_id, record.state.value, end)


def _age(run: "Run") -> tuple[int, str]:
    return run.info.start_time or 0, run.info.run_id


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _files(record: EvaluationRecord) -> list[StoredFile]:
    files: list[StoredFile] = []
    if record.extraction:
        files += record.extraction.files
    if record.metrics:
        files += record.metrics.files
    if record.provenance:
        files.append(record.provenance.file)
    return files


def _slugs(record: EvaluationRecord) -> dict[str, str]:
    """MLflow's name → ours, for the metrics whose names MLflow would refuse."""
    return {metric_name(name): name for name in _metrics(record) if metric_name(name) != name}


def _params(record: EvaluationRecord) -> dict[str, str]:
    params: dict[str, object] = {}
    if record.run:
        context = record.run.context
        params |= {
            "healthcare.model_id": context.model_id,
            "healthcare.model_version": context.version,
            "healthcare.organization": context.organization,
            "healthcare.purpose": context.purpose,
            "healthcare.data_sources": _listed(context.data_sources),
            "healthcare.regulatory_tags": _listed(context.regulatory_tags),
        }
        if (patients := context.patient_context) is not None:
            params |= {
                "healthcare.patient_cohort": patients.cohort,
                "healthcare.patient_age_range": patients.age_range,
                "healthcare.patient_sample_size": patients.sample_size,
                "healthcare.inclusion_criteria": _listed(patients.inclusion_criteria),
                "healthcare.exclusion_criteria": _listed(patients.exclusion_criteria),
            }
    if record.inputs:
        params |= {
            "model.fingerprint": record.inputs.model_fingerprint,
            "model.loader": record.inputs.loader,
            "model.bytes": record.inputs.model_bytes,
            "corpus.digest": record.inputs.corpus_digest,
            "corpus.version": record.inputs.corpus_version,
            "corpus.notes": record.inputs.notes,
            "corpus.quarantined": record.inputs.quarantined,
        }
    if record.extraction:
        params |= {
            "extraction.engine": "local",
            "extraction.reused": record.extraction.reused,
            "extraction.extracted": record.extraction.extracted,
        }
    return {
        name: shortened(str(value), LONGEST_PARAM)
        for name, value in params.items()
        if value is not None and value != ""
    }


def _listed(values: list[str]) -> str:
    return "; ".join(values)


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


def _tags(record: EvaluationRecord, dagster_url: str) -> dict[str, str]:
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
            "hc.host": run.host,
            "hc.pid": str(run.pid),
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
    if record.provenance:
        tags["hc.provenance_digest"] = record.provenance.file.sha256
    tags["mlflow.note.content"] = run_note(record, dagster_url)
    if (status := record.status) and status.error_class:
        tags |= {
            "error.class": status.error_class,
            "error.message": status.error,
            "error.step": status.failed_step,
        }
    return {name: shortened(value, LONGEST_TAG) for name, value in tags.items() if value}


def run_note(record: EvaluationRecord, dagster_url: str) -> str:
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
        patients = record.run.context.patient_context
        if patients is not None:
            lines.append(f"Cohort: {patients.cohort}")
        lines.append(f"[Dagster run]({dagster_url}/runs/{record.run.dagster_run_id})")
    if record.status and record.status.error:
        lines.append(f"Ended by: {record.status.error}")
    return "\n\n".join(lines)
