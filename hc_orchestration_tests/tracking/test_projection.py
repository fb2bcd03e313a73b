"""Records shown in a real MLflow store: once, truly, and again after MLflow was away."""

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hc_orchestration.errors import TrackingError
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, ShownIn, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import experiment_id
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration.tracking.sync import synchronize
from hc_orchestration_tests.conftest import TERMS
from hc_orchestration_tests.storage.parts import (
    BEGUN,
    CONTEXT,
    extraction_part,
    inputs_part,
    metrics_part,
    run_part,
    status_part,
)
from hc_orchestration_tests.tracking.mlflow_store import Tracking

PASSWORD = "hunter2-made-up"  # noqa: S105 - of nobody
UNREACHABLE = f"http://somebody:{PASSWORD}@127.0.0.1:9"


def grown(record: EvaluationRecord) -> list[EvaluationRecord]:
    """The record as it stood after each step."""
    names = ["run", "inputs", "extraction", "metrics", "provenance", "status"]
    running = status_part(Status.RUNNING)
    stages = [
        record.model_copy(update={**dict.fromkeys(names[count:]), "status": running, "done": ()})
        for count in range(1, len(names))
    ]
    return [*stages, record]


def begun(**changes: Any) -> EvaluationRecord:
    """A record of which only the run is known."""
    fields = {"evaluation_id": "e1", "model_key": "terms-1", "run": run_part()}
    return EvaluationRecord(**{**fields, **changes})


def test_projecting_a_record_again_changes_nothing(tracking: Tracking) -> None:
    record = tracking.full_record()
    first = tracking.projection().project(record)
    before = tracking.shown()

    again = tracking.projection()
    assert [again.project(record), again.project(record)] == [first, first]

    assert tracking.shown() == before
    assert before["histories"]["strict.f1"] == [(0, 0.75)]
    assert before["histories"]["doc_entity_count"] == [(0, 0.0), (1, 1.0), (2, 2.0)]
    assert before["datasets"] == [("test-study", "c" * 36)]
    assert before["histories"]["doc_text_length"] == [(0, 100.0), (1, 101.0), (2, 102.0)]


def test_a_record_that_grows_ends_as_one_that_is_shown_at_its_end(tracking: Tracking) -> None:
    projection = tracking.projection()
    for stage in grown(tracking.full_record("e1")):
        projection.project(stage)
    projection.project(tracking.full_record("e2"))

    assert tracking.shown("e1") == tracking.shown("e2")
    assert tracking.shown("e1")["status"] == "FINISHED"


def test_a_run_that_somebody_deleted_is_made_again(tracking: Tracking) -> None:
    record = tracking.full_record()
    lost = tracking.projection().project(record)
    before = tracking.shown()
    tracking.client.delete_run(lost.run_id)

    assert tracking.projection().project(record).run_id != lost.run_id
    assert tracking.shown() == before


def test_a_deleted_experiment_is_restored(tracking: Tracking) -> None:
    made = experiment_id(tracking.client, tracking.store, "test-study")
    tracking.client.delete_experiment(made)

    tracking.projection().project(begun())

    assert tracking.run().info.experiment_id == made


def test_an_experiment_says_what_its_runs_are_unless_somebody_said_so_already(
    tracking: Tracking,
) -> None:
    described = []
    for name, note in (("ours", None), ("theirs", None), ("told", "A team's own words")):
        if name != "ours":
            tags = {"mlflow.note.content": note} if note else {}
            tracking.client.create_experiment(name, tags=tags)
        made = experiment_id(tracking.client, tracking.store, name)
        described.append(tracking.client.get_experiment(made).tags["mlflow.note.content"])

    assert described[0] == described[1]
    assert "hc.kind" in described[0]
    assert described[2] == "A team's own words"


def test_the_experiment_is_made_once(tracking: Tracking) -> None:
    ids = {experiment_id(tracking.client, tracking.store, "test-study") for _ in range(2)}

    assert len(ids) == 1


def _race(tracking: Tracking, projections: list[MlflowProjection]) -> None:
    """Project one fresh record with all of them at once."""
    barrier = threading.Barrier(len(projections))
    experiment_id(tracking.client, tracking.store, "test-study")

    def project(projection: MlflowProjection) -> None:
        barrier.wait(30)
        projection.project(begun())

    threads = [threading.Thread(target=project, args=(each,)) for each in projections]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def test_two_projections_of_a_fresh_record_at_once_make_one_run(tracking: Tracking) -> None:
    from mlflow.entities import ViewType

    _race(tracking, [tracking.projection() for _ in range(3)])

    experiment = tracking.run().info.experiment_id
    assert len(tracking.client.search_runs([experiment], run_view_type=ViewType.ALL)) == 1


