"""Single faults of a valid, signed record: where each is made, and the rule that it breaks.

Paths begin with a kind of resource and stand for the first of that kind in the record.
"""

import copy
import functools
import operator
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

Bundle = dict[str, Any]
REMOVED: Any = ...
"""As a value: the element is taken away."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A fault.

    Attributes:
        path: The object that is changed.
        put: Elements of it and their new values; a value may be made from the record.
        rule: The rule that the check must name.
        at: Where it must name it; the changed element if not told.
        passes: Whether fhir.resources alone lets it pass.
        ours: Whether R4 allows it: a rule of our records alone.
    """

    path: str
    put: Mapping[str, Any]
    rule: str
    at: str = ""
    passes: bool = True
    ours: bool = False

    def __str__(self) -> str:
        return f"{self.path} {'+'.join(self.put)} {self.rule}"


def applied(mutation: Mutation, record: Bundle) -> Bundle:
    """The record with the fault in it."""
    changed = copy.deepcopy(record)
    found = element(mutation.path, changed)
    for name, value in mutation.put.items():
        if value is REMOVED:
            del found[name]
        else:
            found[name] = value(record) if callable(value) else value
    return changed


def element(path: str, record: Bundle) -> Any:
    """What stands at a path."""
    found: Any = record
    for step in re.findall(r"\w+", location(path, record))[1:]:
        found = found[int(step) if step.isdigit() else step]
    return found


def location(path: str, record: Bundle) -> str:
    """A path as it reads from the top of the record."""
    kind, dot, rest = path.partition(".")
    if kind.split("[")[0] == "Bundle":
        return path
    kinds = [entry["resource"]["resourceType"] for entry in record["entry"]]
    return f"Bundle.entry[{kinds.index(kind)}].resource{dot}{rest}"


def place(mutation: Mutation, record: Bundle) -> str:
    """Where the check must name the fault."""
    return location(mutation.at or f"{mutation.path}.{next(iter(mutation.put))}", record)


def url_of(kind: str) -> Callable[[Bundle], str]:
    """The fullUrl of a resource."""
    return lambda record: next(
        entry["fullUrl"] for entry in record["entry"] if entry["resource"]["resourceType"] == kind
    )


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=8), inner, max_size=2)
    ),
    max_leaves=4,
)
_Steps = tuple[str | int, ...]


