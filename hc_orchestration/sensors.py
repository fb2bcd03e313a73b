"""What follows a nightly corpus refresh; and what keeps records and MLflow true.

The sensors that only close and synchronise run from the start: they ask for no work, they tell the
truth. Those that start evaluations are off until somebody switches them on.
"""

from collections.abc import Iterator

import dagster as dg

from hc_orchestration.jobs import (
    EVALUATE_MODEL,
    REFRESH_CORPUS,
    compare_models,
    evaluate_model,
    refresh_corpus,
)
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
        present = _present(settings)
        for key in present:
            yield dg.RunRequest(
                run_key=f"{tick}/{key}", partition_key=key, tags={NIGHTLY_TAG: tick}
            )
        absent = [key for key in load_catalogue(settings.catalogue).keys if key not in present]
        if absent:
            context.log.info("not installed, so not evaluated: %s", ", ".join(absent))

    return evaluate_after_corpus


def comparison_sensor(settings: Settings) -> dg.SensorDefinition:
    """Request the comparison once all evaluations of the newest night are over, failed or not."""

    @dg.sensor(
        name="compare_after_evaluations",
        job=compare_models,
        minimum_interval_seconds=30,
        description="After the evaluations of a night, compare the models.",
    )
    def compare_after_evaluations(
        context: dg.SensorEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        refreshed = context.instance.get_runs(dg.RunsFilter(job_name=REFRESH_CORPUS), limit=50)
        ticks = [run.tags[NIGHTLY_TAG] for run in refreshed if NIGHTLY_TAG in run.tags]
        if not ticks:
            return dg.SkipReason("there was no nightly refresh yet")
        tick = ticks[0]
        of_the_night = dg.RunsFilter(job_name=EVALUATE_MODEL, tags={NIGHTLY_TAG: tick})
        runs = context.instance.get_runs(of_the_night)
        awaited = len(_present(settings))
        if len({run.tags.get("dagster/partition") for run in runs}) < awaited:
            return dg.SkipReason(f"{len(runs)} of {awaited} evaluations of {tick} have begun")
        if not all(run.is_finished for run in runs):
            return dg.SkipReason(f"evaluations of {tick} are still running")
        return dg.RunRequest(run_key=f"{tick}/comparison", tags={NIGHTLY_TAG: tick})

    return compare_after_evaluations


def _present(settings: Settings) -> list[str]:
    """The keys of the models whose files are here."""
    catalogue = load_catalogue(settings.catalogue)
    return [e.key for e in catalogue.models if absence(e, settings.model_store) is None]


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
        description="Brings MLflow up to date from the records after it was away.",
    )
    def mlflow_sync(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from hc_orchestration.resources.workspace import mlflow_projection
        from hc_orchestration.storage.workspace import Workspace
        from hc_orchestration.tracking.sync import lacking, synchronize

        workspace = Workspace(settings)
        if not lacking(workspace):
            return dg.SkipReason("MLflow shows every record")
        projection = mlflow_projection(settings.tracking_uri, workspace)
        report = synchronize(workspace, projection, ask_mlflow=False)
        for untold in report.failed:
            context.log.warning("%s %s: %s", untold.kind, untold.identity, untold.reason)
        return dg.SkipReason(f"told MLflow of {len(report.projected)} records")

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
