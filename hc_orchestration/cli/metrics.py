"""`hc metrics`: the stored scores."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import console, open_workspace, print_json
from hc_orchestration.errors import EvaluationError

_STALE = "stale: not of the corpus, the label mapping and the model files as they are now"


class TableFormat(StrEnum):
    """How `hc metrics` prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def metrics(
    model: Annotated[
        str | None, typer.Option("--model", help="Only this model; default: all of them.")
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="How to print.")
    ] = TableFormat.TABLE,
    as_json: Json = False,
) -> None:
    """The stored scores of each model's last finished evaluation, and whether they are stale."""
    from hc_orchestration.reporting.scores import last_scores

    workspace = open_workspace()
    keys = [workspace.catalogue.entry(model).key] if model else list(workspace.catalogue.keys)
    table = last_scores(workspace, keys)
    chosen = TableFormat.JSON if as_json else form
    if chosen is TableFormat.CSV:
        sys.stdout.write(table.write_csv())
    elif chosen is TableFormat.MARKDOWN:
        from hc_orchestration.reporting.metadata import markdown_table

        sys.stdout.write(markdown_table(table.to_dicts(), limit=table.height) + "\n")
    elif chosen is TableFormat.JSON:
        print_json(table.to_dicts())
    else:
        from hc_orchestration.reporting.console import print_table
        from hc_orchestration.reporting.metadata import score_rows

        for key in table["model"].unique(maintain_order=True):
            rows = score_rows(table.filter(table["model"] == key))
            stale = table.filter(table["model"] == key)["stale"].any()
            print_table(console(), rows, title=f"{key}\n{_STALE}" if stale else key)
    if table.is_empty():
        which = f"model {model}" if model else "no model"
        verb = "has no" if model else "has a"
        message = f"{which} {verb} finished evaluation. Run: hc evaluate"
        raise EvaluationError(message)
