"""What follows a nightly corpus refresh: one evaluation per model whose files are here."""

from collections.abc import Iterator

import dagster as dg

from hc_orchestration.jobs import evaluate_model, refresh_corpus
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.store import absence
from hc_orchestration.schedules import NIGHTLY_TAG
from hc_orchestration.settings import Settings


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
