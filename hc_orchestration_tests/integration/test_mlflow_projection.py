"""MLflow as a projection, in Dagster: every way an evaluation can go, on SQLite and on a server."""

import hashlib
import json
import shutil
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.resources.workspace import mlflow_projection
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration.tracking.run_view import RunView
from hc_orchestration.tracking.sync import lacking, synchronize
from hc_orchestration_tests.conftest import RULER, STUDY, TERMS
from hc_orchestration_tests.integration.servers import MlflowServer

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("mlflow_server")]

Run = Callable[..., dg.ExecuteInProcessResult]
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def own_study(settings: Settings) -> str:
    """A study of its own, since all tests share one server; returns its name."""
    name = f"study-{uuid.uuid4().hex[:8]}"
    settings.study.write_text(STUDY.replace("test-study", name), encoding="utf-8")
    return name


@pytest.fixture(params=["sqlite", "server"])
def deployment(request: pytest.FixtureRequest) -> tuple[Settings, str]:
    """The small deployment on each kind of tracking store, with a study name of its own."""
    if request.param == "server":
        request.getfixturevalue("logged_in")
    settings: Settings = request.getfixturevalue("settings")
    return Settings.from_environment(), own_study(settings)


def execute(
    settings: Settings, job: str, key: str | None = None, **options: Any
) -> dg.ExecuteInProcessResult:
    with dg.DagsterInstance.get() as instance:
        definition = build_definitions(settings).resolve_job_def(job)
        return definition.execute_in_process(
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            run_config=QUIET,
            **options,
        )


def runs_of(settings: Settings, study: str) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    experiment = client.get_experiment_by_name(study)
    evaluations = "tags.`hc.kind` = 'evaluation'"
    return list(client.search_runs([experiment.experiment_id], evaluations)) if experiment else []


