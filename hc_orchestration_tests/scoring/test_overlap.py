"""partial and type: worked by hand, and against a matcher that tries every pairing."""

from collections.abc import Callable, Sequence
from itertools import combinations

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from hc_orchestration.scoring.counts import SpanIndex, note_counts
from hc_orchestration_tests.scoring.frames import (
    LABELS,
    Mention,
    evaluated,
    rows,
    statistics,
)

D, C = "DISEASE", "CHEMICAL"
Pairs = tuple[int, int]
HAND_WORKED = [
    # gold, predicted, (same, other) pairs in partial, in type
    pytest.param([(0, 5, D)], [(0, 5, D)], (1, 0), (1, 0), id="equal"),
    pytest.param([(0, 5, D)], [(0, 5, C)], (1, 0), (0, 0), id="equal, other label"),
    pytest.param([(0, 5, D)], [(0, 4, D)], (0, 1), (0, 1), id="shorter at the end"),
    pytest.param([(0, 5, D)], [(1, 5, D)], (0, 1), (0, 1), id="shorter at the start"),
    pytest.param([(2, 5, D)], [(0, 8, D)], (0, 1), (0, 1), id="longer on both sides"),
    pytest.param([(0, 5, D)], [(3, 8, D)], (0, 1), (0, 1), id="shifted to the right"),
    pytest.param([(3, 8, D)], [(0, 5, D)], (0, 1), (0, 1), id="shifted to the left"),
    pytest.param([(0, 5, D)], [(4, 8, D)], (0, 1), (0, 1), id="one character in common"),
    pytest.param([(0, 5, D)], [(5, 8, D)], (0, 0), (0, 0), id="adjacent after"),
    pytest.param([(5, 8, D)], [(0, 5, D)], (0, 0), (0, 0), id="adjacent before"),
    pytest.param([(0, 5, D)], [(0, 4, C)], (0, 1), (0, 0), id="overlap, other label"),
    pytest.param([(0, 9, D)], [(0, 4, D), (5, 9, D)], (0, 1), (0, 1), id="one gold, two parts"),
    pytest.param([(0, 4, D), (5, 9, D)], [(0, 9, D)], (0, 1), (0, 1), id="two gold, one over both"),
    pytest.param(
        [(0, 4, D), (5, 9, D)], [(0, 6, D), (7, 9, D)], (0, 2), (0, 2), id="a chain of two pairs"
    ),
    pytest.param(
        [(0, 3, D), (4, 7, D)],
        [(2, 5, D)],
        (0, 1),
        (0, 1),
        id="a bridge between two gold mentions counts once",
    ),
    pytest.param(
        [(0, 9, D)], [(0, 9, D), (2, 4, D)], (1, 0), (1, 0), id="exact first, a part is left over"
    ),
    pytest.param(
        [(0, 9, D), (2, 4, D)], [(0, 9, D)], (1, 0), (1, 0), id="nested gold, the outer one found"
    ),
    pytest.param(
        [(0, 9, D), (2, 4, D)], [(2, 4, D)], (1, 0), (1, 0), id="nested gold, the inner one found"
    ),
    pytest.param(
        [(0, 9, D), (2, 4, D)], [(0, 8, D), (2, 5, D)], (0, 2), (0, 2), id="nested, both inexact"
    ),
    pytest.param(
        [(0, 9, D), (2, 4, C)],
        [(0, 9, C), (2, 4, D)],
        (2, 0),
        (0, 2),
        id="nested, labels exchanged",
    ),
    pytest.param(
        [(0, 9, D), (2, 4, C)],
        [(2, 4, D), (5, 8, C)],
        (1, 1),
        (0, 1),
        id="same boundary comes first although labels disagree",
    ),
    pytest.param(
        [(0, 4, D), (3, 8, D)],
        [(3, 8, D), (7, 9, D)],
        (1, 0),
        (1, 0),
        id="a same-boundary pair is kept even where two inexact pairs were possible",
    ),
    pytest.param([(0, 5, D), (0, 5, D)], [(0, 5, D)], (1, 0), (1, 0), id="gold given twice"),
    pytest.param([(0, 5, D)], [(0, 4, D), (0, 4, D)], (0, 1), (0, 1), id="prediction given twice"),
    pytest.param(
        [(0, 5, D), (0, 5, C)], [(0, 5, D)], (1, 0), (1, 0), id="two gold labels, one predicted"
    ),
    pytest.param(
        [(0, 5, D), (0, 5, C)], [(0, 5, D), (0, 4, C)], (1, 1), (1, 1), id="the other one inexact"
    ),
    pytest.param(
        [(0, 5, D)],
        [(0, 5, C), (1, 4, D)],
        (1, 0),
        (0, 1),
        id="type takes the overlap of its label",
    ),
    pytest.param(
        [(0, 2, D), (2, 4, D), (4, 6, D)], [(0, 6, D)], (0, 1), (0, 1), id="three under one"
    ),
    pytest.param(
        [(0, 2, D), (2, 4, D), (4, 6, D)],
        [(1, 3, D), (3, 5, D)],
        (0, 2),
        (0, 2),
        id="a zigzag of five spans has two pairs",
    ),
    pytest.param(
        [(0, 6, D), (5, 9, D)],
        [(0, 2, D), (3, 6, D), (8, 12, D)],
        (0, 2),
        (0, 2),
        id="a gold mention with three neighbours gives way to another",
    ),
    pytest.param([], [(0, 4, D)], (0, 0), (0, 0), id="no gold"),
    pytest.param([(0, 4, D)], [], (0, 0), (0, 0), id="no prediction"),
]


