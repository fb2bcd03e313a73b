"""The FHIR R4 Provenance of an evaluation: a pure builder and the check before it is stored.

Clock and ids are arguments, so the same evaluation gives the same bytes. Every reference is logical
(type and identifier), so the resource says by itself what it points to.
"""

import base64
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from hc_orchestration.errors import ProvenanceError
from hc_orchestration.healthcare.contexts import HealthcareRunContext

CANONICAL_BASE = "https://hc-orchestration.example/fhir"
_TERMINOLOGY = "http://terminology.hl7.org/CodeSystem"
_URI_SYSTEM = "urn:ietf:rfc:3986"
_AGENT_TYPES = {
    "performer": "Performer",
    "assembler": "Assembler",
    "author": "Author",
    "custodian": "Custodian",
}
_ENTITY_ROLES = frozenset({"derivation", "revision", "quotation", "source", "removal"})
_TAG_CODE = re.compile(r"[^\s]+( [^\s]+)*")


@dataclass(frozen=True, slots=True)
class EvaluationFacts:
    """Everything that the record of an evaluation says.

    Attributes:
        artifacts: Name → sha256 (hex) of the files that the evaluation made.
        software: Name → version of the programs that took part; the first is this package.
        started: When the first step began; `ended` when the last one before the record did.
    """

    evaluation_id: str
    evaluation_digest: str
    context: HealthcareRunContext
    model_fingerprint: str
    corpus_digest: str
    corpus_version: int
    notes: int
    artifacts: Mapping[str, str]
    software: Mapping[str, str]
    dagster_run_id: str
    started: datetime
    ended: datetime
    recorded: datetime


def build_provenance(facts: EvaluationFacts) -> dict[str, Any]:
    """The Provenance resource of an evaluation, checked.

    Raises:
        ProvenanceError: The facts do not make a valid resource; see `check_provenance`.
    """
    context = facts.context
    resource = {
        "resourceType": "Provenance",
        "id": facts.evaluation_id,
        "meta": {"tag": _tags(facts)},
        "target": [
            _reference("DocumentReference", _ni(digest), name)
            for name, digest in sorted(facts.artifacts.items())
        ],
        "occurredPeriod": {"start": _instant(facts.started), "end": _instant(facts.ended)},
        "recorded": _instant(facts.recorded),
        "reason": [_reason(context.purpose)],
        "activity": {
            "coding": [
                _coding(f"{_TERMINOLOGY}/v3-DataOperation", "CREATE", "create"),
                _coding(
                    f"{CANONICAL_BASE}/CodeSystem/activity",
                    "ner-evaluation",
                    "NER model evaluation",
                ),
            ]
        },
        "agent": _agents(facts),
        "entity": _entities(facts),
    }
    check_provenance(resource)
    return resource


def build_context_provenance(context: HealthcareRunContext, recorded: datetime) -> dict[str, Any]:
    """The Provenance resource of a run of which nothing but its context is known, checked.

    Its target is whatever the model put out; model and target are named by the model's id and
    version, as there is no digest to name them by.

    Raises:
        ProvenanceError: The context does not make a valid resource; see `check_provenance`.
    """
    key = f"{context.model_id}:{context.version}"
    named = f"{context.model_id} {context.version}"
    model = _named("Device", "model", key, named)
    tags = _regulatory_tags(context)
    resource = {
        "resourceType": "Provenance",
        **({"meta": {"tag": tags}} if tags else {}),
        "target": [_named("DocumentReference", "model-output", key, f"output of {named}")],
        "recorded": _instant(recorded),
        "reason": [_reason(context.purpose)],
        "activity": {
            "coding": [_coding(f"{_TERMINOLOGY}/v3-DataOperation", "CREATE", "create")],
        },
        "agent": _with_organization([_agent("performer", model)], context.organization),
    }
    if origins := _origins(context):
        resource["entity"] = origins
    check_provenance(resource)
    return resource


