"""Scoring one model on one corpus version: from gold and extracted spans to a table of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from hc_orchestration.errors import EvaluationError
from hc_orchestration.scoring.counts import STRICT, distinct_spans, mapped_spans, note_counts
from hc_orchestration.scoring.scores import named_values, scores, support


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one model on one corpus version.

    Attributes:
        scores: See `scores`.
        counts: See `note_counts`.
        values: The defined scores by name.
        support: Gold mentions.
        annotated: Notes that were scored.
        predicted_unmapped: Predicted spans left out for their label.
        not_applicable: Modes that say nothing about this model.
    """

    scores: pl.DataFrame
    counts: pl.DataFrame
    values: dict[str, float]
    support: int
    annotated: int
    predicted_unmapped: int
    not_applicable: tuple[str, ...]


def evaluate(
    notes: pl.LazyFrame,
    entities: pl.LazyFrame,
    labels: Sequence[str],
    mapping: Mapping[str, str],
    *,
    untyped: bool,
) -> Evaluation:
    """Score extracted entities against gold.

    Args:
        notes: note_id and gold (list of start, end, label; null for a note nobody annotated).
        entities: note_id and spans (list of start, end, label) for every note of `notes`.
        labels: The study's labels.
        mapping: Model label → study label or `"*"`.
        untyped: The model names no types.

    Raises:
        EvaluationError: A note has no row or several, or no note is annotated: there is no score
            then, rather than a score of 0.
    """
    rows = notes.select("note_id").join(
        entities.group_by("note_id").agg(pl.len().alias("rows")), on="note_id", how="left"
    )
    wrong = rows.filter(pl.col("rows").fill_null(0) != 1).collect()
    if wrong.height:
        message = (
            f"{wrong.height} notes do not have exactly one row of entities. "
            "Materialize extracted_entities of this model again."
        )
        raise EvaluationError(message)
    annotated = notes.filter(pl.col("gold").is_not_null()).select("note_id", "gold")
    count = int(annotated.select(pl.len()).collect().item())
    if count == 0:
        message = "no note of the corpus is annotated, so there is nothing to score against."
        raise EvaluationError(message)
    gold = distinct_spans(_exploded(annotated, "gold"))
    scored = entities.join(annotated.select("note_id"), on="note_id", how="semi")
    predicted, unmapped = mapped_spans(_exploded(scored, "spans"), dict(mapping))
    counts = note_counts(gold, predicted, untyped=untyped)
    table = scores(counts, labels, untyped=untyped)
    return Evaluation(
        scores=table,
        counts=counts,
        values=named_values(table),
        support=support(table),
        annotated=count,
        predicted_unmapped=unmapped,
        not_applicable=(STRICT,) if untyped else (),
    )


def _exploded(notes: pl.LazyFrame, column: str) -> pl.LazyFrame:
    """One row a span: note_id, start, end, label."""
    spans = notes.select("note_id", column).filter(pl.col(column).list.len() > 0).explode(column)
    fields = [pl.col(column).struct.field(name) for name in ("start", "end", "label")]
    return spans.select("note_id", *fields)
