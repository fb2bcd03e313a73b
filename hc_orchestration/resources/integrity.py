"""What the checks of an evaluation look at: the pinned notes, entities, scores and Provenance."""

import json
from typing import TYPE_CHECKING

import polars as pl

from hc_orchestration.errors import EvaluationError, HcError
from hc_orchestration.healthcare.validity import check_record

if TYPE_CHECKING:
    from hc_orchestration.resources.evaluation import EvaluationStep
    from hc_orchestration.storage.records import ExtractionPart


def pinned_extraction(step: "EvaluationStep") -> "ExtractionPart":
    """The extraction that the pinned inputs belong to; it names the version of the entities.

    Raises:
        EvaluationError: It did not finish.
    """
    extraction = step.extraction_record().extraction
    if extraction is None:
        message = f"the extraction of {step.key} did not finish. Materialize extracted_entities."
        raise EvaluationError(message)
    return extraction


def notes_and_entities(step: "EvaluationStep") -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The notes of the pinned corpus version, and the model's rows for them that are scored."""
    inputs = step.inputs()
    tables = step.workspace
    notes = tables.corpus.notes(inputs.corpus_version)
    entities = tables.entities.of_corpus(
        step.key,
        inputs.model_fingerprint,
        inputs.corpus_version,
        pinned_extraction(step).entities_version,
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
        content = step.workspace.files.get(part.file)
        check_record(json.loads(content), content)
    except HcError as error:
        return str(error)
    return None


def chain_problems(step: "EvaluationStep") -> list[str]:
    """What is wrong with the model's chain, or with what the evaluation's record names."""
    from hc_orchestration.storage.verification import verify_newest

    part = step.record.provenance
    if part is None:
        return ["the evaluation has no Provenance"]
    found = verify_newest(step.workspace, step.key, part.file.sha256)
    return [f"{finding.subject}: {finding.says}" for finding in found.findings]
