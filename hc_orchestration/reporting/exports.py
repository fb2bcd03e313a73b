"""Writing stored results of a model's last finished evaluation to files, with their versions."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl

from hc_orchestration.errors import ConfigurationError, EvaluationError, StorageError
from hc_orchestration.reporting.csv_cells import inert
from hc_orchestration.reporting.scores import required_finished
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace

_Writer = Callable[[pl.DataFrame, Path], None]
_LINES: _Writer = pl.DataFrame.write_ndjson
_NESTED: dict[str, _Writer] = {
    ".jsonl": _LINES,
    ".ndjson": _LINES,
    ".json": pl.DataFrame.write_json,
    ".parquet": pl.DataFrame.write_parquet,
}
_FLAT: dict[str, _Writer] = {
    **_NESTED,
    ".csv": lambda table, output: inert(table).write_csv(output),
}


def write_entities(workspace: Workspace, key: str, output: Path) -> dict[str, Any]:
    """note_id, text_sha256 and spans of every note of the evaluated corpus version.

    Raises:
        ConfigurationError: The suffix of `output` names no form that they can be written in.
        EvaluationError: The model has no finished evaluation.
        StorageError: The file cannot be written.
    """
    writer = _writer(output, _NESTED)
    record = required_finished(workspace, key)
    inputs = record.inputs
    if inputs is None:
        message = f"the last evaluation of {key} has no inputs"
        raise EvaluationError(message)
    made_by = workspace.records.required(inputs.pinned_by)
    version = made_by.extraction.entities_version if made_by.extraction else None
    rows = workspace.entities.of_corpus(
        key, inputs.model_fingerprint, inputs.corpus_version, version
    )
    table = rows.select("note_id", "text_sha256", "spans").sort("note_id").collect()
    _write(table, output, writer)
    return _written(record, output, table.height, entities_version=version)


def write_metrics(workspace: Workspace, key: str, output: Path) -> dict[str, Any]:
    """Every score of the evaluation.

    Raises:
        ConfigurationError: The suffix of `output` names no form that they can be written in.
        EvaluationError: The model has no finished evaluation.
        StorageError: The file cannot be written.
    """
    writer = _writer(output, _FLAT)
    record = required_finished(workspace, key)
    if record.metrics is None:
        message = f"the last evaluation of {key} has no scores"
        raise EvaluationError(message)
    table = workspace.metrics.scores(key, record.metrics.evaluation_digest)
    _write(table, output, writer)
    return _written(record, output, table.height, metrics_version=record.metrics.metrics_version)


def write_provenance(workspace: Workspace, key: str, output: Path) -> dict[str, Any]:
    """The Provenance resource, its bytes checked against their digest.

    Raises:
        EvaluationError: The model has no finished evaluation with a Provenance.
        StorageError: The stored bytes are gone or were changed, or the file cannot be written.
    """
    record = required_finished(workspace, key)
    if record.provenance is None:
        message = f"the last evaluation of {key} has no Provenance; materialize provenance."
        raise EvaluationError(message)
    content = workspace.files.get(record.provenance.file)
    try:
        output.write_bytes(content)
    except OSError as error:
        raise _not_writable(output, error) from None
    return _written(record, output, 1, sha256=record.provenance.file.sha256)


def _writer(output: Path, known: dict[str, _Writer]) -> _Writer:
    writer = known.get(output.suffix.lower())
    if writer is None:
        message = (
            f"{output}: the suffix says in which form to write, and must be one of "
            f"{', '.join(known)}."
        )
        raise ConfigurationError(message)
    return writer


def _write(table: pl.DataFrame, output: Path, writer: _Writer) -> None:
    try:
        writer(table, output)
    except (OSError, pl.exceptions.ComputeError) as error:  # the latter: a full disk, in Parquet
        raise _not_writable(output, error) from None


def _not_writable(output: Path, error: Exception) -> StorageError:
    return StorageError(f"{output} cannot be written ({type(error).__name__}).")


def _written(
    record: EvaluationRecord, output: Path, rows: int, **versions: object
) -> dict[str, Any]:
    inputs = record.inputs
    return {
        "file": str(output),
        "rows": rows,
        "model": record.model_key,
        "evaluation_id": record.evaluation_id,
        "corpus_version": inputs.corpus_version if inputs else None,
        **versions,
    }
