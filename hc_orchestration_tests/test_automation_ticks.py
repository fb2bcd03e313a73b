"""Automation tick by tick on an ephemeral instance: what is asked for, and what is not again.

Assets are reported as materialized, and runs made by jobs that only have the names of the real
ones: what counts here is what schedule and sensors make of them.
"""

import uuid
from collections.abc import Iterator
from datetime import datetime
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from hc_orchestration.definitions import build_definitions
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.schedules import NIGHTLY_TAG, nightly_schedule
from hc_orchestration.settings import Settings
from hc_orchestration.study import Schedule
from hc_orchestration_tests.conftest import ABSENT, CATALOGUE, RULER, TERMS

ADDED = "  - {name: added, version: '1.0', loader: lexicon, source: {path: terms.tsv}}\n"
BERLIN = ZoneInfo("Europe/Berlin")
NIGHT = {NIGHTLY_TAG: "2026-01-02"}


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def materialized(instance: dg.DagsterInstance, asset: str, key: str | None = None) -> None:
    instance.report_runless_asset_event(dg.AssetMaterialization(asset, partition=key))


def run_of(
    instance: dg.DagsterInstance, job: str, tags: dict[str, str], *, succeeds: bool = True
) -> None:
    """A finished run of a job of this name."""

    @dg.op
    def only() -> None:
        if not succeeds:
            message = "as asked"
            raise RuntimeError(message)

    @dg.job(name=job)
    def named() -> None:
        only()

    named.execute_in_process(
        instance=instance,
        tags=tags,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )


def evaluation_run(
    instance: dg.DagsterInstance, key: str, tags: dict[str, str], *, succeeds: bool = True
) -> None:
    run_of(instance, "evaluate_model", {**tags, "dagster/partition": key}, succeeds=succeeds)


def loaded(settings: Settings) -> dg.RepositoryDefinition:
    """The code location as it is when it is loaded now."""
    return build_definitions(settings).get_repository_def()


def tick(location: dg.RepositoryDefinition, sensor: str, instance: dg.DagsterInstance) -> list[str]:
    """Run keys of what a tick asks for, or why it asks for nothing."""
    with dg.build_sensor_context(instance=instance, repository_def=location) as context:
        data = location.get_sensor_def(sensor).evaluate_tick(context)
    return [str(r.run_key) for r in data.run_requests or []] or [str(data.skip_message)]


NEW, COMPARE = "evaluate_new_models", "compare_after_evaluations"
NOTHING_NEW = ["every model whose files are here was evaluated before"]
NOTHING_SCORED = ["nothing was evaluated since the last comparison"]


