"""What the checks of an evaluation look at: the pinned notes, entities, scores and Provenance."""

import json
from typing import TYPE_CHECKING

import polars as pl

from hc_orchestration.errors import EvaluationError, HcError
from hc_orchestration.healthcare.provenance import check_provenance

if TYPE_CHECKING:
    from hc_orchestration.resources.evaluation import EvaluationStep


def notes_and_entities(step: "EvaluationStep") -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The notes of the pinned corpus version, and the model's rows for them."""
    inputs = step.inputs()
    tables = step.workspace
    notes = tables.corpus.notes(inputs.corpus_version)
    entities = tables.entities.of_corpus(
        step.key, inputs.model_fingerprint, inputs.corpus_version, None
    )
    return notes, entities


def stored_scores(step: "EvaluationStep") -> pl.DataFrame:
    """The scores of the evaluation as they are stored."""
    metrics = step.record.metrics
    if metrics is None:
        message = f"model {step.key} has no scores in this evaluation."
        raise EvaluationError(message)
    return step.workspace.metrics.scores(step.key, metrics.evaluation_digest)


def stored_provenance_problem(step: "EvaluationStep") -> str | None:
    """What is wrong with the stored Provenance, or None."""
    part = step.record.provenance
    if part is None:
        return "the evaluation has no Provenance"
    try:
        check_provenance(json.loads(step.workspace.files.get(part.file)))
    except HcError as error:
        return str(error)
    return None
