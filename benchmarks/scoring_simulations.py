"""Whether intervals, tests and gates keep what they promise: simulated notes, known truth.

    .venv/bin/python benchmarks/scoring_simulations.py

Notes differ in how many mentions they have and in how hard they are, so that the mentions of a note
are alike; the two models of a pair see the same notes. Nothing is drawn from real notes. Every
figure comes from the functions that evaluations use. Simulations go by in batches: each of them is
a label of one layout, so that those of a batch share the draws of the resamples, not the notes.
"""

import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from hc_orchestration.scoring.bootstrap import (
    Intervals,
    Resampling,
    difference_intervals,
    score_intervals,
)
from hc_orchestration.scoring.gates import Estimate, Rule, Verdict, regression_gate
from hc_orchestration.scoring.paired import PERMUTATIONS, permutation_p
from hc_orchestration.scoring.scores import Counts, Floats, Layout

MARGIN = 0.02
LEVEL = 0.05
SIMULATIONS = 5_000
SIMULATIONS_AT_THE_EDGE = 40_000
MENTIONS = 8.0
LABEL_SHARES = (1 / 2, 1 / 3, 1 / 6)
_BATCH = 50
_POPULATION = 5_000_000
_ALL = len(LABEL_SHARES)


@dataclass(frozen=True, slots=True)
class Notes:
    """Gold mentions of each simulated note (rows) in each simulation (columns), and their ease."""

    gold: Floats
    ease: Floats


def draw_notes(
    draw: np.random.Generator, notes: int, simulations: int, mentions: float = MENTIONS
) -> Notes:
    """Notes with a gamma-Poisson number of mentions and a beta-distributed ease."""
    shape = (notes, simulations)
    gold = draw.poisson(draw.gamma(2.0, mentions / 2.0, shape))
    return Notes(gold.astype(np.float64), draw.beta(8.0, 2.0, shape))


def predictions(draw: np.random.Generator, notes: Notes, worse_by: float = 0.0) -> Counts:
    """One model's counts: found mentions, and about one invention in six predictions.

    `worse_by` is the share of its found mentions that a degraded model loses to inventions, so that
    precision, recall and F1 all fall by about as many parts.
    """
    gold = notes.gold.astype(np.int64)
    found = draw.binomial(gold, notes.ease * (1.0 - worse_by))
    lost = draw.binomial(gold, notes.ease * worse_by)
    invented = draw.poisson(notes.gold * (1.0 - notes.ease) * 0.8) + lost
    return Counts(notes.gold, (found + invented) * 1.0, found * 1.0)


def layout_of(simulations: int) -> tuple[Layout, list[int]]:
    """A layout whose labels are simulations, and the row of the F1 of each."""
    names = [f"simulation {number}" for number in range(simulations)]
    layout = Layout(("strict",), names)
    rows = {row.label: at for at, row in enumerate(layout.rows) if row.statistic == "f1"}
    return layout, [rows[name] for name in names]


def in_layout(counts: Counts) -> Counts:
    """With the column of all labels that a layout begins with; nobody looks at it."""
    blank = np.zeros((counts.gold.shape[0], 1))
    columns = (counts.gold, counts.predicted, counts.credit)
    return Counts(*(np.concatenate([blank, column], axis=1) for column in columns))


def true_f1(worse_by: float = 0.0) -> float:
    """F1 of the population: a ratio of means, from five million notes."""
    draw = np.random.default_rng(1)
    counts = predictions(draw, draw_notes(draw, _POPULATION, 1), worse_by).total()
    return float(2 * counts.credit[0] / (counts.gold[0] + counts.predicted[0]))


def batches(simulations: int) -> Iterator[int]:
    """The number of each batch."""
    return iter(range(math.ceil(simulations / _BATCH)))


def coverage(notes: int, simulations: int) -> float:
    """Share of the intervals that hold the true F1."""
    truth, held = true_f1(), 0
    layout, f1 = layout_of(_BATCH)
    for number in batches(simulations):
        draw = np.random.default_rng((notes, number))
        counts = in_layout(predictions(draw, draw_notes(draw, notes, _BATCH)))
        members = np.arange(notes)
        (found,) = score_intervals(layout, [(members, counts)], notes, Resampling(number))
        held += int(((found.low[f1] <= truth) & (truth <= found.high[f1])).sum())
    return held / simulations


def null_rejections(notes: int, simulations: int, permutations: int = PERMUTATIONS) -> float:
    """Share of exchangeable pairs with p at most 0.05."""
    rejected = 0
    layout, f1 = layout_of(_BATCH)
    for number in batches(simulations):
        draw = np.random.default_rng((7, notes, number))
        of_both = draw_notes(draw, notes, _BATCH)
        first, second = (in_layout(predictions(draw, of_both)) for _ in range(2))
        p_values = permutation_p(layout, first, second, permutations, number)
        rejected += int((p_values[f1] <= LEVEL).sum())
    return rejected / simulations


Pair = tuple[Counts, Counts]


