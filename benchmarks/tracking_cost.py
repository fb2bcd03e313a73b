"""What tracking costs a note on SQLite, at 10,000 notes: ours beside the tutorial's loop.

The tutorial logs two metrics for each note as it goes. Its loop is written here from its
description, once on MLflow's fluent API (on fewer notes, since it takes that long) and once on our
`MLFlowTracker`, which takes the same calls. An evaluation in Dagster logs nothing note by note: its
record is projected once. The stores exist before the clock starts; defaults throughout.
"""

import argparse
import io
import logging
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

NOTES = 10_000
LOOP_NOTES = 300
REPETITIONS = 5


def main() -> None:
    """Print milliseconds a note of both, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=NOTES)
    notes = parser.parse_args().notes
    os.environ["MLFLOW_LOGGING_LEVEL"] = "ERROR"
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        uri = f"sqlite:///{home / 'mlflow.db'}"
        ways: dict[str, tuple[Callable[[Path, str, int], float], int]] = {
            f"an evaluation's projection, {notes} notes": (_projected, notes),
            f"the tutorial's loop on our tracker, {notes} notes": (_our_loop, notes),
            f"the tutorial's loop on mlflow, {LOOP_NOTES} notes": (_fluent_loop, LOOP_NOTES),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        _projected(home, uri, 10)
        for _ in range(REPETITIONS):
            for name, (way, count) in ways.items():
                times[name].append(way(home, uri, count) / count * 1000)
    medians = {name: statistics.median(values) for name, values in times.items()}
    slowest = max(medians.values())
    for name, median in medians.items():
        print(f"{name:52} {median:8.4f} ms a note   ratio {slowest / median:6.0f}")
    print(f"medians of {REPETITIONS} interleaved repetitions")


def _projected(home: Path, uri: str, notes: int) -> float:
    """Seconds from the first call to MLflow to the last, for one evaluation of `notes` notes."""
    import polars as pl

    from hc_orchestration.healthcare.contexts import HealthcareRunContext
    from hc_orchestration.processes import ProcessIdentity
    from hc_orchestration.storage.files import FileStore
    from hc_orchestration.storage.records import (
        EvaluationRecord,
        ExtractionPart,
        MetricsPart,
        RunPart,
        Status,
        StatusPart,
    )
    from hc_orchestration.tracking.client import MlflowStore
    from hc_orchestration.tracking.projection import MlflowProjection

    files = FileStore(str(home / "tables"))
    ids = [f"note-{number}" for number in range(notes)]
    table = pl.DataFrame({"note_id": ids, "text_length": [2_000] * notes, "entities": [7] * notes})
    buffer = io.BytesIO()
    table.write_parquet(buffer)
    now = datetime.now(UTC)
    record = EvaluationRecord(
        evaluation_id=str(uuid.uuid4()),
        model_key="model-1.0",
        rows=6,
        run=RunPart(
            dagster_run_id=str(uuid.uuid4()),
            root_run_id="root",
            job="evaluate_model",
            partition_key="model-1.0",
            attempt=1,
            backfill_id=None,
            planned=(),
            process=ProcessIdentity.current(),
            study="benchmark",
            software={"hc-orchestration": "0"},
            context=HealthcareRunContext(model_id="model", version="1.0"),
            started_at=now,
        ),
        extraction=ExtractionPart(
            notes=notes,
            reused=0,
            extracted=notes,
            entities=7 * notes,
            labels={"DISEASE": 7 * notes},
            seconds=1.0,
            notes_per_second=float(notes),
            entities_version=1,
            files=(files.put("per_note.parquet", buffer.getvalue()),),
            started_at=now,
        ),
        metrics=MetricsPart(
            evaluation_digest="0" * 64,
            inputs_unchanged=False,
            values={f"strict.f1.label.L{number}": 0.5 for number in range(12)},
            support=100,
            annotated=notes,
            predicted_unmapped=0,
            not_applicable=(),
            metrics_version=1,
            files=(),
        ),
        status=StatusPart(status=Status.FINISHED, at=now),
    )
    projection = MlflowProjection(MlflowStore(uri, home, "http://localhost"), files, "")
    begun = time.perf_counter()
    projection.project(record)
    return time.perf_counter() - begun


def _our_loop(home: Path, uri: str, notes: int) -> float:
    """Seconds of a tracked run that logs two metrics a note by step."""
    from hc_orchestration.tracking import MLFlowConfig, MLFlowTracker

    del home
    tracker = MLFlowTracker(MLFlowConfig(tracking_uri=uri, experiment_name="our-loop"))
    begun = time.perf_counter()
    with tracker.start_run():
        for step in range(notes):
            tracker.log_metrics({"doc_entity_count": 7, "doc_text_length": 2_000}, step=step)
    return time.perf_counter() - begun


def _fluent_loop(home: Path, uri: str, notes: int) -> float:
    """Seconds of the same run on MLflow's fluent API."""
    import mlflow

    del home
    mlflow.set_tracking_uri(uri)
    mlflow.set_experiment("loop")
    begun = time.perf_counter()
    with mlflow.start_run():
        for step in range(notes):
            mlflow.log_metrics({"doc_entity_count": 7, "doc_text_length": 2_000}, step=step)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
