"""The study file: label set, corpora, healthcare context, schedule, and what may be shown."""

import re
from pathlib import Path
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import ConfigDict, Field, field_validator, model_validator

from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.healthcare.contexts import StudyContext
from hc_orchestration.healthcare.facts import ProvenanceProfile
from hc_orchestration.healthcare.guard import IdentifierError, screen_context
from hc_orchestration.scoring.identity import ScoringPlan
from hc_orchestration.yaml_model import StrictModel, load_yaml_model


class Schedule(StrictModel):
    """When the nightly evaluation begins: cron expression in a named time zone."""

    cron: str = "0 2 * * *"
    timezone: str = "UTC"

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: the name of a region
            message = "unknown time zone; use an IANA name such as Europe/Berlin"
            raise ValueError(message) from None
        return name


_METRIC = re.compile(
    r"^(?:(?:strict|exact|partial|type)\.(?:f1|precision|recall)|(?:strict|type)\.(?:f1|precision|recall)\.macro)$"
)
_LABEL_BLIND = ("exact.f1", "exact.precision", "partial.f1", "partial.precision")


class Gate(StrictModel):
    """A threshold that a metric must hold: `minimum`, or `regression` against the champion.

    Attributes:
        metric: `strict.f1`, or with `.macro` its mean over labels.
        label: Of this label only; in exact and partial only the recall has labels.
    """

    metric: str
    name: str | None = None
    label: str | None = None
    minimum: float | None = None
    regression: float | None = Field(default=None, ge=0)
    minimum_support: int = Field(default=0, ge=0)

    @field_validator("metric")
    @classmethod
    def _known_metric(cls, metric: str) -> str:
        if _METRIC.match(metric) is None:
            message = (
                "unknown metric; use strict, exact, partial or type, a dot, f1, precision or recall"
            )
            raise ValueError(message)
        return metric

    @property
    def score(self) -> str:
        """The name of the score that it looks at: `strict.f1.label.DISEASE`."""
        return self.metric if self.label is None else f"{self.metric}.label.{self.label}"

    @property
    def check(self) -> str:
        """The name of its check: what it is called, else what it says (`strict_f1_minimum_0_6`)."""
        threshold = self.minimum if self.regression is None else self.regression
        kind = "minimum" if self.regression is None else "regression"
        said = " ".join(filter(None, (self.metric, self.label, kind, f"{threshold:g}")))
        return re.sub(r"\W", "_", self.name or said, flags=re.ASCII)

    @model_validator(mode="after")
    def _label_has_the_metric(self) -> Self:
        if self.label is not None and (
            self.metric in _LABEL_BLIND or self.metric.endswith(".macro")
        ):
            message = f"{self.metric} has no values by label"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        if (self.minimum is None) == (self.regression is None):
            message = "give either minimum or regression"
            raise ValueError(message)
        return self


class Privacy(StrictModel):
    """What may leave the tables."""

    note_text_in_reports: bool = False
    smallest_cell: int = Field(default=11, ge=1)
    pseudonymize_note_ids: bool = False


class Quarantine(StrictModel):
    """How much of a corpus may be in quarantine.

    Attributes:
        maximum_share: Quarantined part of the records read above which the corpus is refused; None
            refuses none.
    """

    maximum_share: float | None = Field(default=None, ge=0, le=1)


class Alerts(StrictModel):
    """Whom to tell when a gate fails, the champion is beaten, or a night brought no evaluation.

    Attributes:
        webhook_env: The environment variable that holds the address of a webhook; the address may
            be a secret, so it stands in no file. Where it is not set, the log alone is told.
        missing_after_hours: How long after its tick a nightly evaluation is awaited.
    """

    webhook_env: str = Field(default="HC_ALERT_WEBHOOK", pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    missing_after_hours: float = Field(default=6.0, gt=0, le=168)


class Study(StrictModel):
    """A study: which notes, which labels, for whom and why.

    Attributes:
        name: Also the name of the MLflow experiment.
        labels: The study's label set; source and model labels are mapped to it.
        slices: Note attributes to score separately by; `source` and `length` (a tertile) too.
        gates: Thresholds that decide whether a model may be promoted.
        cluster: The note attribute that is the sampling unit; without it, notes of one text are.
        provenance: How records name things.
        quarantine: How much of the corpora may be unusable.
        alerts: Whom to tell of what goes wrong.
        privacy: What may leave the tables; its smallest cell also screens the context.
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # a refused context is not quoted

    name: str = Field(min_length=1)
    labels: tuple[str, ...] = Field(min_length=1)
    corpora: tuple[CorpusSource, ...] = Field(min_length=1)
    context: StudyContext = Field(default_factory=StudyContext)
    slices: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    cluster: str | None = None
    schedule: Schedule = Schedule()
    quarantine: Quarantine = Quarantine()
    alerts: Alerts = Alerts()
    privacy: Privacy = Privacy()
    provenance: ProvenanceProfile = Field(default_factory=ProvenanceProfile)

    @property
    def scoring(self) -> ScoringPlan:
        """What scores depend on."""
        return ScoringPlan(self.labels, self.slices, self.cluster, self.privacy.smallest_cell)

    @field_validator("labels")
    @classmethod
    def _distinct_labels(cls, labels: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(labels)) != len(labels) or "*" in labels or "" in labels:
            message = "labels are distinct names; '*' and the empty name mean something else"
            raise ValueError(message)
        return labels

    @field_validator("corpora")
    @classmethod
    def _distinct_corpora(cls, corpora: tuple[CorpusSource, ...]) -> tuple[CorpusSource, ...]:
        if len({corpus.name for corpus in corpora}) != len(corpora):
            message = "two corpora have the same name"
            raise ValueError(message)
        return corpora

    @field_validator("slices")
    @classmethod
    def _distinct_slices(cls, slices: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(slices)) != len(slices):
            message = "an attribute stands twice"
            raise ValueError(message)
        return slices

    @model_validator(mode="after")
    def _gates_fit(self) -> Self:
        checks = [gate.check for gate in self.gates]
        if len(set(checks)) != len(checks):
            message = "two gates have the same name; give each a `name:` of its own"
            raise ValueError(message)
        unknown = sorted({gate.label for gate in self.gates if gate.label} - set(self.labels))
        if unknown:
            message = f"a gate is about {', '.join(unknown)}, not one of `labels`"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _corpora_map_to_labels(self) -> Self:
        for corpus in self.corpora:
            unknown = sorted(set((corpus.labels or {}).values()) - set(self.labels))
            if unknown:
                message = f"corpus {corpus.name} maps to {', '.join(unknown)}, not one of `labels`"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _context_identifies_nobody(self) -> Self:
        try:
            screen_context(self.context, self.privacy.smallest_cell)
        except IdentifierError as error:
            listed = "; ".join(f"context.{found.field}: {found.rule}" for found in error.findings)
            message = f"looks like an identifier in {listed}; describe the cohort in aggregate"
            raise ValueError(message) from None
        return self


def load_study(path: Path) -> Study:
    """Read a study; relative corpus paths are made absolute against its folder.

    Raises:
        ConfigurationError: See `load_yaml_model`.
    """
    study = load_yaml_model(path, Study)
    corpora = tuple(corpus.resolved(path.parent) for corpus in study.corpora)
    return study.model_copy(update={"corpora": corpora})