def test_of_two_runs_that_two_machines_made_the_oldest_stays(tracking: Tracking) -> None:
    """Machines do not share our lock: both look, find nothing, and create."""
    experiment = experiment_id(tracking.client, tracking.store, "test-study")
    tags = {"hc.evaluation_id": "e1", "hc.kind": "evaluation"}
    start = int(BEGUN.timestamp() * 1000)
    younger, older = (
        tracking.client.create_run(experiment, start_time=start + later, tags=tags)
        for later in (5, 0)
    )

    shown = tracking.projection().project(begun())

    assert shown.run_id == older.info.run_id == tracking.run().info.run_id
    assert tracking.client.get_run(younger.info.run_id).info.lifecycle_stage == "deleted"


def test_a_run_that_dagster_mlflow_made_for_the_same_dagster_run_is_taken_over(
    tracking: Tracking,
) -> None:
    experiment = experiment_id(tracking.client, tracking.store, "test-study")
    of_others, made = (
        tracking.client.create_run(experiment, tags={"dagster_run_id": name})
        for name in ("run-9", "run-1")
    )

    shown = tracking.projection().project(begun())

    assert shown.run_id == made.info.run_id == tracking.run().info.run_id
    assert tracking.run().info.run_name == "terms-1"
    assert "hc.evaluation_id" not in tracking.client.get_run(of_others.info.run_id).data.tags


def test_a_deployment_may_add_tags_a_parent_and_an_experiment_of_its_own(
    tracking: Tracking,
) -> None:
    shown_in = ShownIn(experiment="team", parent_run_id="p1", tags={"team": "a"})

    tracking.projection().project(begun(run=run_part(shown_in=shown_in)))

    run = tracking.run()
    assert run.data.tags["team"] == "a"
    assert run.data.tags["mlflow.parentRunId"] == "p1"
    assert tracking.client.get_experiment(run.info.experiment_id).name == "team"


def test_an_evaluation_may_go_into_a_run_that_the_deployment_names(tracking: Tracking) -> None:
    experiment = experiment_id(tracking.client, tracking.store, "test-study")
    named = tracking.client.create_run(experiment).info.run_id
    first = begun(run=run_part(shown_in=ShownIn(run_id=named)))

    assert tracking.projection().project(first).run_id == named
    assert tracking.projection().project(first).run_id == named
    assert tracking.run().info.run_name == "terms-1"
    second = first.model_copy(update={"evaluation_id": "e2"})
    with pytest.raises(TrackingError, match="shows another evaluation already"):
        tracking.projection().project(second)


def test_a_synchronisation_refills_the_experiment_that_the_evaluation_was_shown_in(
    tracking: Tracking, settings: Settings
) -> None:
    """Whoever synchronises need not know how the deployment was configured."""
    workspace = Workspace(settings)
    shown_in = ShownIn(experiment="team", tags={"team": "a"})
    workspace.records.append("e1", "terms-1", run_part(shown_in=shown_in))

    first = synchronize(workspace, tracking.projection(), ask_mlflow=True)
    again = synchronize(workspace, tracking.projection(), ask_mlflow=True)

    assert (first.projected, again.projected) == (("e1",), ())
    run = tracking.run()
    assert run.data.tags["team"] == "a"
    assert tracking.client.get_experiment(run.info.experiment_id).name == "team"


def test_the_status_is_the_truth_at_every_moment(tracking: Tracking) -> None:
    projection = tracking.projection()
    failed = status_part(
        Status.FAILED, 10, error_class="ModelError", error="no memory", failed_step="provenance"
    )
    seen = []
    for status in (
        status_part(Status.RUNNING),
        failed,
        status_part(Status.RUNNING, 20),
        status_part(Status.FINISHED, 30),
    ):
        projection.project(begun(status=status))
        seen.append(tracking.run().info.status)

    assert seen == ["RUNNING", "FAILED", "RUNNING", "FINISHED"]
    assert tracking.run().info.end_time == int(BEGUN.timestamp() * 1000) + 30_000


def test_what_failed_is_told_until_it_is_mended(tracking: Tracking) -> None:
    projection = tracking.projection()
    failed = status_part(
        Status.FAILED, 10, error_class="ModelError", error="no memory", failed_step="provenance"
    )

    projection.project(begun(status=failed))
    told = {k: v for k, v in tracking.run().data.tags.items() if k.startswith("error.")}
    note = tracking.run().data.tags["mlflow.note.content"]
    projection.project(begun(status=status_part(Status.FINISHED, 30)))

    assert told == {
        "error.class": "ModelError",
        "error.message": "no memory",
        "error.step": "provenance",
    }
    assert "Ended by: no memory" in note
    tags = tracking.run().data.tags
    assert not [name for name in tags if name.startswith("error.")]
    assert "Ended by" not in tags["mlflow.note.content"]


def test_a_killed_evaluation_is_killed(tracking: Tracking) -> None:
    tracking.projection().project(begun(status=status_part(Status.KILLED, 5)))

    assert tracking.run().info.status == "KILLED"


