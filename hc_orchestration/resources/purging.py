"""Removing notes, and all that was derived from single ones, from every version of everything."""

import html
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import polars as pl

from hc_orchestration.errors import StorageError
from hc_orchestration.resources.comparing import newest_report
from hc_orchestration.storage.corpus import NOTES
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.materializations import MaterializationRecord
from hc_orchestration.storage.purges import Purge
from hc_orchestration.storage.records import (
    EvaluationRecord,
    ExtractionPart,
    MetricsPart,
    Status,
)
from hc_orchestration.storage.workspace import Workspace

_ID = "note_id"
_NO_REPORT = (
    b"<!doctype html><title>Report removed</title><p>This report named a note that was removed for "
    b"good. Materialize model_comparison for one without it."
)
_REASON = "notes were removed for good"


@dataclass(frozen=True, slots=True)
class _Rewrite:
    """A file of an evaluation, and its bytes without the notes."""

    old: StoredFile
    new: bytes


def stored_ids(workspace: Workspace, given: Sequence[str]) -> list[str]:
    """The ids that notes are stored under, where those given may be the ones of the source."""
    if not workspace.study.privacy.pseudonymize_note_ids:
        return sorted(set(given))
    return sorted({*given, *map(workspace.pseudonyms.of, given)})


def purge_notes(
    workspace: Workspace, given: Sequence[str], by: str, at: datetime
) -> tuple[Purge, ...]:
    """Remove notes and whatever tells of single ones of them; what sums over notes stays.

    Evaluations that read these notes keep their scores, records and Provenance, but nobody can
    score them again: the versions that they pinned are gone. A purge that was stopped on the way is
    finished by asking for it again.

    Args:
        workspace: The deployment.
        given: Ids of notes, as stored or as the source has them.
        by: Who asks for it.
        at: When.

    Returns:
        What was deleted: a row a table and a row a file.

    Raises:
        StorageError: An evaluation is running, or nothing was ever stored of these notes.
    """
    ids = stored_ids(workspace, given)
    _refuse_while_running(workspace)
    tables = _tables(workspace, ids)
    rewrites = [(r, _rewrites(workspace, _evaluated(r), ids)) for r in workspace.records.all()]
    compared = [
        (r, _rewrites(workspace, _compared(r), ids)) for r in workspace.materializations.all()
    ]
    named = [rewrite.old for _, files in [*rewrites, *compared] for rewrite in files]
    reports = _reports(workspace, ids)
    before = {digest for entry in workspace.purges.all() for digest in entry.notes}
    digests = tuple(map(workspace.pseudonyms.of_purged, ids))
    if not tables and not named and not before.issuperset(digests):
        message = f"nothing is stored of {', '.join(given)}. See `hc export entities` for the ids."
        raise StorageError(message)
    subjects: list[tuple[str, int | None]] = [
        *((name, workspace.delta.version_of(name) + 1) for name in tables),
        *((digest, None) for digest in sorted({file.sha256 for file in [*named, *reports]})),
    ]
    purges = tuple(Purge(subject, before, _REASON, at, by, digests) for subject, before in subjects)
    workspace.purges.append(purges)
    for record, files in rewrites:
        _replace(workspace, record, files)
    for made, files in compared:
        _replace_compared(workspace, made, files)
    for file in [*named, *reports]:
        workspace.files.remove(file)
    _remove_newest_report(workspace, ids)
    for name in tables:
        version = workspace.delta.purge(name, _ID, ids)
        if name == NOTES.path:
            workspace.corpus.purged(version, at)
    return purges


def _refuse_while_running(workspace: Workspace) -> None:
    for record in workspace.records.all():
        if record.run is not None and record.state is Status.RUNNING:
            message = (
                f"an evaluation of {record.model_key} is running and reads the notes. Wait for its "
                "end, or see `hc doctor` when there is none."
            )
            raise StorageError(message)


def _tables(workspace: Workspace, ids: Sequence[str]) -> list[str]:
    """Tables with a row for the notes; that of the notes always, as its older versions may have."""
    delta = workspace.delta
    noted = [path for path in delta.paths() if _ID in delta.columns(path)]
    now = [path for path in noted if delta.holds(path, _ID, ids)]
    return sorted({*now, NOTES.path} if now and NOTES.path in noted else set(now))


