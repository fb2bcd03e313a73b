"""Bringing MLflow up to date from a record: idempotent, one run per record.

Only `MlflowClient` and explicit ids are used: no fluent state, no active run, nothing at exit. What
MLflow has already is read first and only the difference is written, so a replay changes nothing.
"""

import io
import json
import tempfile
from collections.abc import Iterator
from datetime import datetime
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

from hc_orchestration.errors import TrackingError
from hc_orchestration.storage.files import FileStore
from hc_orchestration.storage.materializations import MaterializationRecord
from hc_orchestration.storage.records import EvaluationRecord, MlflowPart
from hc_orchestration.tracking.client import (
    MlflowStore,
    creation_lock,
    experiment_id,
    guarded,
    open_client,
)
from hc_orchestration.tracking.evaluation_view import evaluation_view
from hc_orchestration.tracking.materialization_view import materialization_view
from hc_orchestration.tracking.names import metric_name
from hc_orchestration.tracking.run_view import ID_TAGS, RunView, TakenOver

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Run

Record = EvaluationRecord | MaterializationRecord
"""What MLflow can be told of."""

_KIND_TAG = "hc.kind"
_FILES_TAG = "hc.files"
_ERROR_TAGS = ("error.class", "error.message", "error.step")
_PER_NOTE_TAG = "hc.per_note"
_ROWS_TAG = "hc.rows"
_DATASET_DIGEST = 36
_BATCH = 500
_PARAMS_A_BATCH = 100
_RUNS_A_PAGE = 1_000