def final_state(settings: Settings, study: str) -> dict[str, Any]:
    """What MLflow shows of the only evaluation, ids and times aside."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=settings.tracking_uri)
    (run,) = runs_of(settings, study)
    run_id = run.info.run_id
    unstable = ("seconds", "notes_per_second")
    history = {
        name: sorted((m.step, m.value) for m in client.get_metric_history(run_id, name))
        for name in run.data.metrics
        if name not in unstable
    }
    artifacts = {}
    with tempfile.TemporaryDirectory() as folder:
        for item in client.list_artifacts(run_id):
            path = Path(client.download_artifacts(run_id, item.path, folder))
            artifacts[item.path] = hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("fhir_provenance.json", "fhir_provenance_bundle.json"):
        artifacts[name] = "has times in it"
    own = ("hc.evaluation_id", "hc.dagster_url", "dagster_run_id", "hc.provenance_digest")
    tags = {
        name: value
        for name, value in run.data.tags.items()
        if name not in (*own, "hc.files", "mlflow.note.content") and "process" not in name
    }
    files = sorted(json.loads(run.data.tags["hc.files"]))
    datasets = [item.dataset.digest for item in run.inputs.dataset_inputs]
    return {
        "status": run.info.status,
        "name": run.info.run_name,
        "params": run.data.params,
        "tags": tags,
        "history": history,
        "artifacts": artifacts,
        "files": files,
        "datasets": datasets,
    }


def test_an_evaluation_is_one_finished_run_with_its_dataset(
    deployment: tuple[Settings, str],
) -> None:
    settings, study = deployment
    execute(settings, "refresh_corpus")
    result = execute(settings, "evaluate_model", TERMS)

    assert result.success
    checks = {e.check_name: e.passed for e in result.get_asset_check_evaluations()}
    assert checks["mlflow_up_to_date"]
    state = final_state(settings, study)
    assert state["status"] == "FINISHED"
    assert len(state["datasets"]) == 1
    assert len(state["history"]["doc_entity_count"]) == 6
    assert state["files"] == [
        "entity_distribution.json",
        "error_analysis.json",
        "fhir_provenance.json",
        "fhir_provenance_bundle.json",
        "healthcare_context.json",
        "metrics.parquet",
        "model_card.json",
        "per_note.parquet",
    ]


def test_reexecution_from_failure_is_the_same_evaluation_and_the_same_run(
    deployment: tuple[Settings, str],
) -> None:
    settings, study = deployment
    execute(settings, "refresh_corpus")
    from hc_orchestration.scoring import evaluation

    broken = pytest.MonkeyPatch()
    broken.setattr(evaluation, "_score_table", lambda *_, **__: 1 / 0)
    failed = execute(settings, "evaluate_model", TERMS)
    broken.undo()
    (run,) = runs_of(settings, study)
    assert not failed.success
    assert run.info.status == "FAILED"
    assert run.data.tags["error.class"] == "ZeroDivisionError"

    with dg.DagsterInstance.get() as instance:
        again = dg.execute_job(
            dg.build_reconstructable_job(__name__, "evaluate_model_of", (study,)),
            instance=instance,
            reexecution_options=dg.ReexecutionOptions.from_failure(failed.run_id, instance),
            run_config=QUIET,
            tags={"dagster/partition": TERMS},
        )
        assert again.success

    (run,) = runs_of(settings, study)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["strict.f1"] == pytest.approx(10 / 13)
    assert "error.class" not in run.data.tags
    (record,) = Workspace(settings).records.of_model(TERMS)
    assert record.state is Status.FINISHED


def evaluate_model_of(study: str) -> dg.JobDefinition:
    """The job for Dagster to load by name; it keeps one for each argument."""
    assert study
    return build_definitions(Settings.from_environment()).resolve_job_def("evaluate_model")


def test_a_retried_step_with_a_changed_param_keeps_one_run(
    deployment: tuple[Settings, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second attempt logs another value of a param, which MLflow would refuse."""
    from hc_orchestration.resources import steps

    settings, study = deployment
    execute(settings, "refresh_corpus")
    real = steps.extract
    attempts = []

    def flaky(step: Any, cluster: object) -> Any:
        attempts.append(step.context.retry_number)
        inputs, extraction = real(step, cluster)
        if len(attempts) == 1:
            step.finish(inputs, extraction.model_copy(update={"extracted": 5}))
            raise dg.RetryRequested(max_retries=1)
        return inputs, extraction

    monkeypatch.setattr(steps, "extract", flaky)
    assert execute(settings, "evaluate_model", TERMS).success

    (run,) = runs_of(settings, study)
    assert attempts == [0, 1]
    assert run.info.status == "FINISHED"
    assert run.data.params["extraction.extracted"] == "5"
    assert run.data.tags["param.extraction.extracted"] == "0"


def test_two_models_are_two_runs_that_share_nothing(deployment: tuple[Settings, str]) -> None:
    settings, study = deployment
    execute(settings, "refresh_corpus")
    execute(settings, "evaluate_model", TERMS)
    execute(settings, "evaluate_model", RULER)

    by_name = {run.info.run_name: run for run in runs_of(settings, study)}
    assert set(by_name) == {TERMS, RULER}
    assert "strict.f1" in by_name[TERMS].data.metrics
    assert "strict.f1" not in by_name[RULER].data.metrics
    assert by_name[RULER].data.tags["hc.not_applicable"] == "strict, type"


MOMENTS = ("before the first step", "values", "per_note", "files", "status")


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_server_killed_and_brought_back_ends_as_if_nothing_had_been(
    moment: str, settings: Settings, logged_in: MlflowServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings.from_environment()
    expected = undisturbed(settings)
    disturbed = own_study(settings)
    execute(settings, "refresh_corpus")
    _kill_at(moment, logged_in, monkeypatch)

    result = execute(settings, "evaluate_model", TERMS)

    assert result.success
    warned = {
        e.check_name: e.severity for e in result.get_asset_check_evaluations() if not e.passed
    }
    assert warned == {"mlflow_up_to_date": dg.AssetCheckSeverity.WARN}
    workspace = Workspace(settings)
    (record,) = workspace.records.of_model(TERMS)
    assert record.state is Status.FINISHED
    assert lacking(workspace) == [record]
    monkeypatch.undo()
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "admin")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "a-long-enough-password")
    logged_in.start()

    projection = mlflow_projection(settings.tracking_uri, workspace)
    assert len(synchronize(workspace, projection, ask_mlflow=False).projected) == 1
    assert synchronize(workspace, projection, ask_mlflow=True).projected == ()

    state = final_state(settings, disturbed)
    assert state == expected


