"""One table a model: the files that each of its fingerprints consists of."""

import polars as pl

from hc_orchestration.models.store import InstalledModel
from hc_orchestration.storage.delta import DeltaStore, TableSpec


def model_files_table(model_key: str) -> TableSpec:
    """One row per fingerprint and file: relative path, size in bytes, sha256."""
    schema = {
        "model_fingerprint": pl.String,
        "path": pl.String,
        "size": pl.Int64,
        "sha256": pl.String,
    }
    return TableSpec(f"model_files/{model_key}", schema, keys=("model_fingerprint", "path"))


class ModelFileTables:
    """Writes and reads file lists."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def insert(self, model: InstalledModel) -> int:
        """Store the files of a model unless its fingerprint is known; returns the new rows."""
        rows = [(model.fingerprint, file.path, file.size, file.sha256) for file in model.files]
        table = model_files_table(model.entry.key)
        frame = pl.DataFrame(rows, schema=dict(table.schema), orient="row")
        return self._store.insert_missing(table, frame)
