"""The stored scores of models' last finished evaluations, as one table."""

from collections.abc import Iterable, Sequence

import polars as pl

from hc_orchestration.errors import EvaluationError
from hc_orchestration.reporting.comparison import staleness
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