def _paths(value: object, steps: _Steps = ()) -> Iterator[_Steps]:
    """The way to every value below one."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore[arg-type]
    for step, below in inner:
        yield (*steps, step)
        if isinstance(below, dict | list):
            yield from _paths(below, (*steps, step))


def without_each_value(record: Bundle) -> Iterator[Bundle]:
    """The record without one of its values, for each that stands somewhere else than others."""
    kinds = [entry["resource"]["resourceType"] for entry in record["entry"]]
    seen = set()
    for steps in _paths(record):
        owner = kinds[int(steps[1])] if steps[0] == "entry" and len(steps) > 1 else "Bundle"
        alike = (owner, *("[]" if isinstance(step, int) else step for step in steps))
        if alike in seen:
            continue
        seen.add(alike)
        broken = copy.deepcopy(record)
        del functools.reduce(operator.getitem, steps[:-1], broken)[steps[-1]]
        yield broken


@st.composite
def broken_records(draw: st.DrawFn, record: Bundle) -> Any:
    """The record with up to three values removed, or replaced by others: its own or any JSON."""
    broken, own_paths = copy.deepcopy(record), list(_paths(record))
    for _ in range(draw(st.integers(1, 3))):
        steps = draw(st.sampled_from(list(_paths(broken)) or [()]))
        if not steps:
            break
        parent = functools.reduce(operator.getitem, steps[:-1], broken)
        if draw(st.booleans()):
            del parent[steps[-1]]
            continue
        taken = draw(st.sampled_from(own_paths))
        own = copy.deepcopy(functools.reduce(operator.getitem, taken, record))
        parent[steps[-1]] = draw(_JSON | st.just(own))
    return broken


DIV = '<div xmlns="http://www.w3.org/1999/xhtml">%s</div>'
INNER = {"resourceType": "Device", "id": "inner"}
POINTING = {"partOf": {"reference": "#inner", "type": "Organization"}}
ORGANIZATION = {"resourceType": "Organization", "id": "inner", "name": "Ward"}
WHO = "Provenance.agent[0].who"
LOW = "Group.characteristic[2].valueRange"
FILE = "DocumentReference.content[0].attachment"
GROUP = "MeasureReport.group[0]"
STRATUM = "MeasureReport.group[0].stratifier[0].stratum[0]"
EXTENSION = "Group.extension[0]"
OPERATION = "Provenance.activity.coding[0]"

M = Mutation
MUTATIONS: tuple[Mutation, ...] = (
    # The Bundle
    M("Bundle", {"type": "banana"}, "binding"),
    M("Bundle", {"type": "transaction"}, "contents"),
    M("Bundle", {"total": 10}, "bdl-1", at="Bundle"),
    M("Bundle.entry[0]", {"search": {"mode": "match"}}, "bdl-2", at="Bundle"),
    M("Bundle.entry[0]", {"request": {"method": "GET", "url": "x"}}, "bdl-3", at="Bundle"),
    M("Bundle.entry[0]", {"response": {"status": "200"}}, "bdl-4", at="Bundle"),
    M("Bundle.entry[0]", {"resource": REMOVED}, "bdl-5", at="Bundle.entry[0]"),
    M("Bundle.entry[0]", {"resource": {"resourceType": "Patient"}}, "contents"),
    M("Bundle.entry[0]", {"resource": {"resourceType": "Form"}}, "type", passes=False),
    M("Bundle.entry[0]", {"fullUrl": url_of("Group")}, "bdl-7", at="Bundle"),
    M("Bundle.entry[0]", {"fullUrl": "urn:uuid:no-uuid"}, "Uri"),
    M(
        "Bundle.entry[0]",
        {"fullUrl": "https://a.example/Device/1/_history/2"},
        "bdl-8",
        at="Bundle.entry[0]",
    ),
    M("Bundle.entry[0]", {"fullUrl": REMOVED}, "cardinality"),
    M("Bundle", {"entry": []}, "ele-1"),
    M("Bundle", {"identifier": {}}, "ele-1"),
    M("Bundle", {"timestamp": "2025-01-19T10:30:05.123Z"}, "Instant", ours=True),
    M("Bundle", {"timestamp": "yesterday"}, "Instant", passes=False),
    M("Bundle.signature", {"sigFormat": "jose"}, "binding"),
    M("Bundle.signature", {"when": REMOVED}, "cardinality", passes=False),
    M("Bundle.signature", {"data": "not base64"}, "Base64Binary", passes=False),
    M("Bundle.signature", {"type": []}, "cardinality"),
    M("Bundle.signature.who", {"type": "Group"}, "reference-type"),
    # Provenance
    M("Provenance", {"target": []}, "cardinality"),
    M("Provenance", {"target": REMOVED}, "cardinality", passes=False),
    M("Provenance", {"agent": []}, "cardinality"),
    M("Provenance", {"agent": REMOVED}, "cardinality", passes=False),
    M("Provenance", {"agent": {"who": {"display": "x"}}}, "cardinality", passes=False),
    M("Provenance", {"recorded": REMOVED}, "cardinality", passes=False),
    M("Provenance", {"recorded": "2025-01-19 10:30:05Z"}, "Instant", passes=False),
    M("Provenance", {"recorded": "2025-01-19T10:30:05"}, "Instant", passes=False),
    M("Provenance", {"recorded": 1737282605}, "type"),
    M(
        "Provenance.occurredPeriod",
        {"end": "2020-01-01"},
        "per-1",
        at="Provenance.occurredPeriod",
    ),
    M("Provenance", {"occurredDateTime": "2025-01-19"}, "type", at="Provenance", passes=False),
    M("Provenance", {"policy": ["internal ehr"]}, "Uri", at="Provenance.policy[0]"),
    M("Provenance", {"policy": "https://a.example"}, "cardinality", passes=False),
    M("Provenance", {"reason": []}, "ele-1"),
    M("Provenance", {"id": "x" * 65}, "Id"),
    M("Provenance", {"id": "a_b"}, "Id", passes=False),
    M("Provenance", {"activty": {"text": "x"}}, "element", passes=False),
    M("Provenance", {"fhir_comments": "x"}, "element"),
    M("Provenance.meta.tag[0]", {"code": " x"}, "Code", passes=False),
    M(OPERATION, {"code": "DERIVE"}, "code"),
    M(OPERATION, {"display": "derive"}, "display"),
    M("Provenance.activity.coding[1]", {"code": "training"}, "code"),
    M("Provenance.activity.coding[1]", {"display": "Training"}, "display"),
    M("Provenance.agent[0].type.coding[0]", {"display": "Author"}, "display"),
    M("Provenance.agent[0]", {"who": {}}, "ele-1"),
    M("Provenance.agent[0]", {"who": REMOVED}, "cardinality", passes=False),
    M(WHO, {"type": "Group"}, "reference-type"),
    M(WHO, {"reference": url_of("Group")}, "reference-type"),
    M("Provenance.agent[0]", {"who": {"type": "Device"}}, "reference"),
    M("Provenance.entity[0]", {"role": "banana"}, "binding"),
    M("Provenance.entity[0]", {"role": REMOVED}, "cardinality", passes=False),
    M("Provenance.entity[0]", {"what": REMOVED}, "cardinality", passes=False),
    M("Provenance.target[0]", {"reference": "#x"}, "ref-1"),
    M(
        "Provenance.target[0]",
        {"reference": "urn:uuid:3f0c1a52-0000-4000-8000-000000000001"},
        "reference",
    ),
    M("Provenance.target[0]", {"reference": "Device/1"}, "reference"),
    M("Provenance.target[0]", {"type": "Device"}, "reference-type"),
    M("Provenance.signature[0]", {"sigFormat": "jose"}, "binding"),
    # Device
    M("Device", {"status": "on"}, "binding"),
    M("Device", {"identifier": []}, "ele-1"),
    M("Device.deviceName[0]", {"type": "nickname"}, "binding"),
    M("Device.deviceName[0]", {"name": REMOVED}, "cardinality", passes=False),
    M("Device.version[0]", {"value": ""}, "ele-1", passes=False),
    M("Device.owner", {"reference": url_of("Group")}, "reference-type"),
    # Group
    M("Group", {"actual": False, "member": [{"entity": {"display": "x"}}]}, "grp-1", at="Group"),
    M("Group", {"actual": REMOVED}, "cardinality", passes=False),
    M("Group", {"type": "people"}, "binding"),
    M("Group", {"quantity": -1}, "type", passes=False),
    M("Group", {"quantity": "500"}, "type"),
    M("Group.characteristic[0]", {"exclude": REMOVED}, "cardinality", passes=False),
    M("Group.characteristic[0]", {"exclude": "false"}, "type"),
    M(
        "Group.characteristic[0]",
        {"valueBoolean": True},
        "type",
        at="Group.characteristic[0]",
        passes=False,
    ),
    M(f"{LOW}.low", {"value": 99}, "rng-2", at=LOW),
    M(f"{LOW}.low", {"code": "kg"}, "rng-2", at=LOW),
    M(f"{LOW}.low", {"system": REMOVED}, "qty-3", at=f"{LOW}.low"),
    M(EXTENSION, {"valueString": REMOVED}, "ext-1", at=EXTENSION),
    M(
        EXTENSION,
        {"extension": [{"url": "https://a.example/b", "valueCode": "b"}]},
        "ext-1",
        at=EXTENSION,
    ),
    M(EXTENSION, {"url": REMOVED}, "cardinality", passes=False),
    # DocumentReference
    M("DocumentReference", {"status": "final"}, "binding"),
    M("DocumentReference", {"content": []}, "cardinality"),
    M("DocumentReference", {"date": "2025-01-19T10:30Z"}, "Instant", passes=False),
    M(
        "DocumentReference",
        {"custodian": {"display": "x", "type": "Group"}},
        "reference-type",
        at="DocumentReference.custodian.type",
    ),
    M(FILE, {"contentType": "binary"}, "binding"),
    M(FILE, {"contentType": REMOVED, "data": "e30="}, "att-1", at=FILE),
    M(FILE, {"url": "ni:///sha-256; x"}, "Url"),
    M(FILE, {"size": 1.5}, "type", passes=False),
    # Organization
    M("Organization", {"identifier": REMOVED, "name": REMOVED}, "org-1", at="Organization"),
    M("Organization", {"name": None}, "ele-1"),
    M("Organization", {"name": "Ward\x0b3"}, "String"),
    M(
        "Organization",
        {"contained": [ORGANIZATION | {"contained": [INNER]}], **POINTING},
        "dom-2",
        at="Organization",
    ),
    M("Organization", {"contained": [INNER]}, "dom-3", at="Organization"),
    M(
        "Organization",
        {"contained": [ORGANIZATION | {"meta": {"versionId": "1"}}], **POINTING},
        "dom-4",
        at="Organization",
    ),
    M(
        "Organization",
        {"contained": [ORGANIZATION | {"meta": {"security": [{"code": "R"}]}}], **POINTING},
        "dom-5",
        at="Organization",
    ),
    M(
        "Organization",
        {"text": {"status": "generated", "div": DIV % "<script>x</script>"}},
        "txt-1",
        at="Organization.text",
    ),
    M(
        "Organization",
        {"text": {"status": "generated", "div": DIV % " "}},
        "txt-2",
        at="Organization.text",
    ),
    M(
        "Organization",
        {"text": {"status": "mine", "div": DIV % "x"}},
        "binding",
        at="Organization.text.status",
    ),
    # Measure and MeasureReport
    M("Measure", {"status": "final"}, "binding"),
    M("Measure", {"name": "ner-evaluation"}, "mea-0", at="Measure"),
    M("Measure", {"version": "2"}, "canonical", at="MeasureReport.measure"),
    M("Measure.scoring.coding[0]", {"display": "Ratio"}, "display"),
    M("MeasureReport", {"type": "data-collection"}, "mrp-1", at="MeasureReport"),
    M("MeasureReport", {"status": "done"}, "binding"),
    M("MeasureReport", {"period": REMOVED}, "cardinality", passes=False),
    M("MeasureReport", {"measure": "https://a.example/Measure/1"}, "canonical"),
    M("MeasureReport", {"improvementNotation": {"text": "up"}}, "binding"),
    M(f"{GROUP}.measureScore", {"system": REMOVED}, "qty-3", at=f"{GROUP}.measureScore"),
    M(f"{GROUP}.measureScore", {"value": "0.5"}, "type"),
    M(f"{GROUP}.population[0]", {"count": 1.5}, "type", passes=False),
    M(f"{GROUP}.population[0].code.coding[0]", {"display": "Gold"}, "display"),
    M(STRATUM, {"value": REMOVED}, "mrp-2", at=STRATUM),
    M(
        STRATUM,
        {"component": [{"code": {"text": "a"}, "value": {"text": "b"}}]},
        "mrp-2",
        at=STRATUM,
    ),
)
