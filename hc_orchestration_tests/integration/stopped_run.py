"""A run of a model that stops for ever at a named place, for tests that kill its process there.

Everything heavy is imported here, so that a fork server pays for it only once.
"""

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import dagster as dg
import mlflow  # noqa: F401 - to be loaded before the fork

from hc_orchestration.definitions import build_definitions
from hc_orchestration.extraction import commits
from hc_orchestration.runs import InProcessRuns
from hc_orchestration.settings import Settings
from hc_orchestration.storage.delta import DeltaStore, TableSpec
from hc_orchestration.storage.entities import EntityTables
from hc_orchestration.storage.files import FileStore, StoredFile


def run_until(environment: Mapping[str, str], key: str, place: str, reached: str) -> None:
    """Evaluate the model `key`; at `place`, make the file `reached` and do nothing more."""
    os.environ.clear()
    os.environ.update(environment)

    def stop() -> NoReturn:
        Path(reached).touch()
        while True:
            time.sleep(60)

    PLACES[place](stop)
    settings = Settings.from_environment()
    with dg.DagsterInstance.get() as instance:
        InProcessRuns(build_definitions(settings), instance, settings).run("evaluate_model", key)


def _in_extraction(stop: Callable[[], NoReturn]) -> None:
    """The first batch is stored, the next one is not."""
    commits._SHORTEST_S = 0.0
    insert, stored = EntityTables.insert_packed, []

    def once(tables: EntityTables, *rows: Any) -> int:
        if stored:
            stop()
        stored.append(rows)
        return insert(tables, *rows)

    EntityTables.insert_packed = once  # type: ignore[method-assign]


def _in_metrics(stop: Callable[[], NoReturn]) -> None:
    """The counts by note are stored, the scores are not."""
    insert = DeltaStore.insert_missing

    def without_scores(store: DeltaStore, spec: TableSpec, frame: Any) -> int:
        if spec.path.startswith("metrics/"):
            stop()
        return insert(store, spec, frame)

    DeltaStore.insert_missing = without_scores  # type: ignore[method-assign]


def _in_provenance(stop: Callable[[], NoReturn]) -> None:
    """The Bundle is stored; nothing names it yet."""
    put = FileStore.put

    def bundle_last(files: FileStore, name: str, content: bytes) -> StoredFile:
        stored = put(files, name, content)
        if name == "fhir_provenance_bundle.json":
            stop()
        return stored

    FileStore.put = bundle_last  # type: ignore[method-assign]


PLACES = {
    "extraction": _in_extraction,
    "metrics": _in_metrics,
    "provenance": _in_provenance,
}