def test_a_model_is_evaluated_once_when_it_is_new(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    before = loaded(settings)
    assert tick(before, NEW, instance) == ["no corpus is stored yet"]
    materialized(instance, "notes_corpus")
    assert tick(before, NEW, instance) == [
        f"new/{TERMS}",
        f"new/{RULER}",
    ]  # not what is not installed
    for key in (TERMS, RULER):
        materialized(instance, "model_files", key)
    assert tick(before, NEW, instance) == NOTHING_NEW

    settings.catalogue.write_text(CATALOGUE + ADDED, encoding="utf-8")

    assert tick(before, NEW, instance) == NOTHING_NEW  # the location has not been loaded again
    after = loaded(settings)
    assert tick(after, NEW, instance) == ["new/added-1.0"]
    materialized(instance, "model_files", "added-1.0")
    assert tick(after, NEW, instance) == NOTHING_NEW


def test_a_model_is_asked_for_when_its_files_come(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    location = loaded(settings)
    for asset, key in (("notes_corpus", None), ("model_files", TERMS), ("model_files", RULER)):
        materialized(instance, asset, key)

    (settings.catalogue.parent / "nowhere").mkdir()

    assert tick(location, NEW, instance) == [f"new/{ABSENT}"]


def test_a_model_that_fails_at_once_is_asked_for_under_one_key_only(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """The daemon begins no second run for a run key, however often a tick names it."""
    location = loaded(settings)
    materialized(instance, "notes_corpus")
    materialized(instance, "model_files", RULER)

    keys = set()
    for _ in range(3):
        keys.update(tick(location, NEW, instance))
        evaluation_run(instance, TERMS, {}, succeeds=False)

    assert keys == {f"new/{TERMS}"}


def test_a_model_that_waits_in_the_queue_is_not_asked_for_again(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    location = loaded(settings)
    materialized(instance, "notes_corpus")
    materialized(instance, "model_files", RULER)
    job = build_definitions(settings).resolve_job_def("evaluate_model")
    instance.create_run_for_job(
        job, tags={"dagster/partition": TERMS}, status=dg.DagsterRunStatus.NOT_STARTED
    )

    assert tick(location, NEW, instance) == NOTHING_NEW


def test_an_entry_that_was_removed_is_neither_asked_nor_waited_for(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    location = loaded(settings)
    materialized(instance, "notes_corpus")
    run_of(instance, "refresh_corpus", NIGHT)
    evaluation_run(instance, TERMS, NIGHT)
    assert tick(location, COMPARE, instance) == ["1 of 2 evaluations of 2026-01-02 have begun"]

    kept = "".join(line for line in CATALOGUE.splitlines(keepends=True) if "ruler" not in line)
    settings.catalogue.write_text(kept, encoding="utf-8")

    assert tick(location, NEW, instance) == [f"new/{TERMS}"]
    assert tick(location, COMPARE, instance) == ["2026-01-02/comparison"]


def test_every_night_is_compared_once_whether_or_not_the_corpus_changed(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    location = loaded(settings)
    for night in ("2026-01-02", "2026-01-03"):
        tags = {NIGHTLY_TAG: night}
        run_of(instance, "refresh_corpus", tags)
        assert tick(location, COMPARE, instance) == [f"0 of 2 evaluations of {night} have begun"]
        evaluation_run(instance, TERMS, tags)
        evaluation_run(instance, RULER, tags, succeeds=False)  # keeps nobody from being compared
        assert tick(location, COMPARE, instance) == [f"{night}/comparison"]
        materialized(instance, "evaluation_metrics", TERMS)
        run_of(instance, "compare_models", tags)
        materialized(instance, "model_comparison")
        assert tick(location, COMPARE, instance) == NOTHING_SCORED


def test_a_comparison_follows_evaluations_by_hand_when_the_last_is_over(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    location = loaded(settings)
    assert tick(location, COMPARE, instance) == NOTHING_SCORED
    materialized(instance, "evaluation_metrics", TERMS)
    job = build_definitions(settings).resolve_job_def("evaluate_model")
    run = instance.create_run_for_job(
        job, tags={"dagster/partition": RULER}, status=dg.DagsterRunStatus.STARTED
    )
    assert tick(location, COMPARE, instance) == [f"evaluations are still running: {RULER}"]
    instance.report_run_failed(run)

    (asked,) = tick(location, COMPARE, instance)

    assert asked.startswith("after/")
    assert tick(location, COMPARE, instance) == [asked]  # the same key: no second run
    compare = build_definitions(settings).resolve_job_def("compare_models")
    run = instance.create_run_for_job(compare, status=dg.DagsterRunStatus.STARTED)
    assert tick(location, COMPARE, instance) == ["a comparison is still running"]
    instance.report_run_failed(run)
    materialized(instance, "model_comparison")
    assert tick(location, COMPARE, instance) == NOTHING_SCORED
    materialized(instance, "evaluation_metrics", RULER)
    (again,) = tick(location, COMPARE, instance)
    assert again not in (asked, *NOTHING_SCORED)


@pytest.mark.parametrize(
    ("evening", "ticks"),
    [
        pytest.param(
            datetime(2026, 3, 28, 12, tzinfo=BERLIN),
            ["2026-03-29T03:00:00+02:00", "2026-03-30T02:30:00+02:00"],
            id="spring: half past two does not exist, so at the first minute after it",
        ),
        pytest.param(
            datetime(2026, 10, 24, 12, tzinfo=BERLIN),
            ["2026-10-25T02:30:00+01:00", "2026-10-26T02:30:00+01:00"],
            id="autumn: half past two comes twice, and counts once",
        ),
    ],
)
def test_a_night_has_one_tick_when_the_clock_changes(evening: datetime, ticks: list[str]) -> None:
    schedule = nightly_schedule(Schedule(cron="30 2 * * *", timezone="Europe/Berlin"))
    times = schedule_execution_time_iterator(
        evening.timestamp(), schedule.cron_schedule, schedule.execution_timezone, ascending=True
    )

    found = [next(times) for _ in ticks]

    assert [time.isoformat() for time in found] == ticks
    keys = []
    for time in found:
        context = dg.build_schedule_context(scheduled_execution_time=time)
        (request,) = schedule.evaluate_tick(context).run_requests or []
        keys.append(request.run_key)
    assert len(set(keys)) == len(ticks)


def test_a_run_whose_process_is_gone_is_reported_as_failed(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """So that it is run again: Dagster cannot notice a death that took its code server too."""
    location = loaded(settings)
    living = ProcessIdentity.current()
    dead = ProcessIdentity(living.host, living.pid, living.started - 1000)
    job = build_definitions(settings).resolve_job_def("evaluate_model")
    first, second, third = (str(uuid.uuid4()) for _ in range(3))
    runs = [
        instance.create_run_for_job(
            job,
            run_id=run_id,
            tags=process.as_tags_of(of_run),
            status=dg.DagsterRunStatus.STARTED,
        ).run_id
        for process, run_id, of_run in (
            (living, first, first),
            (dead, second, second),
            (dead, third, second),  # repeats it, in a process that has not said so yet
        )
    ]

    assert tick(location, "close_dead_runs", instance) == ["1 runs had lost their process"]

    found = [run.status for run_id in runs if (run := instance.get_run_by_id(run_id))]
    open_still = dg.DagsterRunStatus.STARTED
    assert found == [open_still, dg.DagsterRunStatus.FAILURE, open_still]
    assert tick(location, "close_dead_runs", instance) == ["0 runs had lost their process"]


def test_all_that_begins_work_is_off_until_somebody_switches_it_on(settings: Settings) -> None:
    repository = loaded(settings)

    sensors = {sensor.name: sensor.default_status for sensor in repository.sensor_defs}
    on = {name for name, status in sensors.items() if status is dg.DefaultSensorStatus.RUNNING}
    assert on == {
        "alerts",
        "close_canceled_evaluation",
        "close_dead_runs",
        "close_failed_evaluation",
        "mlflow_sync",
    }
    assert set(sensors) - on == {
        "evaluate_after_corpus",
        "evaluate_new_models",
        "compare_after_evaluations",
    }
    assert all(sensor.description for sensor in repository.sensor_defs)
