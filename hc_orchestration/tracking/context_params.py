"""The params that MLflow shows of a healthcare context."""

from collections.abc import Mapping

from hc_orchestration.healthcare.contexts import HealthcareRunContext, StudyContext


def context_params(context: HealthcareRunContext) -> dict[str, str]:
    """A healthcare context as MLflow params; what is not known is left out."""
    model = {"model_id": context.model_id, "model_version": context.version}
    custom = {f"custom.{name}": value for name, value in context.custom_metadata.items()}
    return _named(model) | study_params(context) | _named(custom)


def study_params(context: StudyContext) -> dict[str, str]:
    """What a healthcare context says of the study, not of a model."""
    params: dict[str, object] = {
        "organization": context.organization,
        "purpose": context.purpose,
        "data_sources": "; ".join(context.data_sources),
        "regulatory_tags": "; ".join(context.regulatory_tags),
    }
    if (patients := context.patient_context) is not None:
        params |= {
            "patient_cohort": patients.cohort,
            "patient_age_range": patients.age_range,
            "patient_sample_size": patients.sample_size,
            "inclusion_criteria": "; ".join(patients.inclusion_criteria),
            "exclusion_criteria": "; ".join(patients.exclusion_criteria),
        }
    return _named(params)


def _named(params: Mapping[str, object]) -> dict[str, str]:
    known = {name: value for name, value in params.items() if value is not None and value != ""}
    return {f"healthcare.{name}": str(value) for name, value in known.items()}
