"""The frame of one step of an evaluation: record first, MLflow after it, failures told truly."""

import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import dagster as dg

from hc_orchestration.errors import BusyStorageError, EvaluationError, TrackingError
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource

if TYPE_CHECKING:
    from hc_orchestration.models.catalogue import ModelEntry
    from hc_orchestration.storage.records import (
        EvaluationRecord,
        InputsPart,
        MlflowPart,
        RecordPart,
        Records,
        RunPart,
        Status,
    )
    from hc_orchestration.storage.workspace import Workspace

Context = dg.AssetExecutionContext | dg.AssetCheckExecutionContext

_NAMESPACE = uuid.UUID("0d5c4f0e-6c0b-5d0e-9b9c-6a3d1b6f5a11")
_TRANSIENT = (BusyStorageError, ConnectionError, TimeoutError)
_RETRIES = 2
_RETRY_AFTER_S = 5
_SOFTWARE = ("hc-orchestration", "dagster", "mlflow", "spacy", "python")


def evaluation_id(root_run_id: str, model_key: str) -> str:
    """The id of the evaluation that a Dagster run began, whichever run ends it."""
    return str(uuid.uuid5(_NAMESPACE, f"{root_run_id}/{model_key}"))


def evaluation_id_of_run(
    records: "Records", instance: dg.DagsterInstance, run: dg.DagsterRun, model_key: str
) -> str:
    """The id of the evaluation that a run works on.

    A re-execution goes on with the evaluation that the run it repeats worked on, unless another
    run has finished that: then it is an evaluation of its own. All steps of a run get the same
    answer.
    """
    from hc_orchestration.storage.records import Status

    own = evaluation_id(run.run_id, model_key)
    if run.root_run_id in (None, run.run_id) or records.read(own) is not None:
        return own
    begun_by = _ancestors(instance, run)
    ids = [evaluation_id(run_id, model_key) for run_id in begun_by]
    records_of = ((identity, records.read(identity)) for identity in ids)
    found = next(((identity, record) for identity, record in records_of if record), None)
    if found is None:
        return ids[-1]
    identity, record = found
    if record.run is None or record.state is not Status.FINISHED:
        return identity
    return identity if record.run.dagster_run_id == run.run_id else own


