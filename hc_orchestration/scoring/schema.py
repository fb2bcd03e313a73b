"""The columns of a table of scores; who reads one needs none of what computes it."""

import polars as pl

SCORE_SCHEMA: dict[str, pl.DataType | type[pl.DataType]] = {
    "mode": pl.String,
    "average": pl.String,
    "label": pl.String,
    "slice": pl.String,
    "statistic": pl.String,
    "value": pl.Float64,
    "gold": pl.Int64,
    "predicted": pl.Int64,
    "credit": pl.Float64,
    "ci_low": pl.Float64,
    "ci_high": pl.Float64,
    "notes": pl.Int64,
    "clusters": pl.Int64,
    "resamples": pl.Int64,
    "undefined": pl.Float64,
    "seed": pl.Int64,
    "withheld": pl.Boolean,
}
"""See `Evaluation.scores`."""
