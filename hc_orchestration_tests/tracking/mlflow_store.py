"""An MLflow store of a test: what is told to it, and what it shows."""

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl

from hc_orchestration.settings import Settings
from hc_orchestration.storage.files import FileStore
from hc_orchestration.storage.records import CHAIN, EvaluationRecord, Status
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration.tracking.projection import MlflowProjection
from hc_orchestration_tests.storage.parts import (
    extraction_part,
    inputs_part,
    metrics_part,
    provenance_part,
    run_part,
    status_part,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run


def parquet(table: pl.DataFrame) -> bytes:
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    return buffer.getvalue()


class Tracking:
    """An MLflow store, the files of records, and what MLflow shows."""

    def __init__(self, settings: Settings) -> None:
        self.store = MlflowStore(settings.tracking_uri, settings.home, settings.mlflow_url)
        self.files = FileStore(settings.storage)

    def projection(self) -> MlflowProjection:
        return MlflowProjection(self.store, self.files, "http://dagster")

    @property
    def client(self) -> "MlflowClient":
        return open_client(self.store)

    def runs(self, evaluation_id: str = "e1") -> "list[Run]":
        experiments = [experiment.experiment_id for experiment in self.client.search_experiments()]
        return self.client.search_runs(experiments, f"tags.`hc.evaluation_id` = '{evaluation_id}'")

    def run(self, evaluation_id: str = "e1") -> "Run":
        (only,) = self.runs(evaluation_id)
        return only

    def history(self, name: str) -> list[float]:
        points = self.client.get_metric_history(self.run().info.run_id, name)
        return [point.value for point in sorted(points, key=lambda point: point.step)]

    def artifact(self, name: str) -> Any:
        path = self.client.download_artifacts(self.run().info.run_id, name)
        return json.loads(Path(path).read_text(encoding="utf-8"))

    def shown(self, evaluation_id: str = "e1") -> dict[str, Any]:
        """Everything that MLflow says of an evaluation, but for what names the run itself."""
        run = self.run(evaluation_id)
        tags = {k: v for k, v in run.data.tags.items() if k != "hc.evaluation_id"}
        histories = {
            name: sorted(
                (point.step, point.value)
                for point in self.client.get_metric_history(run.info.run_id, name)
            )
            for name in run.data.metrics
        }
        artifacts = {item.path for item in self.client.list_artifacts(run.info.run_id)}
        times = (run.info.start_time, run.info.end_time)
        datasets = [(used.dataset.name, used.dataset.digest) for used in run.inputs.dataset_inputs]
        return {
            "status": run.info.status,
            "times": times,
            "name": run.info.run_name,
            "params": run.data.params,
            "tags": tags,
            "histories": histories,
            "artifacts": artifacts,
            "datasets": datasets,
        }

    def full_record(self, evaluation_id: str = "e1", notes: int = 3) -> EvaluationRecord:
        """A finished evaluation with all its parts."""
        per_note = pl.DataFrame(
            {
                "note_id": [f"n{number}" for number in range(notes)],
                "text_length": [100 + number for number in range(notes)],
                "entities": list(range(notes)),
            }
        )
        return EvaluationRecord(
            evaluation_id=evaluation_id,
            model_key="terms-1",
            done=CHAIN,
            run=run_part(),
            inputs=inputs_part(),
            extraction=extraction_part(
                self.files.put("per_note.parquet", parquet(per_note)),
                self.files.put("entity_distribution.json", b'{"DISEASE": 9}'),
            ),
            metrics=metrics_part(self.files.put("metrics.parquet", parquet(per_note.head(1)))),
            provenance=provenance_part(self.files.put("fhir_provenance.json", b"{}")),
            status=status_part(Status.FINISHED, seconds=60),
        )
