"""The healthcare context of a run: cohort, purpose, sources. Aggregates only, never a patient."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class PatientContext(BaseModel):
    """The cohort that the notes come from, in aggregate."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    cohort: str = "unspecified"
    age_range: str | None = None
    sample_size: int | None = Field(default=None, ge=0)
    inclusion_criteria: list[str] = Field(default_factory=list)
    exclusion_criteria: list[str] = Field(default_factory=list)


class StudyContext(BaseModel):
    """The part of the healthcare context that is the same for every model of a study."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    organization: str | None = None
    purpose: str | None = None
    data_sources: list[str] = Field(default_factory=list)
    regulatory_tags: list[str] = Field(default_factory=list)
    patient_context: PatientContext | None = None

    def for_model(self, model_id: str, version: str) -> "HealthcareRunContext":
        """The context of one model's run."""
        return HealthcareRunContext(
            model_id=model_id, version=version, **self.model_dump(exclude_none=True)
        )


class HealthcareRunContext(StudyContext):
    """The healthcare context of one model's run."""

    model_id: str = Field(min_length=1)
    version: str = Field(min_length=1)

    def to_dict(self) -> dict[str, Any]:
        """The context as plain JSON values, fields that are not known left out."""
        return self.model_dump(mode="json", exclude_none=True)
