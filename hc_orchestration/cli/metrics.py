"""`hc metrics`: the stored scores."""

from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import TableFormat, console, open_workspace, print_frame
from hc_orchestration.errors import EvaluationError

_STALE = "stale: not of the corpus, the label mapping and the model files as they are now"


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
    if chosen is not TableFormat.TABLE:
        print_frame(table, chosen)
    else:
        from hc_orchestration.reporting.console import print_table
        from hc_orchestration.reporting.metadata import score_rows, slice_rows

        for key in table["model"].unique(maintain_order=True):
            of_model = table.filter(table["model"] == key)
            title = f"{key}\n{_STALE}" if of_model["stale"].any() else key
            everywhere = of_model["slice"] == "all"
            print_table(console(), score_rows(of_model.filter(everywhere)), title=title)
            if not everywhere.all():
                print_table(console(), slice_rows(of_model.filter(~everywhere)))
    if table.is_empty():
        which = f"model {model}" if model else "no model"
        verb = "has no" if model else "has a"
        message = f"{which} {verb} finished evaluation. Run: hc evaluate"
        raise EvaluationError(message)
