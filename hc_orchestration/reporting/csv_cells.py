"""CSV that a spreadsheet does not compute."""

import polars as pl

_FORMULA = r"^([=+\-@\t\r])"


def inert(frame: pl.DataFrame) -> pl.DataFrame:
    """The frame with an apostrophe before each text that a spreadsheet would take for a formula.

    Slice values and labels come from the notes' files, where a cell may read `=cmd|…`
    (OWASP, CSV Injection).
    """
    return frame.with_columns(pl.col(pl.String).str.replace(_FORMULA, "'$1"))
