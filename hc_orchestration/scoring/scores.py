"""Precision, recall and F1 from counts; undefined stays null."""

from collections.abc import Sequence

import polars as pl

from hc_orchestration.scoring.counts import ALL_LABELS, EXACT, STRICT

MICRO = "micro"
PER_LABEL = "label"
WHOLE_CORPUS = "all"
STATISTICS = ("f1", "precision", "recall")


def scores(counts: pl.DataFrame, labels: Sequence[str], *, untyped: bool) -> pl.DataFrame:
    """One row per (mode, average, label, slice, statistic).

    precision = credit / predicted (defined iff predicted > 0), recall = credit / gold (iff
    gold > 0), F1 = 2 · credit / (gold + predicted) (iff gold + predicted > 0); credit =
    same-boundary pairs in strict and exact. Micro averages add the counts of all notes (and labels)
    before dividing.

    Args:
        counts: Note-level counts, see `note_counts`.
        labels: The study's labels; each has its rows in strict even when nothing was counted.
        untyped: strict does not apply and has no rows.

    Returns:
        mode, average (`micro` or `label`), label (empty for micro), slice (`all`), statistic, value
        (null when undefined), and the counts gold, predicted and credit that it came from.
    """
    sums = [pl.col("gold").sum(), pl.col("predicted").sum(), pl.col("same").sum()]
    modes = [EXACT] if untyped else [STRICT, EXACT]
    micro = pl.DataFrame({"mode": modes}).join(
        counts.group_by("mode").agg(sums), on="mode", how="left"
    )
    tables = [_rates(micro, MICRO)]
    if not untyped:
        strict = counts.filter(pl.col("mode") == STRICT).group_by("label").agg(sums)
        named = pl.DataFrame({"label": list(labels)}, schema={"label": pl.String})
        by_label = named.join(strict, on="label", how="left").with_columns(mode=pl.lit(STRICT))
        tables.append(_rates(by_label, PER_LABEL))
    return pl.concat(tables)


def _rates(counts: pl.DataFrame, average: str) -> pl.DataFrame:
    if "label" not in counts.columns:
        counts = counts.with_columns(label=pl.lit(ALL_LABELS))
    filled = counts.with_columns(
        pl.col("gold", "predicted").fill_null(0).cast(pl.Int64),
        pl.col("same").fill_null(0).cast(pl.Float64).alias("credit"),
        average=pl.lit(average),
        slice=pl.lit(WHOLE_CORPUS),
    )
    rates = filled.with_columns(
        precision=_ratio(pl.col("credit"), pl.col("predicted")),
        recall=_ratio(pl.col("credit"), pl.col("gold")),
        f1=_ratio(2 * pl.col("credit"), pl.col("gold") + pl.col("predicted")),
    )
    index = ["mode", "average", "label", "slice", "gold", "predicted", "credit"]
    long = rates.unpivot(
        on=list(STATISTICS), index=index, variable_name="statistic", value_name="value"
    )
    return long.select(
        "mode", "average", "label", "slice", "statistic", "value", "gold", "predicted", "credit"
    )


def _ratio(numerator: pl.Expr, denominator: pl.Expr) -> pl.Expr:
    return pl.when(denominator > 0).then(numerator / denominator)


def named_values(table: pl.DataFrame) -> dict[str, float]:
    """Defined scores under the names of the README: `strict.f1`, `strict.f1.label.DISEASE`."""
    defined = table.filter(pl.col("value").is_not_null())
    name = pl.format("{}.{}", "mode", "statistic")
    suffix = pl.when(pl.col("average") == PER_LABEL).then(pl.format(".label.{}", "label"))
    named = defined.select(name=name + suffix.otherwise(pl.lit("")), value="value")
    return dict(named.iter_rows())


def support(table: pl.DataFrame) -> int:
    """Gold mentions in all labels."""
    micro = table.filter((pl.col("average") == MICRO) & (pl.col("mode") == EXACT))
    return int(micro["gold"].max() or 0)  # type: ignore[arg-type]
