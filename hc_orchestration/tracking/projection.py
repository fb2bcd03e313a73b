"""Bringing MLflow up to date from an evaluation record: idempotent, one run per evaluation.

Only `MlflowClient` and explicit ids are used: no fluent state, no active run, nothing at exit. What
MLflow has already is read first and only the difference is written, so a replay changes nothing.
"""

import io
import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hc_orchestration.errors import TrackingError
from hc_orchestration.healthcare.contexts import PatientContext
from hc_orchestration.storage.files import FileStore, StoredFile
from hc_orchestration.storage.records import (
    CHAIN,
    EvaluationRecord,
    MlflowPart,
    RunPart,
    ShownIn,
    Status,
)
from hc_orchestration.tracking.client import (
    MlflowStore,
    creation_lock,
    experiment_id,
    guarded,
    open_client,
)
from hc_orchestration.tracking.context_params import context_params
from hc_orchestration.tracking.names import LONGEST_PARAM, LONGEST_TAG, metric_name, shortened

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

EVALUATION_TAG = "hc.evaluation_id"
_FILES_TAG = "hc.files"
_ERROR_TAGS = ("error.class", "error.message", "error.step")
_PER_NOTE_TAG = "hc.per_note"
_ROWS_TAG = "hc.rows"
_DATASET_DIGEST = 36
_BATCH = 500
_PARAMS_A_BATCH = 100
_RUNS_A_PAGE = 1_000


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
        experiment = self._experiment(record.run.experiment)
        run = self._find(experiment, record.evaluation_id)
        if run is None:
            with creation_lock(self._store):
                run = self._find(experiment, record.evaluation_id)
                run = run or self._create(experiment, record)
        run_id = run.info.run_id
        for write in (
            self._write_values,
            self._write_per_note,
            self._write_dataset,
            self._write_files,
            self._write_status,
            self._write_rows,
        ):
            guarded(partial(write, run, record))
        return MlflowPart(run_id=run_id, url=self._url(experiment, run_id), rows=record.rows)

    def rows_shown(self, experiment_name: str) -> dict[str, int]:
        """Evaluation id → rows of its record that MLflow shows completely, in an experiment.

        Raises:
            TrackingError: MLflow could not be reached.
        """
        experiment = self._experiment(experiment_name)
        found: dict[str, int] = {}
        token: str | None = None
        while True:
            page = guarded(
                partial(
                    self._client.search_runs,
                    [experiment],
                    "tags.`hc.kind` = 'evaluation'",
                    max_results=_RUNS_A_PAGE,
                    page_token=token,
                )
            )
            for run in page:
                rows = run.data.tags.get(_ROWS_TAG, "")
                found[run.data.tags.get(EVALUATION_TAG, "")] = int(rows) if rows.isdigit() else 0
            token = page.token
            if not token:
                return found

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
        """The oldest run of an evaluation; whoever sees a younger one beside it deletes that."""
        where = f"tags.`{EVALUATION_TAG}` = '{evaluation_id}'"
        runs = sorted(guarded(lambda: self._client.search_runs([experiment], where)), key=_age)
        for younger in runs[1:]:
            guarded(partial(self._client.delete_run, younger.info.run_id))
        return runs[0] if runs else None

    def _create(self, experiment: str, record: EvaluationRecord) -> "Run":
        """Create, then look again: writers on other machines do not see our lock."""
        run_part = record.run
        assert run_part is not None  # noqa: S101 - checked by project()
        ours = {EVALUATION_TAG: record.evaluation_id, "hc.kind": "evaluation"}
        adopted = self._unclaimed(experiment, run_part)
        if adopted is not None:
            for name, value in {**ours, "mlflow.runName": record.model_key}.items():
                guarded(partial(self._client.set_tag, adopted.info.run_id, name, value))
            return guarded(partial(self._client.get_run, adopted.info.run_id))
        created = guarded(
            lambda: self._client.create_run(
                experiment,
                start_time=_milliseconds(run_part.started_at),
                run_name=record.model_key,
                tags=ours,
            )
        )
        return self._find(experiment, record.evaluation_id) or created

    def _unclaimed(self, experiment: str, run_part: RunPart) -> "Run | None":
        """A run that is there for this evaluation and that no evaluation has taken yet.

        It is the one that the deployment named, or one that dagster-mlflow made for the same
        Dagster run before we came to it.

        Raises:
            TrackingError: Another evaluation has the named run already.
        """
        named = run_part.shown_in.run_id
        if named is not None:
            run = guarded(partial(self._client.get_run, named))
            if EVALUATION_TAG in run.data.tags:
                message = (
                    f"mlflow_run_id {named} shows another evaluation already. Leave it out of the "
                    "configuration: each evaluation then gets a run of its own."
                )
                raise TrackingError(message)
            return run
        where = f"tags.dagster_run_id = '{run_part.dagster_run_id}'"
        runs = guarded(lambda: self._client.search_runs([experiment], where))
        free = [run for run in runs if EVALUATION_TAG not in run.data.tags]
        return min(free, key=_age, default=None)

    def _write_values(self, run: "Run", record: EvaluationRecord) -> None:
        from mlflow.entities import Param, RunTag

        run_id = run.info.run_id
        params = [
            Param(name, value)
            for name, value in _params(record).items()
            if name not in run.data.params
        ]
        changed = {
            f"param.{name}": value
            for name, value in _params(record).items()
            if name in run.data.params and run.data.params[name] != value
        }
        shown_in = record.run.shown_in if record.run else ShownIn()
        wanted = {**shown_in.tags, **_tags(record, self._dagster_url), **changed}
        if shown_in.parent_run_id:
            wanted["mlflow.parentRunId"] = shown_in.parent_run_id
        tags = [RunTag(k, v) for k, v in wanted.items() if run.data.tags.get(k) != v]
        metrics = list(_new_metrics(run, record))
        self._client.log_batch(run_id, tags=tags)
        for name in (name for name in _ERROR_TAGS if name in run.data.tags and name not in wanted):
            self._client.delete_tag(run_id, name)
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_BATCH])
        self._log_metrics(run_id, metrics)

    def _log_metrics(self, run_id: str, metrics: "list[Metric]") -> None:
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _write_per_note(self, run: "Run", record: EvaluationRecord) -> None:
        """The first notes' counts by step, once: the tag is set when all of them are there."""
        import polars as pl
        from mlflow.entities import Metric

        files = record.extraction.files if record.extraction else ()
        file = next((file for file in files if file.name == "per_note.parquet"), None)
        if record.run is None or file is None or run.data.tags.get(_PER_NOTE_TAG) == file.sha256:
            return
        at = _milliseconds(record.run.started_at)
        table = pl.read_parquet(io.BytesIO(self._files.get(file))).head(
            record.run.shown_in.per_note_steps
        )
        rows = enumerate(table.select("entities", "text_length").iter_rows())
        metrics = [
            Metric(name, value, at, step)
            for step, row in rows
            for name, value in zip(("doc_entity_count", "doc_text_length"), row, strict=True)
            if value is not None  # the row of a note that was purged
        ]
        self._log_metrics(run.info.run_id, metrics)
        self._client.set_tag(run.info.run_id, _PER_NOTE_TAG, file.sha256)

    def _write_dataset(self, run: "Run", record: EvaluationRecord) -> None:
        """The corpus in MLflow's Datasets column: name and digest, not the notes."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        inputs = record.inputs
        there = run.inputs is not None and run.inputs.dataset_inputs
        if inputs is None or record.run is None or there:
            return
        dataset = Dataset(
            name=record.run.study,
            digest=inputs.corpus_digest[:_DATASET_DIGEST],
            source_type="delta",
            source=json.dumps({"table": "notes", "version": inputs.corpus_version}),
            profile=json.dumps({"notes": inputs.notes, "quarantined": inputs.quarantined}),
        )
        tag = InputTag("mlflow.data.context", "evaluation")
        self._client.log_inputs(run.info.run_id, [DatasetInput(dataset, [tag])])

    def _write_files(self, run: "Run", record: EvaluationRecord) -> None:
        """Upload the files that the run does not have in this form; the tag names those it has."""
        known = json.loads(run.data.tags.get(_FILES_TAG, "{}"))
        made = {name: sha256(content).hexdigest() for name, content in _documents(record).items()}
        wanted = made | {file.name: file.sha256 for file in _files(record)}
        new = {name for name, digest in wanted.items() if known.get(name) != digest}
        if not new:
            return
        contents = _documents(record) | {
            file.name: self._files.get(file) for file in _files(record) if file.name in new
        }
        run_id = run.info.run_id
        with tempfile.TemporaryDirectory() as folder:
            for name in sorted(new):
                path = Path(folder) / name
                path.write_bytes(contents[name])
                self._client.log_artifact(run_id, str(path))
        self._client.set_tag(run_id, _FILES_TAG, json.dumps(known | wanted, sort_keys=True))

    def _write_status(self, run: "Run", record: EvaluationRecord) -> None:
        run_id = run.info.run_id
        if record.state == Status.RUNNING or record.status is None:
            if run.info.status != Status.RUNNING:
                self._client.update_run(run_id, status=Status.RUNNING.value)
        elif run.info.status != record.state.value:
            end = _milliseconds(record.status.at)
            self._client.set_terminated(run_id, record.state.value, end)

    def _write_rows(self, run: "Run", record: EvaluationRecord) -> None:
        """The last thing written: a run without it, or with fewer rows, is not complete."""
        if run.data.tags.get(_ROWS_TAG) != str(record.rows):
            self._client.set_tag(run.info.run_id, _ROWS_TAG, str(record.rows))


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
        if record.provenance.resource:
            files.append(record.provenance.resource)
    return files


def _documents(record: EvaluationRecord) -> dict[str, bytes]:
    """The artifacts that are made here: the context, and MLflow's name → ours where they differ."""
    documents: dict[str, object] = {}
    if record.run:
        documents["healthcare_context.json"] = record.run.context.to_dict()
    slugs = {metric_name(name): name for name in _metrics(record) if metric_name(name) != name}
    if slugs:
        documents["metric_names.json"] = slugs
    return {name: json.dumps(value, indent=2).encode() for name, value in documents.items()}


