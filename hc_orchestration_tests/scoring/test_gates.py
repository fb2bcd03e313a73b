"""Verdicts of gates, and the sentence that each of them says."""

import pytest

from hc_orchestration.scoring.gates import (
    Estimate,
    GateOutcome,
    Rule,
    Verdict,
    minimum_gate,
    outcome,
    regression_gate,
)

MINIMUM = Rule("g", "strict.f1", 0.6, minimum_support=100)
MARGIN = Rule("g", "strict.f1", 0.02, minimum_support=100)
GOOD = Estimate(0.7, 0.65, 0.75, 500)


@pytest.mark.parametrize(
    ("score", "verdict"),
    [
        (GOOD, Verdict.PASS),
        (Estimate(0.6, 0.6, 0.7, 500), Verdict.PASS),
        (Estimate(0.7, 0.59, 0.75, 500), Verdict.WARN),
        (Estimate(0.59, 0.5, 0.7, 500), Verdict.FAIL),
        (Estimate(0.59, None, None, 500), Verdict.FAIL),
        (Estimate(0.7, None, None, 500), Verdict.PASS),
        (Estimate(0.7, 0.65, 0.75, 99), Verdict.INCONCLUSIVE),
        (Estimate(0.1, 0.05, 0.2, 99), Verdict.INCONCLUSIVE),
        (Estimate(None, support=500), Verdict.INCONCLUSIVE),
        (Estimate(None, applicable=False), Verdict.INCONCLUSIVE),
    ],
)
def test_minimum(score: Estimate, verdict: Verdict) -> None:
    result = minimum_gate(MINIMUM, score)
    assert result.verdict is verdict
    assert result.sentence.startswith(f"{verdict}: strict.f1 is ")


@pytest.mark.parametrize(
    ("difference", "verdict"),
    [
        (Estimate(0.01, -0.01, 0.03), Verdict.PASS),
        (Estimate(-0.01, -0.019, 0.0), Verdict.PASS),
        (Estimate(-0.01, -0.02, 0.0), Verdict.INCONCLUSIVE),
        (Estimate(-0.04, -0.06, -0.02), Verdict.INCONCLUSIVE),
        (Estimate(-0.04, -0.06, -0.021), Verdict.FAIL),
        (Estimate(0.0, -0.2, 0.2), Verdict.INCONCLUSIVE),
        (Estimate(0.3), Verdict.INCONCLUSIVE),
        (Estimate(None), Verdict.INCONCLUSIVE),
    ],
)
def test_regression(difference: Estimate, verdict: Verdict) -> None:
    assert regression_gate(MARGIN, GOOD, GOOD, difference).verdict is verdict


@pytest.mark.parametrize(
    ("new", "champion", "said"),
    [
        (Estimate(None, applicable=False), GOOD, "not applicable to a model without types"),
        (GOOD, Estimate(None, applicable=False), "not applicable to a model without types"),
        (Estimate(None, support=500), GOOD, "undefined"),
        (GOOD, Estimate(None), "undefined"),
        (Estimate(0.7, support=99), Estimate(0.7, support=99), "at least 100 gold mentions"),
    ],
)
def test_regression_settles_nothing_without_two_scores(
    new: Estimate, champion: Estimate, said: str
) -> None:
    result = regression_gate(MARGIN, new, champion, Estimate(0.1, 0.05, 0.2))
    assert result.verdict is Verdict.INCONCLUSIVE
    assert said in result.sentence


def test_sentences_say_metric_values_interval_threshold_and_support() -> None:
    assert minimum_gate(MINIMUM, GOOD).sentence == (
        "PASS: strict.f1 is 0.700 (95 % interval 0.650 to 0.750), minimum 0.6, "
        "on 500 gold mentions."
    )
    result = regression_gate(
        MARGIN, GOOD, Estimate(0.72, support=500), Estimate(-0.02, -0.05, 0.01)
    )
    assert result.sentence == (
        "INCONCLUSIVE: strict.f1 is 0.700, the champion's 0.720, difference -0.020 "
        "(95 % interval -0.050 to 0.010), margin 0.02, on 500 gold mentions."
    )
    assert (result.value, result.reference, result.low, result.high) == (0.7, 0.72, -0.05, 0.01)
    assert (result.threshold, result.support) == (0.02, 500)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([], None),
        ([Verdict.PASS, Verdict.WARN], GateOutcome.PASSED),
        ([Verdict.PASS, Verdict.INCONCLUSIVE], GateOutcome.INCONCLUSIVE),
        ([Verdict.INCONCLUSIVE, Verdict.FAIL, Verdict.PASS], GateOutcome.FAILED),
    ],
)
def test_outcome_is_the_worst(verdicts: list[Verdict], expected: GateOutcome | None) -> None:
    assert outcome(verdicts) is expected
