"""Evaluations with their records, made by the steps of the chain themselves but without Dagster."""

from datetime import UTC, datetime
from pathlib import Path

from hc_orchestration.resources.evaluation import EvaluationStep, evaluation_id
from hc_orchestration.resources.recording import record_provenance
from hc_orchestration.resources.steps import extract, score
from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import ProvenancePart, Status, StatusPart
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.storage.parts import run_part


class DirectStep(EvaluationStep):
    """A step of an evaluation that no Dagster run drives."""

    def __init__(self, workspace: Workspace, key: str, run_id: str) -> None:
        self.workspace = workspace
        self.key = key
        self.run_id = run_id
        self.evaluation_id = evaluation_id(run_id, key)
        self.begun = datetime.now(UTC)


def workspace_in(home: Path, data: Path, key: Path | None = None) -> Workspace:
    """The workspace whose state is in `home` and whose study and catalogue are in `data`."""
    settings = Settings(
        home=home,
        study=data / "study.yaml",
        catalogue=data / "models.yaml",
        storage=str(home / "tables"),
        tracking_uri="",
        dagster_url="",
        mlflow_url="",
        signing_key=key,
    )
    return Workspace(settings)


def evaluated(workspace: Workspace, key: str, run_id: str) -> ProvenancePart:
    """Read the corpus, extract, score and record, as one night's run of one model does."""
    workspace.corpus.ingest(workspace.new_ingestion)
    step = DirectStep(workspace, key, run_id)
    entry, study = step.entry, workspace.study
    begun = run_part(
        dagster_run_id=run_id,
        root_run_id=run_id,
        partition_key=key,
        study=study.name,
        context=study.context.for_model(entry.name, entry.version),
        started_at=step.begun,
    )
    records = workspace.records
    records.append(step.evaluation_id, key, begun)
    records.append(step.evaluation_id, key, *extract(step, None), done=("extracted_entities",))
    inputs, metrics, gates, _ = score(step)
    records.append(step.evaluation_id, key, inputs, metrics, gates, done=("evaluation_metrics",))
    copied, part = record_provenance(step)
    finished = StatusPart(status=Status.FINISHED, at=datetime.now(UTC))
    records.append(step.evaluation_id, key, *copied, part, finished, done=("provenance",))
    return part
