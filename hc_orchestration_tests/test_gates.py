"""Gates end to end: in the record, as checks, in MLflow; and a failed one stops nothing."""

import os
from collections.abc import Callable

import dagster as dg
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import RULER, STUDY, TERMS
from hc_orchestration_tests.storage.parts import promotion_on

Run = Callable[..., dg.ExecuteInProcessResult]

# strict F1 of terms-1.0.0 on the notes of conftest is 10/13, about 0.77, on seven gold mentions.
GATED = f"""{STUDY}
slices: [note_type]
gates:
  - {{metric: strict.f1, minimum: 0.5}}
  - {{metric: strict.f1, minimum: 0.9, name: ambitious}}
  - {{metric: strict.f1, minimum: 0.5, minimum_support: 100, name: enough mentions}}
  - {{metric: exact.f1, regression: 0.02}}
"""


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """The small deployment with gates in its study."""
    settings.study.write_text(GATED, encoding="utf-8")
    return settings


@pytest.fixture
def evaluated(run_job: Run) -> dict[str, dg.ExecuteInProcessResult]:
    """Both models evaluated."""
    run_job("refresh_corpus")
    return {key: run_job("evaluate_model", key) for key in (TERMS, RULER)}


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {made.check_name: made for made in result.get_asset_check_evaluations()}


def newest(settings: Settings, key: str) -> EvaluationRecord:
    return Workspace(settings).records.of_model(key)[0]


def test_a_failed_gate_is_a_check_that_stops_nothing(
    settings: Settings, evaluated: dict[str, dg.ExecuteInProcessResult]
) -> None:
    result = evaluated[TERMS]
    said = checks(result)

    assert result.success
    assert said["strict_f1_minimum_0_5"].passed
    ambitious = said["ambitious"]
    assert (ambitious.passed, ambitious.severity) == (False, dg.AssetCheckSeverity.ERROR)
    assert ambitious.description == (
        "FAIL: strict.f1 is 0.769 (no interval), minimum 0.9, on 7 gold mentions."
    )
    unsure = said["enough_mentions"]
    assert (unsure.passed, unsure.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert "at least 100 gold mentions are needed" in (unsure.description or "")
    record = newest(settings, TERMS)
    assert record.state is Status.FINISHED
    assert record.provenance is not None


def test_the_outcome_is_in_the_record_and_in_mlflow(
    settings: Settings, evaluated: dict[str, dg.ExecuteInProcessResult]
) -> None:
    from mlflow import MlflowClient

    assert evaluated[TERMS].success
    record = newest(settings, TERMS)
    assert record.gates is not None
    assert record.gates.outcome == "failed"
    assert [(r.name, r.verdict) for r in record.gates.results] == [
        ("strict_f1_minimum_0_5", "PASS"),
        ("ambitious", "FAIL"),
        ("enough_mentions", "INCONCLUSIVE"),
    ]
    assert record.mlflow is not None
    run = MlflowClient(tracking_uri=settings.tracking_uri).get_run(record.mlflow.run_id)
    assert run.data.tags["hc.gates"] == "failed"
    assert run.data.metrics["strict.f1.slice.note_type.ed_note"] == pytest.approx(6 / 7)


def test_a_strict_gate_is_not_applicable_to_an_untyped_model(
    evaluated: dict[str, dg.ExecuteInProcessResult],
) -> None:
    said = checks(evaluated[RULER])["strict_f1_minimum_0_5"]

    assert not said.passed
    assert said.severity == dg.AssetCheckSeverity.WARN
    assert "not applicable to a model without types" in (said.description or "")


@pytest.mark.usefixtures("evaluated")
def test_without_a_champion_nothing_is_behind_it(run_job: Run) -> None:
    said = checks(run_job("compare_models"))["exact_f1_regression_0_02"]

    assert said.passed
    assert "no champion yet" in (said.description or "")


@pytest.mark.usefixtures("evaluated")
def test_few_notes_settle_nothing_against_the_champion(settings: Settings, run_job: Run) -> None:
    """Five annotated notes: whatever the difference, it is too few to pass or to fail."""
    workspace = Workspace(settings)
    workspace.promotions.append(promotion_on("test-study", newest(settings, TERMS)))
    workspace.promotions.append(promotion_on("another-study", newest(settings, RULER)))

    result = run_job("compare_models")

    said = checks(result)["exact_f1_regression_0_02"]
    assert (said.passed, said.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert (said.description or "").startswith(f"{RULER} INCONCLUSIVE: exact.f1 is")
    assert "too few clusters" in (said.description or "")
    comparison = workspace.comparisons.latest()["comparison_id"][0]
    (pair,) = workspace.comparisons.pairs(comparison).filter(metric="exact.f1").to_dicts()
    assert (pair["first"], pair["second"]) == (TERMS, RULER)
    assert pair["difference"] == pytest.approx(10 / 13 - 8 / 11)
    assert pair["ci_low"] is None
    assert 0 < pair["p"] <= pair["p_holm"] <= 1
    (gate,) = workspace.comparisons.gates(comparison).to_dicts()
    assert (gate["model_key"], gate["champion"], gate["verdict"]) == (RULER, TERMS, "INCONCLUSIVE")


@pytest.mark.usefixtures("evaluated")
def test_other_slices_make_an_evaluation_stale_and_other_gates_do_not(settings: Settings) -> None:
    from hc_orchestration.reporting.comparison import compare_models

    without_gates = GATED.split("gates:", maxsplit=1)[0]
    settings.study.write_text(without_gates, encoding="utf-8")
    assert [m.key for m in compare_models(Workspace(settings)) if m.rank] == [TERMS, RULER]

    settings.study.write_text(without_gates.replace("[note_type]", "[source]"), encoding="utf-8")
    reasons = {m.key: m.missing or "" for m in compare_models(Workspace(settings))}
    assert reasons[TERMS].startswith("stale")
    assert reasons[RULER].startswith("stale")


@pytest.mark.usefixtures("evaluated")
def test_error_analysis_is_kept_without_text(settings: Settings) -> None:
    record = newest(settings, TERMS)
    assert record.metrics is not None
    (file,) = [f for f in record.metrics.files if f.name == "error_analysis.json"]
    content = Workspace(settings).files.get(file).decode()

    assert '"worst_notes"' in content
    assert "asthma" not in content
    assert os.sep not in content
