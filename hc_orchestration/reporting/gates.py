"""The study's gates on stored scores."""

from collections.abc import Iterable, Sequence

import polars as pl

from hc_orchestration.scoring.gates import Estimate, GateResult, Rule, minimum_gate, outcome
from hc_orchestration.scoring.scores import MACRO, MICRO, PER_LABEL, WHOLE_CORPUS
from hc_orchestration.storage.records import GatesPart
from hc_orchestration.study import Gate


def minimum_results(
    gates: Iterable[Gate], scores: pl.DataFrame, not_applicable: Sequence[str]
) -> list[GateResult]:
    """What the `minimum` gates say.

    Args:
        gates: The study's gates, those of other kinds among them.
        scores: See `Evaluation`.
        not_applicable: The modes that say nothing about the model.
    """
    return [
        minimum_gate(
            Rule(gate.check, gate.score, gate.minimum, gate.minimum_support),
            estimate(gate, scores, not_applicable),
        )
        for gate in gates
        if gate.minimum is not None
    ]


def gates_part(
    gates: Iterable[Gate], scores: pl.DataFrame, not_applicable: Sequence[str]
) -> GatesPart:
    """The part of the record that tells what the `minimum` gates say."""
    results = minimum_results(gates, scores, not_applicable)
    return GatesPart(outcome=outcome(result.verdict for result in results), results=tuple(results))


def estimate(gate: Gate, scores: pl.DataFrame, not_applicable: Sequence[str]) -> Estimate:
    """The score that a gate looks at, with its interval."""
    mode, statistic = gate.metric.removesuffix(".macro").split(".")
    average = MACRO if gate.metric.endswith(".macro") else MICRO
    rows = scores.filter(
        mode=mode,
        statistic=statistic,
        slice=WHOLE_CORPUS,
        label=gate.label or "",
        average=PER_LABEL if gate.label else average,
    )
    if mode in not_applicable or rows.is_empty():
        return Estimate(None, applicable=mode not in not_applicable)
    row = rows.row(0, named=True)
    return Estimate(row["value"], row["ci_low"], row["ci_high"], row["gold"])
