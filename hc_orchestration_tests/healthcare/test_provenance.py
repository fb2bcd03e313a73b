"""The FHIR R4 Provenance: what it says, that it is valid, and what is refused."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from fhir.resources.R4B.provenance import Provenance
from hypothesis import given, settings
from hypothesis import strategies as st

from hc_orchestration.errors import ProvenanceError
from hc_orchestration.healthcare.contexts import HealthcareRunContext, PatientContext
from hc_orchestration.healthcare.provenance import (
    EvaluationFacts,
    build_provenance,
    check_provenance,
    provenance_bytes,
)

DATA_OPERATION = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
MINIMAL = HealthcareRunContext(model_id="clinical-ner", version="1.0.0")
FULL = HealthcareRunContext(
    model_id="clinical-ner",
    version="1.0.0",
    organization="Research Hospital AI Lab",
    purpose="Extract diagnoses from discharge summaries",
    data_sources=["internal-ehr", "mimic-iv-notes"],
    regulatory_tags=["HIPAA", "IRB-approved"],
    patient_context=PatientContext(cohort="General Medicine Inpatients", sample_size=500),
)


def facts(context: HealthcareRunContext = FULL) -> EvaluationFacts:
    return EvaluationFacts(
        evaluation_id="3f0c1a52-0000-5000-8000-000000000001",
        evaluation_digest="e" * 64,
        context=context,
        model_fingerprint="00" * 32,
        corpus_digest="ff" * 32,
        corpus_version=3,
        notes=36,
        # The sha256 of "Hello World!", from RFC 6920, section 8.1.
        artifacts={
            "report.html": "7f83b1657ff1fc53b92dc18148a1d65dfc2d4b1fa3d677284addd200126d9069",
            "metrics.parquet": "00" * 32,
        },
        software={"hc-orchestration": "0.1.0", "spacy": "3.8.7"},
        dagster_run_id="run-1",
        started=datetime(2025, 1, 19, 10, 0, tzinfo=UTC),
        ended=datetime(2025, 1, 19, 10, 30, tzinfo=UTC),
        recorded=datetime(2025, 1, 19, 10, 30, 5, 999_999, tzinfo=UTC),
    )


def codes(resource: dict[str, Any], element: str) -> list[str]:
    return [agent["type"]["coding"][0]["code"] for agent in resource[element]]


@pytest.mark.parametrize("context", [MINIMAL, FULL], ids=["minimal", "full"])
def test_record_is_valid_and_comes_back_equal_through_fhir_resources(
    context: HealthcareRunContext,
) -> None:
    resource = build_provenance(facts(context))
    check_provenance(resource)
    parsed = Provenance.model_validate_json(provenance_bytes(resource))
    assert json.loads(parsed.model_dump_json(exclude_none=True)) == resource


def test_targets_are_the_artifacts_by_digest_in_the_order_of_their_names() -> None:
    targets = build_provenance(facts())["target"]
    assert [(target["display"], target["identifier"]["value"]) for target in targets] == [
        ("metrics.parquet", "ni:///sha-256;" + "A" * 43),
        ("report.html", "ni:///sha-256;f4OxZX_x_FO5LcGBSKHWXfwtSx-j1ncoSt3SABJtkGk"),
    ]
    assert {target["identifier"]["system"] for target in targets} == {"urn:ietf:rfc:3986"}


def test_model_and_corpus_are_named_by_their_digests() -> None:
    resource = build_provenance(facts())
    assert resource["agent"][0]["who"] == {
        "type": "Device",
        "identifier": {"system": "urn:ietf:rfc:3986", "value": "ni:///sha-256;" + "A" * 43},
        "display": "clinical-ner 1.0.0",
    }
    corpus = resource["entity"][0]
    assert corpus["role"] == "source"
    # 32 bytes of 0xff: 42 digits of six ones, and a last one of four ones and two zero bits.
    assert corpus["what"]["identifier"]["value"] == "ni:///sha-256;" + "_" * 42 + "8"
    assert corpus["what"]["display"] == "corpus of 36 notes, notes table version 3"


def test_agents_act_on_behalf_of_the_organization() -> None:
    agents = build_provenance(facts())["agent"]
    assert codes({"agent": agents}, "agent") == ["performer", "assembler", "author", "custodian"]
    assert [agent["who"]["display"] for agent in agents] == [
        "clinical-ner 1.0.0",
        "hc-orchestration 0.1.0, spacy 3.8.7",
        "Research Hospital AI Lab",
        "Research Hospital AI Lab",
    ]
    behalf = [agent.get("onBehalfOf", {}).get("display") for agent in agents]
    assert behalf == ["Research Hospital AI Lab", "Research Hospital AI Lab", None, None]


def test_data_sources_and_cohort_are_entities_not_policies() -> None:
    resource = build_provenance(facts())
    assert [entity["what"]["display"] for entity in resource["entity"]] == [
        "corpus of 36 notes, notes table version 3",
        "internal-ehr",
        "mimic-iv-notes",
        "General Medicine Inpatients",
    ]
    assert "policy" not in resource


def test_regulatory_tags_and_purpose_are_told() -> None:
    resource = build_provenance(facts())
    tags = [tag["code"] for tag in resource["meta"]["tag"]]
    assert tags == ["e" * 64, "run-1", "HIPAA", "IRB-approved"]
    assert resource["reason"][0]["text"] == "Extract diagnoses from discharge summaries"


def test_what_is_not_known_is_left_out() -> None:
    resource = build_provenance(facts(MINIMAL))
    assert codes(resource, "agent") == ["performer", "assembler"]
    assert all("onBehalfOf" not in agent for agent in resource["agent"])
    assert len(resource["entity"]) == 1
    assert "text" not in resource["reason"][0]
    assert [tag["code"] for tag in resource["meta"]["tag"]] == ["e" * 64, "run-1"]


def test_activity_is_a_creation_by_ner_evaluation() -> None:
    coding = build_provenance(facts())["activity"]["coding"]
    assert [part["code"] for part in coding] == ["CREATE", "ner-evaluation"]
    assert coding[0]["system"] == DATA_OPERATION


def test_instants_are_whole_seconds_of_utc() -> None:
    berlin = timezone(timedelta(hours=1))
    local = replace(facts(), started=datetime(2025, 1, 19, 11, 0, tzinfo=berlin))
    resource = build_provenance(local)
    assert resource["occurredPeriod"] == {
        "start": "2025-01-19T10:00:00Z",
        "end": "2025-01-19T10:30:00Z",
    }
    assert resource["recorded"] == "2025-01-19T10:30:05Z"


def test_same_facts_give_the_same_bytes_whatever_the_order_of_the_artifacts() -> None:
    one = facts()
    other = replace(one, artifacts=dict(reversed(one.artifacts.items())))
    assert provenance_bytes(build_provenance(one)) == provenance_bytes(build_provenance(other))
    assert build_provenance(one) == build_provenance(other)


def test_bytes_are_sorted_utf_8_without_spaces() -> None:
    assert provenance_bytes({"b": [1, {"z": "é", "a": None}], "a": "x y"}) == (
        '{"a":"x y","b":[1,{"a":null,"z":"é"}]}'.encode()
    )


def test_spaces_in_a_regulatory_tag_are_made_those_of_a_code() -> None:
    context = MINIMAL.model_copy(update={"regulatory_tags": [" IRB \n approved "]})
    assert build_provenance(facts(context))["meta"]["tag"][-1]["code"] == "IRB approved"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"regulatory_tags": [" "]}, "context.regulatory_tags: an empty tag"),
        ({"organization": ""}, "agent.2.who.identifier.value"),
        ({"data_sources": [""]}, "entity.1.what.identifier.value"),
        ({"patient_context": PatientContext(cohort="")}, "entity.1.what.identifier.value"),
    ],
)
def test_context_with_an_empty_name_is_refused(change: dict[str, Any], expected: str) -> None:
    with pytest.raises(ProvenanceError) as caught:
        build_provenance(facts(MINIMAL.model_copy(update=change)))
    assert expected in str(caught.value)


def test_evaluation_without_artifacts_is_refused() -> None:
    with pytest.raises(ProvenanceError, match="target: needs at least one"):
        build_provenance(replace(facts(), artifacts={}))


def test_evaluation_that_ended_before_it_began_is_refused() -> None:
    backwards = replace(facts(), started=facts().ended, ended=facts().started)
    with pytest.raises(ProvenanceError, match=r"occurredPeriod: start is after end \(per-1\)"):
        build_provenance(backwards)


def test_example_of_the_tutorial_is_refused_naming_target_and_code() -> None:
    example = {
        "resourceType": "Provenance",
        "recorded": "2025-01-19T10:30:00Z",
        "activity": {"coding": [{"system": DATA_OPERATION, "code": "DERIVE", "display": "derive"}]},
        "agent": [
            {
                "type": {
                    "coding": [
                        {
                            "system": (
                                "http://terminology.hl7.org/CodeSystem/provenance-participant-type"
                            ),
                            "code": "performer",
                            "display": "Performer",
                        }
                    ]
                },
                "who": {"display": "clinical-ner-scispacy:1.0.0"},
            }
        ],
        "reason": [
            {"coding": [{"system": "https://healthchain.io/regulatory", "code": "HIPAA"}]},
            {"coding": [{"system": "https://healthchain.io/regulatory", "code": "IRB-approved"}]},
        ],
        "policy": ["internal-ehr", "mimic-iv-notes"],
    }
    with pytest.raises(ProvenanceError) as caught:
        check_provenance(example)
    assert "target: needs at least one (cardinality 1..*)" in str(caught.value)
    assert "activity.coding: 'DERIVE' is not the v3-DataOperation CREATE" in str(caught.value)


ROLELESS = {"role": "input", "what": {"display": "x"}}


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"target": []}, "target: needs at least one (cardinality 1..*)"),
        ({"agent": []}, "agent: needs at least one (cardinality 1..*)"),
        ({"agent": [{"who": {}}]}, "agent[0].who: needs a reference, identifier or display"),
        ({"agent": [{"type": {"text": "x"}}]}, "agent.0.who: missing"),
        ({"entity": [ROLELESS]}, "entity[0].role: not a provenance-entity-role code"),
        ({"entity": [{"role": "source"}]}, "entity.0.what: missing"),
        ({"policy": ["https://ok.example", "no uri"]}, "policy[1]: a URI holds no spaces"),
        (
            {"occurredPeriod": {"start": "2025-01-02T00:00:00Z", "end": "2025-01-01T00:00:00Z"}},
            "occurredPeriod: start is after end (per-1)",
        ),
        ({"recorded": "yesterday"}, "recorded: "),
        ({"recorded": None}, "recorded: "),
        ({"resourceType": "Patient"}, "resourceType: is not Provenance"),
        ({"resourceType": None}, "resourceType: is not Provenance"),
        ({"outcome": "good"}, "outcome: "),
    ],
)
def test_broken_resource_is_refused_naming_the_element(
    change: dict[str, Any], expected: str
) -> None:
    with pytest.raises(ProvenanceError) as caught:
        check_provenance(build_provenance(facts()) | change)
    assert expected in str(caught.value)


@pytest.mark.parametrize("element", ["resourceType", "target", "recorded", "agent"])
def test_resource_without_a_required_element_is_refused(element: str) -> None:
    resource = build_provenance(facts())
    del resource[element]
    with pytest.raises(ProvenanceError, match=f"{element}: "):
        check_provenance(resource)


@pytest.mark.parametrize("start", ["2025", "2025-01", "2025-01-19T10:00:00Z"])
def test_period_that_is_open_or_in_order_is_accepted(start: str) -> None:
    resource = build_provenance(facts())
    check_provenance(resource | {"occurredPeriod": {"start": start}})
    check_provenance(resource | {"occurredPeriod": {"end": start}})
    check_provenance(resource | {"occurredPeriod": {"start": start, "end": "2026"}})


def test_policy_that_is_a_uri_is_accepted() -> None:
    check_provenance(build_provenance(facts()) | {"policy": ["https://irb.example/4711"]})


def test_error_quotes_no_value_of_the_resource() -> None:
    resource = build_provenance(facts()) | {"recorded": "Mrs Abernathy", "note": "Mrs Abernathy"}
    with pytest.raises(ProvenanceError) as caught:
        check_provenance(resource)
    assert "Abernathy" not in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(
            st.sampled_from(["coding", "code", "system", "who", "role", "start", "end"]), inner
        )
    ),
    max_leaves=6,
)


@given(
    st.sampled_from(["target", "agent", "entity", "policy", "activity", "occurredPeriod", "id"]),
    JSON,
)
@settings(max_examples=300, deadline=None)
def test_whatever_stands_in_an_element_is_accepted_or_refused(element: str, value: Any) -> None:
    try:
        check_provenance(build_provenance(facts(MINIMAL)) | {element: value})
    except ProvenanceError as error:
        assert "not a valid R4 Provenance" in str(error)  # noqa: PT017 - both outcomes are right
