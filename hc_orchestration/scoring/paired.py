"""Whether two models differ: a paired permutation test over clusters, and Holm's adjustment."""

from collections.abc import Sequence

import numpy as np

from hc_orchestration.scoring.scores import Counts, Floats, Layout

PERMUTATIONS = 10_000
_NUMBERS_AT_ONCE = 4_000_000
_TIE = 1e-12


def permutation_p(
    layout: Layout, first: Counts, second: Counts, permutations: int, seed: int
) -> Floats:
    """Two-sided p-values of the difference of two models in every row.

    Each permutation exchanges the two models' counts in each cluster with probability ½; its null
    is exchangeability. p = (b + 1) / (m + 1), b the permutations whose difference is at least as
    large as the one seen (Phipson and Smyth 2010). A permutation that leaves the difference
    undefined counts as one of b.

    Args:
        layout: Which rows.
        first: Counts by cluster of one model.
        second: Counts of the other on the same clusters, in the same order.
        permutations: How many permutations, m.
        seed: Seed of the permutations.

    Returns:
        nan where the difference that was seen is undefined.
    """
    seen = np.abs(layout.values(first.total()) - layout.values(second.total()))
    gap = Counts(
        second.gold - first.gold, second.predicted - first.predicted, second.credit - first.credit
    )
    differing = np.any((gap.gold != 0) | (gap.predicted != 0) | (gap.credit != 0), axis=1)
    gap = Counts(gap.gold[differing], gap.predicted[differing], gap.credit[differing])
    one, other = first.total(), second.total()
    draw = np.random.default_rng(seed)
    clusters = max(int(differing.sum()), 1)
    at_once = max(1, _NUMBERS_AT_ONCE // clusters)
    extreme = np.zeros(seen.shape)
    for start in range(0, permutations, at_once):
        size = min(at_once, permutations - start)
        exchanged = draw.integers(0, 2, size=(size, int(differing.sum())), dtype=np.int8)
        moved = gap.weighted(exchanged.astype(np.float64))
        permuted = layout.values(_plus(one, moved, 1)) - layout.values(_plus(other, moved, -1))
        extreme += (~(np.abs(permuted) < seen - _TIE)).sum(axis=0)
    return np.where(np.isnan(seen), np.nan, (extreme + 1) / (permutations + 1))


def _plus(counts: Counts, moved: Counts, sign: int) -> Counts:
    return Counts(
        counts.gold + sign * moved.gold,
        counts.predicted + sign * moved.predicted,
        counts.credit + sign * moved.credit,
    )


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down adjustment (1979); an undefined p is None, stays so, and is no test."""
    tests = sorted((p, at) for at, p in enumerate(p_values) if p is not None)
    adjusted: list[float | None] = [None] * len(p_values)
    highest = 0.0
    for rank, (p, at) in enumerate(tests):
        highest = max(highest, min(1.0, p * (len(tests) - rank)))
        adjusted[at] = highest
    return adjusted
