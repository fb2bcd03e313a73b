"""The condensed record is valid if, and only if, the record is."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.condensed import condensed
from hc_orchestration.healthcare.facts import Score
from hc_orchestration.healthcare.validity import bundle_faults, whole_bundle_faults
from hc_orchestration_tests.healthcare.test_provenance import facts

SLICES = ["source.a", "source.b", "note_type.Übergabe", "note_type.consult"]
SCORES = tuple(
    Score(mode, "micro", label, slice_name, "f1", value, 40 + at, 41, 20.0 + at / 2)
    for mode in ("strict", "exact")
    for label in ("", "DISEASE")
    for at, (slice_name, value) in enumerate(zip(SLICES, (0.5, 0.25, None, 1.0), strict=True))
)
RECORD = build_bundle(replace(facts(), scores=SCORES))
Change = Callable[[dict[str, Any]], object]


def strata(record: dict[str, Any]) -> list[dict[str, Any]]:
    (report,) = [
        entry["resource"]
        for entry in record["entry"]
        if entry["resource"]["resourceType"] == "MeasureReport"
    ]
    return [
        stratum
        for group in report["group"]
        for stratifier in group["stratifier"]
        for stratum in stratifier["stratum"]
    ]


def refused(record: dict[str, Any]) -> bool:
    return bool(whole_bundle_faults(record))


@pytest.mark.parametrize("at", range(len(strata(RECORD))))
@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.update(value={"text": ""}),
        lambda s: s.update(value={"text": " x"}),
        lambda s: s.update(value={"text": "x\u0000"}),
        lambda s: s.update(value={"count": 5}),
        lambda s: s.update(value="x"),
        lambda s: s.update(banana=1),
        lambda s: s.update(population=[]),
        lambda s: s["population"][0].update(count="4"),
        lambda s: s["population"][0].update(count=1.5),
        lambda s: s["population"][0].update(count=2**31),
        lambda s: s["population"][0].update(count=True),
        lambda s: s["population"][0]["code"]["coding"][0].update(display="other"),
        lambda s: s["population"][0]["code"]["coding"][0].update(system="a b"),
        lambda s: s.update(measureScore={"value": "1", "unit": "1"}),
        lambda s: s.update(measureScore={"value": 1, "code": "1"}),
        lambda s: s.clear(),
    ],
)
def test_the_condensed_record_is_refused_exactly_when_the_record_is(
    change: Change, at: int
) -> None:
    record = copy.deepcopy(RECORD)
    change(strata(record)[at])
    assert refused(condensed(record)) is refused(record)
    assert bundle_faults(record) == whole_bundle_faults(record)


def test_most_strata_are_of_few_forms() -> None:
    assert not refused(RECORD)
    assert len(strata_left(condensed(RECORD))) < len(strata(RECORD)) / 2
    empty = copy.deepcopy(RECORD)
    empty["entry"][7]["resource"]["group"][1]["stratifier"][0]["stratum"] = []
    assert refused(empty)
    assert refused(condensed(empty))


def strata_left(record: dict[str, Any]) -> list[Any]:
    text = json.dumps(record)
    return text.split('"population"')
