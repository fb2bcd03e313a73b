"""Records of what notes_corpus and model_comparison made, written before MLflow is told.

The `materializations` table is append-only, as `evaluations` is: each row is one part of a record,
as JSON, and a part written again replaces the older one when the record is read. What is recorded
here has happened: a materialization that failed made nothing and has no record.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self

import polars as pl
from pydantic import BaseModel, ConfigDict

from hc_orchestration.healthcare.contexts import StudyContext
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.scoring.difference import Difference
from hc_orchestration.scoring.gates import GateResult
from hc_orchestration.storage.delta import DeltaStore, TableSpec
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.records import MlflowPart, RecordPart, ShownIn

MATERIALIZATIONS = TableSpec(
    "materializations",
    {
        "materialization_id": pl.String,
        "part": pl.String,
        "content": pl.String,
        "written_at": pl.Datetime("us", "UTC"),
    },
)


class MaterializationKind(StrEnum):
    """What was made; also the tag `hc.kind` of the MLflow run that shows it."""

    CORPUS = "corpus"
    COMPARISON = "comparison"


class MadePart(RecordPart):
    """Which Dagster run made it, of which study, when and by which software.

    Attributes:
        partition_key: The model, where the Dagster run evaluates one besides; else None.
        attempt: Which attempt of the step made it; from 1.
    """

    dagster_run_id: str
    job: str
    asset: str
    partition_key: str | None
    attempt: int
    backfill_id: str | None
    process: ProcessIdentity
    study: str
    software: dict[str, str]
    context: StudyContext
    started_at: datetime
    ended_at: datetime
    shown_in: ShownIn = ShownIn()

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return self.shown_in.experiment or self.study


class CorpusPart(RecordPart):
    """A stored corpus version.

    Attributes:
        counts: As in `CorpusVersion`.
        selection: JSON of what the corpora select beyond all of their notes.
    """

    digest: str
    version: int
    quarantine_version: int
    counts: dict[str, Any]
    selection: str | None


class ComparedPart(RecordPart):
    """One model of a comparison.

    Attributes:
        values: Its scores over all labels, with intervals; undefined ones left out.
        support: Gold mentions.
        missing: Why it has no rank; None when it has one.
    """

    model_key: str
    rank: int | None
    evaluation_id: str | None
    values: dict[str, float]
    support: int | None
    notes_per_second: float | None
    missing: str | None


class ComparisonPart(RecordPart):
    """A comparison of models on one corpus version.

    Attributes:
        digest: Of what was compared.
        notes: Notes of the corpus.
        differences: Of every pair of ranked models in strict and exact F1; a file has all metrics.
        gates: Model key → what the regression gates say of it.
    """

    digest: str
    corpus_digest: str
    corpus_version: int
    notes: int
    quarantined: int
    champion: str | None
    models: tuple[ComparedPart, ...]
    differences: tuple[Difference, ...]
    gates: dict[str, tuple[GateResult, ...]]
    files: tuple[StoredFile, ...]


class MaterializationRecord(BaseModel):
    """All that is known of one materialization.

    Attributes:
        rows: Rows that it was folded from, those about MLflow left out.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    made: MadePart
    rows: int = 0
    corpus: CorpusPart | None = None
    comparison: ComparisonPart | None = None
    mlflow: MlflowPart | None = None

    @classmethod
    def from_rows(cls, identity: str, rows: Sequence[tuple[str, str]]) -> Self:
        """Fold (part, content) rows, oldest first."""
        parts: dict[str, Any] = {
            part: _PARTS[part].model_validate_json(content) for part, content in rows
        }
        told = sum(part != MlflowPart.part_name() for part, _ in rows)
        return cls(identity=identity, rows=told, **parts)

    @property
    def kind(self) -> MaterializationKind:
        """Which asset was materialized."""
        return MaterializationKind.CORPUS if self.corpus else MaterializationKind.COMPARISON

    @property
    def experiment(self) -> str:
        """Name of the MLflow experiment."""
        return self.made.experiment

    @property
    def projected(self) -> bool:
        """Whether MLflow was told all of it."""
        return self.mlflow is not None and self.mlflow.rows == self.rows


_PARTS: dict[str, type[RecordPart]] = {
    kind.part_name(): kind for kind in (MadePart, CorpusPart, ComparisonPart, MlflowPart)
}


class Materializations:
    """Appends parts and reads records."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(self, identity: str, *parts: RecordPart) -> None:
        """Write parts in one commit."""
        now = datetime.now(UTC)
        frame = pl.DataFrame(
            [(identity, part.part_name(), part.model_dump_json(), now) for part in parts],
            schema=dict(MATERIALIZATIONS.schema),
            orient="row",
        )
        self._store.append(MATERIALIZATIONS, frame)

    def append_shown(self, record: MaterializationRecord, shown: MlflowPart) -> None:
        """Write which MLflow run shows a record."""
        self.append(record.identity, shown)

    def read(self, identity: str) -> MaterializationRecord | None:
        """The record of a materialization, or None."""
        found = self._records(pl.col("materialization_id") == identity)
        return found[0] if found else None

    def all(self) -> list[MaterializationRecord]:
        """Every record, those written first first."""
        return self._records(pl.lit(value=True))

    def _records(self, which: pl.Expr) -> list[MaterializationRecord]:
        rows = self._store.read(MATERIALIZATIONS, which)
        rows = rows.with_row_index().sort("written_at", "index", maintain_order=True)
        return [
            MaterializationRecord.from_rows(
                group["materialization_id"][0], list(group.select("part", "content").iter_rows())
            )
            for group in rows.partition_by("materialization_id", maintain_order=True)
        ]
