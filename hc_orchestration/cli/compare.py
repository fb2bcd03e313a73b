"""`hc compare`: two models, difference by difference."""

from dataclasses import asdict
from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import TableFormat, console, open_workspace, print_records


def compare(
    first: Annotated[str, typer.Argument(help="A key of the catalogue.")],
    second: Annotated[str, typer.Argument(help="The model to hold it against.")],
    form: Annotated[
        TableFormat, typer.Option("--format", help="How to print.")
    ] = TableFormat.TABLE,
    as_json: Json = False,
) -> None:
    """First minus second on the stored corpus: paired differences, 95 % intervals, p-values."""
    from hc_orchestration.reporting.differences import differences_of
    from hc_orchestration.reporting.metadata import difference_row

    found = differences_of(open_workspace(), first, second)
    chosen = TableFormat.JSON if as_json else form
    if chosen is not TableFormat.TABLE:
        print_records([asdict(difference) for difference in found], chosen)
        return
    from hc_orchestration.reporting.console import print_table

    hidden = ("first", "second", "p (Holm)")  # of one pair, Holm changes nothing
    rows = [
        {name: value for name, value in difference_row(difference).items() if name not in hidden}
        for difference in found
    ]
    print_table(console(), rows, title=f"{first} minus {second}")
