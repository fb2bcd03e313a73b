"""What a record is made of: everything that is known of an evaluation, frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from pydantic import Field, field_validator

from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.healthcare.terminology import CANONICAL_BASE, REASONS
from hc_orchestration.yaml_model import StrictModel

HIPAA = "https://www.ecfr.gov/current/title-45/subtitle-A/subchapter-C/part-164"


class ProvenanceProfile(StrictModel):
    """How a study's records name things (`provenance:` in the study file).

    Attributes:
        canonical_base: The address below which our CodeSystems, Measure and registers lie.
        reason: The v3-ActReason code of why the evaluation was made.
        policies: Regulatory tag → URI of the policy that it stands for.
    """

    canonical_base: str = Field(default=CANONICAL_BASE, pattern=r"^(https?://|urn:)[^\s|#?\"\\]+$")
    reason: str = "HRESCH"
    policies: dict[str, str] = Field(default_factory=lambda: {"HIPAA": HIPAA})

    @field_validator("canonical_base")
    @classmethod
    def _without_slash(cls, base: str) -> str:
        return base.rstrip("/")

    @field_validator("reason")
    @classmethod
    def _known_reason(cls, reason: str) -> str:
        if reason not in REASONS:
            message = f"unknown reason; use one of {', '.join(REASONS)}"
            raise ValueError(message)
        return reason

    @field_validator("policies")
    @classmethod
    def _policies_are_uris(cls, policies: dict[str, str]) -> dict[str, str]:
        for tag, uri in policies.items():
            if ":" not in uri or uri != "".join(uri.split()):
                message = f"the policy of {tag} is not a URI"
                raise ValueError(message)
        return policies


@dataclass(frozen=True, slots=True)
class Score:
    """A score and the counts that it came from.

    Attributes:
        label: Empty for all labels; `slice` is `all` for all notes.
        value: None when undefined.
        gold: Gold mentions; None where no such number stands behind the score. `predicted` and
            `credit` likewise.
        withheld: Too few to be shown: neither the score nor its counts are told.
    """

    mode: str
    average: str
    label: str
    slice: str
    statistic: str
    value: float | None
    gold: int | None
    predicted: int | None
    credit: float | None
    withheld: bool = False


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file that the evaluation made: name, sha256 (hex), size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True, slots=True)
class TableRows:
    """The evaluation's rows in a table: its name, version and their digest in any order (hex)."""

    name: str
    version: int
    sha256: str
    rows: int


@dataclass(frozen=True, slots=True)
class SampleSize:
    """What was read: how many of which unit (notes, or the study's cluster)."""

    count: int
    unit: str


@dataclass(frozen=True, slots=True)
class ForcedPromotion:
    """A promotion against the gates that no record has told of yet: when, on what, and why."""

    promotion_id: str
    evaluation_id: str
    reason: str
    at: datetime


@dataclass(frozen=True, slots=True)
class EvaluationFacts:
    """Everything that the record of an evaluation says.

    Attributes:
        artifacts: The files that the evaluation made.
        tables: The rows that it made.
        software: Name → version of the programs that took part; the first is this package.
        model_card: What the catalogue says of the model, as JSON bytes.
        sample: What was read; None when it may not be told.
        previous: sha256 (hex) of the bytes of the last record of the same model and study.
        started: When the first step began; `ended` when the last one before the record did.
        forced: Promotions of the model by force since its last record.
    """

    evaluation_id: str
    evaluation_digest: str
    model_key: str
    study: str
    context: HealthcareRunContext
    model_fingerprint: str
    model_card: bytes
    corpus_digest: str
    corpus_version: int
    notes: int
    artifacts: tuple[Artifact, ...]
    tables: tuple[TableRows, ...]
    scores: tuple[Score, ...]
    software: Mapping[str, str]
    dagster_run_id: str
    started: datetime
    ended: datetime
    recorded: datetime
    sample: SampleSize | None = None
    previous: str | None = None
    forced: tuple[ForcedPromotion, ...] = ()
    profile: ProvenanceProfile = field(default_factory=ProvenanceProfile)
