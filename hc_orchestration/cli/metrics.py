"""`hc metrics`: the stored scores."""

import json
from typing import Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import (
    TableFormat,
    console,
    open_workspace,
    print_records,
)
from hc_orchestration.errors import EvaluationError
from hc_orchestration.settings import Settings
from hc_orchestration.storage.remembered import Remembered

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
    settings = Settings.from_environment()
    document = _scores(settings)
    if model is not None and model not in document["keys"]:
        open_workspace().catalogue.entry(model)  # which says what there is
    models = [of for of in document["models"] if model in (None, of["key"])]
    _print(models, TableFormat.JSON if as_json else form, document["columns"])
    if not models:
        which = f"model {model}" if model else "no model"
        verb = "has no" if model else "has a"
        message = f"{which} {verb} finished evaluation. Run: hc evaluate"
        raise EvaluationError(message)


def _scores(settings: Settings) -> dict[str, Any]:
    """See `scores_document`; remembered, as reading it anew takes a second."""
    remembered = Remembered(
        settings.home / "cache" / "scores.json",
        *map(str, (settings.study, settings.catalogue, settings.storage)),
    )
    document: dict[str, Any] | None = remembered.read()
    if document is None:
        from hc_orchestration.reporting.scores import made_from, scores_document

        workspace = open_workspace()
        document = scores_document(workspace)
        files = made_from(workspace, document) if document["models"] else None
        if files is not None:
            remembered.write(document, files)
    return document


def _print(models: list[dict[str, Any]], form: TableFormat, columns: list[str]) -> None:
    if form is TableFormat.TABLE:
        from hc_orchestration.reporting.console import print_table

        out = console()
        for model in models:
            title = f"{model['key']}\n{_STALE}" if model["stale"] else model["key"]
            print_table(out, model["scores"], title=title)
            if model["slices"]:
                print_table(out, model["slices"])
        return
    rows = [row for model in models for row in json.loads(model["rows"])]
    print_records(rows, form, columns)
