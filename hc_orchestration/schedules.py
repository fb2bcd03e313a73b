"""The nightly schedule; off until somebody switches it on in the UI."""

from datetime import datetime, timedelta

import dagster as dg

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.jobs import refresh_corpus
from hc_orchestration.study import Schedule

NIGHTLY = "nightly"
NIGHTLY_TAG = "hc.nightly"


def nightly_schedule(schedule: Schedule) -> dg.ScheduleDefinition:
    """Refresh the corpus at the study's hour; the sensor goes on from there.

    The time zone is the study's, never that of the machine.

    Raises:
        ConfigurationError: The study's cron expression is none.
    """

    def nightly(context: dg.ScheduleEvaluationContext) -> dg.RunRequest:
        tick = context.scheduled_execution_time.isoformat()
        return dg.RunRequest(run_key=tick, tags={NIGHTLY_TAG: tick})

    try:
        return dg.schedule(
            name=NIGHTLY,
            job=refresh_corpus,
            cron_schedule=schedule.cron,
            execution_timezone=schedule.timezone,
            description="Refresh the corpus; then `evaluate_after_corpus` evaluates the models.",
        )(nightly)
    except dg.DagsterInvalidDefinitionError:
        message = f"study: schedule.cron {schedule.cron!r} is not a cron expression of five fields."
        raise ConfigurationError(message) from None


def last_tick(schedule: Schedule, until: datetime) -> datetime:
    """The last tick at or before a moment."""
    windows = dg.TimeWindowPartitionsDefinition(
        start=until - timedelta(days=1),  # no bound: it is not heeded
        fmt="%Y-%m-%dT%H:%M:%S%z",
        cron_schedule=schedule.cron,
        timezone=schedule.timezone,
    )
    window = windows.get_prev_partition_window(until, respect_bounds=False)
    if window is None:
        message = f"study: schedule.cron {schedule.cron!r} never comes."
        raise ConfigurationError(message)
    return window.end
