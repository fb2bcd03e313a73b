"""What one MLflow run is to say: the form that every record is put into before it is projected."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from hc_orchestration.healthcare.contexts import PatientContext
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.records import Status
from hc_orchestration.tracking.names import LONGEST_PARAM, LONGEST_TAG, shortened

ID_TAGS = {
    "evaluation": "hc.evaluation_id",
    "corpus": "hc.corpus_id",
    "comparison": "hc.comparison_id",
}
"""Kind of run → the tag that its run is found by."""


@dataclass(frozen=True, slots=True)
class CorpusInput:
    """The corpus for MLflow's Datasets column: name and digest, not the notes."""

    name: str
    digest: str
    version: int
    notes: int
    quarantined: int


@dataclass(frozen=True, slots=True)
class PerNoteSteps:
    """Counts of the first `steps` notes of `file`, logged by step."""

    file: StoredFile
    steps: int


@dataclass(frozen=True, slots=True)
class TakenOver:
    """A run that may be there already: the one that the deployment names, or dagster-mlflow's."""

    run_id: str | None
    dagster_run_id: str


@dataclass(frozen=True, slots=True)
class RunView:
    """One MLflow run, as it is to be.

    Attributes:
        kind: Key of `ID_TAGS`; the tag `hc.kind`.
        identity: Value of the tag that the run is found by.
        ended_at: None while it is running.
        params: As they are, too long ones not yet cut. Tags likewise.
        metrics: By our names, which MLflow may not take.
        documents: Artifacts made here, by name.
        files: Artifacts of the file store.
        rows: How many rows of the record this view is made of.
        per_note: None where there are no counts by note.
        taken_over: None where the run is always one of our own.
    """

    kind: str
    identity: str
    name: str
    experiment: str
    started_at: datetime
    status: Status
    ended_at: datetime | None
    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    corpus: CorpusInput | None
    documents: Mapping[str, bytes]
    files: tuple[StoredFile, ...]
    rows: int
    per_note: PerNoteSteps | None = None
    taken_over: TakenOver | None = None

    @property
    def id_tag(self) -> str:
        """The tag that the run is found by."""
        return ID_TAGS[self.kind]


def fitting_params(params: Mapping[str, object]) -> dict[str, str]:
    """Params as MLflow keeps them; unknown and empty ones are left out."""
    known = {name: value for name, value in params.items() if value is not None and value != ""}
    return {name: shortened(str(value), LONGEST_PARAM) for name, value in known.items()}


def fitting_tags(tags: Mapping[str, str | None]) -> dict[str, str]:
    """Tags as MLflow keeps them; unknown and empty ones are left out."""
    return {name: shortened(value, LONGEST_TAG) for name, value in tags.items() if value}


def markdown(columns: tuple[str, ...], rows: Iterable[tuple[object, ...]]) -> str:
    """A Markdown table; None is shown as a dash, a float with three digits."""
    lines = [columns, ("---",) * len(columns), *(tuple(map(_cell, row)) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def cohort_table(patients: PatientContext | None) -> str:
    """The cohort in Markdown; what is not known is left out."""
    if patients is None:
        return "No cohort is described."
    rows = {
        "cohort": patients.cohort,
        "age range": patients.age_range,
        "patients": patients.sample_size,
        "included": "; ".join(patients.inclusion_criteria),
        "excluded": "; ".join(patients.exclusion_criteria),
    }
    return markdown(("cohort", ""), ((name, value) for name, value in rows.items() if value))


def _cell(value: object) -> str:
    if value is None:
        return "\N{EN DASH}"
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("|", "/").replace("\n", " ")
