"""Columns of the tables behind the assets, as Dagster shows them; the tables themselves decide.

They are said again here because the tables' own schemas load polars, and a code location must not.
"""

from collections.abc import Mapping

import dagster as dg

_SPANS = "list<struct<start: int, end: int, label: string, score: float, concept: string>>"
_GOLD = "list<struct<start: int, end: int, label: string>>"
_ATTRIBUTES = "list<struct<name: string, value: string>>"

NOTES = {
    "note_id": ("string", "Unique in the corpus; a pseudonym where the study asks for that"),
    "text": ("string", "The note as it was read; it stands in this table only"),
    "text_sha256": ("string", "sha256 of the text"),
    "source": ("string", "Name of the corpus in the study"),
    "attributes": (_ATTRIBUTES, "What slices and clusters refer to"),
    "gold": (_GOLD, "Gold mentions under the study's labels; null when nobody annotated"),
    "gold_unmapped": ("int", "Gold mentions whose label the study does not map"),
    "digest": ("string", "sha256 over id, text, source, attributes and gold"),
}
MODEL_FILES = {
    "model_fingerprint": ("string", "Of all files, settings and the loader"),
    "path": ("string", "Relative to the model's folder"),
    "size": ("int", "Bytes"),
    "sha256": ("string", "Of the file"),
}
ENTITIES = {
    "note_id": ("string", "The note"),
    "text_sha256": ("string", "The text that was given to the model"),
    "model_fingerprint": ("string", "The files that found them"),
    "spans": (_SPANS, "Mentions as offsets in code points; never their words"),
}
METRICS = {
    "evaluation_digest": ("string", "Corpus, model and scoring rules: equal digests, equal scores"),
    "mode": ("string", "strict, exact, partial or type"),
    "average": ("string", "micro, macro or label"),
    "label": ("string", "Label of the study; empty in averages"),
    "slice": ("string", "all, or attribute.value"),
    "statistic": ("string", "precision, recall or f1"),
    "value": ("float", "Null where undefined or withheld, never 0 for it"),
    "ci_low": ("float", "Lower end of the 95 % interval"),
    "ci_high": ("float", "Upper end of the 95 % interval"),
    "gold": ("int", "Gold mentions: the support"),
    "predicted": ("int", "Predicted mentions"),
    "credit": ("float", "Worth of the pairs"),
}
COMPARISON = {
    "rank": ("int", "1 is best; null for a model that is missing"),
    "model_key": ("string", "The model"),
    "evaluation_digest": ("string", "What was compared"),
    "strict_f1": ("float", "Null for a model without types"),
    "exact_f1": ("float", "The fair score for models without types"),
    "support": ("int", "Gold mentions"),
    "notes_per_second": ("float", "Of the extraction; null when nothing ran"),
    "missing_reason": ("string", "Why it is not ranked: not installed, failed, stale"),
}


def table_metadata(
    name: str, columns: Mapping[str, tuple[str, str]]
) -> dict[str, dg.TableSchema | str]:
    """Metadata of an asset's definition: name of the table and its columns with descriptions."""
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(column, kind, description=says)
            for column, (kind, says) in columns.items()
        ]
    )
    return {"dagster/table_name": name, "dagster/column_schema": schema}