_UNDISTURBED: list[dict[str, Any]] = []


def undisturbed(settings: Settings) -> dict[str, Any]:
    """The final state of an evaluation during which nothing happened; looked at once."""
    if not _UNDISTURBED:
        study = own_study(settings)
        execute(settings, "refresh_corpus")
        assert execute(settings, "evaluate_model", TERMS).success
        _UNDISTURBED.append(final_state(settings, study))
        shutil.rmtree(settings.storage)
    return _UNDISTURBED[0]


def _kill_at(moment: str, server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kill the server now, or in the middle of a write: half of it done, the rest refused."""
    if moment == MOMENTS[0]:
        server.kill()
        return
    name = f"_write_{moment}"
    real = getattr(MlflowProjection, name)

    def dying(self: MlflowProjection, run: Any, view: RunView) -> None:
        due = view.per_note is not None and view.status is (
            Status.FINISHED if moment == "status" else Status.RUNNING
        )
        if due:
            client = self._client
            patched = "log_artifact" if moment == "files" else "log_batch"
            once = getattr(client, patched)

            def first_then_dead(*args: Any, **kwargs: Any) -> None:
                monkeypatch.setattr(client, patched, once)
                once(*args, **kwargs)
                server.kill()

            if moment == "status":
                server.kill()
            else:
                monkeypatch.setattr(client, patched, first_then_dead)
        real(self, run, view)

    monkeypatch.setattr(MlflowProjection, name, dying)


def test_an_empty_mlflow_database_is_refilled_from_the_records(
    settings: Settings, empty_mlflow: Path
) -> None:
    study = own_study(settings)
    execute(settings, "refresh_corpus")
    execute(settings, "evaluate_model", TERMS)
    expected = final_state(settings, study)
    shutil.copy(empty_mlflow, settings.home / "mlflow.db")
    assert runs_of(settings, study) == []

    workspace = Workspace(settings)
    projection = mlflow_projection(settings.tracking_uri, workspace)
    report = synchronize(workspace, projection, ask_mlflow=True)

    assert len(report.projected) == 2  # the corpus and the evaluation
    assert final_state(settings, study) == expected


def test_an_asset_that_uses_dagster_mlflow_joins_our_run(settings: Settings) -> None:
    """In the same Dagster run; by itself, dagster-mlflow would make a second MLflow run."""
    import warnings

    from dagster_mlflow import mlflow_tracking

    study = own_study(settings)
    ours = build_definitions(settings)
    models = dg.StaticPartitionsDefinition([TERMS, RULER, "absent-1.0"])

    @dg.asset(
        partitions_def=models,
        deps=["evaluation_metrics"],
        required_resource_keys={"their_mlflow"},
        group_name="evaluation",
    )
    def readability(context: dg.AssetExecutionContext) -> None:
        context.resources.their_mlflow.log_metric("readability", 61.5)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = mlflow_tracking.configured(
            {"experiment_name": study, "mlflow_tracking_uri": settings.tracking_uri}
        )
        both = dg.Definitions.merge(
            ours, dg.Definitions(assets=[readability], resources={"their_mlflow": theirs})
        )
        execute(settings, "refresh_corpus")
        execute(settings, "evaluate_model", RULER)
        with dg.DagsterInstance.get() as instance:
            result = both.resolve_job_def("evaluate_model").execute_in_process(
                instance=instance, partition_key=TERMS, raise_on_error=False, run_config=QUIET
            )
    assert result.success

    run, _ = sorted(runs_of(settings, study), key=lambda run: run.info.run_name, reverse=True)
    assert run.info.run_name == TERMS
    assert run.data.metrics["readability"] == 61.5
    assert run.data.metrics["strict.f1"] == pytest.approx(10 / 13)
    import mlflow

    mlflow.end_run()
