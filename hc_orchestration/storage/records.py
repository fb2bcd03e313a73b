"""Evaluation records: what happened, written before anybody else is told.

The `evaluations` table is append-only: each row is one part of one evaluation's record, as JSON. A
part written again replaces the older one when the record is read. Everything that is shown of an
evaluation (MLflow, Provenance, the command line) is derived from its record.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from operator import attrgetter
from typing import Any, NamedTuple, Self

import polars as pl
from pydantic import BaseModel, ConfigDict

from hc_orchestration.errors import StorageError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.scoring.gates import GateOutcome, GateResult
from hc_orchestration.storage.delta import DeltaStore, TableSpec
from hc_orchestration.storage.files import StoredFile

EVALUATIONS = TableSpec(
    "evaluations",
    {
        "evaluation_id": pl.String,
        "model_key": pl.String,
        "part": pl.String,
        "content": pl.String,
        "written_at": pl.Datetime("us", "UTC"),
    },
)


CHAIN = ("model_files", "extracted_entities", "evaluation_metrics", "provenance")
"""The assets of one evaluation; each is a step of the same name."""

CHECK_STEPS = (
    "extracted_entities_every_note_has_one_row",
    "extracted_entities_spans_lie_in_their_notes",
    "evaluation_metrics_scores_within_bounds",
    "provenance_checks",
)
"""The steps of the checks of one evaluation; the last one does both checks of provenance."""


class Status(StrEnum):
    """Status of an evaluation, in MLflow's words."""

    RUNNING = "RUNNING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    KILLED = "KILLED"


class RecordPart(BaseModel):
    """Base of the parts: frozen, JSON in and out."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @classmethod
    def part_name(cls) -> str:
        """The name that the part is stored under."""
        return cls.__name__.removesuffix("Part").lower()


class ShownIn(RecordPart):
    """Where and how MLflow shows an evaluation, as the deployment was set when it began.

    Attributes:
        experiment: In place of the study's name.
        parent_run_id: The MLflow run that it becomes a child of.
        run_id: The MLflow run that it goes into, in place of one of its own.
        tags: Added to ours.
        per_note_steps: For how many notes counts are logged by step; the artifact has all.
    """

    experiment: str | None = None
    parent_run_id: str | None = None
    run_id: str | None = None
    tags: dict[str, str] = {}
    per_note_steps: int = 200


class RunPart(RecordPart):
    """Which Dagster run evaluates (or evaluated last) which model for which study.

    Attributes:
        attempt: Which attempt of a step is running, or ran last when one was retried; from 1.
    """

    dagster_run_id: str
    root_run_id: str
    job: str
    partition_key: str
    attempt: int
    backfill_id: str | None
    planned: tuple[str, ...]
    process: ProcessIdentity
    study: str
    software: dict[str, str]
    context: HealthcareRunContext
    started_at: datetime
    shown_in: ShownIn = ShownIn()

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return self.shown_in.experiment or self.study


class InputsPart(RecordPart):
    """The pinned inputs: a corpus version and a model fingerprint.

    Attributes:
        pinned_by: The evaluation that fixed them; another one when only later steps were run.
        selection: JSON of what the corpora select beyond all of their notes, by corpus.
    """

    corpus_version: int
    corpus_digest: str
    notes: int
    quarantined: int
    model_fingerprint: str
    loader: str
    model_bytes: int
    pinned_by: str
    selection: str | None = None


class ExtractionPart(RecordPart):
    """What the extraction did: counts, time in seconds, and the files that show them.

    Attributes:
        device: Where the model ran; None when every note had a row already.
        engine: `local` or `ray`.
        processes: How many ran the model; 0 when every note had a row already, None in records of
            before they were counted.
        workers_lost: How many of them died and were replaced, their notes repeated.
    """

    notes: int
    reused: int
    extracted: int
    entities: int
    labels: dict[str, int]
    seconds: float
    notes_per_second: float | None
    entities_version: int
    files: tuple[StoredFile, ...]
    started_at: datetime
    device: str | None = None
    engine: str = "local"
    processes: int | None = None
    workers_lost: int = 0


class MetricsPart(RecordPart):
    """The scores of the evaluation, undefined ones left out.

    Attributes:
        support: Gold mentions.
        predicted_unmapped: Predicted spans with a label that the catalogue does not map.
        not_applicable: Modes that say nothing about this model.
        withheld: Slices of too few notes.
    """

    evaluation_digest: str
    inputs_unchanged: bool
    values: dict[str, float]
    support: int
    annotated: int
    predicted_unmapped: int
    not_applicable: tuple[str, ...]
    withheld: int = 0
    metrics_version: int
    files: tuple[StoredFile, ...]


class GatesPart(RecordPart):
    """What the study's `minimum` gates, as they were then, said of the scores.

    Attributes:
        outcome: passed, failed or inconclusive; None when there are no gates.
    """

    outcome: GateOutcome | None
    results: tuple[GateResult, ...]


class ProvenancePart(RecordPart):
    """The stored record; `of_evaluation` is an earlier evaluation if nothing changed.

    Attributes:
        file: The Bundle; its sha256 is the digest of the record.
        resource: The Provenance resource alone; None in records of before there were Bundles.
        key_id: Of the key that signed it; None for one that is not signed.
        public_key: The public key of that.
        previous: Digest of the record that this one follows in the model's chain.
        forced: Ids of the promotions by force that the record tells of.
    """

    file: StoredFile
    resource: StoredFile | None = None
    previous: str | None = None
    of_evaluation: str
    evaluation_digest: str
    key_id: str | None = None
    forced: tuple[str, ...] = ()
    public_key: StoredFile | None = None


class HeadPart(RecordPart):
    """The newest record of a model and study; the older ones of these are its chain so far.

    Attributes:
        record: Digest of the record, as in `ProvenancePart.file`.
    """

    study: str
    record: str
    evaluation_id: str


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """A record as the evaluations table lists it."""

    evaluation_id: str
    model_key: str
    part: ProvenancePart


@dataclass(frozen=True, slots=True)
class KeptHead:
    """A head as the evaluations table keeps it."""

    model_key: str
    head: HeadPart


class MlflowPart(RecordPart):
    """The MLflow run that shows the evaluation; it may be lost and made again under another id.

    Attributes:
        rows: How many rows of the record MLflow was told.
    """

    run_id: str
    url: str
    rows: int


class StatusPart(RecordPart):
    """How it stands: `error` names the exception's class and what may be shown of its words."""

    status: Status
    error_class: str | None = None
    error: str | None = None
    failed_step: str | None = None
    at: datetime


