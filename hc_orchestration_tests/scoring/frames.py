"""Gold and predictions, written as plain Python, in the frames that scoring takes."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any

import polars as pl

from hc_orchestration.scoring.bootstrap import Resampling
from hc_orchestration.scoring.evaluation import Evaluation, evaluate
from hc_orchestration.scoring.identity import ScoringPlan

Mention = tuple[int, int, str]
Mentions = Sequence[Mention]
LABELS = ("DISEASE", "CHEMICAL")
PLAN = ScoringPlan(LABELS, smallest_cell=1)

_SPANS = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "label": pl.String}))
_ATTRIBUTES = pl.List(pl.Struct({"name": pl.String, "value": pl.String}))
_KEYS = ("start", "end", "label")


def rows(column: str, mentions: Iterable[tuple[str, Mentions | None]]) -> pl.LazyFrame:
    """One row a note; None for a note that nobody annotated."""
    table = [
        (
            note_id,
            None if found is None else [dict(zip(_KEYS, span, strict=True)) for span in found],
        )
        for note_id, found in mentions
    ]
    return pl.LazyFrame(table, schema={"note_id": pl.String, column: _SPANS}, orient="row")


def notes(
    gold: Mapping[str, Mentions | None],
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    texts: Mapping[str, str] | None = None,
) -> pl.LazyFrame:
    """The notes table: every note has a text of its own unless `texts` says otherwise."""
    about = attributes or {}
    words = {note_id: (texts or {}).get(note_id, f"text of {note_id}") for note_id in gold}
    columns = {
        "text": [words[note_id] for note_id in gold],
        "text_sha256": [sha256(words[note_id].encode()).hexdigest() for note_id in gold],
        "source": [about.get(note_id, {}).get("source", "notes") for note_id in gold],
        "attributes": pl.Series(
            [
                [{"name": name, "value": value} for name, value in about.get(n, {}).items()]
                for n in gold
            ],
            dtype=_ATTRIBUTES,
        ),
    }
    return rows("gold", gold.items()).with_columns(
        **{name: pl.Series(values) for name, values in columns.items()}
    )


def evaluated(
    gold: Mapping[str, Mentions | None],
    predicted: Mapping[str, Mentions],
    mapping: Mapping[str, str] | None = None,
    *,
    plan: ScoringPlan = PLAN,
    resamples: int = 20,
    **about: Any,
) -> Evaluation:
    """Score `predicted`; a note without an entry has no mentions; default: labels as they are."""
    found = [(note_id, predicted.get(note_id, ())) for note_id in gold]
    return evaluate(
        notes(gold, **about),
        rows("spans", found),
        plan,
        {label: label for label in LABELS} if mapping is None else mapping,
        Resampling(1, resamples),
    )


def totals(result: Evaluation, mode: str) -> dict[str, tuple[int, int, int]]:
    """Label → gold, predicted and same-boundary pairs, added over the notes.

    Of a mode that ignores labels, the row of all of them.
    """
    counts = result.counts.filter(pl.col("mode") == mode, pl.col("predicted").is_not_null())
    table = counts.group_by("label").agg(pl.col("gold", "predicted", "same").sum())
    return {label: (gold, predicted, same) for label, gold, predicted, same in table.iter_rows()}


def statistics(
    result: Evaluation, mode: str, label: str = "", average: str = "micro", part: str = "all"
) -> dict[str, float | None]:
    """Statistic → value of a mode: of a label, or an average over all of them."""
    which = "label" if label else average
    rows_ = result.scores.filter(mode=mode, label=label, average=which, slice=part)
    return dict(rows_.select("statistic", "value").iter_rows())