def test_labels_that_mlflow_refuses_are_shown_with_a_list_of_their_names(
    tracking: Tracking,
) -> None:
    values = {"strict.f1.label.Age (>65), 5%": 0.5, "strict.f1.label.N//V": 0.25, "strict.f1": 1.0}

    tracking.projection().project(begun(metrics=metrics_part(values=values)))

    names = tracking.artifact("metric_names.json")
    assert sorted(names.values()) == ["strict.f1.label.Age (>65), 5%", "strict.f1.label.N//V"]
    metrics = tracking.run().data.metrics
    assert {names.get(slug, slug): value for slug, value in metrics.items()} == values


def test_there_is_no_list_of_names_when_all_names_are_plain(tracking: Tracking) -> None:
    tracking.projection().project(tracking.full_record())

    assert "metric_names.json" not in tracking.shown()["artifacts"]
    assert tracking.artifact("healthcare_context.json") == CONTEXT.to_dict()


def test_a_param_that_changes_later_becomes_a_tag(tracking: Tracking) -> None:
    """MLflow refuses another value of a param that it has."""
    projection = tracking.projection()
    projection.project(begun(inputs=inputs_part(corpus_version=3)))
    projection.project(begun(inputs=inputs_part(corpus_version=4)))

    data = tracking.run().data
    assert data.params["corpus.version"] == "3"
    assert data.tags["param.corpus.version"] == data.tags["hc.corpus_version"] == "4"


def test_a_changed_metric_is_the_newest_value(tracking: Tracking) -> None:
    projection = tracking.projection()
    for value in (0.5, 0.75):
        projection.project(begun(metrics=metrics_part(values={"strict.f1": value})))

    assert tracking.run().data.metrics["strict.f1"] == 0.75


def test_a_changed_file_replaces_the_artifact(tracking: Tracking) -> None:
    projection = tracking.projection()
    for content in (b'{"A": 1}', b'{"A": 2}'):
        file = tracking.files.put("entity_distribution.json", content)
        projection.project(begun(extraction=extraction_part(file)))

    assert tracking.artifact("entity_distribution.json") == {"A": 2}


def test_per_note_values_are_bounded_and_the_table_is_whole(tracking: Tracking) -> None:
    tracking.projection().project(tracking.full_record(notes=ShownIn().per_note_steps + 5))

    assert tracking.history("doc_entity_count") == list(range(ShownIn().per_note_steps))
    path = tracking.client.download_artifacts(tracking.run().info.run_id, "per_note.parquet")
    assert pl.read_parquet(path).height == ShownIn().per_note_steps + 5


def test_more_metrics_than_one_request_takes_are_all_there(tracking: Tracking) -> None:
    values = {f"strict.f1.label.L{number}": number / 1_000 for number in range(1_000)}

    tracking.projection().project(begun(metrics=metrics_part(values=values)))

    assert tracking.run().data.metrics == values


def test_long_words_are_cut_visibly(tracking: Tracking) -> None:
    context = CONTEXT.model_copy(update={"purpose": "p" * 7_000})
    failed = status_part(Status.FAILED, error_class="ModelError", error="e" * 9_000)

    tracking.projection().project(begun(run=run_part(context=context), status=failed))

    data = tracking.run().data
    assert data.params["healthcare.purpose"].endswith("p … (shortened)")
    assert data.tags["error.message"].endswith("e … (shortened)")


def test_a_record_without_a_run_cannot_be_shown(tracking: Tracking) -> None:
    record = EvaluationRecord(evaluation_id="e1", model_key="terms-1")

    with pytest.raises(ValueError, match="evaluation e1 has no run part"):
        tracking.projection().project(record)


@pytest.fixture
def unreachable(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The deployment with a tracking server that does not answer."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", UNREACHABLE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    return replace(settings, tracking_uri=UNREACHABLE)


def test_an_unreachable_store_is_told_without_its_password(
    unreachable: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(TrackingError) as raised:
        Tracking(unreachable).projection().project(begun())

    assert "Is the tracking store reachable?" in str(raised.value)
    assert PASSWORD not in str(raised.value) + caplog.text
    assert raised.value.__suppress_context__


def test_an_evaluation_is_finished_though_mlflow_is_away_and_shown_when_it_is_back(
    unreachable: Settings,
    settings: Settings,
    tmp_path: Path,
    search_below: Callable[[Path, str], list[Path]],
) -> None:
    from hc_orchestration.evaluate import run_evaluation

    said: list[str] = []
    report = run_evaluation(unreachable, [TERMS], say=said.append)

    assert not report.failed
    assert PASSWORD not in str(said)
    (record,) = Workspace(settings).records.of_model(TERMS)
    assert record.state is Status.FINISHED
    assert record.mlflow is None
    assert record.provenance
    assert search_below(tmp_path, PASSWORD) == []

    tracking = Tracking(settings)
    tracking.projection().project(record)
    run = tracking.run(record.evaluation_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["strict.f1"] == pytest.approx(10 / 13)