def counted(gold: Sequence[Mention], predicted: Sequence[Mention]) -> pl.DataFrame:
    """The counts of one note."""
    spans = rows("spans", [("n1", predicted)]).select("spans")
    notes = pl.concat([rows("gold", [("n1", gold)]), spans], how="horizontal").collect()
    return note_counts(SpanIndex(notes, LABELS, {label: label for label in LABELS}), untyped=False)


def pairs(counts: pl.DataFrame, mode: str, label: str | None = None) -> Pairs:
    """Same-boundary and other pairs: of a label, or of all of them."""
    of_mode = counts.filter(pl.col("mode") == mode)
    if label is not None:
        of_mode = of_mode.filter(pl.col("label") == label)
    elif mode == "partial":
        of_mode = of_mode.filter(pl.col("label") == "")
    return int(of_mode["same"].sum()), int(of_mode["overlapping"].sum())


@pytest.mark.parametrize(("gold", "predicted", "partial", "typed"), HAND_WORKED)
def test_pairs_worked_by_hand(
    gold: list[Mention], predicted: list[Mention], partial: Pairs, typed: Pairs
) -> None:
    counts = counted(gold, predicted)
    assert pairs(counts, "partial") == partial
    assert pairs(counts, "type") == typed


def test_credit_is_half_for_an_inexact_pair_in_partial_and_whole_in_type() -> None:
    result = evaluated(
        {"n1": [(0, 5, D), (10, 15, D)]}, {"n1": [(0, 5, D), (10, 14, D), (20, 22, D)]}
    )
    assert statistics(result, "partial") == pytest.approx(
        {"precision": 1.5 / 3, "recall": 1.5 / 2, "f1": 3 / 5}
    )
    assert statistics(result, "type") == pytest.approx(
        {"precision": 2 / 3, "recall": 2 / 2, "f1": 4 / 5}
    )


def test_recall_per_gold_label_asks_whether_anything_was_found_there() -> None:
    """One prediction lies on a disease and a chemical: each of them was found, micro counts one."""
    result = evaluated({"n1": [(0, 5, D), (0, 5, C), (9, 12, C)]}, {"n1": [(0, 5, D)]})

    assert statistics(result, "exact")["recall"] == pytest.approx(1 / 3)
    assert statistics(result, "exact", D) == {"recall": 1.0}
    assert statistics(result, "exact", C) == {"recall": 0.5}
    row = result.scores.filter(mode="exact", label=C)
    assert row.select("gold", "predicted", "credit").rows() == [(2, None, 1.0)]


