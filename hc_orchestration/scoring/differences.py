"""Paired differences of models on the same notes: interval, p-value, Holm over all pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
import polars as pl

from hc_orchestration.scoring.bootstrap import RESAMPLES, Resampling, difference_intervals
from hc_orchestration.scoring.counts import applicable_modes
from hc_orchestration.scoring.difference import Difference
from hc_orchestration.scoring.identity import seed_of
from hc_orchestration.scoring.paired import PERMUTATIONS, holm, permutation_p
from hc_orchestration.scoring.scores import Counts, Layout


@dataclass(frozen=True, slots=True)
class ScoredModel:
    """A model's note-level counts.

    Attributes:
        key: The model.
        evaluation_digest: Of the evaluation that made them; seeds follow from it.
        counts: See `note_counts`.
        untyped: strict and type do not apply.
    """

    key: str
    evaluation_digest: str
    counts: pl.DataFrame
    untyped: bool


def paired_differences(
    models: Sequence[ScoredModel],
    groups: pl.DataFrame,
    labels: Sequence[str],
    resamples: int = RESAMPLES,
    permutations: int = PERMUTATIONS,
) -> list[Difference]:
    """Every pair of models in every metric that applies to both.

    Args:
        models: Evaluated on the same notes; the earlier one of a pair is its `first`.
        groups: Each scored note with its cluster, see `grouped_notes`.
        labels: The study's labels.
        resamples: Of the bootstrap.
        permutations: Of the test.
    """
    clusters = groups["cluster"].n_unique()
    tables = {
        model.key: model.counts.join(groups.select("note_id", "cluster"), on="note_id")
        for model in models
    }
    found: list[Difference] = []
    for first, second in combinations(models, 2):
        modes = applicable_modes(untyped=first.untyped or second.untyped)
        layout = Layout(modes, labels)
        seed = seed_of("difference", first.evaluation_digest, second.evaluation_digest)
        # The draws do not depend on which of the two is named first.
        one, other = sorted((first, second), key=lambda model: model.evaluation_digest)
        pair = _pair(
            layout,
            (one.key, layout.counts(tables[one.key], clusters)),
            (other.key, layout.counts(tables[other.key], clusters)),
            (resamples, permutations, seed),
        )
        found += pair if one is first else [difference.reversed() for difference in pair]
    return _adjusted(found)


def _pair(
    layout: Layout,
    first: tuple[str, Counts],
    second: tuple[str, Counts],
    draws: tuple[int, int, int],
) -> list[Difference]:
    resamples, permutations, seed = draws
    one, other = layout.values(first[1].total()), layout.values(second[1].total())
    intervals = difference_intervals(layout, first[1], second[1], Resampling(seed, resamples))
    p_values = permutation_p(layout, first[1], second[1], permutations, seed)
    gold = first[1].total().gold[layout.rows_unit]
    return [
        Difference(
            first=first[0],
            second=second[0],
            metric=row.name,
            first_value=_defined(one[at]),
            second_value=_defined(other[at]),
            difference=_defined(one[at] - other[at]),
            ci_low=_defined(intervals.low[at]),
            ci_high=_defined(intervals.high[at]),
            p=_defined(p_values[at]),
            p_holm=None,
            gold=int(gold[at]),
            clusters=int(intervals.clusters[at]),
            undefined=float(intervals.undefined[at]),
            resamples=resamples,
            permutations=permutations,
            seed=seed,
        )
        for at, row in enumerate(layout.rows)
    ]


def _adjusted(found: Sequence[Difference]) -> list[Difference]:
    adjusted = list(found)
    for metric in {difference.metric for difference in found}:
        at = [index for index, difference in enumerate(found) if difference.metric == metric]
        for index, p in zip(at, holm([found[index].p for index in at]), strict=True):
            adjusted[index] = replace(found[index], p_holm=p)
    return adjusted


def _defined(value: np.float64) -> float | None:
    return None if np.isnan(value) else float(value)
