"""`hc models`: the model catalogue."""

from typing import Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import (
    flat,
    open_workspace,
    print_json,
    print_rows,
    print_written,
)

models_app = typer.Typer(help="The model catalogue.", no_args_is_help=True)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Every model of the catalogue, and whether its files are here."""
    from hc_orchestration.models.store import absence

    workspace = open_workspace()
    rows = [
        {
            "key": entry.key,
            "loader": entry.loader,
            "installed": absence(entry, workspace.settings.model_store) is None,
            "license": entry.card.license,
            "developer": entry.card.developer,
        }
        for entry in workspace.catalogue.models
    ]
    print_rows(rows, as_json=as_json)


@models_app.command("show")
def models_show(
    key: Annotated[str, typer.Argument(help="A key of the catalogue.")], as_json: Json = False
) -> None:
    """One model: where it comes from, its card, files and fingerprint."""
    from hc_orchestration.models.store import absence, installed_model

    workspace = open_workspace()
    entry = workspace.catalogue.entry(key)
    document: dict[str, Any] = {"key": entry.key, **entry.model_dump(exclude_none=True)}
    store = workspace.settings.model_store
    reason = absence(entry, store)
    document["installed"] = reason is None
    if reason is None:
        model = installed_model(entry, store)
        document |= {
            "location": str(model.location),
            "fingerprint": model.fingerprint,
            "bytes": model.size,
            "files": len(model.files),
        }
    else:
        document["reason"] = reason
    if as_json:
        print_json(document)
        return
    rows = [{"field": name, "value": value} for name, value in flat(document)]
    print_rows(rows, as_json=False)


@models_app.command("install")
def models_install(
    origin: Annotated[str, typer.Argument(help="A key, or a URL, archive or folder.")],
    key: Annotated[str | None, typer.Option("--model", help="The key to install it as.")] = None,
    as_json: Json = False,
) -> None:
    """Check a model's files and put them into the store; never by a bare name."""
    from hc_orchestration.models.install import install_model
    from hc_orchestration.models.store import installed_model

    workspace = open_workspace()
    entry = workspace.catalogue.entry(key or origin)
    source = entry.origin
    settings = workspace.settings
    lock_file = settings.catalogue.with_suffix(".lock.json")
    place = origin if key else source.url or source.path
    if place is None:
        message = f"the catalogue says of {entry.key} no URL or path. Give FILE --model {entry.key}"
        raise typer.BadParameter(message)
    install_model(entry, place, settings.model_store, lock_file)
    model = installed_model(entry, settings.model_store)
    written = {
        "key": entry.key,
        "location": str(model.location),
        "bytes": model.size,
        "fingerprint": model.fingerprint,
    }
    print_written(written, as_json=as_json)