def provenance_bytes(resource: Mapping[str, Any]) -> bytes:
    """The one serialisation of a resource: sorted keys, no spaces, UTF-8."""
    text = json.dumps(resource, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def check_provenance(resource: Mapping[str, Any]) -> None:
    """Refuse what is not a valid R4 Provenance.

    fhir.resources checks structure and types; on top come the rules of R4 that it lets pass and
    that this builder could break.

    Raises:
        ProvenanceError: Names every element and rule that is broken.
    """
    from fhir.resources.R4B.provenance import Provenance
    from pydantic import ValidationError

    problems: list[str] = []
    try:
        Provenance.model_validate(dict(resource))
    except ValidationError as error:
        problems += [
            f"{'.'.join(map(str, item['loc']))}: {item['type']}"
            for item in error.errors(include_url=False, include_input=False)
        ]
    problems += _broken_rules(resource)
    if problems:
        message = "not a valid R4 Provenance: " + "; ".join(problems)
        raise ProvenanceError(message)


def _broken_rules(resource: Mapping[str, Any]) -> list[str]:
    problems = [
        f"{name}: needs at least one (cardinality 1..*)"
        for name in ("target", "agent")
        if not resource.get(name)
    ]
    if resource.get("resourceType") != "Provenance":
        problems.append("resourceType: is not Provenance")
    problems += [
        f"agent[{index}].who: needs a reference, identifier or display"
        for index, agent in enumerate(_objects(resource.get("agent")))
        if not agent.get("who")
    ]
    problems += [
        f"entity[{index}].role: not a provenance-entity-role code"
        for index, entity in enumerate(_objects(resource.get("entity")))
        if str(entity.get("role")) not in _ENTITY_ROLES
    ]
    problems += [
        "occurredPeriod: start is after end (per-1)"
        for period in _objects([resource.get("occurredPeriod")])
        if str(period.get("start", "")) > str(period.get("end", "9999"))
    ]
    policies = resource.get("policy")
    problems += [
        f"policy[{index}]: a URI holds no spaces"
        for index, policy in enumerate(policies if isinstance(policies, list) else [])
        if re.search(r"\s", str(policy))
    ]
    return problems + _foreign_operations(resource)


def _foreign_operations(resource: Mapping[str, Any]) -> list[str]:
    codings = [
        coding
        for activity in _objects([resource.get("activity")])
        for coding in _objects(activity.get("coding"))
        if coding.get("system") == f"{_TERMINOLOGY}/v3-DataOperation"
    ]
    return [
        f"activity.coding: {coding.get('code')!r} is not the v3-DataOperation CREATE"
        for coding in codings
        if coding.get("code") != "CREATE"
    ]


def _objects(value: object) -> list[Mapping[str, Any]]:
    """The JSON objects in a list; fhir.resources names whatever else stands there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _agents(facts: EvaluationFacts) -> list[dict[str, Any]]:
    context = facts.context
    model = _reference(
        "Device", _ni(facts.model_fingerprint), f"{context.model_id} {context.version}"
    )
    versions = ", ".join(f"{name} {version}" for name, version in facts.software.items())
    package = next(iter(facts.software))
    software = _reference("Device", f"urn:{package}:{facts.software[package]}", versions)
    agents = [_agent("performer", model), _agent("assembler", software)]
    return _with_organization(agents, context.organization)


def _with_organization(agents: list[dict[str, Any]], name: str | None) -> list[dict[str, Any]]:
    """The agents on behalf of their organization, and the organization as author and custodian."""
    if name is None:
        return agents
    organization = _named("Organization", "organization", name, name)
    for agent in agents:
        agent["onBehalfOf"] = organization
    return [*agents, _agent("author", organization), _agent("custodian", organization)]


def _entities(facts: EvaluationFacts) -> list[dict[str, Any]]:
    corpus = f"corpus of {facts.notes} notes, notes table version {facts.corpus_version}"
    origin = _source(_reference("DocumentReference", _ni(facts.corpus_digest), corpus))
    return [origin, *_origins(facts.context)]


def _origins(context: HealthcareRunContext) -> list[dict[str, Any]]:
    """Data sources and cohort as entities."""
    entities = []
    for name in context.data_sources:
        identifier = {"system": f"{CANONICAL_BASE}/data-source", "value": name}
        entities.append(_source({"identifier": identifier, "display": name}))
    if (patients := context.patient_context) is not None:
        entities.append(_source(_named("Group", "cohort", patients.cohort, patients.cohort)))
    return entities


def _tags(facts: EvaluationFacts) -> list[dict[str, str]]:
    system = f"{CANONICAL_BASE}/CodeSystem"
    tags = [
        {"system": f"{system}/evaluation-digest", "code": facts.evaluation_digest},
        {"system": f"{system}/dagster-run", "code": facts.dagster_run_id},
    ]
    return [*tags, *_regulatory_tags(facts.context)]


def _regulatory_tags(context: HealthcareRunContext) -> list[dict[str, str]]:
    tags = []
    for tag in context.regulatory_tags:
        code = " ".join(tag.split())
        if not _TAG_CODE.fullmatch(code):
            message = "context.regulatory_tags: an empty tag. Remove it from the study file."
            raise ProvenanceError(message)
        tags.append({"system": f"{CANONICAL_BASE}/CodeSystem/regulatory", "code": code})
    return tags


def _reason(purpose: str | None) -> dict[str, Any]:
    coding = _coding(f"{_TERMINOLOGY}/v3-ActReason", "HRESCH", "healthcare research")
    return {"coding": [coding], **({"text": purpose} if purpose else {})}


def _agent(role: str, who: dict[str, Any]) -> dict[str, Any]:
    coding = _coding(f"{_TERMINOLOGY}/provenance-participant-type", role, _AGENT_TYPES[role])
    return {"type": {"coding": [coding]}, "who": who}


def _source(what: dict[str, Any]) -> dict[str, Any]:
    return {"role": "source", "what": what}


def _named(kind: str, register: str, value: str, display: str) -> dict[str, Any]:
    """A logical reference to what has a name in one of our registers, and no digest."""
    identifier = {"system": f"{CANONICAL_BASE}/{register}", "value": value}
    return {"type": kind, "identifier": identifier, "display": display}


def _reference(kind: str, uri: str, display: str) -> dict[str, Any]:
    return {"type": kind, "identifier": {"system": _URI_SYSTEM, "value": uri}, "display": display}


def _coding(system: str, code: str, display: str) -> dict[str, str]:
    return {"system": system, "code": code, "display": display}


def _ni(sha256: str) -> str:
    """A digest as a `ni` URI (RFC 6920: base64url without padding)."""
    encoded = base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode("ascii")
    return f"ni:///sha-256;{encoded}"


def _instant(moment: datetime) -> str:
    """Whole seconds, UTC: instants with fractions do not survive every FHIR library."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
