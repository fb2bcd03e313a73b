"""The Provenance resource: of an evaluation, and of a run that only its context is known of."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from hc_orchestration.errors import ProvenanceError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.elements import (
    Element,
    coding,
    concept,
    digest_identifier,
    identifier,
    instant,
)
from hc_orchestration.healthcare.facts import (
    EvaluationFacts,
    ForcedPromotion,
    ProvenanceProfile,
)
from hc_orchestration.healthcare.terminology import HL7
from hc_orchestration.healthcare.validity import check_provenance


@dataclass(frozen=True, slots=True)
class Links:
    """References to the other resources of the record."""

    targets: tuple[Element, ...]
    model: Element
    software: Element
    organization: Element | None
    corpus: Element
    cohort: Element | None
    card: Element


def evaluation_provenance(facts: EvaluationFacts, links: Links) -> dict[str, Any]:
    """The Provenance of an evaluation; it is checked with the rest of the record."""
    base = facts.profile.canonical_base
    agents = [
        _agent("performer", links.model, base),
        _agent("assembler", links.software, base),
    ]
    return {
        "resourceType": "Provenance",
        "meta": {"tag": _tags(facts)},
        "target": list(links.targets),
        "occurredPeriod": {"start": instant(facts.started), "end": instant(facts.ended)},
        "recorded": instant(facts.recorded),
        **_policies(facts),
        "reason": [_reason(facts.context.purpose, facts.profile), *map(_forced, facts.forced)],
        "activity": {
            "coding": [
                coding(f"{HL7}/v3-DataOperation", "CREATE", base),
                coding("activity", "ner-evaluation", base),
            ]
        },
        "agent": _with_organization(agents, links.organization, base),
        "entity": _entities(facts, links),
    }


def build_context_provenance(context: HealthcareRunContext, recorded: datetime) -> dict[str, Any]:
    """The Provenance resource of a run of which nothing but its context is known, checked.

    Its target is whatever the model put out; model and target are named by the model's id and
    version, as there is no digest to name them by.

    Raises:
        ProvenanceError: The context does not make a valid resource; see `check_provenance`.
    """
    profile = ProvenanceProfile()
    base = profile.canonical_base
    key = f"{context.model_id}:{context.version}"
    named = f"{context.model_id} {context.version}"
    model = _logical("Device", f"{base}/model", key, named)
    tags = _regulatory_tags(context, base)
    organization = None
    if (name := context.organization) is not None:
        organization = _logical("Organization", f"{base}/organization", name, name)
    cohort = None
    if (patients := context.patient_context) is not None:
        cohort = _logical("Group", f"{base}/cohort", patients.cohort, patients.cohort)
    agents = [_agent("performer", model, base)]
    resource = {
        "resourceType": "Provenance",
        **({"meta": {"tag": tags}} if tags else {}),
        "target": [
            _logical("DocumentReference", f"{base}/model-output", key, f"output of {named}")
        ],
        "recorded": instant(recorded),
        "reason": [_reason(context.purpose, profile)],
        "activity": concept(f"{HL7}/v3-DataOperation", "CREATE", base),
        "agent": _with_organization(agents, organization, base),
    }
    if origins := _origins(context, cohort, base):
        resource["entity"] = origins
    check_provenance(resource)
    return resource


def _with_organization(agents: list[Element], organization: Element | None, base: str) -> Any:  # noqa: ANN401
    """The agents on behalf of their organization, and the organization as author and custodian."""
    if organization is None:
        return agents
    on_behalf = [{**agent, "onBehalfOf": organization} for agent in agents]
    owners = [_agent(role, organization, base) for role in ("author", "custodian")]
    return [*on_behalf, *owners]


def _entities(facts: EvaluationFacts, links: Links) -> list[Element]:
    base = facts.profile.canonical_base
    entities = [
        {"role": "source", "what": links.corpus},
        *_origins(facts.context, links.cohort, base),
        {"role": "derivation", "what": links.card},
    ]
    if facts.previous is not None:
        before = {
            "identifier": digest_identifier(facts.previous),
            "display": f"the previous record of {facts.model_key}",
        }
        entities.append({"role": "revision", "what": before})
    return entities


def _origins(context: HealthcareRunContext, cohort: Element | None, base: str) -> list[Element]:
    """Data sources and cohort as entities."""
    origins = [
        {"identifier": identifier(f"{base}/data-source", name), "display": name}
        for name in context.data_sources
    ]
    if cohort is not None:
        origins.append(cohort)
    return [{"role": "source", "what": what} for what in origins]


def _tags(facts: EvaluationFacts) -> list[Element]:
    base = facts.profile.canonical_base
    known = {
        "evaluation": facts.evaluation_id,
        "evaluation-digest": facts.evaluation_digest,
        "record": f"{facts.evaluation_id}.{facts.recorded:%Y%m%dT%H%M%SZ}",
        "dagster-run": facts.dagster_run_id,
        "partition": facts.model_key,
        "study": " ".join(facts.study.split()),
    }
    tags = [{"system": f"{base}/{name}", "code": code} for name, code in known.items()]
    return [*tags, *_regulatory_tags(facts.context, base)]


def _regulatory_tags(context: HealthcareRunContext, base: str) -> list[Element]:
    tags = []
    for tag in context.regulatory_tags:
        code = " ".join(tag.split())
        if not code:
            message = "context.regulatory_tags: an empty tag. Remove it from the study file."
            raise ProvenanceError(message)
        tags.append({"system": f"{base}/regulatory", "code": code})
    return tags


def _policies(facts: EvaluationFacts) -> Element:
    known = facts.profile.policies
    uris = [known[tag] for tag in facts.context.regulatory_tags if tag in known]
    return {"policy": list(dict.fromkeys(uris))} if uris else {}


def _reason(purpose: str | None, profile: ProvenanceProfile) -> Element:
    return concept(f"{HL7}/v3-ActReason", profile.reason, profile.canonical_base, purpose)


def _forced(promotion: ForcedPromotion) -> Element:
    """Why a model was made the champion against its gates, for the auditor to read."""
    return {
        "text": (
            f"champion since {instant(promotion.at)} by a promotion against the gates "
            f"(evaluation {promotion.evaluation_id}): {promotion.reason}"
        )
    }


def _agent(role: str, who: Element, base: str) -> Element:
    return {"type": concept(f"{HL7}/provenance-participant-type", role, base), "who": who}


def _logical(kind: str, system: str, value: str, display: str) -> Element:
    """A reference to what has a name in one of our registers, and no digest."""
    return {"type": kind, "identifier": identifier(system, value), "display": display}
