"""Tables for Dagster and for terminals: small, and never a lie about what is undefined."""

from io import StringIO

import polars as pl
import pytest
from rich.console import Console

from hc_orchestration.reporting.console import cell, leaderboard, print_table
from hc_orchestration.reporting.metadata import (
    extraction_metadata,
    markdown_table,
    metrics_metadata,
    score_rows,
)
from hc_orchestration.scoring.evaluation import complete_scores
from hc_orchestration.scoring.gates import GateOutcome, GateResult, Verdict
from hc_orchestration.storage.records import GatesPart
from hc_orchestration_tests.storage.parts import extraction_part, inputs_part, metrics_part

GATES = GatesPart(
    outcome=GateOutcome.PASSED,
    results=(
        GateResult("g", "exact.f1", Verdict.WARN, "Low end below.", 0.8, None, 0.6, 0.9, 0.7, 7),
    ),
)
DASH = "\N{EN DASH}"
SCORES = complete_scores(
    pl.DataFrame(
        [
            ("exact", "micro", "", "f1", 0.8, 7, 8, 6.0),
            ("exact", "micro", "", "precision", 0.75, 7, 8, 6.0),
            ("exact", "micro", "", "recall", 6 / 7, 7, 8, 6.0),
            ("strict", "label", "DRUG", "f1", None, 0, 0, 0.0),
            ("strict", "label", "DRUG", "precision", None, 0, 0, 0.0),
            ("strict", "label", "DRUG", "recall", None, 0, 0, 0.0),
            ("strict", "label", "DISEASE", "f1", 0.5, 3, 1, 1.0),
            ("strict", "label", "DISEASE", "precision", 1.0, 3, 1, 1.0),
            ("strict", "label", "DISEASE", "recall", 1 / 3, 3, 1, 1.0),
        ],
        schema=["mode", "average", "label", "statistic", "value", "gold", "predicted", "credit"],
        orient="row",
    ).with_columns(slice=pl.lit("all"), withheld=pl.lit(value=False))
)


def printed(rows: list[dict[str, object]], title: str | None = None, width: int = 100) -> str:
    console = Console(file=StringIO(), record=True, width=width, highlight=False)
    print_table(console, rows, title)
    return console.export_text()


def test_rows_become_a_markdown_table() -> None:
    table = markdown_table(
        [{"label": "A", "f1": 0.5, "gold": 3}, {"label": "B", "f1": None, "gold": 0}]
    )

    assert table.splitlines() == [
        "| label | f1 | gold |",
        "|---|---|---|",
        "| A | 0.5000 | 3 |",
        f"| B | {DASH} | 0 |",
    ]


def test_a_long_markdown_table_is_cut_and_says_by_how_much() -> None:
    rows = [{"number": number} for number in range(30)]

    table = markdown_table(rows)

    assert table.count("\n| ") == 25
    assert table.endswith("\n\n… and 5 more")
    assert "more" not in markdown_table(rows, limit=30)


def test_values_cannot_break_out_of_a_markdown_cell() -> None:
    table = markdown_table([{"label": "N|V\nline <script>"}])

    assert table.splitlines()[2:] == ["| N\\|V line &lt;script> |"]


def test_no_rows_are_said_to_be_none() -> None:
    assert markdown_table([]) == "(no rows)"
    assert "(nothing)" in printed([])


def test_scores_become_one_row_a_mode_and_label_with_their_counts() -> None:
    rows = score_rows(SCORES)

    assert [(row["mode"], row["label"]) for row in rows] == [
        ("strict", "DISEASE"),
        ("strict", "DRUG"),
        ("exact", "micro"),
    ]
    assert rows[0] == {
        "mode": "strict",
        "label": "DISEASE",
        "precision": 1.0,
        "recall": pytest.approx(1 / 3),
        "f1": 0.5,
        "95 % interval of f1": None,
        "gold": 3,
        "predicted": 1,
        "credit": "1",
    }


def test_an_undefined_score_stays_undefined() -> None:
    (drug,) = [row for row in score_rows(SCORES) if row["label"] == "DRUG"]

    assert (drug["precision"], drug["recall"], drug["f1"]) == (None, None, None)
    assert (drug["gold"], drug["credit"]) == (0, "0")


def test_dagster_is_shown_the_scores_by_name_and_as_a_table() -> None:
    shown = metrics_metadata(metrics_part(not_applicable=("strict",)), GATES, SCORES)

    assert shown["exact.f1"] == 0.8
    assert shown["gates"].value.splitlines()[2] == "| g | WARN | Low end below. |"
    assert shown["labels"].value.startswith("![labels](data:image/svg+xml;base64,")
    assert shown["not_applicable"] == "strict"
    assert (
        f"| strict | DRUG | {DASH} | {DASH} | {DASH} | {DASH} | 0 | 0 | 0 |"
        in shown["scores"].value
    )


def test_dagster_is_not_shown_a_speed_when_nothing_ran() -> None:
    reused = extraction_part(extracted=0, reused=6, notes_per_second=None)

    assert "notes_per_second" not in extraction_metadata(reused, inputs_part())
    assert extraction_metadata(extraction_part(), inputs_part())["entities_per_note"] == 1.5


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (None, DASH),
        (0.12345, "0.123"),
        (1.0, "1.000"),
        (1234.5, "1,234"),
        (1234567, "1,234,567"),
        (True, "True"),
        ("word", "word"),
    ],
)
def test_a_value_is_shown_as_people_read_it(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_a_printed_table_has_a_dash_for_what_is_undefined() -> None:
    lines = printed([{"model": "a", "f1": 0.5}, {"model": "b", "f1": None}], "Scores").splitlines()

    assert lines[0].strip() == "Scores"
    assert [line.split() for line in lines if line.strip()[:1] in {"a", "b"}] == [
        ["a", "0.500"],
        ["b", DASH],
    ]


def test_markup_in_a_value_is_printed_and_not_obeyed() -> None:
    assert "[red]N/V[/red] [link=x]" in printed([{"label": "[red]N/V[/red] [link=x]"}])


def test_a_value_is_never_cut_short() -> None:
    path = "/folder" * 30

    text = printed([{"field": "file", "value": path}], width=60)

    assert path in "".join(text.split())


def test_the_leaderboard_shows_scores_with_the_support_they_rest_on() -> None:
    ranked = {
        "rank": 1,
        "key": "terms-1",
        "metrics": {
            "strict.f1": 0.75,
            "strict.f1.ci_low": 0.7,
            "strict.f1.ci_high": 0.8,
            "strict.precision": 0.5,
            "exact.f1": 0.8,
        },
        "support": 7,
        "notes_per_second": 12.5,
    }
    untyped = {**ranked, "rank": 2, "key": "ruler-1", "metrics": {}, "notes_per_second": None}

    assert leaderboard([ranked, untyped]) == [
        {
            "#": 1,
            "model": "terms-1",
            "strict F1": 0.75,
            "95 % interval": "0.700 to 0.800",
            "P": 0.5,
            "R": None,
            "exact F1": 0.8,
            "gold": 7,
            "notes/s": 12.5,
        },
        {
            "#": 2,
            "model": "ruler-1",
            "strict F1": None,
            "95 % interval": None,
            "P": None,
            "R": None,
            "exact F1": None,
            "gold": 7,
            "notes/s": None,
        },
    ]
