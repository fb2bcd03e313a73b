"""Our CodeSystems and Measure under the configured canonical base, and the codes of R4 we use."""

import json
from functools import cache
from importlib.resources import files
from typing import Any

CANONICAL_BASE = "https://hc-orchestration.example/fhir"
"""The base that the resources in the package carry; a study may set its own."""

URI_SYSTEM = "urn:ietf:rfc:3986"
HL7 = "http://terminology.hl7.org/CodeSystem"
UCUM = "http://unitsofmeasure.org"
ABSENT_REASON = "http://hl7.org/fhir/StructureDefinition/data-absent-reason"

REASONS = {
    "HRESCH": "healthcare research",
    "HQUALIMP": "health quality improvement",
    "HOPERAT": "healthcare operations",
    "PATSFTY": "patient safety",
    "CLINTRCH": "clinical trial research",
}
OPERATIONS = {"CREATE": "create"}
PARTICIPANTS = {
    "performer": "Performer",
    "assembler": "Assembler",
    "author": "Author",
    "custodian": "Custodian",
}
SIGNATURE_SYSTEM = "urn:iso-astm:E1762-95:2013"

FOREIGN_CODES: dict[str, dict[str, str]] = {
    f"{HL7}/v3-ActReason": REASONS,
    f"{HL7}/v3-DataOperation": OPERATIONS,
    f"{HL7}/provenance-participant-type": PARTICIPANTS,
    f"{HL7}/measure-scoring": {"proportion": "Proportion"},
    f"{HL7}/measure-improvement-notation": {"increase": "Increased score indicates improvement"},
    SIGNATURE_SYSTEM: {"1.2.840.10065.1.12.1.5": "Verification Signature"},
}
"""System → code → display, for the codes of others that a record may hold."""


@cache
def packaged(base: str = CANONICAL_BASE) -> tuple[dict[str, Any], ...]:
    """The CodeSystems and the Measure, their canonical addresses below `base`."""
    folder = files("hc_orchestration.healthcare") / "fhir"
    texts = (
        entry.read_text(encoding="utf-8")
        for entry in sorted(folder.iterdir(), key=lambda entry: entry.name)
    )
    quoted = json.dumps(base)[1:-1]
    return tuple(json.loads(text.replace(CANONICAL_BASE, quoted)) for text in texts)


def measure(base: str) -> dict[str, Any]:
    """The Measure that says what the scores mean; the caller's own copy."""
    (found,) = (resource for resource in packaged(base) if resource["resourceType"] == "Measure")
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


@cache
def own_codes(base: str) -> dict[str, dict[str, str]]:
    """System → code → display of our CodeSystems."""
    return {
        resource["url"]: {concept["code"]: concept["display"] for concept in resource["concept"]}
        for resource in packaged(base)
        if resource["resourceType"] == "CodeSystem"
    }
