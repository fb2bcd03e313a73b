"""What must be true of stored rows, counted in the tables."""

import polars as pl


def repeated_ids(notes: pl.LazyFrame) -> int:
    """How many note ids stand in more than one row."""
    groups = notes.select("note_id").group_by("note_id").len()
    return int(groups.filter(pl.col("len") > 1).select(pl.len()).collect().item())


def misplaced_spans(notes: pl.LazyFrame, column: str) -> int:
    """How many spans of `column` are empty, reversed or outside the text (columns: text, spans)."""
    lengths = pl.col("text").str.len_chars().cast(pl.Int64).alias("length")
    spans = (
        notes.select(lengths, column)
        .filter(pl.col(column).list.len() > 0)
        .explode(column)
        .unnest(column)
    )
    inside = (pl.col("start") >= 0) & (pl.col("start") < pl.col("end"))
    wrong = spans.filter(~(inside & (pl.col("end") <= pl.col("length"))))
    return int(wrong.select(pl.len()).collect().item())


def row_counts(notes: pl.LazyFrame, entities: pl.LazyFrame) -> tuple[int, int]:
    """How many notes have no row of entities, and how many have several."""
    rows = entities.group_by("note_id").agg(pl.len().alias("rows"))
    counted = notes.select("note_id").join(rows, on="note_id", how="left")
    number = pl.col("rows").fill_null(0)
    missing, several = (
        counted.select((number == 0).sum(), (number > 1).sum().alias("n")).collect().row(0)
    )
    return int(missing), int(several)


def out_of_bounds(scores: pl.DataFrame) -> list[str]:
    """Scores that cannot be: outside 0..1, or credit above its denominators."""
    value, credit = pl.col("value"), pl.col("credit")
    wrong = scores.filter(
        (value < 0)
        | (value > 1)
        | value.is_nan()
        | (credit > pl.min_horizontal("gold", "predicted"))
        | (pl.min_horizontal("gold", "predicted") < 0)
    )
    names = wrong.select(pl.format("{}.{} {}", "mode", "statistic", "label"))
    return list(names.to_series())
