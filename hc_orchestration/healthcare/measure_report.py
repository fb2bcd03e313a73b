"""Scores as the groups of a MeasureReport: a group per metric, labels and slices as strata."""

from collections.abc import Sequence

from hc_orchestration.healthcare.elements import Element, coding
from hc_orchestration.healthcare.facts import Score
from hc_orchestration.healthcare.terminology import ABSENT_REASON, UCUM

_PER_LABEL = "label"
_ALL_NOTES = "all"


def score_groups(scores: Sequence[Score], base: str) -> list[Element]:
    """One group for each match mode, average and statistic.

    Averages over labels stand in the group itself; scores of one label, one slice or one label in
    one slice are strata of it. An undefined score has no measureScore; a withheld one has neither
    score nor counts, and says that it is masked.
    """
    groups: dict[tuple[str, str, str], list[Score]] = {}
    for score in scores:
        average = "micro" if score.average == _PER_LABEL else score.average
        groups.setdefault((score.mode, average, score.statistic), []).append(score)
    return [_group(key, groups[key], base) for key in sorted(groups)]


def _group(key: tuple[str, str, str], scores: list[Score], base: str) -> Element:
    mode, average, statistic = key
    strata: dict[tuple[str, ...], list[Score]] = {}
    whole: Element = {}
    for score in sorted(scores, key=lambda score: (score.label, score.slice)):
        dimensions = _dimensions(score)
        if dimensions:
            strata.setdefault(dimensions, []).append(score)
        else:
            whole = _measured(score, base)
    return {
        "code": _code(statistic, f"{mode} {average} {statistic}", base),
        **whole,
        **(
            {
                "stratifier": [
                    {
                        "code": [{"text": " and ".join(dimensions)}],
                        "stratum": [_stratum(score, dimensions, base) for score in within],
                    }
                    for dimensions, within in sorted(strata.items())
                ]
            }
            if strata
            else {}
        ),
    }


def _dimensions(score: Score) -> tuple[str, ...]:
    label = ("label",) if score.label else ()
    return label if score.slice == _ALL_NOTES else (*label, "slice")


def _stratum(score: Score, dimensions: tuple[str, ...], base: str) -> Element:
    values = {"label": score.label, "slice": score.slice}
    if len(dimensions) == 1:
        named: Element = {"value": {"text": values[dimensions[0]]}}
    else:
        named = {
            "component": [
                {"code": {"text": name}, "value": {"text": values[name]}} for name in dimensions
            ]
        }
    return {**named, **_measured(score, base)}


def _measured(score: Score, base: str) -> Element:
    if score.withheld:
        return {"extension": [{"url": ABSENT_REASON, "valueCode": "masked"}]}
    counts = {"gold-mentions": score.gold, "predicted-mentions": score.predicted}
    if score.credit is not None and (halves := 2 * score.credit).is_integer():
        counts["half-credits"] = int(halves)
    populations = [
        {"code": {"coding": [coding("population", name, base)]}, "count": count}
        for name, count in counts.items()
        if count is not None
    ]
    measured: Element = {"population": populations} if populations else {}
    if score.value is not None:
        measured["measureScore"] = {
            "value": score.value,
            "unit": "1",
            "system": UCUM,
            "code": "1",
        }
    return measured


def _code(statistic: str, text: str, base: str) -> Element:
    from hc_orchestration.healthcare.terminology import own_codes

    if statistic not in own_codes(base)[f"{base}/CodeSystem/statistic"]:
        return {"text": text}
    return {"coding": [coding("statistic", statistic, base)], "text": text}