def degraded_pair(worse_by: float) -> Callable[[np.random.Generator, int], Pair]:
    """Draws a new model that is worse by a share of its finds, and the champion."""

    def drawn(draw: np.random.Generator, notes: int) -> Pair:
        of_both = draw_notes(draw, notes, _BATCH)
        champion = predictions(draw, of_both)
        return predictions(draw, of_both, worse_by), champion

    return drawn


def degraded_label(
    worse_by: float, degraded: int, seen: int
) -> Callable[[np.random.Generator, int], Pair]:
    """Draws a new model that is worse in one of several labels, and the champion.

    Args:
        worse_by: The share of its finds that it loses.
        degraded: Index of the label in `LABEL_SHARES`.
        seen: Index of the label that is looked at, or `_ALL` for all of them together.
    """

    def drawn(draw: np.random.Generator, notes: int) -> Pair:
        models: list[list[Counts]] = [[], []]
        for at, share in enumerate(LABEL_SHARES):
            of_both = draw_notes(draw, notes, _BATCH, MENTIONS * share)
            models[0].append(predictions(draw, of_both, worse_by if at == degraded else 0.0))
            models[1].append(predictions(draw, of_both))
        new, champion = (labels[seen] if seen < _ALL else added(labels) for labels in models)
        return new, champion

    return drawn


def added(labels: list[Counts]) -> Counts:
    """The counts of all labels together."""
    return Counts(
        sum((label.gold for label in labels), np.float64(0)),
        sum((label.predicted for label in labels), np.float64(0)),
        sum((label.credit for label in labels), np.float64(0)),
    )


def verdicts(
    notes: int,
    simulations: int,
    drawn: Callable[[np.random.Generator, int], Pair],
    margin: float,
) -> Counter[Verdict]:
    """How often the regression gate says what."""
    found: Counter[Verdict] = Counter()
    layout, f1 = layout_of(_BATCH)
    rule = Rule("gate", "strict.f1", margin)
    for number in batches(simulations):
        draw = np.random.default_rng((13, notes, number))
        new, champion = (in_layout(model) for model in drawn(draw, notes))
        intervals = difference_intervals(layout, new, champion, Resampling(number))
        values = [layout.values(model.total()) for model in (new, champion)]
        for row in f1:
            one, other = (float(value[row]) for value in values)
            difference = Estimate(one - other, *_ends(intervals, row))
            result = regression_gate(rule, Estimate(one), Estimate(other), difference)
            found[result.verdict] += 1
    return found


def _ends(intervals: Intervals, row: int) -> tuple[float | None, float | None]:
    low, high = float(intervals.low[row]), float(intervals.high[row])
    return (None, None) if math.isnan(low) else (low, high)


def told(found: Counter[Verdict]) -> str:
    """Verdicts with their shares and the standard errors of these."""
    number = found.total()
    shares = {verdict: count / number for verdict, count in found.items()}
    return f"{number:,} simulations: " + ", ".join(
        f"{verdict} {share:.2%} ± {math.sqrt(share * (1 - share) / number):.2%}"
        for verdict, share in shares.items()
    )


def main() -> None:
    """Print the table."""
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"{line:<125} [{time.perf_counter() - started:5.0f} s]", flush=True)

    fall = true_f1() - true_f1(0.07)
    three_margins = 0.07 * 3 * MARGIN / fall
    truly = true_f1() - true_f1(three_margins)
    say(f"true F1 {true_f1():.4f}; degraded by three margins of {MARGIN}: {truly:.4f} less")
    for margin, number in ((MARGIN, SIMULATIONS), (0.0, SIMULATIONS_AT_THE_EDGE)):
        said = told(verdicts(500, number, degraded_pair(0.0), margin))
        say(f"gate, margin {margin}, exchangeable models, 500 notes, {said}")
    for degraded, share in enumerate(LABEL_SHARES):
        for seen, what in ((degraded, "that label"), (_ALL, "all labels")):
            pair = degraded_label(three_margins, degraded, seen)
            said = told(verdicts(500, SIMULATIONS, pair, MARGIN))
            say(f"a label of {share:.0%} worse by three margins, gate on {what}, 500 notes, {said}")
    said = told(verdicts(500, SIMULATIONS, degraded_pair(three_margins), MARGIN))
    say(f"every label worse by three margins, gate on all labels, 500 notes, {said}")
    for notes in (50, 200, 1_000):
        held = coverage(notes, SIMULATIONS)
        say(f"95 % interval, {notes} notes, {SIMULATIONS:,} simulations: covers {held:.2%}")
    for notes in (50, 200):
        rejected = null_rejections(notes, SIMULATIONS)
        say(
            f"exchangeable pairs, {notes} notes, {SIMULATIONS:,} simulations: {rejected:.2%} reject"
        )
    for worse_by in (0.0, 0.5):
        said = told(verdicts(12, SIMULATIONS, degraded_pair(worse_by), MARGIN))
        say(f"gate, 12 notes, worse by {worse_by:.0%} of the finds, {said}")


if __name__ == "__main__":
    sys.exit(main())
