"""The plot of the labels: an SVG that a browser may show whatever the labels are called."""

import base64
from xml.etree import ElementTree as ET

import polars as pl

from hc_orchestration.reporting.plots import label_plot

SVG = "{http://www.w3.org/2000/svg}"
BEGINS, ENDS = "![labels](data:image/svg+xml;base64,", ")"


def scores(*rows: tuple[str, str, float | None, float | None, float | None, int]) -> pl.DataFrame:
    """Rows of mode, label, value, ends of the interval, gold."""
    return pl.DataFrame(
        [
            {
                "mode": mode,
                "average": "label",
                "label": label,
                "statistic": "f1" if mode == "strict" else "recall",
                "value": value,
                "ci_low": low,
                "ci_high": high,
                "gold": gold,
            }
            for mode, label, value, low, high, gold in rows
        ],
        schema_overrides={"ci_low": pl.Float64, "ci_high": pl.Float64, "value": pl.Float64},
    )


def drawn(markdown: str) -> ET.Element:
    assert markdown.startswith(BEGINS)
    assert markdown.endswith(ENDS)
    image = base64.b64decode(markdown.removeprefix(BEGINS).removesuffix(ENDS))
    return ET.fromstring(image)  # noqa: S314 - ours


def dots(plot: ET.Element) -> list[tuple[str, float]]:
    """What is said of each dot, and where it is on the axis."""
    found = []
    for dot in plot.iter(f"{SVG}circle"):
        title = dot.find(f"{SVG}title")
        assert title is not None
        found.append((title.text or "", (float(dot.attrib["cx"]) - 200) / 340))
    return found


def test_each_label_has_a_dot_at_its_f1_and_a_line_over_its_interval() -> None:
    plot = drawn(
        label_plot(
            scores(
                ("strict", "DISEASE", 0.5, 0.25, 0.75, 3),
                ("strict", "DRUG", 0.9, None, None, 7),
                ("strict", "AGE", None, None, None, 0),
            )
        )
    )

    assert dots(plot) == [("DRUG: 0.900", 0.9), ("DISEASE: 0.500, 0.250 to 0.750", 0.5)]
    (interval,) = (line for line in plot.iter(f"{SVG}line") if "stroke-width" in line.attrib)
    assert [float(interval.attrib[end]) for end in ("x1", "x2")] == [285.0, 455.0]
    assert "strict f1, 95 % interval" in [text.text for text in plot.iter(f"{SVG}text")]


def test_a_model_without_labels_shows_recall() -> None:
    plot = drawn(label_plot(scores(("exact", "DRUG", 0.25, 0.1, 0.4, 7))))

    assert dots(plot) == [("DRUG: 0.250, 0.100 to 0.400", 0.25)]


def test_a_label_is_text_and_a_long_one_is_cut_where_it_stands_beside_the_axis() -> None:
    hostile = '<script>alert("x")</script>&amp;' + "x" * 40
    plot = drawn(label_plot(scores(("strict", hostile, 0.5, None, None, 1))))

    assert not list(plot.iter(f"{SVG}script"))
    assert dots(plot) == [(f"{hostile}: 0.500", 0.5)]
    assert hostile[:25] + "…" in [text.text for text in plot.iter(f"{SVG}text")]


def test_no_label_with_a_score_is_said_in_words() -> None:
    assert label_plot(scores(("strict", "AGE", None, None, None, 0))) == "(no label has a score)"