class EvaluationRecord(BaseModel):
    """All that is known of one evaluation.

    Attributes:
        rows: Rows that it was folded from, those about MLflow left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    evaluation_id: str
    model_key: str
    rows: int = 0
    done: tuple[str, ...] = ()
    run: RunPart | None = None
    inputs: InputsPart | None = None
    extraction: ExtractionPart | None = None
    metrics: MetricsPart | None = None
    gates: GatesPart | None = None
    provenance: ProvenancePart | None = None
    mlflow: MlflowPart | None = None
    status: StatusPart | None = None

    @classmethod
    def from_rows(cls, evaluation_id: str, model_key: str, rows: Sequence[tuple[str, str]]) -> Self:
        """Fold (part, content) rows, oldest first; `done` rows name finished steps.

        Another Dagster run does its planned steps anew; a step retried in the same run does not
        undo the others.
        """
        parts: dict[str, Any] = {}
        done: list[str] = []
        for part, content in rows:
            if part == DONE:
                done.append(content)
                continue
            made = _PARTS[part].model_validate_json(content)
            if isinstance(made, RunPart):
                before = parts.get(part)
                if before is None or before.dagster_run_id != made.dagster_run_id:
                    done = [step for step in done if step not in made.planned]
            parts[part] = made
        return cls(
            evaluation_id=evaluation_id,
            model_key=model_key,
            rows=sum(part != MlflowPart.part_name() for part, _ in rows),
            done=tuple(dict.fromkeys(done)),
            **parts,
        )

    @property
    def kind(self) -> str:
        """The tag `hc.kind` of the MLflow run that shows it."""
        return "evaluation"

    @property
    def identity(self) -> str:
        """The id that its MLflow run is found by."""
        return self.evaluation_id

    @property
    def experiment(self) -> str | None:
        """Name of the MLflow experiment; None before a run is recorded."""
        return self.run.experiment if self.run else None

    @property
    def state(self) -> Status:
        """RUNNING until a step says otherwise."""
        return Status.RUNNING if self.status is None else self.status.status

    @property
    def projected(self) -> bool:
        """Whether MLflow was told all of it."""
        return self.mlflow is not None and self.mlflow.rows == self.rows

    @property
    def remaining(self) -> tuple[str, ...]:
        """Planned steps that have not finished."""
        planned = self.run.planned if self.run else ()
        return tuple(step for step in planned if step not in self.done)


DONE = "done"
_KINDS: tuple[type[RecordPart], ...] = (
    RunPart,
    InputsPart,
    ExtractionPart,
    MetricsPart,
    GatesPart,
    ProvenancePart,
    MlflowPart,
    StatusPart,
)
_PARTS = {kind.part_name(): kind for kind in _KINDS}


class Records:
    """Appends parts and reads records."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(
        self,
        evaluation_id: str,
        model_key: str,
        *parts: RecordPart,
        done: Sequence[str] = (),
    ) -> None:
        """Write parts, and steps that are done, in one commit."""
        rows = [(part.part_name(), part.model_dump_json()) for part in parts]
        rows += [(DONE, step) for step in done]
        self._append([(evaluation_id, model_key, *row) for row in rows])

    def _append(self, rows: Sequence[tuple[str, str, str, str]]) -> None:
        now = datetime.now(UTC)
        stamped = [(*row, now) for row in rows]
        schema = dict(EVALUATIONS.schema)
        self._store.append(EVALUATIONS, pl.DataFrame(stamped, schema=schema, orient="row"))

    def append_provenance(
        self, evaluation_id: str, model_key: str, study: str, part: ProvenancePart
    ) -> None:
        """Write a new provenance part and, in the same commit, that it is the head of its chain."""
        head = HeadPart(study=study, record=part.file.sha256, evaluation_id=evaluation_id)
        rows = [(evaluation_id, part), (f"chain of {study}", head)]
        self._append(
            [(owner, model_key, row.part_name(), row.model_dump_json()) for owner, row in rows]
        )

    def listed(self, model_key: str | None = None) -> list[ListedRecord]:
        """Every record that was ever made, once and oldest first; of a model or of all.

        Also those that a later one of the same evaluation replaced.
        """
        found: dict[str, ListedRecord] = {}
        for evaluation_id, key, content in self._parts(ProvenancePart, model_key):
            part = ProvenancePart.model_validate_json(content)
            if part.of_evaluation == evaluation_id:
                found.setdefault(part.file.sha256, ListedRecord(evaluation_id, key, part))
        return list(found.values())

    def heads(self, model_key: str | None = None) -> list[KeptHead]:
        """The heads that were kept, oldest first; of a model or of all."""
        return [
            KeptHead(key, HeadPart.model_validate_json(content))
            for _, key, content in self._parts(HeadPart, model_key)
        ]

    def _parts(
        self, kind: type[RecordPart], model_key: str | None
    ) -> Iterator[tuple[str, str, str]]:
        """evaluation_id, model_key and content of the parts of one kind, oldest first."""
        which = pl.col("part") == kind.part_name()
        if model_key is not None:
            which &= pl.col("model_key") == model_key
        ordered = self._store.read(EVALUATIONS, which).sort("written_at", maintain_order=True)
        yield from ordered.select("evaluation_id", "model_key", "content").iter_rows()

    def append_shown(self, record: EvaluationRecord, shown: MlflowPart) -> None:
        """Write which MLflow run shows a record."""
        self.append(record.evaluation_id, record.model_key, shown)

    def read(self, evaluation_id: str) -> EvaluationRecord | None:
        """The record of an evaluation, or None."""
        found = self._records(pl.col("evaluation_id") == evaluation_id)
        return found[0] if found else None

    def required(self, evaluation_id: str) -> EvaluationRecord:
        """The record of an evaluation.

        Raises:
            StorageError: There is none.
        """
        record = self.read(evaluation_id)
        if record is None:
            message = f"evaluation {evaluation_id} has no record."
            raise StorageError(message)
        return record

    def of_model(self, model_key: str) -> list[EvaluationRecord]:
        """The records of a model's evaluations, those begun last first."""
        return self._records(pl.col("model_key") == model_key)

    def by_model(self) -> dict[str, list[EvaluationRecord]]:
        """The records of each model that has any, those begun last first, read at once."""
        found: dict[str, list[EvaluationRecord]] = {}
        for record in self.all():
            found.setdefault(record.model_key, []).append(record)
        return found

    def all(self) -> list[EvaluationRecord]:
        """Every record, those begun last first."""
        return self._records(pl.lit(value=True))

    def _records(self, which: pl.Expr) -> list[EvaluationRecord]:
        of_evaluations = pl.col("part") != HeadPart.part_name()
        rows = self._store.read(EVALUATIONS, which & of_evaluations)
        groups: dict[str, list[_Row]] = {}
        for row in sorted(map(_Row._make, rows.iter_rows()), key=attrgetter("written_at")):
            groups.setdefault(row.evaluation_id, []).append(row)
        return [
            EvaluationRecord.from_rows(
                identity, group[0].model_key, [(row.part, row.content) for row in group]
            )
            for identity, group in sorted(
                groups.items(), key=lambda one: _last_begun(one[1]), reverse=True
            )
        ]


class _Row(NamedTuple):
    """A row of `EVALUATIONS`."""

    evaluation_id: str
    model_key: str
    part: str
    content: str
    written_at: datetime


def _last_begun(rows: Sequence[_Row]) -> datetime:
    """When the last attempt began; closing or showing an old evaluation makes it no newer."""
    begun = [row.written_at for row in rows if row.part == RunPart.part_name()]
    return begun[-1] if begun else rows[-1].written_at
