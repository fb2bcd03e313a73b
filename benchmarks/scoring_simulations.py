"""Whether intervals, tests and gates keep what they promise: simulated notes, known truth.

    .venv/bin/python benchmarks/scoring_simulations.py

Notes differ in how many mentions they have and in how hard they are, so that the mentions of a note
are alike; the two models of a pair see the same notes. Nothing is drawn from real notes. Every
figure comes from the functions that evaluations use.
"""

import sys
import time
from dataclasses import dataclass

import numpy as np

from hc_orchestration.scoring.bootstrap import (
    Resampling,
    difference_intervals,
    score_intervals,
)
from hc_orchestration.scoring.gates import Estimate, Rule, Verdict, regression_gate
from hc_orchestration.scoring.paired import PERMUTATIONS, permutation_p
from hc_orchestration.scoring.scores import Counts, Floats, Layout

LAYOUT = Layout(("exact",), ())  # one unit: precision, recall and F1 of one kind of mention
F1 = [row.statistic for row in LAYOUT.rows].index("f1")
MARGIN = 0.02
LEVEL = 0.05
SIMULATIONS = 5_000


@dataclass(frozen=True, slots=True)
class Notes:
    """Gold mentions of each simulated note and how likely a model finds one."""

    gold: Floats
    ease: Floats


def draw_notes(draw: np.random.Generator, number: int, mentions: float = 8.0) -> Notes:
    """Notes with a gamma-Poisson number of mentions and a beta-distributed ease."""
    gold = draw.poisson(draw.gamma(2.0, mentions / 2.0, number))
    return Notes(gold.astype(np.float64), draw.beta(8.0, 2.0, number))


def predictions(draw: np.random.Generator, notes: Notes, worse_by: float = 0.0) -> Counts:
    """One model's counts: found mentions, and about one invention in six predictions.

    `worse_by` is the share of its found mentions that a degraded model loses to inventions, so that
    precision, recall and F1 all fall by about as many parts.
    """
    found = draw.binomial(notes.gold.astype(np.int64), notes.ease * (1.0 - worse_by))
    lost = draw.binomial(notes.gold.astype(np.int64), notes.ease * worse_by)
    invented = draw.poisson(notes.gold * (1.0 - notes.ease) * 0.8) + lost
    return Counts(
        notes.gold[:, None], (found + invented)[:, None].astype(np.float64), found[:, None] * 1.0
    )


def true_f1(worse_by: float = 0.0) -> float:
    """F1 of the population: a ratio of means, from five million notes."""
    draw = np.random.default_rng(1)
    total = predictions(draw, draw_notes(draw, 5_000_000), worse_by).total()
    return float(LAYOUT.values(total)[F1])


def coverage(notes: int, simulations: int) -> float:
    """Share of the intervals that hold the true F1."""
    truth, held = true_f1(), 0
    for number in range(simulations):
        draw = np.random.default_rng((notes, number))
        counts = predictions(draw, draw_notes(draw, notes))
        members = np.arange(notes)
        (found,) = score_intervals(LAYOUT, [(members, counts)], notes, Resampling(number))
        held += bool(found.low[F1] <= truth <= found.high[F1])
    return held / simulations


def null_rejections(notes: int, simulations: int, permutations: int = PERMUTATIONS) -> float:
    """Share of exchangeable pairs with p at most 0.05."""
    rejected = 0
    for number in range(simulations):
        draw = np.random.default_rng((7, notes, number))
        of_both = draw_notes(draw, notes)
        first, second = predictions(draw, of_both), predictions(draw, of_both)
        rejected += bool(permutation_p(LAYOUT, first, second, permutations, number)[F1] <= LEVEL)
    return rejected / simulations


def verdicts(notes: int, simulations: int, worse_by: float, margin: float) -> dict[Verdict, float]:
    """How often the regression gate says what, of a model that is worse by a share of its finds."""
    found = dict.fromkeys(Verdict, 0)
    for number in range(simulations):
        draw = np.random.default_rng((13, notes, number))
        of_both = draw_notes(draw, notes)
        champion, new = predictions(draw, of_both), predictions(draw, of_both, worse_by)
        difference = difference_intervals(LAYOUT, new, champion, Resampling(number))
        one, other = (LAYOUT.values(model.total())[F1] for model in (new, champion))
        ends = [
            None if np.isnan(e[F1]) else float(e[F1]) for e in (difference.low, difference.high)
        ]
        support = int(of_both.gold.sum())
        result = regression_gate(
            Rule("gate", "exact.f1", margin),
            Estimate(float(one), support=support),
            Estimate(float(other), support=support),
            Estimate(float(one - other), *ends, support=support),
        )
        found[result.verdict] += 1
    return {verdict: number / simulations for verdict, number in found.items() if number}


def main() -> None:
    """Print the table."""
    started = time.perf_counter()

    def say(line: str) -> None:
        print(f"{line:<100} [{time.perf_counter() - started:5.0f} s]", flush=True)

    say(f"true F1 {true_f1():.4f}; degraded {true_f1(0.07):.4f}")
    for notes in (50, 200, 1_000):
        held = coverage(notes, SIMULATIONS)
        say(f"95 % interval, {notes} notes, {SIMULATIONS} simulations: covers {held:.2%}")
    for notes in (50, 200):
        rejected = null_rejections(notes, SIMULATIONS)
        say(
            f"exchangeable pairs, {notes} notes, {SIMULATIONS} simulations: {rejected:.2%} rejected"
        )
    for margin in (0.0, MARGIN):
        said = verdicts(500, 2_000, 0.0, margin)
        say(
            f"gate, margin {margin}, exchangeable models, 500 notes, 2000 simulations: {told(said)}"
        )
    fall = true_f1() - true_f1(0.07)
    said = verdicts(500, 2_000, 0.07, fall / 3)
    say(
        f"gate, worse by three margins of {fall / 3:.4f}, 500 notes, 2000 simulations: {told(said)}"
    )
    for worse_by in (0.0, 0.5):
        said = verdicts(12, 500, worse_by, MARGIN)
        say(f"gate, 12 notes, worse by {worse_by:.0%} of the finds, 500 simulations: {told(said)}")


def told(said: dict[Verdict, float]) -> str:
    """Verdicts with their shares."""
    return ", ".join(f"{verdict} {share:.2%}" for verdict, share in said.items())


if __name__ == "__main__":
    sys.exit(main())
