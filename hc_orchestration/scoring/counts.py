"""Note-level counts of the match modes: joins and group-bys, no loop over spans.

Terms are those of SemEval-2013 Task 9.1: strict asks for the same boundary and the same label,
exact for the same boundary whatever the label. Pairing is one to one, for each mode by itself.
"""

import polars as pl

BOUNDARY = ("note_id", "start", "end")
STRICT = "strict"
EXACT = "exact"
MODES = (STRICT, EXACT)
ALL_LABELS = ""

COUNT_SCHEMA = {
    "note_id": pl.String,
    "mode": pl.String,
    "label": pl.String,
    "gold": pl.Int64,
    "predicted": pl.Int64,
    "same": pl.Int64,
    "overlapping": pl.Int64,
}


def distinct_spans(spans: pl.LazyFrame) -> pl.DataFrame:
    """The distinct (note_id, start, end, label): a span given twice counts once."""
    return spans.select(*BOUNDARY, "label").unique().collect()


def mapped_spans(spans: pl.LazyFrame, mapping: dict[str, str]) -> tuple[pl.DataFrame, int]:
    """Predicted spans in the study's labels.

    Args:
        spans: Spans in the model's labels.
        mapping: Model label → study label or `"*"`.

    Returns:
        The distinct mapped spans, and how many spans had a label that the mapping leaves out.
    """
    named = spans.collect()
    kept = named.filter(pl.col("label").is_in(list(mapping)))
    mapped = kept.with_columns(pl.col("label").replace_strict(mapping, return_dtype=pl.String))
    return distinct_spans(mapped.lazy()), named.height - kept.height


def note_counts(gold: pl.DataFrame, predicted: pl.DataFrame, *, untyped: bool) -> pl.DataFrame:
    """Counts of every note, mode and label in which anything was counted.

    Args:
        gold: Distinct gold spans of the scored notes.
        predicted: Distinct predicted spans of the same notes, in the study's labels.
        untyped: The model names no types, so that strict does not apply and has no rows.

    Returns:
        Columns of `COUNT_SCHEMA`. strict has a row per label; exact ignores labels and has one row
        a note, with the label `ALL_LABELS`. `same` counts same-boundary pairs; `overlapping` is 0
        in both modes, which give no credit for other pairs.
    """
    modes = [_exact_counts(gold, predicted)]
    if not untyped:
        modes.append(_strict_counts(gold, predicted))
    return pl.concat(modes).sort("mode", "note_id", "label")


def _strict_counts(gold: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
    """Distinct spans pair by equality, so the pairs are the rows of an inner join."""
    pairs = gold.join(predicted, on=[*BOUNDARY, "label"], how="inner")
    by = ("note_id", "label")
    return _joined(
        _count(gold, by, "gold"),
        _count(predicted, by, "predicted"),
        _count(pairs, by, "same"),
        STRICT,
    )


def _exact_counts(gold: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
    """At one boundary, as many pairs as the rarer side has spans (of whatever labels)."""
    boundaries = _count(gold, BOUNDARY, "gold").join(
        _count(predicted, BOUNDARY, "predicted"), on=BOUNDARY, how="inner"
    )
    pairs = boundaries.select("note_id", pl.min_horizontal("gold", "predicted").alias("same"))
    everything = pl.lit(ALL_LABELS).alias("label")
    by = ("note_id", "label")
    return _joined(
        _count(gold.with_columns(everything), by, "gold"),
        _count(predicted.with_columns(everything), by, "predicted"),
        pairs.with_columns(everything).group_by(by).agg(pl.col("same").sum().cast(pl.Int64)),
        EXACT,
    )


def _count(spans: pl.DataFrame, by: tuple[str, ...], name: str) -> pl.DataFrame:
    return spans.group_by(by).agg(pl.len().cast(pl.Int64).alias(name))


def _joined(
    gold: pl.DataFrame, predicted: pl.DataFrame, same: pl.DataFrame, mode: str
) -> pl.DataFrame:
    by = ["note_id", "label"]
    both = gold.join(predicted, on=by, how="full", coalesce=True).join(same, on=by, how="left")
    counts = both.with_columns(
        pl.col("gold", "predicted", "same").fill_null(0),
        pl.lit(mode).alias("mode"),
        pl.lit(0, pl.Int64).alias("overlapping"),
    )
    return counts.select(pl.col(name).cast(kind) for name, kind in COUNT_SCHEMA.items())