MENTION = st.tuples(st.integers(0, 6), st.integers(1, 5), st.sampled_from(LABELS)).map(
    lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2])
)
SOME = st.lists(MENTION, max_size=5, unique=True)
Allowed = Callable[[Mention, Mention], bool]


def best_pairing(gold: list[Mention], predicted: list[Mention], allowed: Allowed) -> Pairs:
    """The most same-boundary pairs, then the most others, found by trying every pairing."""
    if not gold:
        return (0, 0)
    first, rest = gold[0], gold[1:]
    options = [best_pairing(rest, predicted, allowed)]
    for index, found in enumerate(predicted):
        if first[0] < found[1] and found[0] < first[1] and allowed(first, found):
            others = [*predicted[:index], *predicted[index + 1 :]]
            same, other = best_pairing(rest, others, allowed)
            exact = first[:2] == found[:2]
            options.append((same + exact, other + (not exact)))
    return max(options)


def any_label(gold: Mention, predicted: Mention) -> bool:
    return bool(gold and predicted)


def same_label(gold: Mention, predicted: Mention) -> bool:
    return gold[2] == predicted[2]


@given(SOME, SOME)
@settings(max_examples=120, deadline=None)
def test_numbers_of_pairs_are_those_of_the_best_of_all_pairings(
    gold: list[Mention], predicted: list[Mention]
) -> None:
    counts = counted(gold, predicted)
    assert pairs(counts, "partial") == best_pairing(gold, predicted, any_label)
    assert pairs(counts, "type") == best_pairing(gold, predicted, same_label)
    for label in LABELS:
        of_label = [mention for mention in gold if mention[2] == label]
        best = best_pairing(of_label, predicted, any_label)
        assert pairs(counts, "partial", label) == best
        assert pairs(counts, "exact", label) == (best[0], 0)


@given(st.lists(MENTION, max_size=25), st.lists(MENTION, max_size=25))
@settings(max_examples=60, deadline=None)
def test_crowded_notes_are_paired_as_an_assignment_of_greatest_weight(
    gold: list[Mention], predicted: list[Mention]
) -> None:
    """Too many spans to try every pairing; a same-boundary pair outweighs any number of others."""
    wanted, found = sorted(set(gold)), sorted(set(predicted))
    weights = np.array([[weight(g, p) for p in found] for g in wanted]).reshape(
        len(wanted), len(found)
    )
    chosen = weights[linear_sum_assignment(weights, maximize=True)]
    expected = (int((chosen == SAME).sum()), int((chosen == 1).sum()))
    assert pairs(counted(gold, predicted), "partial") == expected


SAME = 1_000


def weight(gold: Mention, predicted: Mention) -> int:
    if gold[:2] == predicted[:2]:
        return SAME
    return int(gold[0] < predicted[1] and predicted[0] < gold[1])


def test_spans_of_different_notes_never_overlap() -> None:
    result = evaluated({"n1": [(0, 50, D)], "n2": []}, {"n1": [], "n2": [(0, 50, D)]})
    assert result.counts.select(pl.col("same", "overlapping").sum()).row(0) == (0, 0)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_every_order_of_spans_gives_the_same_counts(size: int) -> None:
    mentions = [(0, 4, D), (2, 6, D), (5, 9, C), (2, 6, C), (8, 12, D)]
    for gold in combinations(mentions, size):
        forth, back = counted(gold, mentions), counted(gold[::-1], mentions[::-1])
        assert forth.equals(back)


def test_offsets_too_large_for_one_sorting_key_are_sorted_all_the_same() -> None:
    far = 2**40
    gold = [(far, far + 5, D), (far, far + 5, D), (1, 3, C), (far + 7, far + 9, C)]
    predicted = [(far + 1, far + 5, D), (1, 3, C)]
    assert pairs(counted(gold, predicted), "type") == (1, 1)
    assert pairs(counted(gold, predicted), "partial") == (1, 1)
