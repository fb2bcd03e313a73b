"""The check of a record at write time: which faults it names, with the rule and the place."""

import copy
import json
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle
from hypothesis import given, settings
from pydantic import ValidationError

from hc_orchestration.healthcare.validity import (
    Fault,
    InvalidRecordError,
    bundle_faults,
    check_bundle,
    check_provenance,
    check_record,
    provenance_faults,
)
from hc_orchestration_tests.healthcare.mutations import (
    MUTATIONS,
    Mutation,
    applied,
    broken_records,
    element,
    place,
)
from hc_orchestration_tests.healthcare.records import CASES, record, signed_record

VALID = signed_record("full context")


@pytest.mark.parametrize("case", CASES)
def test_records_are_valid_unsigned_and_signed(case: str) -> None:
    assert bundle_faults(record(case)) == ()
    assert bundle_faults(signed_record(case)) == ()


def test_a_record_that_passed_lets_no_other_pass() -> None:
    broken = applied(MUTATIONS[0], VALID)
    for _ in range(2):
        check_record(VALID, json.dumps(VALID).encode())
        with pytest.raises(InvalidRecordError):
            check_record(broken, json.dumps(broken).encode())


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_single_fault_is_refused_with_its_rule_and_place(mutation: Mutation) -> None:
    with pytest.raises(InvalidRecordError) as caught:
        check_bundle(applied(mutation, VALID))
    named = [(fault.where, fault.rule) for fault in caught.value.faults]
    assert (place(mutation, VALID), mutation.rule) in named
    assert all(str(fault) in str(caught.value) for fault in caught.value.faults)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_what_fhir_resources_alone_says_of_a_fault(mutation: Mutation) -> None:
    assert _passes_alone(applied(mutation, VALID)) == mutation.passes


def test_fhir_resources_alone_lets_most_faults_pass() -> None:
    assert len(MUTATIONS) == 112
    assert sum(mutation.passes for mutation in MUTATIONS) == 83


def test_all_faults_are_named_at_once() -> None:
    broken = copy.deepcopy(VALID)
    element("Device", broken)["status"] = "on"
    element("Provenance", broken)["target"] = []
    element("Group", broken)["quantity"] = -1
    named = [(fault.where.rpartition(".")[2], fault.rule) for fault in bundle_faults(broken)]
    assert named == [("status", "binding"), ("target", "cardinality"), ("quantity", "type")]


def test_example_of_the_tutorial_is_refused_for_its_target_and_its_code() -> None:
    hl7 = "http://terminology.hl7.org/CodeSystem"
    regulatory = "https://healthchain.io/regulatory"
    performer = {"system": f"{hl7}/provenance-participant-type", "code": "performer"}
    derive = {"system": f"{hl7}/v3-DataOperation", "code": "DERIVE", "display": "derive"}
    example = {
        "resourceType": "Provenance",
        "recorded": "2025-01-19T10:30:00Z",
        "activity": {"coding": [derive]},
        "agent": [
            {
                "type": {"coding": [performer | {"display": "Performer"}]},
                "who": {"display": "clinical-ner-scispacy:1.0.0"},
            }
        ],
        "reason": [
            {"coding": [{"system": regulatory, "code": "HIPAA"}]},
            {"coding": [{"system": regulatory, "code": "IRB-approved"}]},
        ],
        "policy": ["internal-ehr", "mimic-iv-notes"],
    }
    with pytest.raises(InvalidRecordError) as caught:
        check_provenance(example)
    assert [(fault.where, fault.rule) for fault in caught.value.faults] == [
        ("Provenance.target", "cardinality"),
        ("Provenance.activity.coding[0].code", "code"),
    ]
    assert "'DERIVE' is no code that we use of" in str(caught.value)


@pytest.mark.parametrize("other", [{}, [], None, 3, "x", {"resourceType": "Patient"}, [VALID]])
def test_what_is_no_such_resource_is_refused(other: Any) -> None:
    assert bundle_faults(other) == (Fault("Bundle.resourceType", "type", "is no Bundle"),)
    assert [fault.rule for fault in provenance_faults(other)] == ["type"]


@given(broken=broken_records(VALID))
@settings(max_examples=150, deadline=None)
def test_whatever_is_broken_the_check_names_faults_and_never_raises(broken: Any) -> None:
    assert all(isinstance(fault, Fault) for fault in bundle_faults(broken))


def _passes_alone(record: dict[str, Any]) -> bool:
    try:
        Bundle.model_validate(record)
    except (ValidationError, KeyError):  # KeyError: it does not know the resourceType
        return False
    return True
