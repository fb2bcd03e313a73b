"""The check of a record before it is stored: what fhir.resources lets pass and R4 does not.

It knows the resources of a record and no others, so it is no validator of FHIR at large: elements,
required codes and allowed targets from the models' own metadata, invariants from `r4_rules`, and
what makes a Bundle a record of ours.
"""

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hc_orchestration.errors import ProvenanceError
from hc_orchestration.healthcare.condensed import condensed
from hc_orchestration.healthcare.r4_elements import (
    ANY_RESOURCE,
    ElementDefinition,
    Placed,
    elements_of,
    walk,
)
from hc_orchestration.healthcare.r4_rules import (
    DOMAIN_INVARIANTS,
    INVARIANTS,
    MEDIA_TYPE,
    Invariant,
    contained,
    malformed,
    objects,
    part,
)
from hc_orchestration.healthcare.terminology import (
    CANONICAL_BASE,
    FOREIGN_CODES,
    HL7,
    own_codes,
)

_CONTENTS = {
    "Organization": (0, 1),
    "Device": (2, 2),
    "Group": (0, 1),
    "DocumentReference": (2, None),
    "Measure": (1, 1),
    "MeasureReport": (1, 1),
    "Provenance": (1, 1),
}
_MEDIA_TYPES = {
    ("Attachment", "contentType"),
    ("Signature", "targetFormat"),
    ("Signature", "sigFormat"),
}
_NOTATIONS = frozenset(
    {("Measure", "improvementNotation"), ("MeasureReport", "improvementNotation")}
)
_NOTATION = f"{HL7}/measure-improvement-notation"
_NAMES_A_THING = frozenset({"reference", "identifier", "display"})
_passed: deque[bytes] = deque(maxlen=2)
"""The bytes of the last valid records."""


@dataclass(frozen=True, slots=True)
class Fault:
    """A rule that is broken and where.

    Attributes:
        where: A FHIRPath, such as `Bundle.entry[3].resource.status`.
        rule: The key of an R4 invariant (`per-1`), a primitive type that is malformed (`Instant`),
            or `element`, `type`, `cardinality`; `binding` (a required one), `code` (not in its
            system), `display`; `reference` (resolves to nothing, or says nothing) and
            `reference-type`; `canonical`; `contents` (what a record must hold).
        says: What is wrong, in words.
    """

    where: str
    rule: str
    says: str

    def __str__(self) -> str:
        """The fault as it stands in a message."""
        return f"{self.where}: {self.says} ({self.rule})"


class InvalidRecordError(ProvenanceError):
    """A resource that is not what R4, or a record of ours, must be.

    Attributes:
        faults: All of them, in the order of the resource.
    """

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        """Name every fault."""
        kind = faults[0].where.split(".")[0]
        self.faults = faults
        super().__init__(f"not a valid R4 {kind}: {'; '.join(map(str, faults))}")


def check_provenance(resource: Mapping[str, Any]) -> None:
    """Refuse what is not a valid R4 Provenance; what it points to need not be here.

    Raises:
        InvalidRecordError: Names every element and rule that is broken.
    """
    if faults := provenance_faults(resource):
        raise InvalidRecordError(faults)


def check_bundle(bundle: Mapping[str, Any]) -> None:
    """Refuse a record that is not a valid R4 collection Bundle, its resources among it.

    Raises:
        InvalidRecordError: Names every element and rule that is broken.
    """
    if faults := bundle_faults(bundle):
        raise InvalidRecordError(faults)


def check_record(bundle: Mapping[str, Any], content: bytes) -> None:
    """As `check_bundle`; the last that passed need not again.

    What an evaluation writes is read twice by the checks after it.

    Args:
        bundle: The record.
        content: Its bytes.

    Raises:
        InvalidRecordError: Names every element and rule that is broken.
    """
    if content not in _passed:
        check_bundle(bundle)
        _passed.append(content)


def provenance_faults(resource: object) -> tuple[Fault, ...]:
    """What is wrong with a Provenance that stands alone, as JSON."""
    return _faults_of_resource("Provenance", resource)


def bundle_faults(bundle: object) -> tuple[Fault, ...]:
    """What is wrong with a record, as JSON.

    The whole of it is looked at only to name each fault in its place; see `condensed`.
    """
    return whole_bundle_faults(bundle) if whole_bundle_faults(condensed(bundle)) else ()


