"""Scoring one model on one corpus version: from gold and extracted spans to a table of scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from hc_orchestration.errors import EvaluationError
from hc_orchestration.scoring.bootstrap import Intervals, Resampling, score_intervals
from hc_orchestration.scoring.counts import (
    ANY_LABEL,
    MODES,
    SpanIndex,
    applicable_modes,
    note_counts,
)
from hc_orchestration.scoring.errors import ErrorAnalysis, analyse_errors
from hc_orchestration.scoring.identity import ScoringPlan
from hc_orchestration.scoring.schema import SCORE_SCHEMA
from hc_orchestration.scoring.scores import (
    PER_LABEL,
    WHOLE_CORPUS,
    Counts,
    Layout,
    named_values,
    stacked,
    support,
)
from hc_orchestration.scoring.slices import Slice, cut, grouped_notes


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The scores of one model on one corpus version.

    Attributes:
        scores: One row per (mode, average, label, slice, statistic): value (null when undefined)
            with its counts, its interval (null where there is none), the clusters that it rests
            on, the share of resamples in which it is undefined, and the seed. A withheld slice
            has its rows, without a number.
        counts: See `note_counts`.
        values: The defined scores by name.
        support: Gold mentions.
        annotated: Notes that were scored.
        predicted_unmapped: Predicted spans left out for their label.
        not_applicable: Modes that say nothing about this model.
        withheld: Slices that were withheld.
        errors: What went wrong, without text.
    """

    scores: pl.DataFrame
    counts: pl.DataFrame
    values: dict[str, float]
    support: int
    annotated: int
    predicted_unmapped: int
    not_applicable: tuple[str, ...]
    withheld: int
    errors: ErrorAnalysis


def evaluate(
    notes: pl.LazyFrame,
    entities: pl.LazyFrame,
    plan: ScoringPlan,
    mapping: Mapping[str, str],
    resampling: Resampling,
) -> Evaluation:
    """Score extracted entities against gold.

    Args:
        notes: note_id, text, text_sha256, source, attributes, and gold (list of start, end, label;
            null for a note nobody annotated).
        entities: note_id and spans (list of start, end, label) for every note of `notes`.
        plan: Labels, slices, sampling unit and smallest cell of the study.
        mapping: Model label → study label or `"*"`, which makes the model one without types.
        resampling: Seed and number of the bootstrap's resamples.

    Raises:
        EvaluationError: A note has no row or several, or no note is annotated: there is no score
            then, rather than a score of 0. Or a slice attribute has too many values.
    """
    _require_one_row_each(notes, entities)
    untyped = ANY_LABEL in mapping.values()
    groups = grouped_notes(notes, plan.slices, plan.cluster)
    if groups.is_empty():
        message = "no note of the corpus is annotated, so there is nothing to score against."
        raise EvaluationError(message)
    scored = notes.select("note_id", "gold").join(entities.select("note_id", "spans"), on="note_id")
    # The rows of `groups` are the notes' indices, so their order must survive the join.
    spans = groups.select("note_id").join(
        scored.collect(), on="note_id", how="left", maintain_order="left"
    )
    index = SpanIndex(spans, plan.labels, mapping)
    counts = note_counts(index, untyped=untyped)
    modes = applicable_modes(untyped=untyped)
    layout = Layout(modes, plan.labels)
    slices = list(cut(groups, plan.slices, plan.smallest_cell))
    table = _score_table(layout, counts, groups, slices, resampling)
    return Evaluation(
        scores=table,
        counts=counts.select(
            index.notes.gather(counts["note"]).alias("note_id"), pl.exclude("note")
        ),
        values=named_values(table),
        support=support(table),
        annotated=groups.height,
        predicted_unmapped=index.unmapped,
        not_applicable=tuple(mode for mode in MODES if mode not in modes),
        withheld=sum(part.rows is None for part in slices),
        errors=analyse_errors(index, untyped=untyped),
    )


def _require_one_row_each(notes: pl.LazyFrame, entities: pl.LazyFrame) -> None:
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


def _score_table(
    layout: Layout,
    counts: pl.DataFrame,
    groups: pl.DataFrame,
    slices: list[Slice],
    resampling: Resampling,
) -> pl.DataFrame:
    cluster = groups["cluster"].to_numpy()
    clusters = int(cluster.max()) + 1
    every = layout.by_unit(counts, "note")
    shown = [(WHOLE_CORPUS, np.arange(groups.height))]
    shown += [(part.name, part.rows) for part in slices if part.rows is not None]
    parts = []
    for _, rows in shown:
        members, place = np.unique(cluster[rows], return_inverse=True)
        cluster_of_note = np.full(groups.height, -1)
        cluster_of_note[rows] = place
        parts.append((members, every.added(cluster_of_note, len(members))))
    intervals = score_intervals(layout, parts, clusters, resampling)
    names, rows_of = zip(*shown, strict=True)
    totals = stacked([part.total() for _, part in parts])
    tables = [_rows(layout, names, [len(rows) for rows in rows_of], totals, intervals)]
    withheld = [part.name for part in slices if part.rows is None]
    if withheld:
        tables.append(complete_scores(pl.DataFrame({**_keys(layout, withheld), "withheld": True})))
    drawn = pl.when("withheld").then(None)
    return pl.concat(tables).with_columns(
        resamples=drawn.otherwise(pl.lit(resampling.resamples, pl.Int64)),
        seed=drawn.otherwise(pl.lit(resampling.seed, pl.Int64)),
    )


def _rows(
    layout: Layout,
    names: Sequence[str],
    notes: Sequence[int],
    totals: Counts,
    intervals: Sequence[Intervals],
) -> pl.DataFrame:
    """The rows of slices: their names, numbers of notes, counts (slices, units), and intervals."""
    unit = layout.rows_unit
    frame = pl.DataFrame(
        {
            **_keys(layout, names),
            "value": layout.values(totals).ravel(),
            "gold": totals.gold[:, unit].ravel(),
            "predicted": totals.predicted[:, unit].ravel(),
            "credit": totals.credit[:, unit].ravel(),
            "ci_low": np.concatenate([part.low for part in intervals]),
            "ci_high": np.concatenate([part.high for part in intervals]),
            "notes": np.repeat(notes, len(unit)),
            "clusters": np.concatenate([part.clusters for part in intervals]),
            "undefined": np.concatenate([part.undefined for part in intervals]),
            "withheld": False,
        }
    ).fill_nan(None)
    # A label's row of a mode that ignores labels has gold of its own, and no predictions.
    of_gold = (pl.col("average") == PER_LABEL) & pl.col("mode").is_in(layout.label_blind)
    return complete_scores(frame.with_columns(predicted=pl.when(~of_gold).then("predicted")))


def _keys(layout: Layout, names: Sequence[str]) -> dict[str, list[str]]:
    rows = layout.rows
    return {
        "mode": [row.mode for row in rows] * len(names),
        "average": [row.average for row in rows] * len(names),
        "label": [row.label for row in rows] * len(names),
        "slice": [name for name in names for _ in rows],
        "statistic": [row.statistic for row in rows] * len(names),
    }


def complete_scores(frame: pl.DataFrame) -> pl.DataFrame:
    """The columns of `SCORE_SCHEMA`, those that `frame` lacks as null."""
    missing = [pl.lit(None).alias(name) for name in SCORE_SCHEMA if name not in frame.columns]
    return frame.with_columns(missing).select(
        pl.col(name).cast(kind) for name, kind in SCORE_SCHEMA.items()
    )
