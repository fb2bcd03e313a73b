"""A record with one of each form of stratum, which is enough to check it."""

import json
import re
from typing import Any

_SOUND = (
    (re.compile(r'"text": "[!#-\[\]-~](?:[ !#-\[\]-~]*[!#-\[\]-~])?"'), '"text"'),
    (re.compile(r'"count": \d{1,9}(?=[,}])'), '"count"'),
    (re.compile(r'"value": (?:0|1|0\.\d+)(?=[,}])'), '"value"'),
)
"""Members with a value that no rule refuses: printable text, a count, a ratio."""


def condensed(bundle: object) -> Any:  # noqa: ANN401 - JSON
    """The record with one of each form of stratum: valid if, and only if, the record is.

    A record has thousands of strata that differ in nothing but sound numbers and sound texts, which
    no rule tells apart, and to check one takes as long as to read a hundred. What has not the shape
    of a record is given back as it is.
    """
    if not isinstance(bundle, dict) or not isinstance(bundle.get("entry"), list):
        return bundle
    return {**bundle, "entry": [_entry(entry) for entry in bundle["entry"]]}


def _entry(entry: object) -> object:
    report = entry.get("resource") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(report, dict):
        return entry
    groups = report.get("group")
    if report.get("resourceType") != "MeasureReport" or not isinstance(groups, list):
        return entry
    seen: set[str] = set()
    return {**entry, "resource": {**report, "group": [_group(group, seen) for group in groups]}}


def _group(group: object, seen: set[str]) -> object:
    if not isinstance(group, dict) or not isinstance(group.get("stratifier"), list):
        return group
    return {**group, "stratifier": [_stratifier(one, seen) for one in group["stratifier"]]}


def _stratifier(one: object, seen: set[str]) -> object:
    if not isinstance(one, dict) or not isinstance(one.get("stratum"), list):
        return one
    kept = []
    for stratum in one["stratum"]:
        form = json.dumps(stratum, ensure_ascii=False)
        for sound, name in _SOUND:
            form = sound.sub(name, form)
        if form not in seen:
            seen.add(form)
            kept.append(stratum)
    if kept or not one["stratum"]:
        return {**one, "stratum": kept}
    return {name: value for name, value in one.items() if name != "stratum"}
