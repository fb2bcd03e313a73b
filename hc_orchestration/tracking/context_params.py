"""The params that MLflow shows of a healthcare context."""

from hc_orchestration.healthcare.contexts import HealthcareRunContext


def context_params(context: HealthcareRunContext) -> dict[str, str]:
    """A healthcare context as MLflow params; what is not known is left out."""
    params: dict[str, object] = {
        "model_id": context.model_id,
        "model_version": context.version,
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
    params |= {f"custom.{name}": value for name, value in context.custom_metadata.items()}
    known = {name: value for name, value in params.items() if value is not None and value != ""}
    return {f"healthcare.{name}": str(value) for name, value in known.items()}
