"""`hc tables`: upkeep of what is stored."""

from dataclasses import asdict
from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import open_workspace, print_rows

tables_app = typer.Typer(help="The stored tables.", no_args_is_help=True)


@tables_app.command("tidy")
def tidy_tables(
    days: Annotated[
        int, typer.Option(min=1, help="Keep also what was in use within so many days.")
    ] = 7,
    as_json: Json = False,
) -> None:
    """Compact small files and delete unused ones; what a record names stays readable for good."""
    from hc_orchestration.storage.upkeep import tidy

    rows = [asdict(tidied) for tidied in tidy(open_workspace(), days)]
    print_rows(rows, as_json=as_json)
