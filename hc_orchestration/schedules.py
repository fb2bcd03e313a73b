"""The nightly schedule; off until somebody switches it on in the UI."""

import dagster as dg

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.jobs import refresh_corpus
from hc_orchestration.study import Schedule

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
            name="nightly",
            job=refresh_corpus,
            cron_schedule=schedule.cron,
            execution_timezone=schedule.timezone,
            description="Refresh the corpus; then `evaluate_after_corpus` evaluates the models.",
        )(nightly)
    except dg.DagsterInvalidDefinitionError:
        message = f"study: schedule.cron {schedule.cron!r} is not a cron expression of five fields."
        raise ConfigurationError(message) from None
