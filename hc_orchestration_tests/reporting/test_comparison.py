"""The comparison: who is ranked, in which order, and why somebody is not."""

from collections.abc import Callable
from typing import Any

import pytest

from hc_orchestration.errors import StorageError
from hc_orchestration.reporting.comparison import ComparedModel, compare_models, comparison_rows
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import ABSENT, RULER, TERMS
from hc_orchestration_tests.storage.parts import inputs_part, metrics_part, status_part

Evaluate = Callable[..., EvaluationRecord]


@pytest.fixture
def five_models(settings: Settings) -> list[str]:
    """A catalogue of five term lists."""
    lines = [
        f"  - {{name: {name}, version: '1', loader: lexicon, source: {{path: terms.tsv}}}}"
        for name in "edcba"
    ]
    settings.catalogue.write_text("\n".join(["models:", *lines]), encoding="utf-8")
    return [f"{name}-1" for name in "edcba"]


def ranks(workspace: Workspace) -> list[tuple[str, int | None]]:
    return [(model.key, model.rank) for model in compare_models(workspace)]


def by_key(workspace: Workspace) -> dict[str, ComparedModel]:
    return {model.key: model for model in compare_models(workspace)}


@pytest.mark.usefixtures("five_models")
def test_models_are_ranked_by_strict_then_exact_then_key(
    workspace: Workspace, record_evaluation: Evaluate
) -> None:
    scores = {
        "a-1": {"strict.f1": 0.5, "exact.f1": 0.6},
        "b-1": {"strict.f1": 0.5, "exact.f1": 0.9},
        "c-1": {"strict.f1": 0.7, "exact.f1": 0.7},
        "d-1": {"strict.f1": 0.5, "exact.f1": 0.6},
    }
    for key, values in scores.items():
        record_evaluation(f"of-{key}", key, values)

    assert ranks(workspace) == [("c-1", 1), ("b-1", 2), ("a-1", 3), ("d-1", 4), ("e-1", None)]


@pytest.mark.usefixtures("five_models")
def test_a_model_with_a_strict_score_stands_before_one_without(
    workspace: Workspace, record_evaluation: Evaluate
) -> None:
    """A strict F1 of 0 is a score; an untyped model has none, however good its boundaries are."""
    scores: dict[str, dict[str, float]] = {
        "a-1": {"exact.f1": 0.99},
        "b-1": {"strict.f1": 0.0, "exact.f1": 0.1},
        "c-1": {},
        "d-1": {"exact.f1": 0.0},
    }
    for key, values in scores.items():
        record_evaluation(f"of-{key}", key, values)

    assert ranks(workspace)[:4] == [("b-1", 1), ("a-1", 2), ("d-1", 3), ("c-1", 4)]


def test_who_was_never_evaluated_is_missing_with_the_reason(workspace: Workspace) -> None:
    models = by_key(workspace)

    assert models[TERMS].missing == "not evaluated yet"
    assert "there is nothing at" in str(models[ABSENT].missing)
    assert {model.rank for model in models.values()} == {None}


def test_a_failed_evaluation_hides_the_finished_one_before_it(
    workspace: Workspace, record_evaluation: Evaluate
) -> None:
    record_evaluation("e1", TERMS, {"strict.f1": 0.5})
    failed = status_part(Status.FAILED, error_class="ModelError", error="its files are damaged")
    record_evaluation("e2", TERMS, {}, status=Status.FAILED, metrics=None)
    workspace.records.append("e2", TERMS, failed)

    assert by_key(workspace)[TERMS].missing == "its last evaluation failed: its files are damaged"


@pytest.mark.parametrize("status", [Status.RUNNING, Status.KILLED])
def test_an_evaluation_that_did_not_end_leaves_the_finished_one_before_it(
    workspace: Workspace, record_evaluation: Evaluate, status: Status
) -> None:
    record_evaluation("e1", TERMS, {"strict.f1": 0.5})
    record_evaluation("e2", TERMS, {"strict.f1": 0.9}, status=status)

    model = by_key(workspace)[TERMS]
    assert model.record
    assert (model.rank, model.record.evaluation_id) == (1, "e1")


@pytest.mark.parametrize(
    "changes",
    [{"inputs": inputs_part(model_fingerprint="0" * 64)}, {"metrics": metrics_part()}],
    ids=["other inputs", "other scores"],
)
def test_an_evaluation_whose_digest_is_not_the_expected_one_is_stale(
    workspace: Workspace, record_evaluation: Evaluate, changes: dict[str, Any]
) -> None:
    record_evaluation("e1", TERMS, {"strict.f1": 0.5}, **changes)

    assert str(by_key(workspace)[TERMS].missing).startswith("stale")


def test_a_changed_label_mapping_makes_an_evaluation_stale(
    record_evaluation: Evaluate, settings: Settings
) -> None:
    record_evaluation("e1", RULER, {"exact.f1": 0.5})
    catalogue = settings.catalogue.read_text(encoding="utf-8")
    settings.catalogue.write_text(catalogue.replace('"*"', "DISEASE"), encoding="utf-8")

    assert str(by_key(Workspace(settings))[RULER].missing).startswith("stale")


def test_without_a_corpus_there_is_nothing_to_compare_on(settings: Settings) -> None:
    with pytest.raises(StorageError, match="no corpus is stored yet"):
        compare_models(Workspace(settings))


def test_rows_to_store_hold_scores_or_the_reason(
    workspace: Workspace, record_evaluation: Evaluate
) -> None:
    record_evaluation("e1", TERMS, {"strict.f1": 0.5, "exact.f1": 0.75})
    corpus = workspace.corpus.required()

    rows = {row["model_key"]: row for row in comparison_rows(compare_models(workspace), corpus)}

    assert rows[TERMS]["strict_f1"] == 0.5
    assert rows[TERMS]["exact_f1"] == 0.75
    assert rows[TERMS]["strict_precision"] is None
    assert rows[TERMS]["support"] == 7
    assert rows[TERMS]["missing_reason"] is None
    assert rows[RULER]["strict_f1"] is None
    assert rows[RULER]["support"] is None
    assert rows[RULER]["missing_reason"] == "not evaluated yet"
    assert {row["corpus_digest"] for row in rows.values()} == {corpus.digest}
