"""The healthcare context of a run: cohort, purpose, sources. Aggregates only, never a patient."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

if TYPE_CHECKING:
    from fhir.resources.R4B.provenance import Provenance


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
    """The healthcare context of one model's run; its fields may be changed from run to run.

    Attributes:
        custom_metadata: Whatever else a team wants beside it, as JSON values; aggregates only.
        recorded: When the context was recorded; None stands for the moment it is written down.
    """

    model_id: str = Field(min_length=1)
    version: str = Field(min_length=1)
    custom_metadata: dict[str, Any] = Field(default_factory=dict)
    recorded: datetime | None = None

    @classmethod
    def from_model_config(
        cls,
        model_id: str,
        version: str,
        **kwargs: Any,  # noqa: ANN401 - the other fields, checked by pydantic
    ) -> "HealthcareRunContext":
        """The context of a model that is configured elsewhere; `kwargs` are the other fields."""
        return cls(model_id=model_id, version=version, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The context as plain JSON values, fields that are not known left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        if not self.custom_metadata:
            del values["custom_metadata"]
        return values

    def to_fhir_provenance(self) -> "Provenance":
        """The R4 Provenance of what the model puts out, from what the context alone knows.

        An evaluation has a fuller one, in `provenance.evaluation_provenance`: digests, software.

        Raises:
            ProvenanceError: A field makes no valid resource.
        """
        from fhir.resources.R4B.provenance import Provenance

        from hc_orchestration.healthcare.provenance import build_context_provenance

        resource = build_context_provenance(self, self.recorded or datetime.now(UTC))
        return Provenance.model_validate(resource)
