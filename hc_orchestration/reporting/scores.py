"""The stored scores of models' last finished evaluations, as one table."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from hc_orchestration.errors import EvaluationError, ModelNotInstalledError
from hc_orchestration.models.store import locate
from hc_orchestration.reporting.comparison import staleness
from hc_orchestration.reporting.metadata import score_rows, slice_rows
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace

COLUMNS = (
    "model",
    "mode",
    "average",
    "label",
    "slice",
    "statistic",
    "value",
    "gold",
    "predicted",
    "credit",
    "ci_low",
    "ci_high",
    "notes",
    "clusters",
    "resamples",
    "undefined",
    "seed",
    "withheld",
    "corpus_version",
    "evaluation_id",
    "stale",
)


def last_finished(workspace: Workspace, key: str) -> EvaluationRecord | None:
    """The record of a model's last finished evaluation that has scores, or None."""
    return _last_finished(workspace.records.of_model(key))


def _last_finished(records: Iterable[EvaluationRecord]) -> EvaluationRecord | None:
    for record in records:
        if record.state == Status.FINISHED and record.metrics is not None:
            return record
    return None


def required_finished(workspace: Workspace, key: str) -> EvaluationRecord:
    """The record of a model's last finished evaluation that has scores.

    Raises:
        ModelError: No such model.
        EvaluationError: It has none.
    """
    record = last_finished(workspace, workspace.catalogue.entry(key).key)
    if record is None:
        message = f"model {key} has no finished evaluation. Run: hc evaluate --model {key}"
        raise EvaluationError(message)
    return record


def scores_document(workspace: Workspace) -> dict[str, Any]:
    """The last scores of every model, as JSON can hold them.

    Returns:
        `models`, each with `key`, `stale`, its `rows` as in `last_scores` (the text of a JSON list,
        thousands of them), and the shorter `scores` and `slices` for people; `keys` of the
        catalogue; `columns` of a row.
    """
    keys = list(workspace.catalogue.keys)
    table = last_scores(workspace, keys)
    models = []
    for key in table["model"].unique(maintain_order=True):
        rows = table.filter(table["model"] == key)
        everywhere = rows["slice"] == "all"
        models.append(
            {
                "key": key,
                "stale": bool(rows["stale"].any()),
                "rows": json.dumps(rows.to_dicts()),
                "scores": score_rows(rows.filter(everywhere)),
                "slices": [] if everywhere.all() else slice_rows(rows.filter(~everywhere)),
            }
        )
    return {"keys": keys, "columns": list(COLUMNS), "models": models}


def made_from(workspace: Workspace, document: dict[str, Any]) -> list[Path] | None:
    """Every file and folder that a document of scores depends on; None if not all are known.

    They are not for tables on another machine, for a team's own model, whose code says itself what
    it is, and for a model that is not here, which may turn up in any folder of packages.
    """
    settings = workspace.settings
    evaluated = [workspace.catalogue.entry(model["key"]) for model in document["models"]]
    if "://" in settings.storage or any(entry.team_model for entry in evaluated):
        return None
    tables = Path(settings.storage)
    found = [settings.study, settings.catalogue, settings.model_store, tables]
    found += [tables / path / "_delta_log" for path in workspace.delta.paths()]
    for entry in evaluated:
        found += [Path(file) for file in (entry.origin.path, entry.knowledge_base) if file]
        try:
            location = locate(entry, settings.model_store)
        except ModelNotInstalledError:
            return None
        found += [location, *location.rglob("*")]
    return found


def last_scores(workspace: Workspace, keys: Sequence[str]) -> pl.DataFrame:
    """One row per model, mode, average, label, slice and statistic; see `COLUMNS`.

    `stale` says of a model's rows whether the comparison would refuse them: the corpus, the label
    mapping or the model's files are not those that were evaluated.
    """
    tables = []
    records = workspace.records.by_model()
    corpus = workspace.corpus.required() if records else None
    for key in keys:
        record = _last_finished(records.get(key, []))
        if corpus is None or record is None or record.metrics is None or record.inputs is None:
            continue
        entry = workspace.catalogue.entry(key)
        stale = staleness(workspace, corpus, entry, record)
        scores = workspace.metrics.scores(key, record.metrics.evaluation_digest)
        tables.append(
            scores.with_columns(
                model=pl.lit(key),
                corpus_version=pl.lit(record.inputs.corpus_version),
                evaluation_id=pl.lit(record.evaluation_id),
                stale=pl.lit(value=stale is not None),
            ).select(COLUMNS)
        )
    return pl.concat(tables) if tables else pl.DataFrame(schema=dict.fromkeys(COLUMNS, pl.String))