def whole_bundle_faults(bundle: object) -> tuple[Fault, ...]:
    """As `bundle_faults`, without the short way."""
    faults = _faults_of_resource("Bundle", bundle)
    if not isinstance(bundle, dict) or bundle.get("resourceType") != "Bundle":
        return faults
    return (*faults, *_record_faults(bundle), *_link_faults(bundle))


def _faults_of_resource(kind: str, resource: object) -> tuple[Fault, ...]:
    if part(resource, "resourceType") != kind:
        return (Fault(f"{kind}.resourceType", "type", f"is no {kind}"),)
    faults: list[Fault] = []
    for placed in walk(Placed(kind, resource, ElementDefinition(ANY_RESOURCE))):
        faults += _faults_of_element(placed)
    named = {fault.where for fault in faults}
    return (
        *faults,
        *(fault for fault in _model_faults(kind, resource) if fault.where not in named),
    )


def _faults_of_element(placed: Placed) -> Iterator[Fault]:
    if placed.value in ({}, [], "", None):
        yield Fault(placed.where, "ele-1", "is empty")
    elif placed.definition.json_types:
        yield from _primitive_faults(placed)
    elif not isinstance(placed.value, dict):
        yield Fault(placed.where, "type", "is no object")
    elif elements_of(placed.kind) is None:
        yield Fault(placed.where, "type", "is no resource of R4")
    else:
        yield from _object_faults(placed)


def _primitive_faults(placed: Placed) -> Iterator[Fault]:
    value, definition = placed.value, placed.definition
    is_bool = isinstance(value, bool)
    if not isinstance(value, definition.json_types) or is_bool != (bool in definition.json_types):
        yield Fault(placed.where, "type", f"is no {definition.kind}")
        return
    if definition.codes and value not in definition.codes:
        yield Fault(placed.where, "binding", "is not a code of its required binding")
    if isinstance(value, str) and (says := malformed(definition.kind, value)):
        yield Fault(placed.where, definition.kind, f"is not {says}")


def _object_faults(placed: Placed) -> Iterator[Fault]:
    value, kind = placed.value, placed.kind
    elements = elements_of(kind) or {}
    for name, inner in value.items():
        where = f"{placed.where}.{name}"
        if name not in elements:
            if name != "resourceType" or placed.definition.kind != ANY_RESOURCE:
                yield Fault(where, "element", f"{kind} has no such element")
        elif isinstance(inner, list) != elements[name].many:
            yield Fault(where, "cardinality", "is a list, or should be one")
        elif inner == [] and not elements[name].required:
            yield Fault(where, "ele-1", "is empty")
    for name, definition in elements.items():
        if definition.required and value.get(name) in (None, []):
            yield Fault(f"{placed.where}.{name}", "cardinality", "needs at least one (1..)")
    yield from _broken(placed.where, value, INVARIANTS.get(kind, ()))
    if "contained" in elements:
        yield from _broken(placed.where, value, DOMAIN_INVARIANTS)
    yield from _vocabulary_faults(placed)
    if kind == "Reference":
        yield from _reference_faults(placed)


def _broken(where: str, value: Any, rules: tuple[Invariant, ...]) -> Iterator[Fault]:  # noqa: ANN401
    return (Fault(where, rule.key, rule.says) for rule in rules if not rule.holds(value))


def _vocabulary_faults(placed: Placed) -> Iterator[Fault]:
    value, kind = placed.value, placed.kind
    for name, inner in value.items():
        where = f"{placed.where}.{name}"
        if (kind, name) in _MEDIA_TYPES and not MEDIA_TYPE.fullmatch(str(inner)):
            yield Fault(where, "binding", "is no media type")
        if (kind, name) in _NOTATIONS and all(
            coding.get("system") != _NOTATION or "code" not in coding
            for coding in objects(part(inner, "coding"))
        ):
            yield Fault(where, "binding", f"has no code of {_NOTATION}")
    if kind != "Coding":
        return
    system, code = str(value.get("system")), value.get("code")
    known = _known_codes(system)
    if known is None or not isinstance(code, str):
        return
    if code not in known:
        yield Fault(f"{placed.where}.code", "code", f"{code!r} is no code that we use of {system}")
    elif "display" in value and value["display"] != known[code]:
        yield Fault(f"{placed.where}.display", "display", "is not that of the code")


