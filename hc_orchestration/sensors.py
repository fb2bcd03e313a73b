"""What follows a nightly corpus refresh or a new model; and what keeps records and MLflow true.

The sensors that only close, synchronise and alert run from the start: they ask for no work, they
tell the truth. Those that start evaluations are off until somebody switches them on.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import dagster as dg

from hc_orchestration.jobs import (
    COMPARE_MODELS,
    EVALUATE_MODEL,
    REFRESH_CORPUS,
    compare_models,
    evaluate_model,
    refresh_corpus,
)
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.store import absence
from hc_orchestration.schedules import NIGHTLY, NIGHTLY_TAG, last_tick
from hc_orchestration.settings import Settings
from hc_orchestration.study import Study

if TYPE_CHECKING:
    from hc_orchestration.reporting.alerts import Alert

_SYNC_EVERY_S = 60
_PARTITION = "dagster/partition"
_OPEN = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)
_ALERT_EVERY_S = 60


def evaluation_sensor(settings: Settings) -> dg.SensorDefinition:
    """Request the evaluations after a nightly refresh; run keys hold the tick, so once a night."""
    known = load_catalogue(settings.catalogue).keys

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
        present = [key for key in _present(settings) if key in known]
        for key in present:
            yield dg.RunRequest(
                run_key=f"{tick}/{key}", partition_key=key, tags={NIGHTLY_TAG: tick}
            )
        absent = [key for key in load_catalogue(settings.catalogue).keys if key not in present]
        if absent:
            context.log.info("not installed, so not evaluated: %s", ", ".join(absent))

    return evaluate_after_corpus


def new_model_sensor(settings: Settings) -> dg.SensorDefinition:
    """Request one evaluation of a model that was never begun; run keys see that it is only one.

    Those of its partitions that the location does not know yet wait for its reload.
    """
    known = load_catalogue(settings.catalogue).keys

    @dg.sensor(
        name="evaluate_new_models",
        job=evaluate_model,
        minimum_interval_seconds=60,
        description="Evaluate each model that is new in the catalogue, or newly installed, once.",
    )
    def evaluate_new_models(
        context: dg.SensorEvaluationContext,
    ) -> Iterator[dg.RunRequest | dg.SkipReason]:
        instance = context.instance
        if instance.get_latest_materialization_event(dg.AssetKey("notes_corpus")) is None:
            yield dg.SkipReason("no corpus is stored yet")
            return
        begun = instance.get_materialized_partitions(dg.AssetKey("model_files"))
        begun |= _open_partitions(instance)
        new = [key for key in _present(settings) if key in known and key not in begun]
        for key in new:
            yield dg.RunRequest(run_key=f"new/{key}", partition_key=key)
        if not new:
            yield dg.SkipReason("every model whose files are here was evaluated before")

    return evaluate_new_models


def comparison_sensor(settings: Settings) -> dg.SensorDefinition:
    """Request the comparison once the evaluations of a night, or those by hand, are over.

    A model that failed keeps nobody from being compared.
    """

    @dg.sensor(
        name="compare_after_evaluations",
        job=compare_models,
        minimum_interval_seconds=30,
        description="Compare the models after the evaluations of a night, or after any new one.",
    )
    def compare_after_evaluations(
        context: dg.SensorEvaluationContext,
    ) -> dg.RunRequest | dg.SkipReason:
        return _after_night(context.instance, settings) or _after_others(context.instance)

    return compare_after_evaluations


def _after_night(
    instance: dg.DagsterInstance, settings: Settings
) -> dg.RunRequest | dg.SkipReason | None:
    """What the newest night asks for; None when there was none, or its comparison was made."""
    refreshed = instance.get_runs(dg.RunsFilter(job_name=REFRESH_CORPUS), limit=50)
    tick = next((run.tags[NIGHTLY_TAG] for run in refreshed if NIGHTLY_TAG in run.tags), None)
    if tick is None:
        return None
    of_night = {NIGHTLY_TAG: tick}
    if instance.get_runs(dg.RunsFilter(job_name=COMPARE_MODELS, tags=of_night), limit=1):
        return None
    runs = instance.get_runs(dg.RunsFilter(job_name=EVALUATE_MODEL, tags=of_night))
    awaited = len(_present(settings))
    if len({run.tags.get(_PARTITION) for run in runs}) < awaited:
        return dg.SkipReason(f"{len(runs)} of {awaited} evaluations of {tick} have begun")
    if not all(run.is_finished for run in runs):
        return dg.SkipReason(f"evaluations of {tick} are still running")
    return dg.RunRequest(run_key=f"{tick}/comparison", tags=of_night)


def _after_others(instance: dg.DagsterInstance) -> dg.RunRequest | dg.SkipReason:
    """Whether scores came since the last comparison and no evaluation is queued or running."""
    scored = _newest(instance, "evaluation_metrics")
    compared = _newest(instance, "model_comparison")
    if scored is None or (compared is not None and compared.timestamp > scored.timestamp):
        return dg.SkipReason("nothing was evaluated since the last comparison")
    if running := sorted(_open_partitions(instance)):
        return dg.SkipReason(f"evaluations are still running: {', '.join(running)}")
    comparing = dg.RunsFilter(job_name=COMPARE_MODELS, statuses=list(_OPEN))
    if instance.get_runs(comparing, limit=1):
        return dg.SkipReason("a comparison is still running")
    return dg.RunRequest(run_key=f"after/{scored.storage_id}")


def _newest(instance: dg.DagsterInstance, asset: str) -> dg.EventLogRecord | None:
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    return records[0] if records else None


def _open_partitions(instance: dg.DagsterInstance) -> set[str]:
    """The models that a run evaluates, or will when it leaves the queue."""
    runs = instance.get_runs(dg.RunsFilter(statuses=list(_OPEN)))
    return {run.tags[_PARTITION] for run in runs if _PARTITION in run.tags}


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

    @dg.sensor(
        name="close_dead_runs",
        minimum_interval_seconds=30,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Reports runs of this machine whose process is gone, so that they are retried.",
    )
    def close_dead(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from hc_orchestration.resources.closing import dead_runs

        dead = dead_runs(context.instance)
        for each in dead:
            run = context.instance.get_run_by_id(each.run_id)
            if run is not None and not run.is_finished:
                context.instance.report_run_failed(run, f"process {each.pid} is gone")
        return dg.SkipReason(f"{len(dead)} runs had lost their process")

    return [close_failed, close_canceled, close_dead]


def mlflow_sync_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tell MLflow what it lacks, once it is back; each record exactly once."""

    @dg.sensor(
        name="mlflow_sync",
        minimum_interval_seconds=_SYNC_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Brings MLflow up to date from the records after it was away.",
    )
    def mlflow_sync(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from hc_orchestration.resources.workspace import mlflow_projection, promotion_projection
        from hc_orchestration.storage.workspace import Workspace
        from hc_orchestration.tracking.registry import synchronize_promotions
        from hc_orchestration.tracking.sync import lacking, synchronize

        workspace = Workspace(settings)
        if not lacking(workspace) and not workspace.promotions.unshown():
            return dg.SkipReason("MLflow shows every record")
        projection = mlflow_projection(settings.tracking_uri, workspace)
        report = synchronize(workspace, projection, ask_mlflow=False)
        for untold in report.failed:
            context.log.warning("%s %s: %s", untold.kind, untold.identity, untold.reason)
        registry = promotion_projection(settings.tracking_uri, workspace)
        promoted, failed = synchronize_promotions(workspace.promotions, registry, ask_mlflow=False)
        for promotion, reason in failed:
            context.log.warning("promotion %s: %s", promotion, reason)
        told = f"told MLflow of {len(report.projected)} records"
        return dg.SkipReason(f"{told} and {len(promoted)} promotions" if promoted else told)

    return mlflow_sync


def alert_sensor(settings: Settings) -> dg.SensorDefinition:
    """Tell the webhook and the log of what somebody should know, each once."""

    @dg.sensor(
        name="alerts",
        minimum_interval_seconds=_ALERT_EVERY_S,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=(
            "Sends failed gates, a beaten champion and missing nightly evaluations to the study's "
            "webhook and to the log."
        ),
    )
    def alerts(context: dg.SensorEvaluationContext) -> dg.SkipReason:
        from hc_orchestration.reporting.alerts import alerts_since
        from hc_orchestration.resources.alerting import AlertCursor, deliverer, send_new
        from hc_orchestration.storage.workspace import Workspace

        workspace = Workspace(settings)
        now = datetime.now(UTC)
        cursor = AlertCursor.read(context.cursor, now)
        found = alerts_since(workspace, cursor.since)
        found += missing_alerts(context.instance, settings, workspace.study, now)
        after = send_new(found, cursor, deliverer(workspace), context.log)
        context.update_cursor(after.write())
        new, waiting = len(after.sent - cursor.sent), len(found) - len(after.sent)
        return dg.SkipReason(f"sent {new} alerts; {waiting} wait for the next tick")

    return alerts


def missing_alerts(
    instance: dg.DagsterInstance, settings: Settings, study: Study, now: datetime
) -> "list[Alert]":
    """The present models that the last night, if it is long enough ago, brought no evaluation of.

    Nights before the schedule was switched on do not count.
    """
    from hc_orchestration.reporting.alerts import missing_evaluation

    began = [
        state.instigator_data.start_timestamp  # type: ignore[union-attr]
        for state in instance.all_instigator_state()
        if state.name == NIGHTLY and state.is_running
    ]
    awaited = timedelta(hours=study.alerts.missing_after_hours)
    tick = last_tick(study.schedule, now - awaited)
    if not began or tick.timestamp() < (began[0] or 0.0):
        return []
    finished = {
        run.tags.get("dagster/partition")
        for run in instance.get_runs(
            dg.RunsFilter(
                job_name=EVALUATE_MODEL,
                statuses=[dg.DagsterRunStatus.SUCCESS],
                created_after=tick - timedelta(minutes=1),
            )
        )
        if _night(run) == tick
    }
    missing = (key for key in _present(settings) if key not in finished)
    return [missing_evaluation(key, tick, tick + awaited) for key in missing]


def _night(run: dg.DagsterRun) -> datetime | None:
    """The tick of the schedule that a run follows."""
    try:
        return datetime.fromisoformat(run.tags.get(NIGHTLY_TAG, ""))
    except ValueError:
        return None


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
