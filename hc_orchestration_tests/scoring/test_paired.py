"""The permutation test and Holm: scipy and arithmetic as oracles, and the test's promise."""

from itertools import product

import numpy as np
import polars as pl
import pytest
from scipy.stats import permutation_test

from hc_orchestration.scoring.differences import ScoredModel, paired_differences
from hc_orchestration.scoring.paired import holm, permutation_p
from hc_orchestration.scoring.scores import Counts, Layout
from hc_orchestration_tests.scoring.frames import LABELS, Mention, evaluated

LAYOUT = Layout(("exact",), ())
F1 = [row.statistic for row in LAYOUT.rows].index("f1")


def counts(gold: list[int], predicted: list[int], found: list[int]) -> Counts:
    return Counts(*(np.array(x, dtype=float)[:, None] for x in (gold, predicted, found)))


def f1(model: Counts) -> float:
    return float(LAYOUT.values(model.total())[F1])


def drawn(clusters: int, seed: int, worse: float = 0.0) -> tuple[Counts, Counts]:
    """Two models on the same clusters, the second finding so much less."""
    draw = np.random.default_rng(seed)
    gold = draw.poisson(6, clusters) + 1
    made = []
    for recall in (0.8, 0.8 - worse):
        found = draw.binomial(gold, recall)
        made.append(counts(list(gold), list(found + draw.poisson(1, clusters)), list(found)))
    return made[0], made[1]


def test_p_is_that_of_all_exchanges_when_there_are_few() -> None:
    first = counts([4, 3, 5, 2, 6], [4, 3, 5, 2, 5], [4, 2, 5, 2, 5])
    second = counts([4, 3, 5, 2, 6], [3, 3, 4, 3, 4], [2, 2, 3, 1, 3])
    seen = abs(f1(first) - f1(second))
    at_least = 0
    for exchanged in product((False, True), repeat=5):
        rows = np.array(exchanged)[:, None]
        one, other = (
            Counts(*(np.where(rows, y, x) for x, y in zip(fields(a), fields(b), strict=True)))
            for a, b in ((first, second), (second, first))
        )
        at_least += abs(f1(one) - f1(other)) >= seen - 1e-12
    p = permutation_p(LAYOUT, first, second, 20_000, seed=1)[F1]
    assert p == pytest.approx(at_least / 2**5, abs=0.01)


def fields(model: Counts) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return model.gold, model.predicted, model.credit


def test_p_is_that_of_scipy() -> None:
    first, second = drawn(60, seed=3, worse=0.05)
    gold = first.gold[:, 0]

    def statistic(one: np.ndarray, other: np.ndarray, axis: int) -> np.ndarray:
        """Each cluster's sample is an index; scipy exchanges the indices within pairs."""
        both = np.concatenate([second.predicted[:, 0], first.predicted[:, 0]])
        credit = np.concatenate([second.credit[:, 0], first.credit[:, 0]])
        scores = [
            2 * credit[at.astype(int)].sum(axis) / (gold.sum() + both[at.astype(int)].sum(axis))
            for at in (one, other)
        ]
        return scores[0] - scores[1]

    theirs = permutation_test(
        (np.arange(60) + 60, np.arange(60)), statistic, permutation_type="samples",
        n_resamples=20_000, vectorized=True, rng=np.random.default_rng(2), batch=1_000,
    )  # fmt: skip
    p = permutation_p(LAYOUT, first, second, 20_000, seed=1)[F1]
    assert p == pytest.approx(theirs.pvalue, abs=0.012)


def test_models_that_agree_do_not_differ_and_undefined_ones_have_no_p() -> None:
    first, _ = drawn(30, seed=1)
    assert (permutation_p(LAYOUT, first, first, 100, seed=1) == 1.0).all()
    nothing = counts([0, 0], [0, 0], [0, 0])
    assert np.isnan(permutation_p(LAYOUT, nothing, nothing, 100, seed=1)).all()


def test_p_is_never_zero() -> None:
    first, second = drawn(200, seed=1, worse=0.4)
    assert permutation_p(LAYOUT, first, second, 999, seed=1)[F1] == pytest.approx(1 / 1_000)


def test_exchangeable_models_are_rejected_about_as_often_as_promised() -> None:
    """300 simulations: binomial(300, 0.05) lies in 5..27 with more than 99.9 %."""
    rejected = sum(
        permutation_p(LAYOUT, *drawn(60, seed), 400, seed)[F1] <= 0.05 for seed in range(300)
    )
    assert 5 <= rejected <= 27


@pytest.mark.parametrize(
    ("raw", "adjusted"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.04, 0.01, None, 0.03], [0.06, 0.03, None, 0.06]),
        ([0.6, 0.7], [1.0, 1.0]),
        ([0.02], [0.02]),
        ([], []),
        ([None], [None]),
    ],
)
def test_holm_worked_by_hand(raw: list[float | None], adjusted: list[float | None]) -> None:
    assert holm(raw) == pytest.approx(adjusted)


GOLD: dict[str, list[Mention]] = {
    f"n{i}": [(0, 3, "DISEASE"), (5, 9, "CHEMICAL")] for i in range(30)
}
GROUPS = pl.DataFrame({"note_id": list(GOLD), "cluster": range(len(GOLD))})


def model(key: str, every: int, *, untyped: bool = False) -> ScoredModel:
    """Finds both mentions in every so many notes."""
    found = {n: mentions for i, (n, mentions) in enumerate(GOLD.items()) if i % every == 0}
    mapping = dict.fromkeys(LABELS, "*") if untyped else None
    return ScoredModel(key, f"digest of {key}", evaluated(GOLD, found, mapping).counts, untyped)


def test_pairs_are_told_from_either_side_with_the_same_numbers() -> None:
    a, b = model("a", 2), model("b", 3)
    forth = {d.metric: d for d in paired_differences([a, b], GROUPS, LABELS, 200, 200)}
    back = {d.metric: d for d in paired_differences([b, a], GROUPS, LABELS, 200, 200)}

    assert forth.keys() == back.keys()
    for metric, difference in forth.items():
        assert back[metric].reversed() == difference
    f1_ = forth["strict.f1"]
    assert f1_.first_value == pytest.approx(2 / 3)
    assert f1_.difference == pytest.approx(2 / 3 - 1 / 2)
    assert (f1_.gold, f1_.clusters, f1_.resamples, f1_.permutations) == (60, 30, 200, 200)
    assert f1_.ci_low is not None
    assert f1_.ci_high is not None
    assert f1_.ci_low < f1_.difference < f1_.ci_high
    assert f1_.p_holm == f1_.p


def test_pairs_with_an_untyped_model_are_compared_where_both_have_scores() -> None:
    found = paired_differences([model("a", 2), model("u", 3, untyped=True)], GROUPS, LABELS, 20, 20)
    assert {d.metric.split(".")[0] for d in found} == {"exact", "partial"}


def test_p_values_are_adjusted_over_the_pairs_of_a_metric() -> None:
    models = [model("a", 1), model("b", 2), model("c", 10)]
    found = [
        d for d in paired_differences(models, GROUPS, LABELS, 20, 500) if d.metric == "type.f1"
    ]
    assert [(d.first, d.second) for d in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    assert [d.p_holm for d in found] == holm([d.p for d in found])
