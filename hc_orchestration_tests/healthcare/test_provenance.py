"""The signed record: valid, reproducible, and a changed one is found; what is refused."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from hc_orchestration.errors import ConfigurationError, ProvenanceError
from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.contexts import HealthcareRunContext, PatientContext
from hc_orchestration.healthcare.facts import (
    Artifact,
    EvaluationFacts,
    SampleSize,
    Score,
    TableRows,
)
from hc_orchestration.healthcare.signing import (
    SigningKey,
    canonical_bytes,
    generate_key,
    provenance_of,
    signature_problems,
    signed,
)
from hc_orchestration.healthcare.validity import check_bundle, check_provenance

AT = datetime(2025, 1, 19, 10, 30, 5, 999_999, tzinfo=UTC)
MINIMAL = HealthcareRunContext(model_id="clinical-ner", version="1.0.0")
FULL = HealthcareRunContext(
    model_id="clinical-ner",
    version="1.0.0",
    organization="Klinik Zürich",
    purpose="Extract diagnoses",
    data_sources=["internal-ehr"],
    regulatory_tags=["HIPAA", "IRB-approved"],
    patient_context=PatientContext(cohort="Inpatients", age_range="18-90", sample_size=500),
)


def facts(context: HealthcareRunContext = FULL, previous: str | None = None) -> EvaluationFacts:
    return EvaluationFacts(
        evaluation_id="3f0c1a52-0000-5000-8000-000000000001",
        evaluation_digest="e" * 64,
        model_key="clinical-ner-1.0.0",
        study="study",
        context=context,
        model_fingerprint="00" * 32,
        model_card=b"{}",
        corpus_digest="ff" * 32,
        corpus_version=3,
        notes=36,
        artifacts=(Artifact("metrics.parquet", "11" * 32, 3),),
        tables=(TableRows("entities/clinical-ner-1.0.0", 2, "22" * 32, 36),),
        scores=(
            Score("strict", "micro", "", "all", "f1", 0.5, 4, 4, 2.0),
            Score("strict", "label", "DISEASE", "all", "f1", None, 0, 0, 0.0),
            Score("strict", "micro", "", "rare", "f1", 0.25, 777, 778, 1.0, withheld=True),
        ),
        software={"hc-orchestration": "0.1.0", "spacy": "3.8.18"},
        dagster_run_id="run-1",
        started=AT,
        ended=AT,
        recorded=AT,
        sample=SampleSize(36, "note"),
        previous=previous,
    )


@pytest.mark.parametrize("context", [MINIMAL, FULL], ids=["minimal", "full"])
def test_record_is_valid_and_comes_back_equal_through_fhir_resources(
    context: HealthcareRunContext,
) -> None:
    record = build_bundle(facts(context, previous="33" * 32))
    check_bundle(record)
    parsed = Bundle.model_validate_json(canonical_bytes(record))
    assert json.loads(parsed.model_dump_json(exclude_none=True)) == record


def test_same_clock_gives_the_same_bytes() -> None:
    assert canonical_bytes(build_bundle(facts())) == canonical_bytes(build_bundle(facts()))


def test_regulatory_tag_becomes_a_policy_and_a_data_source_an_entity() -> None:
    provenance = provenance_of(build_bundle(facts()))
    assert provenance["policy"] == [
        "https://www.ecfr.gov/current/title-45/subtitle-A/subchapter-C/part-164"
    ]
    assert "internal-ehr" in [entity["what"]["display"] for entity in provenance["entity"]]


def test_withheld_and_undefined_scores_are_not_told() -> None:
    text = canonical_bytes(build_bundle(facts())).decode()
    assert '"valueCode":"masked"' in text
    assert "777" not in text
    assert "778" not in text
    assert text.count('"measureScore"') == 1


def test_a_count_that_does_not_stand_behind_a_score_is_left_out_and_never_told_as_zero() -> None:
    recall = Score("exact", "label", "DISEASE", "all", "recall", 0.5, 4, None, None)
    record = json.dumps(build_bundle(replace(facts(), scores=(recall,))))
    check_bundle(json.loads(record))
    assert "gold-mentions" in record
    assert "predicted-mentions" not in record
    assert "half-credits" not in record


@pytest.mark.parametrize("entry", range(10))
def test_a_change_in_any_resource_breaks_the_signature(tmp_path: Path, entry: int) -> None:
    key = generate_key(tmp_path / "key.pem")
    assert (tmp_path / "key.pem").stat().st_mode & 0o777 == 0o600
    record = json.loads(canonical_bytes(signed(build_bundle(facts()), key)))
    check_bundle(record)
    keys = {key.key_id: key.key}
    assert signature_problems(record, keys) == ([], [])
    record["entry"][entry]["resource"]["language"] = "en"
    assert signature_problems(record, keys)[0]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    generate_key(tmp_path / "key.pem")
    (tmp_path / "key.pem").chmod(0o644)
    with pytest.raises(ConfigurationError, match="can be read by others"):
        SigningKey.read(tmp_path / "key.pem")


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"target": []}, "target: needs at least one"),
        ({"agent": []}, "agent: needs at least one"),
        ({"policy": ["no uri"]}, "policy[0]: a URI holds no spaces"),
        ({"entity": [{"role": "banana", "what": {"display": "x"}}]}, "entity[0].role"),
        ({"id": "x" * 65}, "id"),
        ({"recorded": "yesterday"}, "recorded"),
        ({"occurredPeriod": {"start": "2026-01-01", "end": "2025-01-01"}}, "per-1"),
        ({"target": [{"reference": "urn:uuid:nowhere"}]}, "ref-1"),
    ],
)
def test_single_fault_is_refused_naming_the_rule(change: dict[str, Any], rule: str) -> None:
    record = build_bundle(facts())
    provenance_of(record).update(change)
    with pytest.raises(ProvenanceError) as caught:
        check_bundle(record)
    assert rule in str(caught.value)


def test_example_of_the_tutorial_is_refused_naming_target_and_code() -> None:
    operation = "http://terminology.hl7.org/CodeSystem/v3-DataOperation"
    example = {
        "resourceType": "Provenance",
        "recorded": "2025-01-19T10:30:00Z",
        "activity": {"coding": [{"system": operation, "code": "DERIVE", "display": "derive"}]},
        "agent": [{"who": {"display": "clinical-ner-scispacy:1.0.0"}}],
        "policy": ["internal-ehr", "mimic-iv-notes"],
    }
    with pytest.raises(ProvenanceError) as caught:
        check_provenance(example)
    assert "target: needs at least one (cardinality 1..*)" in str(caught.value)
    assert "'DERIVE' is not the v3-DataOperation CREATE" in str(caught.value)
