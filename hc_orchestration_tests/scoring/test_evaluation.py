"""Strict and exact by hand: small notes whose counts and scores can be worked out on paper."""

import polars as pl
import pytest

from hc_orchestration.errors import EvaluationError
from hc_orchestration.scoring.bootstrap import Resampling
from hc_orchestration.scoring.counts import COUNT_SCHEMA
from hc_orchestration.scoring.evaluation import evaluate
from hc_orchestration_tests.scoring.frames import (
    PLAN,
    Mention,
    evaluated,
    notes,
    rows,
    statistics,
    totals,
)

D, C = "DISEASE", "CHEMICAL"
Counts = tuple[int, int, int]


@pytest.mark.parametrize(
    ("gold", "predicted", "strict", "exact"),
    [
        pytest.param(
            [(0, 3, D), (5, 9, C), (10, 12, D)],
            [(0, 3, D), (5, 9, D), (20, 22, C)],
            {D: (2, 2, 1), C: (1, 1, 0)},
            (3, 3, 2),
            id="one right, one of another label, one missed, one invented",
        ),
        pytest.param([(0, 3, D)], [(0, 3, C)], {D: (1, 0, 0), C: (0, 1, 0)}, (1, 1, 1), id="label"),
        pytest.param([(0, 3, D)], [(0, 4, D)], {D: (1, 1, 0)}, (1, 1, 0), id="end"),
        pytest.param([(1, 4, D)], [(0, 4, D)], {D: (1, 1, 0)}, (1, 1, 0), id="start"),
        pytest.param(
            [(0, 3, D), (0, 3, D)],
            [(0, 3, D), (0, 3, D), (0, 3, D)],
            {D: (1, 1, 1)},
            (1, 1, 1),
            id="the same span several times counts once",
        ),
        pytest.param(
            [(0, 3, D)],
            [(0, 3, D), (0, 3, C)],
            {D: (1, 1, 1), C: (0, 1, 0)},
            (1, 2, 1),
            id="one gold, two labels predicted on its boundary",
        ),
        pytest.param(
            [(0, 3, D), (0, 3, C)],
            [(0, 3, C)],
            {D: (1, 0, 0), C: (1, 1, 1)},
            (2, 1, 1),
            id="two labels of gold on one boundary, one found",
        ),
        pytest.param(
            [(0, 3, D), (0, 3, C)],
            [(0, 3, C), (0, 3, D)],
            {D: (1, 1, 1), C: (1, 1, 1)},
            (2, 2, 2),
            id="two labels on one boundary, both found",
        ),
        pytest.param(
            [(0, 10, D)],
            [(0, 4, D), (5, 10, D), (0, 10, D)],
            {D: (1, 3, 1)},
            (1, 3, 1),
            id="nested predictions",
        ),
        pytest.param(
            [(0, 10, D), (0, 4, C)],
            [(0, 10, C), (0, 4, D)],
            {D: (1, 1, 0), C: (1, 1, 0)},
            (2, 2, 2),
            id="nested gold, labels exchanged",
        ),
        pytest.param(
            [(0, 3, D), (3, 6, D)],
            [(0, 6, D), (3, 6, D)],
            {D: (2, 2, 1)},
            (2, 2, 1),
            id="adjacent",
        ),
    ],
)
def test_counts_of_one_note(
    gold: list[Mention], predicted: list[Mention], strict: dict[str, Counts], exact: Counts
) -> None:
    result = evaluated({"n1": gold}, {"n1": predicted})
    assert totals(result, "strict") == strict
    assert totals(result, "exact") == {"": exact}


def test_mentions_pair_within_their_note_only() -> None:
    result = evaluated({"n1": [(0, 3, D)], "n2": []}, {"n1": [], "n2": [(0, 3, D)]})
    both_sides = [("n1", 1, 0, 0, 0), ("n2", 0, 1, 0, 0)]
    gold_alone = ("n1", 1, None, 0, 0)
    expected = [
        (note_id, mode, label, *counts)
        for mode, label in (("exact", ""), ("partial", ""), ("strict", D), ("type", D))
        for note_id, *counts in both_sides
    ] + [(gold_alone[0], mode, D, *gold_alone[1:]) for mode in ("exact", "partial")]
    assert sorted(result.counts.rows(), key=str) == sorted(expected, key=str)
    assert list(result.counts.schema.names()) == ["note_id", *list(COUNT_SCHEMA)[1:]]


