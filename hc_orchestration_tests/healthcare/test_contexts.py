"""The healthcare context: what it holds, and that what is not known is left out."""

import pytest
from pydantic import ValidationError

from hc_orchestration.healthcare.contexts import (
    HealthcareRunContext,
    PatientContext,
    StudyContext,
)

COHORT = PatientContext(
    cohort="General Medicine Inpatients",
    age_range="18-90",
    sample_size=500,
    inclusion_criteria=["Has discharge summary"],
    exclusion_criteria=["Pediatric patients"],
)


def test_full_context_as_plain_values() -> None:
    context = HealthcareRunContext(
        model_id="clinical-ner-scispacy",
        version="1.0.0",
        organization="Research Hospital AI Lab",
        purpose="Extract diagnoses",
        data_sources=["internal-ehr"],
        regulatory_tags=["HIPAA"],
        patient_context=COHORT,
    )
    assert context.to_dict() == {
        "model_id": "clinical-ner-scispacy",
        "version": "1.0.0",
        "organization": "Research Hospital AI Lab",
        "purpose": "Extract diagnoses",
        "data_sources": ["internal-ehr"],
        "regulatory_tags": ["HIPAA"],
        "patient_context": {
            "cohort": "General Medicine Inpatients",
            "age_range": "18-90",
            "sample_size": 500,
            "inclusion_criteria": ["Has discharge summary"],
            "exclusion_criteria": ["Pediatric patients"],
        },
    }


def test_what_is_not_known_is_left_out() -> None:
    context = HealthcareRunContext(model_id="m", version="1")
    expected = {"model_id": "m", "version": "1", "data_sources": [], "regulatory_tags": []}
    assert context.to_dict() == expected


def test_study_context_becomes_that_of_a_model_and_back_from_its_values() -> None:
    study = StudyContext(organization="Lab", patient_context=COHORT)
    context = study.for_model("m", "1")
    expected = HealthcareRunContext(
        model_id="m", version="1", organization="Lab", patient_context=COHORT
    )
    assert context == expected
    assert HealthcareRunContext.model_validate(context.to_dict()) == context


def test_context_of_one_model_does_not_change_that_of_the_next() -> None:
    study = StudyContext(data_sources=["internal-ehr"], patient_context=COHORT)
    first = study.for_model("m", "1")
    first.data_sources.append("elsewhere")
    assert study.for_model("n", "1").data_sources == ["internal-ehr"]


def test_fields_can_be_changed_between_models_but_not_to_nonsense() -> None:
    context = HealthcareRunContext(model_id="m", version="1")
    context.model_id = "n"
    assert context.to_dict()["model_id"] == "n"
    with pytest.raises(ValidationError):
        context.model_id = ""


@pytest.mark.parametrize(
    "fields", [{"model_id": ""}, {"version": ""}, {"organisation": "Lab"}, {"data_sources": "ehr"}]
)
def test_context_that_means_nothing_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        HealthcareRunContext.model_validate({"model_id": "m", "version": "1"} | fields)


def test_sample_of_less_than_nobody_is_refused() -> None:
    assert PatientContext(sample_size=0).sample_size == 0
    with pytest.raises(ValidationError):
        PatientContext(sample_size=-1)


def test_cohort_can_be_changed_but_not_to_nonsense() -> None:
    cohort = COHORT.model_copy()
    with pytest.raises(ValidationError):
        cohort.sample_size = -1
    assert cohort.sample_size == 500
