"""Intervals: scipy as oracle, clusters as units, and where there is no interval."""

import numpy as np
import pytest
from scipy.stats import bootstrap

from hc_orchestration.scoring.bootstrap import (
    Resampling,
    difference_intervals,
    expanded_tail,
    percentile_intervals,
    resample_weights,
    score_intervals,
)
from hc_orchestration.scoring.scores import Counts, Layout
from hc_orchestration_tests.scoring.frames import Mention, evaluated

LAYOUT = Layout(("exact",), ())
STATISTICS = [row.statistic for row in LAYOUT.rows]
F1, PRECISION, RECALL = (STATISTICS.index(name) for name in ("f1", "precision", "recall"))


def drawn_counts(clusters: int, seed: int = 0) -> Counts:
    draw = np.random.default_rng(seed)
    gold = draw.poisson(6, clusters) + 1
    found = draw.binomial(gold, 0.7)
    predicted = found + draw.poisson(2, clusters)
    return Counts(*(np.array(x, dtype=float)[:, None] for x in (gold, predicted, found)))


def interval(counts: Counts, resamples: int = 2_000, seed: int = 1) -> list[tuple[float, float]]:
    clusters = counts.gold.shape[0]
    (made,) = score_intervals(
        LAYOUT, [(np.arange(clusters), counts)], clusters, Resampling(seed, resamples)
    )
    return list(zip(made.low, made.high, strict=True))


@pytest.mark.parametrize(("number", "clusters"), [(1, 40), (2, 150)])
def test_interval_is_the_expanded_percentile_interval_of_scipy(number: int, clusters: int) -> None:
    """Two Monte Carlo estimates of the same ends: they agree to the noise of 20,000 resamples."""
    counts = drawn_counts(clusters, number)
    gold, predicted, found = (x[:, 0] for x in (counts.gold, counts.predicted, counts.credit))

    def f1(g: np.ndarray, p: np.ndarray, f: np.ndarray, axis: int) -> np.ndarray:
        return 2 * f.sum(axis) / (g.sum(axis) + p.sum(axis))

    theirs = bootstrap(
        (gold, predicted, found), f1, paired=True, vectorized=True, method="percentile",
        confidence_level=1 - 2 * float(expanded_tail(np.array([clusters * 1.0]))[0]),
        n_resamples=20_000, rng=np.random.default_rng(3), batch=1_000,
    ).confidence_interval  # fmt: skip

    assert interval(counts, 20_000)[F1] == pytest.approx(tuple(theirs), abs=2e-3)


def test_weights_are_draws_with_replacement() -> None:
    weights = np.concatenate(list(resample_weights(30, Resampling(5, 4_000))))

    assert weights.shape == (4_000, 30)
    assert (weights.sum(axis=1) == 30).all()
    # Each count is binomial(30, 1/30): mean 1, variance 29/30.
    assert weights.mean(axis=0) == pytest.approx(np.ones(30), abs=0.08)
    assert weights.var() == pytest.approx(29 / 30, abs=0.02)


def test_weights_do_not_depend_on_how_many_are_made_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = np.concatenate(list(resample_weights(30, Resampling(5, 50))))
    monkeypatch.setattr("hc_orchestration.scoring.bootstrap._NUMBERS_AT_ONCE", 100)
    in_parts = list(resample_weights(30, Resampling(5, 50)))
    assert len(in_parts) > 1
    assert (np.concatenate(in_parts) == whole).all()


def test_the_same_seed_gives_the_same_interval() -> None:
    counts = drawn_counts(40)
    assert interval(counts, seed=4) == interval(counts, seed=4)
    assert interval(counts, seed=4) != interval(counts, seed=5)


def test_tails_shrink_by_what_few_clusters_make_the_percentiles_too_narrow() -> None:
    """By hand: 20 clusters, t 2.0930 of 19 degrees times √(20/19) is 2.1474, Φ of minus that."""
    tails = expanded_tail(np.array([0.0, 20.0, 500.0, 1e9]))

    assert tails[1:] == pytest.approx([0.015880, 0.024610, 0.025], abs=2e-5)
    assert np.isfinite(tails).all()