def test_scores_of_two_notes_worked_by_hand() -> None:
    gold = {"n1": [(0, 3, D), (5, 9, C)], "n2": [(0, 4, D), (6, 8, D)]}
    predicted = {"n1": [(0, 3, D), (5, 9, D)], "n2": [(0, 4, D), (10, 12, C)]}
    result = evaluated(gold, predicted)
    # strict: 2 of 4 predictions, 2 of 4 gold; DISEASE 2 of 3 and 2 of 3; CHEMICAL 0 of 1 and 1.
    # exact: the boundary (5, 9) is right as well: 3 of 4.
    # partial and type: no other mentions overlap, so they say what exact and strict say.
    strict_and_exact = {
        name: value
        for name, value in result.values.items()
        if (name.startswith(("strict", "exact")) and "label" not in name) or "strict" in name
    }
    assert strict_and_exact == pytest.approx(
        {
            "strict.precision.macro": (2 / 3 + 0) / 2,
            "strict.recall.macro": (2 / 3 + 0) / 2,
            "strict.f1.macro": (2 / 3 + 0) / 2,
            "strict.precision": 2 / 4,
            "strict.recall": 2 / 4,
            "strict.f1": 2 / 4,
            "strict.precision.label.DISEASE": 2 / 3,
            "strict.recall.label.DISEASE": 2 / 3,
            "strict.f1.label.DISEASE": 2 / 3,
            "strict.precision.label.CHEMICAL": 0.0,
            "strict.recall.label.CHEMICAL": 0.0,
            "strict.f1.label.CHEMICAL": 0.0,
            "exact.precision": 3 / 4,
            "exact.recall": 3 / 4,
            "exact.f1": 3 / 4,
        },
        abs=1e-12,
    )
    assert (result.support, result.annotated, result.predicted_unmapped) == (4, 2, 0)
    assert result.not_applicable == ()


def test_precision_recall_and_f1_have_their_own_denominators() -> None:
    gold = {"n1": [(0, 1, D), (2, 3, D), (4, 5, D), (6, 7, D)]}
    result = evaluated(gold, {"n1": [(0, 1, D), (8, 9, D)]})
    expected = {"precision": 1 / 2, "recall": 1 / 4, "f1": 2 / 6}
    assert statistics(result, "strict") == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        pytest.param([], [], {"precision": None, "recall": None, "f1": None}, id="neither"),
        pytest.param([], [(0, 3, D)], {"precision": 0.0, "recall": None, "f1": 0.0}, id="no gold"),
        pytest.param(
            [(0, 3, D)], [], {"precision": None, "recall": 0.0, "f1": 0.0}, id="no prediction"
        ),
    ],
)
def test_undefined_is_null_and_has_no_name(
    gold: list[Mention], predicted: list[Mention], expected: dict[str, float | None]
) -> None:
    result = evaluated({"n1": gold}, {"n1": predicted})
    assert statistics(result, "strict") == expected
    assert statistics(result, "exact") == expected
    assert statistics(result, "strict", D) == expected
    defined = {f"strict.{name}" for name, value in expected.items() if value is not None}
    assert {name for name in result.values if name.count(".") == 1 and "strict" in name} == defined


def test_every_label_of_the_study_has_rows_even_when_nothing_was_counted() -> None:
    result = evaluated({"n1": [(0, 3, D)]}, {"n1": [(0, 3, D)]})
    assert statistics(result, "strict", C) == {"precision": None, "recall": None, "f1": None}
    table = result.scores.filter(pl.col("label") == C, pl.col("mode") == "strict")
    assert table.select("gold", "predicted", "credit").unique().rows() == [(0, 0, 0.0)]
    kept = ("mode", "average", "label", "slice")
    assert sorted(result.scores.select(kept).unique().iter_rows()) == [
        ("exact", "label", C, "all"),
        ("exact", "label", D, "all"),
        ("exact", "micro", "", "all"),
        ("partial", "label", C, "all"),
        ("partial", "label", D, "all"),
        ("partial", "micro", "", "all"),
        ("strict", "label", C, "all"),
        ("strict", "label", D, "all"),
        ("strict", "macro", "", "all"),
        ("strict", "micro", "", "all"),
        ("type", "label", C, "all"),
        ("type", "label", D, "all"),
        ("type", "macro", "", "all"),
        ("type", "micro", "", "all"),
    ]
    only_recall = result.scores.filter(mode="exact", average="label")
    assert set(only_recall["statistic"]) == {"recall"}


