"""A digest of rows that does not depend on their order or on the files that they lie in."""

import hashlib

import polars as pl


def rows_digest(rows: pl.DataFrame) -> str:
    """sha256 (hex) over the rows as sorted JSON lines, columns in the order of their names.

    Columns without any value are left out, so that a column which a later version of this package
    adds to a table changes no digest of older rows.
    """
    filled = [name for name in rows.columns if rows[name].null_count() < rows.height]
    named = rows.select(sorted(filled))
    lines = sorted(named.write_ndjson().encode("utf-8").splitlines())
    return hashlib.sha256(b"\n".join(lines)).hexdigest()