def _known_codes(system: str) -> Mapping[str, str] | None:
    """The codes of a system that a record may use; None when any may be."""
    ours = f"{CANONICAL_BASE}/CodeSystem/{system.rpartition('/CodeSystem/')[2]}"
    return FOREIGN_CODES.get(system) or own_codes(CANONICAL_BASE).get(ours)


def _reference_faults(placed: Placed) -> Iterator[Fault]:
    value, allowed = placed.value, placed.definition.targets
    if not _NAMES_A_THING & value.keys():
        yield Fault(placed.where, "reference", "says nothing of what it points to")
    kind = value.get("type")
    if isinstance(kind, str) and allowed and kind not in allowed:
        yield Fault(f"{placed.where}.type", "reference-type", f"may not be a {kind}")


def _model_faults(kind: str, resource: object) -> Iterator[Fault]:
    """What fhir.resources has to say."""
    from fhir.resources.R4B import get_fhir_model_class
    from pydantic import ValidationError

    try:
        get_fhir_model_class(kind).model_validate(resource)
    except ValidationError as error:
        for item in error.errors(include_url=False, include_input=False, include_context=False):
            steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in item["loc"])
            yield Fault(kind + "".join(steps), "type", item["type"])
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        # Their validators trip over what they do not expect, such as an unknown resourceType.
        yield Fault(kind, "type", f"cannot be read by fhir.resources ({type(error).__name__})")


def _record_faults(bundle: Mapping[str, Any]) -> Iterator[Fault]:
    if bundle.get("type") != "collection":
        yield Fault("Bundle.type", "contents", "a record is a collection")
    entries = objects(bundle.get("entry"))
    for index, entry in enumerate(entries):
        if "fullUrl" not in entry:
            yield Fault(f"Bundle.entry[{index}].fullUrl", "cardinality", "needs one")
    kinds = [str(part(entry.get("resource"), "resourceType")) for entry in entries]
    for index, kind in enumerate(kinds):
        if kind not in _CONTENTS:
            yield Fault(
                f"Bundle.entry[{index}].resource", "contents", "is nothing that a record holds"
            )
    for kind, (least, most) in _CONTENTS.items():
        if kinds.count(kind) < least or (most is not None and kinds.count(kind) > most):
            yield Fault("Bundle.entry", "contents", f"holds {kinds.count(kind)} {kind} resources")


def _link_faults(bundle: Mapping[str, Any]) -> Iterator[Fault]:
    """References and canonical addresses that resolve to nothing in the record, or wrongly."""
    resources = {
        str(entry.get("fullUrl")): entry.get("resource") for entry in objects(bundle.get("entry"))
    }
    addresses = {
        f"{part(resource, 'url')}|{part(resource, 'version')}" for resource in resources.values()
    }
    within: Mapping[str, Any] = {}
    for placed in walk(Placed("Bundle", bundle, ElementDefinition(ANY_RESOURCE))):
        if placed.where.endswith(".resource"):
            within = placed.value if isinstance(placed.value, dict) else {}
        if placed.kind == "Canonical" and str(placed.value) not in addresses:
            yield Fault(placed.where, "canonical", "is the address of nothing in the record")
        if placed.kind == "Reference" and isinstance(placed.value, dict):
            yield from _resolved(placed, resources, contained(within))


def _resolved(
    placed: Placed, resources: Mapping[str, object], inside: list[Mapping[str, Any]]
) -> Iterator[Fault]:
    reference = placed.value.get("reference")
    if not isinstance(reference, str):
        return
    where = f"{placed.where}.reference"
    if reference.startswith("#"):
        target: object = next((one for one in inside if f"#{one.get('id')}" == reference), None)
        rule = "ref-1"
    else:
        target, rule = resources.get(reference), "reference"
    if target is None:
        yield Fault(where, rule, "points to nothing in the record")
        return
    kind = str(part(target, "resourceType"))
    if placed.definition.targets and kind not in placed.definition.targets:
        yield Fault(where, "reference-type", f"may not point to a {kind}")
    if placed.value.get("type") != kind:
        yield Fault(f"{placed.where}.type", "reference-type", f"it points to a {kind}")