def test_labels_of_the_model_are_mapped_and_others_left_out_and_counted() -> None:
    gold = {"n1": [(0, 3, D), (5, 9, C)]}
    found = {"n1": [(0, 3, "DIS"), (5, 9, "DRUG"), (5, 9, C), (12, 14, "GENE"), (12, 14, "GENE")]}
    result = evaluated(gold, found, {"DIS": D, "DRUG": C})
    assert totals(result, "strict") == {D: (1, 1, 1), C: (1, 1, 1)}
    assert result.predicted_unmapped == 3


def test_two_labels_of_the_model_that_mean_the_same_count_once() -> None:
    found = {"n1": [(0, 3, "DIS"), (0, 3, "SYMPTOM")]}
    result = evaluated({"n1": [(0, 3, D)]}, found, {"DIS": D, "SYMPTOM": D})
    assert totals(result, "strict") == {D: (1, 1, 1)}
    assert totals(result, "exact") == {"": (1, 1, 1)}


def test_empty_mapping_leaves_every_prediction_out() -> None:
    result = evaluated({"n1": [(0, 3, D)]}, {"n1": [(0, 3, D)]}, {})
    assert result.predicted_unmapped == 1
    assert statistics(result, "strict") == {"precision": None, "recall": 0.0, "f1": 0.0}


def test_untyped_model_is_scored_by_boundary_only() -> None:
    found = {"n1": [(0, 3, "ENTITY"), (5, 9, "ENTITY"), (20, 21, "ENTITY")]}
    result = evaluated({"n1": [(0, 3, D), (5, 9, C)]}, found, {"ENTITY": "*"})
    assert result.not_applicable == ("strict", "type")
    expected = {"precision": 2 / 3, "recall": 1.0, "f1": 4 / 5}
    assert statistics(result, "exact") == pytest.approx(expected, abs=1e-12)
    assert statistics(result, "exact", C) == {"recall": 1.0}
    assert set(result.scores["mode"]) == {"exact", "partial"}
    assert set(result.counts["mode"]) == {"exact", "partial"}


def test_untyped_model_with_nothing_to_count_has_exact_rows_and_no_values() -> None:
    result = evaluated({"n1": []}, {"n1": []}, {"ENTITY": "*"})
    assert statistics(result, "exact") == {"precision": None, "recall": None, "f1": None}
    assert result.values == {}
    assert result.support == 0


def test_note_that_nobody_annotated_is_not_scored() -> None:
    gold = {"n1": [(0, 3, D)], "unread": None}
    found = {"n1": [(0, 3, D)], "unread": [(0, 3, D), (5, 9, "GENE")]}
    result = evaluated(gold, found)
    assert totals(result, "strict") == {D: (1, 1, 1)}
    assert (result.annotated, result.predicted_unmapped) == (1, 0)


def test_note_annotated_with_nothing_is_scored() -> None:
    result = evaluated({"n1": [(0, 3, D)], "n2": []}, {"n1": [(0, 3, D)], "n2": [(0, 3, D)]})
    assert totals(result, "strict") == {D: (1, 2, 1)}
    assert result.annotated == 2


def test_entities_of_notes_outside_the_corpus_are_not_scored() -> None:
    found = [("n1", [(0, 3, D)]), ("other", [(0, 3, D)])]
    gold = notes({"n1": [(0, 3, D)]})
    result = evaluate(gold, rows("spans", found), PLAN, {D: D}, Resampling(1, 20))
    assert totals(result, "strict") == {D: (1, 1, 1)}


@pytest.mark.parametrize(
    ("note_ids", "wrong"),
    [(["n1"], 1), ([], 2), (["n1", "n2", "n2"], 1), (["n1", "n1", "n2", "n2"], 2)],
)
def test_notes_without_exactly_one_row_of_entities_raise(note_ids: list[str], wrong: int) -> None:
    gold = notes({"n1": [(0, 3, D)], "n2": None})
    entities = rows("spans", [(note_id, []) for note_id in note_ids])
    with pytest.raises(EvaluationError, match=f"^{wrong} notes do not have exactly one row"):
        evaluate(gold, entities, PLAN, {D: D}, Resampling(1, 20))


@pytest.mark.parametrize("note_ids", [[], ["n1"], ["n1", "n2"]])
def test_corpus_that_nobody_annotated_has_no_score(note_ids: list[str]) -> None:
    with pytest.raises(EvaluationError, match="no note of the corpus is annotated"):
        evaluated(dict.fromkeys(note_ids), {})
