"""Tables for people at a terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from hc_orchestration.reporting.intervals import interval

_LONGEST_WHOLE = 40
_UNDEFINED = "\N{EN DASH}"


def print_table(
    console: Console, rows: Sequence[Mapping[str, object]], title: str | None = None
) -> None:
    """Print rows; numbers to the right, undefined values as a dash."""
    if not rows:
        console.print("(nothing)")
        return
    shown = None if title is None else escape(title)
    table = Table(title=shown, box=SIMPLE_HEAD, title_justify="left")
    for name, value in rows[0].items():
        right = isinstance(value, int | float) and not isinstance(value, bool)
        long = any(len(cell(row[name])) > _LONGEST_WHOLE for row in rows)
        side: Literal["left", "right"] = "right" if right else "left"
        width = None if long else max(len(cell(row[name])) for row in rows)
        table.add_column(name, justify=side, overflow="fold", min_width=width)
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row.values()))  # no markup to look for
    console.print(table)


def cell(value: object) -> str:
    """A value as people read it."""
    if value is None:
        return _UNDEFINED
    if isinstance(value, float):
        return f"{value:.3f}" if abs(value) <= 1 else f"{value:,.0f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return str(value)


def leaderboard(models: Iterable[Mapping[str, object]]) -> list[dict[str, object]]:
    """Headline rows of a comparison: scores with the support that they rest on."""
    rows = []
    for model in models:
        values = model["metrics"]
        assert isinstance(values, Mapping)  # noqa: S101 - the shape of the report
        rows.append(
            {
                "#": model["rank"],
                "model": model["key"],
                "strict F1": values.get("strict.f1"),
                "95 % interval": interval(
                    values.get("strict.f1.ci_low"), values.get("strict.f1.ci_high")
                ),
                "P": values.get("strict.precision"),
                "R": values.get("strict.recall"),
                "exact F1": values.get("exact.f1"),
                "gold": model["support"],
                "notes/s": model["notes_per_second"],
            }
        )
    return rows
