"""Showing a corpus or a comparison in MLflow: our own record first, MLflow after it."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import dagster as dg

from hc_orchestration.errors import TrackingError
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.resources.evaluation import software_versions
from hc_orchestration.resources.workspace import MlflowResource

if TYPE_CHECKING:
    from hc_orchestration.reporting.comparison import ComparedModel
    from hc_orchestration.resources.comparing import Comparison
    from hc_orchestration.storage.corpus import CorpusVersion
    from hc_orchestration.storage.materializations import (
        ComparedPart,
        ComparisonPart,
        MadePart,
        MaterializationRecord,
    )
    from hc_orchestration.storage.records import MlflowPart
    from hc_orchestration.storage.workspace import Workspace

_NAMESPACE = uuid.UUID("6f6f9df2-7a4b-5a53-9a3e-0b1f7c2d9e44")
_HEADLINE = ("strict.f1", "exact.f1")
UP_TO_DATE = "mlflow_up_to_date"
"""The check that warns when MLflow lacks what was made."""


@dataclass(frozen=True, slots=True)
class Shown:
    """Whether MLflow shows what was made: metadata of the materialization, and the check."""

    metadata: dict[str, Any]
    check: dg.AssetCheckResult


def corpus_id(study: str, corpus: "CorpusVersion") -> str:
    """The id of a stored corpus: the same for every materialization that finds it unchanged."""
    versions = f"{corpus.version}/{corpus.quarantine_version}"
    return str(uuid.uuid5(_NAMESPACE, f"corpus/{study}/{corpus.digest}/{versions}"))


class Materialization:
    """One materialization of notes_corpus or model_comparison while it runs."""

    def __init__(
        self, context: dg.AssetExecutionContext, workspace: "Workspace", mlflow: MlflowResource
    ) -> None:
        """Begin now."""
        self._context = context
        self._workspace = workspace
        self._mlflow = mlflow
        self._begun = datetime.now(UTC)

    def corpus(self, corpus: "CorpusVersion") -> Shown:
        """Record a stored corpus, once for each version, and tell MLflow.

        An unchanged corpus has its record, and its MLflow run, from the run that stored it.
        """
        from hc_orchestration.storage.materializations import CorpusPart

        identity = corpus_id(self._workspace.study.name, corpus)
        if self._workspace.materializations.read(identity) is None:
            part = CorpusPart(
                digest=corpus.digest,
                version=corpus.version,
                quarantine_version=corpus.quarantine_version,
                counts=corpus.counts,
                selection=corpus.selection,
            )
            self._workspace.materializations.append(identity, self._made(), part)
        return self._show(identity)

    def comparison(self, done: "Comparison") -> Shown:
        """Record a comparison and tell MLflow."""
        part = comparison_part(done, self._workspace)
        self._workspace.materializations.append(done.comparison_id, self._made(), part)
        return self._show(done.comparison_id)

    def _show(self, identity: str) -> Shown:
        record = self._workspace.materializations.read(identity)
        shown = self._project(record) if record else None
        if shown is None:
            return Shown({"mlflow_run": "MLflow lacks it"}, _check(told=False))
        links = {"mlflow_run_id": shown.run_id, "mlflow_run": dg.MetadataValue.url(shown.url)}
        return Shown(links, _check(told=True))

    def _project(self, record: "MaterializationRecord") -> "MlflowPart | None":
        try:
            shown = self._mlflow.projection(self._workspace).project(record)
        except TrackingError as error:
            self._context.log.warning("%s The record is kept; MLflow lacks it.", error)
            return None
        if shown != record.mlflow:
            self._workspace.materializations.append_shown(record, shown)
        return shown

    def _made(self) -> "MadePart":
        from hc_orchestration.storage.materializations import MadePart

        run = self._context.run
        return MadePart(
            dagster_run_id=run.run_id,
            job=run.job_name,
            asset=self._context.asset_key.to_user_string(),
            partition_key=run.tags.get("dagster/partition"),
            attempt=self._context.retry_number + 1,
            backfill_id=run.tags.get("dagster/backfill"),
            process=ProcessIdentity.current(),
            study=self._workspace.study.name,
            software=software_versions(),
            context=self._workspace.study.context,
            started_at=self._begun,
            ended_at=datetime.now(UTC),
            shown_in=self._mlflow.shown_in(),
        )


def comparison_part(done: "Comparison", workspace: "Workspace") -> "ComparisonPart":
    """A comparison as its record holds it; `comparison.json` has every metric of every pair."""
    from hc_orchestration.storage.materializations import ComparisonPart

    return ComparisonPart(
        digest=done.digest,
        corpus_digest=done.corpus.digest,
        corpus_version=done.corpus.version,
        notes=done.corpus.notes,
        quarantined=int(done.corpus.counts["quarantined"]),
        champion=done.champion,
        models=tuple(_compared(done.models)),
        differences=tuple(pair for pair in done.differences if pair.metric in _HEADLINE),
        gates={key: tuple(results) for key, results in done.gates.items()},
        files=(done.report, workspace.files.put("comparison.json", _document(done))),
    )


def _compared(models: "Sequence[ComparedModel]") -> "list[ComparedPart]":
    from hc_orchestration.storage.materializations import ComparedPart

    return [
        ComparedPart(
            model_key=model.key,
            rank=model.rank,
            evaluation_id=model.record.evaluation_id if model.record else None,
            values={
                name: value
                for name, value in (metrics.values if metrics else {}).items()
                if name.partition(".ci_")[0].count(".") == 1
            },
            support=metrics.support if metrics else None,
            notes_per_second=model.notes_per_second,
            missing=model.missing,
        )
        for model in models
        for metrics in [model.record.metrics if model.record else None]
    ]


def _document(done: "Comparison") -> bytes:
    document = {
        "corpus": {"digest": done.corpus.digest, "version": done.corpus.version},
        "champion": done.champion,
        "models": [part.model_dump(mode="json") for part in _compared(done.models)],
        "differences": [asdict(pair) for pair in done.differences],
        "gates": {key: [asdict(result) for result in of] for key, of in done.gates.items()},
    }
    return json.dumps(document, indent=1, ensure_ascii=False).encode("utf-8")


def _check(*, told: bool) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        check_name=UP_TO_DATE,
        passed=told,
        severity=dg.AssetCheckSeverity.WARN,
        description=(
            "MLflow shows it"
            if told
            else "MLflow lacks it; `hc mlflow sync` or the sensor catches up"
        ),
    )