def _evaluated(record: EvaluationRecord) -> tuple[StoredFile, ...]:
    parts = (part for part in (record.extraction, record.metrics) if part is not None)
    return tuple(file for part in parts for file in part.files)


def _compared(record: MaterializationRecord) -> tuple[StoredFile, ...]:
    return record.comparison.files if record.comparison else ()


def _rewrites(
    workspace: Workspace, files: Sequence[StoredFile], ids: Sequence[str]
) -> tuple[_Rewrite, ...]:
    return tuple(
        _Rewrite(file, content)
        for file in files
        if workspace.files.holds(file)
        and (content := _without(file, workspace.files.get(file), ids)) is not None
    )


def _without(file: StoredFile, content: bytes, ids: Sequence[str]) -> bytes | None:
    """The bytes of a file without the notes, or None when it does not name them."""
    if file.name.endswith(".parquet"):
        return _table_without(content, ids)
    if file.name.endswith(".html"):
        return _NO_REPORT if _names(content, ids) else None
    if file.name.endswith(".json"):
        document = json.loads(content)
        left = _document_without(document, frozenset(ids))
        if left != document:
            return json.dumps(left, ensure_ascii=False, indent=1).encode("utf-8")
    return None


def _table_without(content: bytes, ids: Sequence[str]) -> bytes | None:
    """Rows of the notes emptied, not taken out: a row's place is its step in MLflow's histories."""
    table = pl.read_parquet(io.BytesIO(content))
    if _ID not in table.columns or not table[_ID].is_in(list(ids)).any():
        return None
    kept = pl.when(~pl.col(_ID).is_in(list(ids)).fill_null(value=False))
    buffer = io.BytesIO()
    table.select(kept.then(pl.col(name)).alias(name) for name in table.columns).write_parquet(
        buffer
    )
    return buffer.getvalue()


def _document_without(value: Any, ids: frozenset[str]) -> Any:  # noqa: ANN401 - JSON
    """A JSON value whose lists have no item that is, or tells of, one of the notes."""
    if isinstance(value, dict):
        return {name: _document_without(item, ids) for name, item in value.items()}
    if isinstance(value, list):
        return [_document_without(item, ids) for item in value if not _of_note(item, ids)]
    return value


def _of_note(item: Any, ids: frozenset[str]) -> bool:  # noqa: ANN401 - JSON
    named = item.get(_ID) if isinstance(item, dict) else item
    return isinstance(named, str) and named in ids


def _replace(workspace: Workspace, record: EvaluationRecord, rewrites: Sequence[_Rewrite]) -> None:
    """Let the record name the new files, so that MLflow is brought up to date with them."""
    if not rewrites:
        return
    swapped = _swapping(workspace, rewrites)
    parts: list[ExtractionPart | MetricsPart] = []
    if record.extraction:
        files = swapped(record.extraction.files)
        parts.append(record.extraction.model_copy(update={"files": files}))
    if record.metrics:
        parts.append(record.metrics.model_copy(update={"files": swapped(record.metrics.files)}))
    workspace.records.append(record.evaluation_id, record.model_key, *parts)


def _replace_compared(
    workspace: Workspace, record: MaterializationRecord, rewrites: Sequence[_Rewrite]
) -> None:
    if rewrites and record.comparison is not None:
        files = _swapping(workspace, rewrites)(record.comparison.files)
        part = record.comparison.model_copy(update={"files": files})
        workspace.materializations.append(record.identity, part)


def _swapping(
    workspace: Workspace, rewrites: Sequence[_Rewrite]
) -> Callable[[tuple[StoredFile, ...]], tuple[StoredFile, ...]]:
    new = {r.old: workspace.files.put(r.old.name, r.new) for r in rewrites}
    return lambda files: tuple(new.get(file, file) for file in files)


def _reports(workspace: Workspace, ids: Sequence[str]) -> list[StoredFile]:
    """Stored reports that name the notes, and so may quote them."""
    found = workspace.files.of_kind(".html")
    return [file for file in found if _names(workspace.files.get(file), ids)]


def _names(page: bytes, ids: Sequence[str]) -> bool:
    return any(html.escape(note_id).encode("utf-8") in page for note_id in ids)


def _remove_newest_report(workspace: Workspace, ids: Sequence[str]) -> None:
    path = newest_report(workspace.settings)
    if path.exists() and _names(path.read_bytes(), ids):
        path.unlink()
