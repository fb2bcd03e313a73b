"""Our resources before a judge that shares no code with us: no finding, and it finds our faults."""

import json
from collections.abc import Callable
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.provenance import build_context_provenance
from hc_orchestration.healthcare.signing import signed
from hc_orchestration.healthcare.terminology import packaged
from hc_orchestration.healthcare.validity import bundle_faults
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import RULER, TERMS
from hc_orchestration_tests.fhir_judge import Judge, judge
from hc_orchestration_tests.healthcare.mutations import (
    MUTATIONS,
    Mutation,
    applied,
    without_each_value,
)
from hc_orchestration_tests.healthcare.records import (
    AT,
    CASES,
    FULL,
    MINIMAL,
    new_key,
    record,
    signed_record,
)

__all__ = ["judge"]
pytestmark = pytest.mark.integration
VALID = signed_record("full context")


@pytest.mark.parametrize("case", CASES)
def test_judge_finds_nothing_in_a_record_unsigned_and_signed(judge: Judge, case: str) -> None:
    assert judge.findings(record(case)) == []
    assert judge.findings(signed_record(case)) == []


@pytest.mark.parametrize("context", [MINIMAL, FULL], ids=["minimal", "full"])
def test_judge_finds_nothing_in_the_provenance_of_a_context(
    judge: Judge, context: HealthcareRunContext
) -> None:
    assert judge.findings(build_context_provenance(context, AT)) == []


@pytest.mark.parametrize("resource", packaged(), ids=lambda resource: str(resource["id"]))
def test_judge_finds_nothing_in_what_the_package_defines(
    judge: Judge, resource: dict[str, Any]
) -> None:
    assert judge.findings(resource) == []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=str)
def test_judge_finds_what_we_refuse_unless_it_is_a_rule_of_ours(
    judge: Judge, mutation: Mutation
) -> None:
    assert bool(judge.findings(applied(mutation, VALID))) != mutation.ours


def test_whatever_is_taken_away_that_we_let_pass_the_judge_lets_pass(judge: Judge) -> None:
    passed = [broken for broken in without_each_value(VALID) if bundle_faults(broken) == ()]
    assert len(passed) > 50
    assert [judge.findings(broken) for broken in passed] == [[]] * len(passed)


def test_judge_finds_nothing_in_the_stored_records_of_a_deployment(
    judge: Judge, settings: Settings, run_job: Callable[..., dg.ExecuteInProcessResult]
) -> None:
    assert run_job("refresh_corpus").success
    for key in (TERMS, RULER):  # the second finds mentions without a type
        assert run_job("evaluate_model", key).success
    workspace = Workspace(settings)
    parts = [workspace.records.of_model(key)[0].provenance for key in (TERMS, RULER)]
    for part in parts:
        assert part is not None
        stored = json.loads(workspace.files.get(part.file))
        assert judge.findings(stored) == []
        assert judge.findings(signed(stored, new_key())) == []