def _new_metrics(run: "Run", record: EvaluationRecord) -> "Iterator[Metric]":
    from mlflow.entities import Metric

    if record.run is None:
        return
    at = _milliseconds(record.run.started_at)
    for name, value in _metrics(record).items():
        if run.data.metrics.get(metric_name(name)) != value:
            yield Metric(metric_name(name), value, at, 0)


def _params(record: EvaluationRecord) -> dict[str, str]:
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
    return {
        name: shortened(str(value), LONGEST_PARAM)
        for name, value in params.items()
        if value is not None and value != ""
    }


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
        lines.append(_cohort_table(record.run.context.patient_context))
        lines.append(f"[Dagster run]({dagster_url}/runs/{record.run.dagster_run_id})")
    if record.status and record.status.error:
        lines.append(f"Ended by: {record.status.error}")
    return "\n\n".join(lines)


def _cohort_table(patients: PatientContext | None) -> str:
    """The cohort in Markdown; what is not known is left out."""
    if patients is None:
        return "No cohort is described."
    rows = {
        "cohort": patients.cohort,
        "age range": patients.age_range,
        "patients": patients.sample_size,
        "included": "; ".join(patients.inclusion_criteria),
        "excluded": "; ".join(patients.exclusion_criteria),
    }
    shown = [
        f"| {name} | {str(value).replace('|', '/')} |" for name, value in rows.items() if value
    ]
    return "\n".join(["| cohort | |", "|---|---|", *shown])