def test_percentiles_interpolate_as_numpy_and_leave_undefined_ones_out() -> None:
    values = np.random.default_rng(0).random((101, 2))
    values[:4, 1] = np.nan
    made = percentile_intervals(values, np.array([20.0, 20.0]))
    (tail,) = expanded_tail(np.array([20.0]))

    for column in (0, 1):
        expected = np.nanquantile(values[:, column], [tail, 1 - tail], method="weibull")
        assert [made.low[column], made.high[column]] == pytest.approx(expected)
    assert made.undefined == pytest.approx([0, 4 / 101])


@pytest.mark.parametrize(
    ("clusters", "undefined", "ends"),
    [(20, 0, 2), (19, 0, 0), (20, 5, 2), (20, 6, 0), (20, 100, 0)],
)
def test_no_interval_of_few_clusters_or_many_undefined_resamples(
    clusters: int, undefined: int, ends: int
) -> None:
    values = np.linspace(0, 1, 100)[:, None].copy()
    values[:undefined] = np.nan
    made = percentile_intervals(values, np.array([float(clusters)]))
    assert np.isfinite([made.low[0], made.high[0]]).sum() == ends
    assert made.undefined[0] == undefined / 100


def test_difference_is_paired() -> None:
    """A model that finds one mention more in every tenth note differs by less than its interval."""
    first = drawn_counts(200)
    more = (np.arange(200) % 10 == 0)[:, None] * 1.0
    second = Counts(first.gold, first.predicted + more, first.credit)
    made = difference_intervals(LAYOUT, first, second, Resampling(1))
    low, high = interval(first)[PRECISION]

    assert made.high[PRECISION] - made.low[PRECISION] < (high - low) / 4
    assert made.low[PRECISION] > 0
    assert (made.low[RECALL], made.high[RECALL]) == (0.0, 0.0)


def test_notes_of_one_patient_are_drawn_together() -> None:
    """Copies of a note add no information, but would narrow the interval if they stood alone."""
    mention: list[Mention] = [(0, 3, "DISEASE")]
    gold = {f"n{patient}-{copy}": mention for patient in range(40) for copy in range(4)}
    found = {note_id: mention for note_id in gold if int(note_id[1:].split("-")[0]) % 2}
    patients = {note_id: {"patient": note_id.split("-")[0]} for note_id in gold}

    def width(cluster: str | None, texts: dict[str, str] | None = None) -> tuple[float, int]:
        from dataclasses import replace

        from hc_orchestration_tests.scoring.frames import PLAN

        result = evaluated(
            gold, found, plan=replace(PLAN, cluster=cluster), resamples=500,
            attributes=patients, texts=texts,
        )  # fmt: skip
        (row,) = result.scores.filter(mode="strict", average="micro", statistic="recall").to_dicts()
        return row["ci_high"] - row["ci_low"], row["clusters"]

    of_patients, clusters = width("patient")
    of_notes, notes = width(None)
    of_texts, texts = width(None, {note_id: note_id.split("-")[0] for note_id in gold})
    assert (clusters, notes, texts) == (40, 160, 40)
    assert of_patients == pytest.approx(2 * of_notes, rel=0.2)
    assert of_texts == pytest.approx(of_patients, rel=0.2)


def test_every_row_tells_resamples_seed_and_clusters() -> None:
    gold: dict[str, list[Mention]] = {f"n{i}": [(0, 3, "DISEASE")] for i in range(25)}
    table = evaluated(gold, gold, resamples=50).scores

    assert table["resamples"].unique().to_list() == [50]
    assert table["seed"].unique().to_list() == [1]
    diseases = table.filter(mode="strict", label="DISEASE", statistic="f1").to_dicts()[0]
    assert (diseases["clusters"], diseases["ci_low"], diseases["undefined"]) == (25, 1.0, 0.0)
    nothing = table.filter(mode="strict", label="CHEMICAL", statistic="f1").to_dicts()[0]
    assert (nothing["clusters"], nothing["ci_low"], nothing["undefined"]) == (0, None, 1.0)
