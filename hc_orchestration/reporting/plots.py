"""Small plots for Dagster's pages: SVG in a Markdown image, nothing to load from elsewhere."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

_LABELS_SHOWN = 20


def label_plot(scores: "pl.DataFrame") -> str:
    """F1 (recall in modes that ignore labels) of each label with its interval, as Markdown.

    Args:
        scores: Rows of the whole corpus, see `Evaluation`.
    """
    import base64
    import io

    from matplotlib.figure import Figure  # its own canvas: no global state of pyplot

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
    shown = rows.head(_LABELS_SHOWN).reverse().to_dicts()
    figure = Figure(figsize=(5, 0.8 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    for place, row in enumerate(shown):
        if row["ci_low"] is not None:
            axes.plot([row["ci_low"], row["ci_high"]], [place, place], color="#1f5a8a", lw=2)
        axes.plot([row["value"]], [place], "o", color="#1f5a8a")
    names = [str(row["label"]).replace("$", r"\$") for row in shown]
    axes.set_yticks(range(len(shown)), names)
    axes.set(
        xlim=(0, 1), xlabel=f"{mode} {statistic}, 95 % interval", ylim=(-0.5, len(shown) - 0.5)
    )
    axes.grid(axis="x", alpha=0.3)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    image = base64.b64encode(buffer.getvalue()).decode("ascii")
    return f"![labels](data:image/svg+xml;base64,{image})"
