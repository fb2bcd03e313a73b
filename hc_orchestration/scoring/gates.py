"""Gates: whether a score holds its minimum, and whether a model fell behind the champion."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum

_DASH = "\N{EN DASH}"


class Verdict(StrEnum):
    """The outcome of a gate."""

    PASS = "PASS"  # noqa: S105 - a verdict, no password
    WARN = "WARN"
    FAIL = "FAIL"
    INCONCLUSIVE = "INCONCLUSIVE"


class GateOutcome(StrEnum):
    """What several gates come to; only `passed` lets a model be promoted."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a gate asks for.

    Attributes:
        name: The gate.
        metric: The score that it looks at: `strict.f1`, `strict.f1.label.DISEASE`.
        threshold: The minimum; or, against the champion, how much worse is no regression yet.
        minimum_support: Gold mentions without which nothing is said.
    """

    name: str
    metric: str
    threshold: float
    minimum_support: int = 0


@dataclass(frozen=True, slots=True)
class Estimate:
    """A score or a difference of scores.

    Attributes:
        value: None when undefined.
        low: Lower end of its interval; None where there is none. `high` likewise.
        support: Gold mentions it rests on.
        applicable: False for a mode that says nothing about the model.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    support: int = 0
    applicable: bool = True


@dataclass(frozen=True, slots=True)
class GateResult:
    """What a gate found.

    Attributes:
        name: The gate.
        metric: The score that it looks at: `strict.f1`, `strict.f1.label.DISEASE`.
        verdict: The outcome.
        sentence: Metric, values, interval, threshold, support and verdict, for people.
        value: The model's score.
        reference: The champion's score; None in a `minimum` gate.
        low: Lower end of the interval of the score, or of the difference from the champion's.
        high: Upper end.
        threshold: The minimum, or the margin.
        support: Gold mentions.
    """

    name: str
    metric: str
    verdict: Verdict
    sentence: str
    value: float | None
    reference: float | None
    low: float | None
    high: float | None
    threshold: float
    support: int


def minimum_gate(rule: Rule, score: Estimate) -> GateResult:
    """FAIL below the minimum; WARN when only the interval's lower end is below it; else PASS.

    INCONCLUSIVE when the score is not applicable, is undefined, or rests on too few gold mentions.
    Without an interval there is no lower end to warn of, and the sentence says so.
    """
    reason = _unfit(score, rule.minimum_support)
    if reason is not None or score.value is None:
        verdict = Verdict.INCONCLUSIVE
    elif score.value < rule.threshold:
        verdict = Verdict.FAIL
    elif score.low is not None and score.low < rule.threshold:
        verdict = Verdict.WARN
    else:
        verdict = Verdict.PASS
    sentence = (
        f"{verdict}: {rule.metric} is {_number(score.value)} ({_interval(score)}), "
        f"minimum {rule.threshold:g}, on {score.support} gold mentions{_because(reason)}."
    )
    return _result(rule, verdict, sentence, score, score)


def regression_gate(
    rule: Rule, new: Estimate, champion: Estimate, difference: Estimate
) -> GateResult:
    """Whether a model fell behind the champion by more than the margin.

    PASS iff the whole interval of the difference lies above the negative margin, FAIL iff the whole
    of it lies below. INCONCLUSIVE otherwise, and when one of the scores is not applicable or
    undefined or rests on too few gold mentions, or the difference has no interval.

    Args:
        rule: The gate; its threshold is the margin.
        new: The model's score.
        champion: The champion's score on the same notes.
        difference: new minus champion, with its paired interval.
    """
    reason = _unfit(new, rule.minimum_support) or _unfit(champion, rule.minimum_support)
    verdict = Verdict.INCONCLUSIVE
    if reason is None and (difference.low is None or difference.high is None):
        reason = "too few clusters, or too many undefined resamples"
    elif reason is None and difference.low is not None and difference.high is not None:
        if difference.low > -rule.threshold:
            verdict = Verdict.PASS
        elif difference.high < -rule.threshold:
            verdict = Verdict.FAIL
    sentence = (
        f"{verdict}: {rule.metric} is {_number(new.value)}, the champion's "
        f"{_number(champion.value)}, difference {_number(difference.value, '+')} "
        f"({_interval(difference)}), margin {rule.threshold:g}, on {new.support} gold "
        f"mentions{_because(reason)}."
    )
    return replace(_result(rule, verdict, sentence, new, difference), reference=champion.value)


def _result(
    rule: Rule, verdict: Verdict, sentence: str, score: Estimate, interval: Estimate
) -> GateResult:
    return GateResult(
        name=rule.name,
        metric=rule.metric,
        verdict=verdict,
        sentence=sentence,
        value=score.value,
        reference=None,
        low=interval.low,
        high=interval.high,
        threshold=rule.threshold,
        support=score.support,
    )


def outcome(verdicts: Iterable[Verdict]) -> GateOutcome | None:
    """The worst of several verdicts, a warning passing; None when there are no gates."""
    given = set(verdicts)
    if not given:
        return None
    if Verdict.FAIL in given:
        return GateOutcome.FAILED
    return GateOutcome.INCONCLUSIVE if Verdict.INCONCLUSIVE in given else GateOutcome.PASSED


def _unfit(score: Estimate, minimum_support: int) -> str | None:
    """Why a score settles nothing, or None."""
    if not score.applicable:
        return "not applicable to a model without types"
    if score.value is None:
        return "undefined"
    if score.support < minimum_support:
        return f"at least {minimum_support} gold mentions are needed"
    return None


def _because(reason: str | None) -> str:
    return "" if reason is None else f"; {reason}"


def _number(value: float | None, sign: str = "") -> str:
    return _DASH if value is None else f"{value:{sign}.3f}"


def _interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return "no interval"
    return f"95 % interval {estimate.low:.3f} to {estimate.high:.3f}"
