"""Expanded percentile bootstrap over clusters: weights of resamples times matrices of counts.

A resample draws as many clusters as there are, with replacement; how often each was drawn is its
weight. Efron and Tibshirani, An Introduction to the Bootstrap (1993), chapter 13. Plain percentiles
of n clusters are too narrow, as a standard deviation with n in place of n - 1 and a normal quantile
in place of Student's t would be; the tails are made smaller by just that much (Hesterberg, What
Teachers Should Know about the Bootstrap, The American Statistician 69, 2015, section 5.3).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hc_orchestration.scoring.scores import Counts, Floats, Layout

RESAMPLES = 2_000
FEWEST_CLUSTERS = 20
MOST_UNDEFINED = 0.05
LEVEL = 0.95
_NUMBERS_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Resampling:
    """How resamples are drawn: the seed, and how many of them."""

    seed: int
    resamples: int = RESAMPLES


@dataclass(frozen=True, slots=True)
class Intervals:
    """95 % intervals of several rows of scores.

    Attributes:
        low: Lower ends; nan where there is no interval.
        high: Upper ends, likewise.
        undefined: Share of the resamples in which the value is undefined.
        clusters: Clusters in which anything was counted for the row.
    """

    low: Floats
    high: Floats
    undefined: Floats
    clusters: Floats


def resample_weights(clusters: int, resampling: Resampling) -> Iterator[Floats]:
    """How often each resample drew each cluster, some resamples at a time.

    Yields:
        (a number of resamples, clusters); together a row per resample, the same for the same seed.
    """
    draw = np.random.default_rng(resampling.seed)
    at_once = max(1, _NUMBERS_AT_ONCE // max(clusters, 1))
    for first in range(0, resampling.resamples, at_once):
        size = min(at_once, resampling.resamples - first)
        drawn = draw.integers(0, clusters, size=(size, clusters))
        drawn += np.arange(size)[:, None] * clusters
        weights = np.bincount(drawn.ravel(), minlength=size * clusters)
        yield weights.reshape(size, clusters).astype(np.float64)


def score_intervals(
    layout: Layout,
    groups: Sequence[tuple[NDArray[np.int64], Counts]],
    clusters: int,
    resampling: Resampling,
) -> list[Intervals]:
    """Intervals of every row of scores, for the whole corpus and for parts of it.

    All parts are seen in the same resamples, so that a part's size varies as it would in another
    sample of the same notes.

    Args:
        layout: Which rows.
        groups: For each part: indices of the clusters that have notes in it, and their counts
            there.
        clusters: How many clusters there are.
        resampling: Seed and number of the resamples.
    """
    values: list[list[Floats]] = [[] for _ in groups]
    for weights in resample_weights(clusters, resampling):
        for part, (members, counts) in zip(values, groups, strict=True):
            chosen = weights if len(members) == clusters else weights[:, members]
            part.append(layout.values(counts.weighted(chosen)))
    return [
        percentile_intervals(np.concatenate(part), contributing(layout, counts))
        for part, (_, counts) in zip(values, groups, strict=True)
    ]


def difference_intervals(
    layout: Layout, first: Counts, second: Counts, resampling: Resampling
) -> Intervals:
    """Intervals of the paired difference first minus second of every row.

    Args:
        layout: Which rows.
        first: Counts by cluster of one model.
        second: Counts of the other on the same clusters, in the same order.
        resampling: Seed and number of the resamples.
    """
    clusters = first.gold.shape[0]
    differences = [
        layout.values(first.weighted(weights)) - layout.values(second.weighted(weights))
        for weights in resample_weights(clusters, resampling)
    ]
    fewer = np.minimum(contributing(layout, first), contributing(layout, second))
    return percentile_intervals(np.concatenate(differences), fewer)


def contributing(layout: Layout, counts: Counts) -> Floats:
    """In how many clusters anything was counted for each row."""
    anything: Floats = ((counts.gold + counts.predicted) > 0).sum(axis=0) * 1.0
    return anything[layout.rows_unit]


def percentile_intervals(values: Floats, clusters: Floats) -> Intervals:
    """Expanded percentiles of resampled values, undefined ones left out and counted.

    Args:
        values: (resamples, rows), nan where undefined.
        clusters: Clusters that each row rests on.

    Returns:
        No interval where it rests on fewer than 20 clusters, or more than 5 % are undefined.
    """
    ordered = np.sort(values, axis=0)  # nan last
    missing = np.isnan(values).sum(axis=0)
    undefined, defined = missing / len(values), len(values) - missing
    none = (clusters < FEWEST_CLUSTERS) | (undefined > MOST_UNDEFINED) | (defined == 0)
    tail = expanded_tail(clusters)
    low, high = (_quantile(ordered, defined, share) for share in (tail, 1.0 - tail))
    return Intervals(np.where(none, np.nan, low), np.where(none, np.nan, high), undefined, clusters)


def expanded_tail(clusters: Floats) -> Floats:
    """Share of the resamples beyond each end: Φ(-√(n / (n - 1)) · t), t of n - 1 degrees."""
    from scipy.special import ndtr, stdtrit

    n = np.maximum(clusters, 2.0)
    tail: Floats = ndtr(np.sqrt(n / (n - 1.0)) * stdtrit(n - 1.0, (1.0 - LEVEL) / 2))
    return tail


def _quantile(ordered: Floats, defined: NDArray[np.int64], share: Floats) -> Floats:
    """A quantile of each column's defined values: linear between k / (m + 1) and (k + 1) / (m + 1).

    With these plotting positions the mean of the mass beyond it is `share` for any number m of
    resamples; numpy's default leaves a little more out.
    """
    last = np.maximum(defined - 1, 0)
    position = np.clip((defined + 1) * share - 1, 0, last)
    below = np.floor(position).astype(np.int64)
    above = np.minimum(below + 1, last)
    columns = np.arange(ordered.shape[1])
    lower, upper = ordered[below, columns], ordered[above, columns]
    between: Floats = lower + (upper - lower) * (position - below)
    return between
