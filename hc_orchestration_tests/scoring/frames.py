"""Gold and predictions, written as plain Python, in the frames that scoring takes."""

from collections.abc import Iterable, Mapping, Sequence

import polars as pl

from hc_orchestration.scoring.evaluation import Evaluation, evaluate

Mention = tuple[int, int, str]
Mentions = Sequence[Mention]
LABELS = ("DISEASE", "CHEMICAL")

_SPANS = pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64, "label": pl.String}))


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


_KEYS = ("start", "end", "label")


def evaluated(
    gold: Mapping[str, Mentions | None],
    predicted: Mapping[str, Mentions],
    mapping: Mapping[str, str] | None = None,
    *,
    untyped: bool = False,
) -> Evaluation:
    """Score `predicted`; a note without an entry has no mentions; default: labels as they are."""
    found = [(note_id, predicted.get(note_id, ())) for note_id in gold]
    return evaluate(
        rows("gold", gold.items()),
        rows("spans", found),
        LABELS,
        {label: label for label in LABELS} if mapping is None else mapping,
        untyped=untyped,
    )


def totals(result: Evaluation, mode: str) -> dict[str, tuple[int, int, int]]:
    """Label → gold, predicted and same-boundary pairs, added over the notes."""
    counts = result.counts.filter(pl.col("mode") == mode)
    table = counts.group_by("label").agg(pl.col("gold", "predicted", "same").sum())
    return {label: (gold, predicted, same) for label, gold, predicted, same in table.iter_rows()}


def statistics(result: Evaluation, mode: str, label: str = "") -> dict[str, float | None]:
    """Statistic → value of a mode: of a label, or the micro average."""
    rows_ = result.scores.filter((pl.col("mode") == mode) & (pl.col("label") == label))
    return dict(rows_.select("statistic", "value").iter_rows())