class MlflowProjection:
    """Writes records into one MLflow store."""

    def __init__(self, store: MlflowStore, files: FileStore, dagster_url: str) -> None:
        """Project into `store`, reading artifacts from `files`; nothing is opened yet."""
        self._store = store
        self._files = files
        self._dagster_url = dagster_url
        self._opened: MlflowClient | None = None
        self._experiments: dict[str, str] = {}

    def project(self, record: Record) -> MlflowPart:
        """Make MLflow say what `record` says.

        Raises:
            TrackingError: MLflow could not be reached or refused; the record is not touched, and
                the next call catches up.
            ValueError: An evaluation without a run part.
        """
        view = self._view(record)
        with self._store.silence.heeded():
            return self._project(view)

    def _project(self, view: RunView) -> MlflowPart:
        experiment = self._experiment(view.experiment)
        run = self._find(experiment, view)
        if run is None:
            with creation_lock(self._store):
                run = self._find(experiment, view)
                run = run or self._create(experiment, view)
        run_id = run.info.run_id
        for write in (
            self._write_values,
            self._write_per_note,
            self._write_dataset,
            self._write_files,
            self._write_status,
            self._write_rows,
        ):
            guarded(partial(write, run, view))
        return MlflowPart(run_id=run_id, url=self._url(experiment, run_id), rows=view.rows)

    def rows_shown(self, experiment_name: str) -> dict[str, int]:
        """Id of a record → rows of it that MLflow shows completely, in an experiment.

        Raises:
            TrackingError: MLflow could not be reached.
        """
        found: dict[str, int] = {}
        with self._store.silence.heeded():
            experiment = self._experiment(experiment_name)
            for kind, id_tag in ID_TAGS.items():
                for run in self._runs_of_kind(experiment, kind):
                    rows = run.data.tags.get(_ROWS_TAG, "")
                    found[run.data.tags.get(id_tag, "")] = int(rows) if rows.isdigit() else 0
        return found

    def ask_at_once(self) -> None:
        """Ask the server even if it was silent lately."""
        self._store.silence.forget()

    def _runs_of_kind(self, experiment: str, kind: str) -> "Iterator[Run]":
        token: str | None = None
        while True:
            page = guarded(
                partial(
                    self._client.search_runs,
                    [experiment],
                    f"tags.`{_KIND_TAG}` = '{kind}'",
                    max_results=_RUNS_A_PAGE,
                    page_token=token,
                )
            )
            yield from page
            token = page.token
            if not token:
                return

    def _view(self, record: Record) -> RunView:
        if isinstance(record, EvaluationRecord):
            return evaluation_view(record, self._dagster_url)
        return materialization_view(record, self._dagster_url)

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

    def _find(self, experiment: str, view: RunView) -> "Run | None":
        """The oldest run of a record; whoever sees a younger one beside it deletes that."""
        where = f"tags.`{view.id_tag}` = '{view.identity}'"
        runs = sorted(guarded(lambda: self._client.search_runs([experiment], where)), key=_age)
        for younger in runs[1:]:
            guarded(partial(self._client.delete_run, younger.info.run_id))
        return runs[0] if runs else None

    def _create(self, experiment: str, view: RunView) -> "Run":
        """Create, then look again: writers on other machines do not see our lock."""
        ours = {view.id_tag: view.identity, _KIND_TAG: view.kind}
        adopted = self._unclaimed(experiment, view.taken_over)
        if adopted is not None:
            for name, value in {**ours, "mlflow.runName": view.name}.items():
                guarded(partial(self._client.set_tag, adopted.info.run_id, name, value))
            return guarded(partial(self._client.get_run, adopted.info.run_id))
        created = guarded(
            lambda: self._client.create_run(
                experiment,
                start_time=_milliseconds(view.started_at),
                run_name=view.name,
                tags=ours,
            )
        )
        return self._find(experiment, view) or created

    def _unclaimed(self, experiment: str, wanted: TakenOver | None) -> "Run | None":
        """A run that is there for this record and that shows nothing of ours yet.

        Raises:
            TrackingError: The run that the deployment names shows another record already.
        """
        if wanted is None:
            return None
        if (named := wanted.run_id) is not None:
            run = guarded(partial(self._client.get_run, named))
            if _claimed(run):
                message = (
                    f"mlflow_run_id {named} shows another evaluation already. Leave it out of the "
                    "configuration: each evaluation then gets a run of its own."
                )
                raise TrackingError(message)
            return run
        where = f"tags.dagster_run_id = '{wanted.dagster_run_id}'"
        runs = guarded(lambda: self._client.search_runs([experiment], where))
        free = [run for run in runs if not _claimed(run)]
        return min(free, key=_age, default=None)

    def _write_values(self, run: "Run", view: RunView) -> None:
        from mlflow.entities import Param, RunTag

        run_id = run.info.run_id
        there = run.data.params
        params = [Param(k, v) for k, v in view.params.items() if k not in there]
        changed = {f"param.{k}": v for k, v in view.params.items() if there.get(k, v) != v}
        wanted = {**view.tags, **changed}
        tags = [RunTag(k, v) for k, v in wanted.items() if run.data.tags.get(k) != v]
        self._client.log_batch(run_id, tags=tags)
        for name in (name for name in _ERROR_TAGS if name in run.data.tags and name not in wanted):
            self._client.delete_tag(run_id, name)
        for start in range(0, len(params), _PARAMS_A_BATCH):
            self._client.log_batch(run_id, params=params[start : start + _PARAMS_A_BATCH])
        self._log_metrics(run_id, list(_new_metrics(run, view)))

    def _log_metrics(self, run_id: str, metrics: "list[Metric]") -> None:
        for start in range(0, len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _write_per_note(self, run: "Run", view: RunView) -> None:
        """The first notes' counts by step, once: the tag is set when all of them are there."""
        import polars as pl
        from mlflow.entities import Metric

        steps = view.per_note
        if steps is None or run.data.tags.get(_PER_NOTE_TAG) == steps.file.sha256:
            return
        at = _milliseconds(view.started_at)
        table = pl.read_parquet(io.BytesIO(self._files.get(steps.file))).head(steps.steps)
        rows = enumerate(table.select("entities", "text_length").iter_rows())
        metrics = [
            Metric(name, value, at, step)
            for step, row in rows
            for name, value in zip(("doc_entity_count", "doc_text_length"), row, strict=True)
            if value is not None  # the row of a note that was purged
        ]
        self._log_metrics(run.info.run_id, metrics)
        self._client.set_tag(run.info.run_id, _PER_NOTE_TAG, steps.file.sha256)

    def _write_dataset(self, run: "Run", view: RunView) -> None:
        """The corpus in MLflow's Datasets column."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        corpus = view.corpus
        if corpus is None or (run.inputs is not None and run.inputs.dataset_inputs):
            return
        dataset = Dataset(
            name=corpus.name,
            digest=corpus.digest[:_DATASET_DIGEST],
            source_type="delta",
            source=json.dumps({"table": "notes", "version": corpus.version}),
            profile=json.dumps({"notes": corpus.notes, "quarantined": corpus.quarantined}),
        )
        tag = InputTag("mlflow.data.context", view.kind)
        self._client.log_inputs(run.info.run_id, [DatasetInput(dataset, [tag])])

    def _write_files(self, run: "Run", view: RunView) -> None:
        """Upload the files that the run does not have in this form; the tag names those it has."""
        known = json.loads(run.data.tags.get(_FILES_TAG, "{}"))
        contents = _documents(view)
        wanted = {name: sha256(content).hexdigest() for name, content in contents.items()}
        wanted |= {file.name: file.sha256 for file in view.files}
        new = {name for name, digest in wanted.items() if known.get(name) != digest}
        if not new:
            return
        contents |= {file.name: self._files.get(file) for file in view.files if file.name in new}
        run_id = run.info.run_id
        with tempfile.TemporaryDirectory() as folder:
            for name in sorted(new):
                path = Path(folder) / name
                path.write_bytes(contents[name])
                self._client.log_artifact(run_id, str(path))
        self._client.set_tag(run_id, _FILES_TAG, json.dumps(known | wanted, sort_keys=True))

    def _write_status(self, run: "Run", view: RunView) -> None:
        if run.info.status == view.status:
            return
        if view.ended_at is None:
            self._client.update_run(run.info.run_id, status=view.status.value)
        else:
            end = _milliseconds(view.ended_at)
            self._client.set_terminated(run.info.run_id, view.status.value, end)

    def _write_rows(self, run: "Run", view: RunView) -> None:
        """The last thing written: a run without it, or with fewer rows, is not complete."""
        if run.data.tags.get(_ROWS_TAG) != str(view.rows):
            self._client.set_tag(run.info.run_id, _ROWS_TAG, str(view.rows))


def _claimed(run: "Run") -> bool:
    """Whether a run shows something of ours already."""
    return not {_KIND_TAG, *ID_TAGS.values()}.isdisjoint(run.data.tags)


def _age(run: "Run") -> tuple[int, str]:
    return run.info.start_time or 0, run.info.run_id


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _documents(view: RunView) -> dict[str, bytes]:
    """The artifacts that are made here; MLflow's name → ours where they differ among them."""
    documents = dict(view.documents)
    slugs = {metric_name(name): name for name in view.metrics if metric_name(name) != name}
    if slugs:
        documents["metric_names.json"] = json.dumps(slugs, indent=2).encode()
    return documents


def _new_metrics(run: "Run", view: RunView) -> "Iterator[Metric]":
    from mlflow.entities import Metric

    at = _milliseconds(view.started_at)
    for name, value in view.metrics.items():
        if run.data.metrics.get(metric_name(name)) != value:
            yield Metric(metric_name(name), value, at, 0)
