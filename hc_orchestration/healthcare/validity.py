"""The check of a record before it is stored: what fhir.resources lets pass and R4 does not."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from hc_orchestration.errors import ProvenanceError
from hc_orchestration.healthcare.terminology import FOREIGN_CODES, HL7

_ENTITY_ROLES = frozenset({"derivation", "revision", "quotation", "source", "removal"})
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_URIS = frozenset({"system", "url", "policy", "fullUrl", "measure"})
_BOUND = {
    ("Device", "status"): {"active", "inactive", "entered-in-error", "unknown"},
    ("DocumentReference", "status"): {"current", "superseded", "entered-in-error"},
    ("MeasureReport", "status"): {"complete", "pending", "error"},
    ("MeasureReport", "type"): {"individual", "subject-list", "summary", "data-collection"},
    ("Group", "type"): {"person", "animal", "practitioner", "device", "medication", "substance"},
    ("Measure", "status"): {"draft", "active", "retired", "unknown"},
    ("Bundle", "type"): {"collection"},
}
_Walk = Iterator[tuple[str, str, Any]]


def check_provenance(resource: Mapping[str, Any]) -> None:
    """Refuse what is not a valid R4 Provenance.

    Raises:
        ProvenanceError: Names every element and rule that is broken.
    """
    _refuse("Provenance", resource, [*_structure("Provenance", resource), *_rules(resource)])


def check_bundle(bundle: Mapping[str, Any]) -> None:
    """Refuse a record that is not a valid R4 collection Bundle, its resources among it.

    Raises:
        ProvenanceError: Names every element and rule that is broken.
    """
    problems = [*_structure("Bundle", bundle), *_bundle_rules(bundle)]
    for index, entry in enumerate(_objects(bundle.get("entry"))):
        resource = entry.get("resource")
        if isinstance(resource, dict):
            problems += [f"entry[{index}].resource.{problem}" for problem in _rules(resource)]
    _refuse("Bundle", bundle, problems)


def _refuse(kind: str, resource: Mapping[str, Any], problems: list[str]) -> None:
    if resource.get("resourceType") != kind:
        problems = [*problems, f"resourceType: is not {kind}"]
    if problems:
        message = f"not a valid R4 {kind}: " + "; ".join(problems)
        raise ProvenanceError(message)


def _structure(kind: str, resource: Mapping[str, Any]) -> list[str]:
    from fhir.resources.R4B.bundle import Bundle
    from fhir.resources.R4B.provenance import Provenance
    from pydantic import ValidationError

    model: Any = {"Bundle": Bundle, "Provenance": Provenance}[kind]
    try:
        model.model_validate(dict(resource))
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, item['loc']))}: {item['type']}"
            for item in error.errors(include_url=False, include_input=False)
        ]
    return []


def _rules(resource: Mapping[str, Any]) -> list[str]:
    kind = resource.get("resourceType")
    problems = list(_element_rules(resource))
    problems += [
        f"{name}: not a code of its required binding (binding)"
        for (owner, name), codes in _BOUND.items()
        if owner == kind and str(resource.get(name)) not in codes
    ]
    if kind == "Provenance":
        problems += _provenance_rules(resource)
    if kind == "Group" and resource.get("member") and resource.get("actual") is not True:
        problems.append("member: only an actual group has members (grp-1)")
    if kind == "MeasureReport" and resource.get("type") == "data-collection":
        problems += ["group: none in a data collection (mrp-1)"] if resource.get("group") else []
    return problems


def _provenance_rules(resource: Mapping[str, Any]) -> Iterator[str]:
    for name in ("target", "agent"):
        if not resource.get(name):
            yield f"{name}: needs at least one (cardinality 1..*)"
    for index, agent in enumerate(_objects(resource.get("agent"))):
        if not agent.get("who"):
            yield f"agent[{index}].who: needs a reference, identifier or display"
    for index, entity in enumerate(_objects(resource.get("entity"))):
        if str(entity.get("role")) not in _ENTITY_ROLES:
            yield f"entity[{index}].role: not a provenance-entity-role code"
    for activity in _objects([resource.get("activity")]):
        for coding in _objects(activity.get("coding")):
            operation = coding.get("system") == f"{HL7}/v3-DataOperation"
            if operation and coding.get("code") != "CREATE":
                yield f"activity.coding: {coding.get('code')!r} is not the v3-DataOperation CREATE"


def _element_rules(resource: Mapping[str, Any]) -> Iterator[str]:
    """Rules of R4 that hold wherever an element stands."""
    for path, name, value in _walk(resource, ""):
        if value in ({}, [], ""):
            yield f"{path}: is empty (ele-1)"
        elif name == "id" and isinstance(value, str) and not _ID.fullmatch(value):
            yield f"{path}: is no id of 1 to 64 characters (id)"
        elif name in _URIS and isinstance(value, str) and re.search(r"\s", value):
            yield f"{path}: a URI holds no spaces"
        elif isinstance(value, dict):
            yield from (f"{path}: {problem}" for problem in _invariants(value))


def _invariants(value: Mapping[str, Any]) -> Iterator[str]:
    if "start" in value and str(value["start"]) > str(value.get("end", "9999")):
        yield "start is after end (per-1)"
    if "data" in value and "sigFormat" not in value and not value.get("contentType"):
        yield "data without contentType (att-1)"
    if "code" in value and "value" in value and "unit" in value and "system" not in value:
        yield "a code without a system (qty-3)"
    known = FOREIGN_CODES.get(str(value.get("system")), {})
    code = value.get("code")
    if (
        isinstance(code, str)
        and "display" in value
        and value["display"] != known.get(code, value["display"])
    ):
        yield "the display is not that of the code (display)"


def _bundle_rules(bundle: Mapping[str, Any]) -> Iterator[str]:
    entries = _objects(bundle.get("entry"))
    types = {
        str(entry.get("fullUrl")): entry["resource"].get("resourceType")
        for entry in entries
        if isinstance(entry.get("resource"), dict)
    }
    if len({entry.get("fullUrl") for entry in entries}) != len(entries):
        yield "entry.fullUrl: twice the same (bdl-7)"
    if bundle.get("type") not in _BOUND["Bundle", "type"]:
        yield "type: not a collection (binding)"
    for name in ("request", "response", "search"):
        for index, entry in enumerate(entries):
            if name in entry:
                yield f"entry[{index}].{name}: not in a collection (bdl-{name})"
    for path, name, value in _walk(bundle, ""):
        if name == "reference" and isinstance(value, str) and value not in types:
            yield f"{path}: points to nothing in the record (ref-1)"
        known = types.get(str(value.get("reference"))) if isinstance(value, dict) else None
        if known is not None and value.get("type") != known:
            yield f"{path}.type: is not that of what it points to (ref-type)"


def _walk(value: object, path: str) -> _Walk:
    if isinstance(value, dict):
        for name, inner in value.items():
            where = f"{path}.{name}" if path else str(name)
            yield where, str(name), inner
            yield from _walk(inner, where)
    elif isinstance(value, list):
        name = path.rpartition(".")[2]
        for index, inner in enumerate(value):
            where = f"{path}[{index}]"
            yield where, name, inner
            yield from _walk(inner, where)


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The JSON objects in a list; fhir.resources names whatever else stands there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
