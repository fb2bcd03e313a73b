"""Small plots for Dagster's pages: SVG in a Markdown image, nothing to load from elsewhere."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_LABELS_SHOWN = 20
_LEFT, _WIDTH = 200, 340
"""Where 0 of the axis is and how far away 1 is, in pixels."""


def label_plot(scores: "pl.DataFrame") -> str:
    """F1 (recall in modes that ignore labels) of each label with its interval, as Markdown.

    Args:
        scores: Rows of the whole corpus, see `Evaluation`.
    """
    import base64

    from hc_orchestration.reporting.templating import environment

    mode, statistic = (
        ("strict", "f1") if (scores["mode"] == "strict").any() else ("exact", "recall")
    )
    rows = scores.filter(
        (scores["mode"] == mode)
        & (scores["average"] == "label")
        & (scores["statistic"] == statistic)
        & scores["value"].is_not_null()
    ).sort("gold", descending=True)
    if rows.is_empty():
        return "(no label has a score)"
    plot = environment().get_template("labels.svg.j2")
    image = plot.render(
        rows=rows.head(_LABELS_SHOWN).to_dicts(),
        what=f"{mode} {statistic}, 95 % interval",
        ticks=[0.0, 0.2, 0.4, 0.6, 0.8, 1.0],
        at=_place,
    )
    return f"![labels](data:image/svg+xml;base64,{base64.b64encode(image.encode()).decode()})"


def _place(value: float) -> float:
    return round(_LEFT + _WIDTH * value, 1)
