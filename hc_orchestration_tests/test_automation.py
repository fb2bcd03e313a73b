"""The nightly schedule and what follows it: asked with real runs, no daemon."""

from collections.abc import Callable
from datetime import UTC, datetime

import dagster as dg
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.schedules import NIGHTLY_TAG, nightly_schedule
from hc_orchestration.sensors import comparison_sensor, evaluation_sensor
from hc_orchestration.settings import Settings
from hc_orchestration.study import Schedule
from hc_orchestration_tests.conftest import ABSENT, RULER, TERMS

TICK = datetime(2026, 1, 2, 2, 0, tzinfo=UTC)
Requests = Callable[..., list[dg.RunRequest | dg.SkipReason]]


def test_the_schedule_has_the_time_zone_of_the_study_and_is_off() -> None:
    schedule = nightly_schedule(Schedule(cron="30 1 * * *", timezone="Europe/Berlin"))

    assert schedule.cron_schedule == "30 1 * * *"
    assert schedule.execution_timezone == "Europe/Berlin"
    assert schedule.default_status is dg.DefaultScheduleStatus.STOPPED
    assert schedule.job_name == "refresh_corpus"


def test_a_study_without_a_schedule_is_evaluated_at_two_utc() -> None:
    schedule = nightly_schedule(Schedule())

    assert (schedule.cron_schedule, schedule.execution_timezone) == ("0 2 * * *", "UTC")


def test_a_tick_asks_for_one_refresh_that_knows_its_night() -> None:
    context = dg.build_schedule_context(scheduled_execution_time=TICK)

    data = nightly_schedule(Schedule()).evaluate_tick(context)

    (request,) = data.run_requests or []
    assert request.run_key == "2026-01-02T02:00:00+00:00"
    assert request.tags[NIGHTLY_TAG] == request.run_key


@pytest.fixture
def after_refresh(
    settings: Settings, instance: dg.DagsterInstance, caplog: pytest.LogCaptureFixture
) -> Requests:
    """What the sensor asks for after a real refresh with the given tags."""
    job = build_definitions(settings).resolve_job_def("refresh_corpus")

    def ask(tags: dict[str, str]) -> list[dg.RunRequest | dg.SkipReason]:
        result = job.execute_in_process(
            instance=instance,
            tags=tags,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        context = dg.build_run_status_sensor_context(
            sensor_name="evaluate_after_corpus",
            dagster_instance=instance,
            dagster_run=result.dagster_run,
            dagster_event=result.get_run_success_event(),
        )
        context.log.addHandler(caplog.handler)  # the logger of a tick has no parent
        answer = evaluation_sensor(settings)(context)
        return list(answer)  # type: ignore[call-overload]

    return ask


def test_after_a_nightly_refresh_each_present_model_is_asked_for_and_absent_ones_named(
    after_refresh: Requests, caplog: pytest.LogCaptureFixture
) -> None:
    answers = after_refresh({NIGHTLY_TAG: "2026-01-02"})

    requests = [request for request in answers if isinstance(request, dg.RunRequest)]
    assert len(requests) == len(answers)
    assert [(request.partition_key, request.run_key) for request in requests] == [
        (TERMS, f"2026-01-02/{TERMS}"),
        (RULER, f"2026-01-02/{RULER}"),
    ]
    assert {request.tags[NIGHTLY_TAG] for request in requests} == {"2026-01-02"}
    assert f"not installed, so not evaluated: {ABSENT}" in caplog.text


def test_a_model_that_was_installed_since_is_asked_for(
    after_refresh: Requests, settings: Settings
) -> None:
    (settings.catalogue.parent / "nowhere").mkdir()

    requests = after_refresh({NIGHTLY_TAG: "2026-01-02"})

    assert [getattr(request, "partition_key", None) for request in requests] == [
        TERMS,
        RULER,
        ABSENT,
    ]


def test_a_refresh_by_hand_is_followed_by_nothing(after_refresh: Requests) -> None:
    assert after_refresh({}) == [dg.SkipReason("not a nightly refresh")]


def test_the_sensor_watches_the_refresh_and_asks_for_evaluations(settings: Settings) -> None:
    repository = build_definitions(settings).get_repository_def()

    sensor = repository.get_sensor_def("evaluate_after_corpus")
    assert [job.name for job in sensor.jobs] == ["evaluate_model"]
    assert sensor.default_status is dg.DefaultSensorStatus.STOPPED
    assert repository.get_schedule_def("nightly").job_name == "refresh_corpus"


def test_the_comparison_is_asked_for_once_all_evaluations_of_the_night_are_over(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Also when one of them failed; runs that somebody began by hand do not count."""
    definitions = build_definitions(settings)
    sensor = comparison_sensor(settings)

    def run(job: str, key: str | None = None, tags: dict[str, str] | None = None) -> None:
        definitions.resolve_job_def(job).execute_in_process(
            instance=instance, partition_key=key, tags=tags, raise_on_error=False
        )

    def tick() -> str:
        with dg.build_sensor_context(instance=instance) as context:
            answer = sensor(context)
        if isinstance(answer, dg.RunRequest):
            return f"{answer.run_key} {answer.tags[NIGHTLY_TAG]}"
        assert isinstance(answer, dg.SkipReason)
        return answer.skip_message or ""

    night = {NIGHTLY_TAG: "2026-01-02"}
    assert tick() == "nothing was evaluated since the last comparison"
    run("refresh_corpus", tags=night)
    run("evaluate_model", TERMS, night)
    run("evaluate_model", RULER)
    assert tick() == "1 of 2 evaluations of 2026-01-02 have begun"
    (settings.catalogue.parent / "ruler" / "config.cfg").unlink()
    run("evaluate_model", RULER, night)
    assert tick() == "2026-01-02/comparison 2026-01-02"