def _ancestors(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """The ids of the runs that a run repeats, the nearest first and the root last."""
    ids: list[str] = []
    parent = run.parent_run_id
    while parent is not None and parent != run.root_run_id:
        ids.append(parent)
        before = instance.get_run_by_id(parent)
        parent = before.parent_run_id if before else None
    return [*ids, run.root_run_id or run.run_id]


class EvaluationStep:
    """One asset or check of one evaluation while it runs."""

    def __init__(self, context: Context, workspace: "Workspace", mlflow: MlflowResource) -> None:
        """Begin a step; use `evaluation_step`, which also ends it when it fails."""
        self.context = context
        self.workspace = workspace
        self.key: str = context.partition_key
        self.step = str(context.op_execution_context.op_handle)
        run = context.run
        self.run_id = run.run_id
        self.evaluation_id = evaluation_id_of_run(
            workspace.records, context.instance, run, self.key
        )
        self._projection = mlflow.projection(workspace)
        self._shown_in = mlflow.shown_in()
        self.begun = datetime.now(UTC)

    @property
    def entry(self) -> "ModelEntry":
        """The catalogue entry of this partition."""
        return self.workspace.catalogue.entry(self.key)

    @property
    def record(self) -> "EvaluationRecord":
        """The evaluation's record as it is now."""
        return self.workspace.records.required(self.evaluation_id)

    def inputs(self) -> "InputsPart":
        """The pinned inputs: this evaluation's, else those of the model's last extraction.

        Raises:
            EvaluationError: Nothing was ever extracted for this model.
        """
        record = self.record
        if record.inputs is not None:
            return record.inputs
        for earlier in self.workspace.records.of_model(self.key):
            if earlier.inputs is not None and earlier.extraction is not None:
                return earlier.inputs
        message = f"model {self.key} has no extracted entities. Materialize extracted_entities."
        raise EvaluationError(message)

    def extraction_record(self) -> "EvaluationRecord":
        """The record that holds the extraction which the pinned inputs belong to."""
        return self.workspace.records.required(self.inputs().pinned_by)

    def begin(self) -> None:
        """Write that this run evaluates this model: once a run, again when a step is retried."""
        from hc_orchestration.storage.records import Status, StatusPart

        record = self.workspace.records.read(self.evaluation_id)
        run = record.run if record else None
        if record and run and run.dagster_run_id == self.run_id:
            failed = record.status.failed_step if record.status else None
            retried = self.context.retry_number > 0
            if failed not in (None, self.step) or not (retried or failed):
                return
            if record.state is Status.FINISHED:  # it failed after it had said that it is done
                return
        started = run.started_at if run else self.begun
        running = StatusPart(status=Status.RUNNING, at=self.begun)
        self._append(self._run_part(started), running)

    def finish(self, *parts: "RecordPart") -> "MlflowPart | None":
        """Record what this step made, and tell MLflow."""
        self._done(*parts)
        return self._project()

    def _done(self, *parts: "RecordPart") -> bool:
        """Record that this step is done; returns whether that finished the evaluation."""
        from hc_orchestration.storage.records import Status, StatusPart

        left = [step for step in self.record.remaining if step != self.step]
        closing = [] if left else [StatusPart(status=Status.FINISHED, at=datetime.now(UTC))]
        self._append(*parts, *closing, done=(self.step,))
        return not left

    def fail(self, status: "Status", error_class: str, message: str | None) -> None:
        """Record that the evaluation ended here, and why, in words that are safe to show.

        What goes wrong meanwhile is logged by its class only: it must not hide what ended the
        step. A record that stays open is closed with its Dagster run.
        """
        from hc_orchestration.storage.records import StatusPart

        part = StatusPart(
            status=status,
            error_class=error_class,
            error=message,
            failed_step=self.step,
            at=datetime.now(UTC),
        )
        try:
            record = self.workspace.records.read(self.evaluation_id)
            run = record.run if record else None
            begun = run is not None and run.dagster_run_id == self.run_id
            missing = () if begun else (self._run_part(run.started_at if run else self.begun),)
            self._append(*missing, part)
            self._project()
        except Exception as error:  # noqa: BLE001
            self.context.log.warning(
                "The end of the step was not told everywhere: %s.", type(error).__name__
            )

    def materialized(
        self,
        *parts: "RecordPart",
        metadata: Mapping[str, Any],
        data_version: str,
    ) -> dg.MaterializeResult[None]:
        """Finish the step and say so to Dagster, with a link to the MLflow run."""
        shown = self.finish(*parts)
        links: dict[str, Any] = {"evaluation_id": self.evaluation_id}
        if shown is not None:
            links |= {
                "mlflow_run_id": shown.run_id,
                "mlflow_run": dg.MetadataValue.url(shown.url),
            }
        return dg.MaterializeResult(
            metadata={**metadata, **links}, data_version=dg.DataVersion(data_version)
        )

    def checked(
        self,
        *,
        passed: bool,
        description: str,
        metadata: Mapping[str, Any],
        name: str | None = None,
    ) -> dg.AssetCheckResult:
        """Finish a check that blocks; a failed one ends the evaluation, as no asset would.

        `name` is that of the check, where a step has several.
        """
        from hc_orchestration.storage.records import Status

        if not passed:
            self.fail(Status.FAILED, "AssetCheckFailed", f"{self.step}: {description}")
        elif self._done():
            self._project()
        return dg.AssetCheckResult(
            check_name=name, passed=passed, description=description, metadata=dict(metadata)
        )

    def told_mlflow(self) -> dg.AssetCheckResult:
        """After all else: warn when MLflow lacks what the record says; it changes no result."""
        from hc_orchestration.storage.records import Status

        if self.record.state is Status.RUNNING:  # else it was told of the end already
            self._project()
        complete = self.record.projected
        return dg.AssetCheckResult(
            check_name="mlflow_up_to_date",
            passed=complete,
            severity=dg.AssetCheckSeverity.WARN,
            description=(
                "MLflow shows the whole record"
                if complete
                else "MLflow lacks part of the record; `hc mlflow sync` or the sensor catches up"
            ),
        )

    def _append(self, *parts: "RecordPart", done: tuple[str, ...] = ()) -> None:
        self.workspace.records.append(self.evaluation_id, self.key, *parts, done=done)

    def _project(self) -> "MlflowPart | None":
        record = self.record
        try:
            shown = self._projection.project(record)
        except TrackingError as error:
            self.context.log.warning("%s The record is kept; MLflow lacks this step.", error)
            return None
        if shown != record.mlflow:
            self._append(shown)
        return shown

    def _run_part(self, started: datetime) -> "RunPart":
        from hc_orchestration.storage.records import RunPart

        run = self.context.run
        entry = self.entry
        return RunPart(
            dagster_run_id=run.run_id,
            root_run_id=run.root_run_id or run.run_id,
            job=run.job_name,
            partition_key=self.key,
            attempt=self.context.retry_number + 1,
            backfill_id=run.tags.get("dagster/backfill"),
            planned=self._planned(),
            process=ProcessIdentity.current(),
            study=self.workspace.study.name,
            software=software_versions(),
            context=self.workspace.study.context.for_model(entry.name, entry.version),
            started_at=started,
            shown_in=self._shown_in,
        )

    def _planned(self) -> tuple[str, ...]:
        """The steps of the chain that this run executes, checks among them, in order."""
        from hc_orchestration.storage.records import CHAIN, CHECK_STEPS

        run = self.context.run
        steps = run.step_keys_to_execute
        if steps is None and run.execution_plan_snapshot_id:
            plan = self.context.instance.get_execution_plan_snapshot(run.execution_plan_snapshot_id)
            steps = plan.step_keys_to_execute
        ours = (*CHAIN, *CHECK_STEPS)
        return tuple(step for step in steps or (self.step,) if step in ours)


@contextmanager
def evaluation_step(
    context: Context, workspace: WorkspaceResource, mlflow: MlflowResource
) -> Iterator[EvaluationStep]:
    """Run one step of an evaluation; whatever ends it early is recorded before it goes on.

    A step that failed by something that passes (a busy table, a lost connection) is tried again.

    Raises:
        dg.RetryRequested: It is to be tried again.
        HcError: As the step raised it, if its words hold no identifier.
        dg.Failure: In place of any other exception, with its words redacted or, where they might
            quote a note, withheld.
    """
    from hc_orchestration.healthcare.guard import redacted_error
    from hc_orchestration.storage.records import Status

    step = EvaluationStep(context, workspace.open(), mlflow)
    try:
        step.begin()
        yield step
    except dg.RetryRequested as asked:
        # Not over while there are attempts left: the next one goes on with the same record.
        if context.retry_number >= asked.max_retries:
            step.fail(Status.FAILED, "RetryRequested", "no attempt is left")
        raise
    except Exception as error:
        if isinstance(error, _TRANSIENT) and context.retry_number < _RETRIES:
            context.log.warning("%s; the step is tried again.", type(error).__name__)
            raise dg.RetryRequested(_RETRIES, seconds_to_wait=_RETRY_AFTER_S) from None
        message = redacted_error(error)
        step.fail(Status.FAILED, type(error).__name__, message)
        if message == str(error):
            raise
        raise dg.Failure(message) from None
    except BaseException as error:
        step.fail(Status.KILLED, type(error).__name__, "stopped before the step had finished")
        raise


def software_versions() -> dict[str, str]:
    """Versions of the programs that take part in an evaluation, this package first."""
    import platform

    versions: dict[str, str] = {}
    for name in _SOFTWARE:
        if name == "python":
            versions[name] = platform.python_version()
            continue
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions
