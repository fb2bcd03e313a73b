"""Promotion: gates decide, a reason overrides and goes on record, and MLflow shows it once."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.sensors import mlflow_sync_sensor
from hc_orchestration.settings import Settings
from hc_orchestration.storage.promotions import Promotion
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration.tracking.registry import PromotionProjection, registered_name
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import CATALOGUE, RULER, STUDY, TERMS
from hc_orchestration_tests.tracking.away import refusing

if TYPE_CHECKING:
    from mlflow import MlflowClient

Run = Callable[..., dg.ExecuteInProcessResult]
REASON = "the gate asks for more notes than the pilot has"

HELD = "gates: [{metric: exact.f1, minimum: 0.5}]"  # terms: 10/13, ruler: 8/11
FAILING = "gates: [{metric: exact.f1, minimum: 0.9, name: ambitious}]"
REGRESSION = "gates: [{metric: exact.f1, regression: 0.02}]"


@pytest.fixture
def evaluated(settings: Settings, run_job: Run) -> Settings:
    """Both models evaluated, without gates."""
    assert run_job("refresh_corpus").success
    for key in (TERMS, RULER):
        assert run_job("evaluate_model", key).success
    return settings


@pytest.fixture
def mlflow_away() -> Iterator[pytest.MonkeyPatch]:
    """MLflow refuses promotions until `undo` is called."""
    yield from refusing(PromotionProjection)


def gate(settings: Settings, gates: str) -> None:
    settings.study.write_text(f"{STUDY}\n{gates}\n", encoding="utf-8")


def newest(settings: Settings, key: str) -> EvaluationRecord:
    return Workspace(settings).records.of_model(key)[0]


def promotions(settings: Settings) -> list[Promotion]:
    return Workspace(settings).promotions.of_study("test-study")


def registry(settings: Settings) -> "MlflowClient":
    return open_client(MlflowStore(settings.tracking_uri, settings.home, settings.mlflow_url))


def champion_tags(settings: Settings) -> dict[str, str]:
    return dict(registry(settings).get_model_version_by_alias("test-study", "champion").tags)


def provenance(settings: Settings, record: EvaluationRecord) -> dict[str, Any]:
    assert record.provenance is not None
    assert record.provenance.resource is not None
    content: dict[str, Any] = json.loads(Workspace(settings).files.get(record.provenance.resource))
    return content


def test_a_model_whose_gates_hold_becomes_the_champion_with_links_to_its_evaluation(
    evaluated: Settings,
) -> None:
    gate(evaluated, HELD)
    record = newest(evaluated, TERMS)

    answer = call("promote", TERMS, "--json")

    assert answer.code == 0
    assert (answer.json["model"], answer.json["promoted"]) == (TERMS, True)
    (made,) = promotions(evaluated)
    assert (made.model_key, made.evaluation_id, made.previous, made.forced_reason) == (
        TERMS,
        record.evaluation_id,
        None,
        None,
    )
    assert [result.verdict for result in made.gates] == ["PASS"]
    assert record.inputs
    assert record.metrics
    assert record.provenance
    assert record.run
    assert record.mlflow
    version = registry(evaluated).get_model_version_by_alias("test-study", "champion")
    assert (version.run_id, version.source) == (
        record.mlflow.run_id,
        f"runs:/{record.mlflow.run_id}",
    )
    assert version.tags == {
        "hc.promotion_id": made.promotion_id,
        "hc.model": TERMS,
        "hc.study": "test-study",
        "hc.model_fingerprint": record.inputs.model_fingerprint,
        "hc.evaluation_id": record.evaluation_id,
        "hc.evaluation_digest": record.metrics.evaluation_digest,
        "hc.provenance_digest": record.provenance.file.sha256,
        "hc.corpus_digest": record.inputs.corpus_digest,
        "hc.dagster_run_id": record.run.dagster_run_id,
        "hc.mlflow_run": record.mlflow.url,
        "hc.promoted_at": made.at.isoformat(timespec="seconds"),
        "hc.promoted_by": made.by,
        "hc.gates": "passed",
    }

    again = call("promote", TERMS)
    assert again.code == 0
    assert "is the champion of test-study already" in again.out
    assert len(promotions(evaluated)) == 1
    versions = registry(evaluated).search_model_versions("name = 'test-study'")
    assert [str(version.version) for version in versions] == ["1"]


def test_a_failed_gate_refuses_and_leaves_record_and_provenance_in_place(
    settings: Settings, run_job: Run
) -> None:
    gate(settings, FAILING)
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success

    answer = call("promote", TERMS)

    assert answer.code == 1
    assert "FAIL: exact.f1 is 0.769 (no interval), minimum 0.9, on 7 gold mentions." in answer.err
    record = newest(settings, TERMS)
    assert record.state is Status.FINISHED
    assert record.gates
    assert record.gates.outcome == "failed"
    assert provenance(settings, record)["resourceType"] == "Provenance"
    assert promotions(settings) == []
    assert registry(settings).search_registered_models() == []
    refused = call("promote", TERMS, "--json")
    assert refused.code == 1
    assert (refused.json["promoted"], refused.json["gates"][0]["verdict"]) == (False, "FAIL")


def test_gates_are_those_of_the_study_now_and_a_reason_is_not_kept_where_they_hold(
    evaluated: Settings,
) -> None:
    gate(evaluated, "gates: [{metric: strict.f1, minimum: 0.1}]")
    untyped = call("promote", RULER)
    assert untyped.code == 1
    assert "INCONCLUSIVE: strict.f1 is" in untyped.err
    assert "not applicable to a model without types" in untyped.err

    gate(evaluated, FAILING)
    assert call("promote", TERMS).code == 1
    gate(evaluated, HELD)
    assert call("promote", TERMS, "--force", REASON).code == 0
    (made,) = promotions(evaluated)
    assert made.forced_reason is None


def test_a_forced_reason_stands_in_mlflow_and_in_the_next_provenance_and_changes_nothing_else(
    evaluated: Settings, run_job: Run
) -> None:
    gate(evaluated, REGRESSION)
    assert call("promote", TERMS).code == 0
    before = newest(evaluated, RULER)
    refused = call("promote", RULER)
    assert refused.code == 1
    assert "INCONCLUSIVE: exact.f1 is 0.727, the champion's 0.769" in refused.err

    assert call("promote", RULER, "--force", REASON).code == 0

    made = promotions(evaluated)[0]
    assert (made.model_key, made.previous, made.forced_reason) == (RULER, TERMS, REASON)
    assert made.previous_evaluation_id == newest(evaluated, TERMS).evaluation_id
    tags = champion_tags(evaluated)
    assert (tags["hc.model"], tags["hc.forced_reason"]) == (RULER, REASON)
    assert before.mlflow
    run = registry(evaluated).get_run(before.mlflow.run_id)
    assert run.data.tags["hc.forced_reason"] == REASON
    assert run.data.tags["hc.registered_model"] == "test-study/2"

    assert run_job("evaluate_model", RULER).success
    told = newest(evaluated, RULER)
    was, now = provenance(evaluated, before), provenance(evaluated, told)
    assert [reason["text"] for reason in was["reason"]] == ["Find out"]
    assert now["reason"][0] == was["reason"][0]
    (forced,) = now["reason"][1:]
    assert forced["text"].endswith(REASON)
    assert made.evaluation_id in forced["text"]
    assert told.metrics
    assert before.metrics
    assert told.metrics.evaluation_digest == before.metrics.evaluation_digest
    assert told.metrics.inputs_unchanged

    assert run_job("evaluate_model", RULER).success
    after = newest(evaluated, RULER).provenance
    assert told.provenance
    assert after
    assert after.file.sha256 == told.provenance.file.sha256, "it is told once"


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("", "needs a reason that is not empty"),
        (" \n ", "needs a reason that is not empty"),
        ("because MRN 4711123 did well", "looks as if it held an identifier (MRN)"),
        ("x" * 501, "longer than 500 characters"),
    ],
)
def test_a_reason_must_say_something_and_name_nobody(
    settings: Settings, reason: str, said: str
) -> None:
    answer = call("promote", TERMS, "--force", reason)

    assert answer.code == 1
    assert said in answer.err
    assert "4711123" not in answer.err
    assert promotions(settings) == []


def test_there_must_be_a_finished_evaluation_of_now(settings: Settings, run_job: Run) -> None:
    assert run_job("refresh_corpus").success
    assert "not evaluated yet" in call("promote", TERMS, "--force", REASON).err

    assert run_job("evaluate_model", TERMS).success
    terms = settings.catalogue.parent / "terms.tsv"
    kept = terms.read_text(encoding="utf-8")
    terms.write_text("DISEASE\tgout\n", encoding="utf-8")
    stale = call("promote", TERMS, "--force", REASON)
    assert stale.code == 1
    assert "stale: its last evaluation is of other model files" in stale.err

    terms.write_text("no tab here\n", encoding="utf-8")
    assert not run_job("evaluate_model", TERMS).success
    terms.write_text(kept, encoding="utf-8")
    failed = call("promote", TERMS, "--force", REASON)
    assert failed.code == 1
    assert "its last evaluation failed" in failed.err
    assert call("promote", "nobody-1.0").code == 2
    assert promotions(settings) == []


def test_scores_without_a_record_for_the_auditor_are_not_enough(
    settings: Settings, run_job: Run
) -> None:
    assert run_job("refresh_corpus").success
    chain = ["model_files", "extracted_entities", "evaluation_metrics"]
    assert run_job("evaluate_model", TERMS, chain).success
    assert newest(settings, TERMS).state is Status.FINISHED

    assert "has no Provenance" in call("promote", TERMS, "--force", REASON).err


def test_other_files_under_the_champions_name_are_not_the_champion(
    evaluated: Settings, run_job: Run
) -> None:
    """Else a champion that was made worse would lower the bar for everybody."""
    gate(evaluated, REGRESSION)
    assert call("promote", TERMS).code == 0
    with (evaluated.catalogue.parent / "terms.tsv").open("a", encoding="utf-8") as terms:
        terms.write("DISEASE\tgout\n")
    assert run_job("evaluate_model", TERMS).success

    assert "INCONCLUSIVE: exact.f1 is" in call("promote", TERMS).err
    assert "INCONCLUSIVE: exact.f1 is" in call("promote", RULER).err


@pytest.mark.usefixtures("mlflow_away")
def test_a_promotion_while_mlflow_is_away_stands_and_the_sensor_shows_it_once(
    evaluated: Settings, mlflow_away: pytest.MonkeyPatch
) -> None:
    answer = call("promote", TERMS, "--json")
    assert (answer.code, answer.json["promoted"], answer.json["mlflow"]) == (0, True, None)
    assert [p.model_key for p in promotions(evaluated)] == [TERMS]
    doctor = call("doctor", "--json")
    assert [finding["problem"] for finding in doctor.json] == ["MLflow lacks it"]
    sensor = mlflow_sync_sensor(evaluated)
    with dg.build_sensor_context() as context:
        first = sensor(context)
        mlflow_away.undo()
        second, third = sensor(context), sensor(context)

    assert [getattr(answer, "skip_message", None) for answer in (first, second, third)] == [
        "told MLflow of 0 records",
        "told MLflow of 0 records and 1 promotions",
        "MLflow shows every record",
    ]
    assert champion_tags(evaluated)["hc.model"] == TERMS
    assert call("doctor", "--json").json == []


def test_a_lost_registry_is_filled_again_and_a_full_one_left_alone(
    evaluated: Settings, empty_mlflow: Path
) -> None:
    gate(evaluated, REGRESSION)
    assert call("promote", TERMS).code == 0
    assert call("promote", RULER, "--force", REASON).code == 0
    assert call("mlflow", "sync", "--json").json["promotions"] == {"projected": [], "failed": []}
    made = [promotion.promotion_id for promotion in reversed(promotions(evaluated))]

    (evaluated.home / "mlflow.db").write_bytes(empty_mlflow.read_bytes())
    first, second = call("mlflow", "sync", "--json"), call("mlflow", "sync", "--json")

    assert first.json["promotions"] == {"projected": made, "failed": []}
    assert second.json["promotions"] == {"projected": [], "failed": []}
    tags = champion_tags(evaluated)
    assert (tags["hc.model"], tags["hc.forced_reason"]) == (RULER, REASON)
    run = newest(evaluated, RULER).mlflow
    assert run
    assert tags["hc.mlflow_run"] == run.url
    versions = registry(evaluated).search_model_versions("name = 'test-study'")
    assert len(versions) == 2


def test_the_job_promotes_or_fails_with_the_sentence_of_each_gate(
    evaluated: Settings, instance: dg.DagsterInstance
) -> None:
    job = build_definitions(evaluated).resolve_job_def("promote_model")

    def run(**config: str) -> dg.ExecuteInProcessResult:
        return job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_config={
                "ops": {"promote": {"config": config}},
                "loggers": {"console": {"config": {"log_level": "CRITICAL"}}},
            },
        )

    gate(evaluated, FAILING)
    refused = run(model=TERMS)
    assert not refused.success
    (failure,) = [event for event in refused.all_events if event.is_step_failure]
    assert "FAIL: exact.f1 is 0.769" in str(failure.step_failure_data.error)
    assert promotions(evaluated) == []

    assert run(model=TERMS, force_reason=REASON).success
    assert [(p.model_key, p.forced_reason) for p in promotions(evaluated)] == [(TERMS, REASON)]
    assert champion_tags(evaluated)["hc.forced_reason"] == REASON


def test_the_form_of_the_job_explains_its_fields(settings: Settings) -> None:
    job = build_definitions(settings).resolve_job_def("promote_model")
    shape = job.get_node_named("promote").definition.config_schema.as_field().config_type

    assert {name: bool(field.description) for name, field in shape.fields.items()} == {  # type: ignore[attr-defined]
        "model": True,
        "force_reason": True,
    }


def many_notes(settings: Settings, number: int) -> None:
    """Notes of distinct text, each with two mentions that the term list finds."""
    with (settings.study.parent / "notes.jsonl").open("w", encoding="utf-8") as file:
        for at in range(number):
            text = f"Visit {at}: asthma, on metformin."
            spans = [
                {"start": (begin := text.index(word)), "end": begin + len(word), "label": label}
                for word, label in (("asthma", "DISEASE"), ("metformin", "CHEMICAL"))
            ]
            note = {"note_id": f"n{at}", "text": text, "spans": spans}
            file.write(json.dumps(note) + "\n")


def better_and_worse(settings: Settings) -> tuple[str, str]:
    """Two term lists: one knows both words, the other one of them."""
    folder = settings.catalogue.parent
    (folder / "less.tsv").write_text("DISEASE\tasthma\n", encoding="utf-8")
    added = "  - {name: less, version: '1', loader: lexicon, source: {path: less.tsv}}\n"
    settings.catalogue.write_text(CATALOGUE + added, encoding="utf-8")
    return TERMS, "less-1"


def run_all(settings: Settings, instance: dg.DagsterInstance, *keys: str) -> None:
    definitions = build_definitions(settings)
    for name, key in (("refresh_corpus", None), *(("evaluate_model", key) for key in keys)):
        done = definitions.resolve_job_def(name).execute_in_process(
            instance=instance,
            partition_key=key,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        )
        assert done.success


def test_a_better_model_takes_the_place_of_the_champion_and_a_worse_one_does_not(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    better, worse = better_and_worse(settings)
    many_notes(settings, 40)
    run_all(settings, instance, better, worse)
    gate(settings, "gates: [{metric: strict.f1, regression: 0.02}]")
    assert call("promote", worse).code == 0

    assert call("promote", better).code == 0

    assert [p.model_key for p in promotions(settings)] == [better, worse]
    assert champion_tags(settings)["hc.model"] == better
    refused = call("promote", worse)
    assert refused.code == 1
    assert "FAIL: strict.f1 is 0.667, the champion's 1.000, difference -0.333" in refused.err


def test_twelve_notes_never_pass_a_regression_gate(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """Not even a model that finds everything, against one that finds half."""
    better, worse = better_and_worse(settings)
    many_notes(settings, 12)
    run_all(settings, instance, better, worse)
    gate(settings, "gates: [{metric: strict.f1, regression: 0.02}]")
    assert call("promote", worse).code == 0

    refused = call("promote", better)

    assert refused.code == 1
    assert "INCONCLUSIVE: strict.f1 is 1.000" in refused.err
    assert "too few clusters" in refused.err


def test_names_that_mlflow_refuses_stay_different() -> None:
    assert registered_name("clinical ner (ü)") == "clinical ner (ü)"
    assert registered_name("a/b").startswith("a-b-")
    assert registered_name("a/b") != registered_name("a:b")
    assert "'" not in registered_name("it's")
