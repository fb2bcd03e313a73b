"""What follows a nightly corpus refresh; and what keeps records and MLflow true.

The sensors that only close and synchronise run from the start: they ask for no work, they tell the
truth. Those that start evaluations are off until somebody switches them on.
"""

from collections.abc import Iterator

import dagster as dg

from hc_orchestration.jobs import evaluate_model, refresh_corpus
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.store import absence
from hc_orchestration.schedules import NIGHTLY_TAG
from hc_orchestration.settings import Settings

_SYNC_EVERY_S = 60


def evaluation_sensor(settings: Settings) -> dg.SensorDefinition:
    """Request the evaluations after a nightly refresh; run keys hold the tick, so once a night."""

    @dg.run_status_sensor(
        name="evaluate_after_corpus",
        run_status=dg.DagsterRunStatus.SUCCESS,
        monitored_jobs=[refresh_corpus],
        request_job=evaluate_model,
        description="After a nightly corpus refresh, evaluate each model whose files are here.",
    )
    def evaluate_after_corpus(
        context: dg.RunStatusSensorContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        tick = context.dagster_run.tags.get(NIGHTLY_TAG)
        if tick is None:
            yield dg.SkipReason("not a nightly refresh")
            return
        absent = []
        for entry in load_catalogue(settings.catalogue).models:
            if absence(entry, settings.model_store) is not None:
                absent.append(entry.key)
                continue
            yield dg.RunRequest(
                run_key=f"{tick}/{entry.key}", partition_key=entry.key, tags={NIGHTLY_TAG: tick}
            )
        if absent:
            context.log.info("not installed, so not evaluated: %s", ", ".join(absent))

    return evaluate_after_corpus


def closing_sensors(settings: Settings) -> list[dg.SensorDefinition]:
    """Close the evaluation of a Dagster run that failed or was terminated without doing so.

    They watch all code locations: otherwise they would not see runs made in the process of `hc`.
    """

    @dg.run_status_sensor(
        name="close_failed_evaluation",
        run_status=dg.DagsterRunStatus.FAILURE,
        monitor_all_code_locations=True,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes record and MLflow run when the process of a Dagster run died.",
    )
    def close_failed(context: dg.RunStatusSensorContext) -> None:
        _close(settings, context.dagster_run)

    @dg.run_status_sensor(
        name="close_canceled_evaluation",
        run_status=dg.DagsterRunStatus.CANCELED,
        monitor_all_code_locations=True,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Closes record and MLflow run of a terminated Dagster run.",
    )
    def close_canceled(context: dg.RunStatusSensorContext) -> None:
        _close(settings, context.dagster_run)

    return [close_failed, close_canceled]


def mlflow_sync_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tell MLflow what it lacks, once it is back; each record exactly once."""

    @dg.sensor(
        name="mlflow_sync",
        minimum_interval_seconds=_SYNC_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Brings MLflow up to date from the evaluation records after it was away.",
    )
    def mlflow_sync(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from hc_orchestration.resources.workspace import mlflow_projection
        from hc_orchestration.storage.workspace import Workspace
        from hc_orchestration.tracking.sync import lacking, synchronize

        workspace = Workspace(settings)
        if not lacking(workspace.records):
            return dg.SkipReason("MLflow shows every record")
        projection = mlflow_projection(settings.tracking_uri, workspace)
        report = synchronize(workspace.records, projection, ask_mlflow=False)
        for evaluation, reason in report.failed:
            context.log.warning("evaluation %s: %s", evaluation, reason)
        return dg.SkipReason(f"told MLflow of {len(report.projected)} evaluations")

    return mlflow_sync


def _close(settings: Settings, run: dg.DagsterRun) -> None:
    from hc_orchestration.resources.closing import close_evaluation, evaluation_of_run
    from hc_orchestration.resources.workspace import mlflow_projection
    from hc_orchestration.storage.records import Status
    from hc_orchestration.storage.workspace import Workspace

    workspace = Workspace(settings)
    record = evaluation_of_run(workspace.records, run)
    if record is None:
        return
    canceled = run.status is dg.DagsterRunStatus.CANCELED
    status = Status.KILLED if canceled else Status.FAILED
    projection = mlflow_projection(settings.tracking_uri, workspace)
    close_evaluation(workspace.records, projection, record, status)
