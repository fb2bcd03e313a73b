"""`hc models`: the model catalogue."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import (
    flat,
    open_workspace,
    print_json,
    print_rows,
    print_written,
)

if TYPE_CHECKING:
    from hc_orchestration.settings import Settings
    from hc_orchestration.storage.workspace import Workspace

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
    key: Annotated[
        str | None,
        typer.Option("--model", help="The key to install it as; default: what its name says."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Check a model's files and put them into the store; never by a bare name."""
    from hc_orchestration.models.install import install_model
    from hc_orchestration.models.store import installed_model

    workspace = open_workspace()
    named = key or _key_in(origin, workspace.catalogue.keys)
    entry = workspace.catalogue.entry(named or origin)
    source = entry.origin
    settings = workspace.settings
    lock_file = settings.catalogue.with_suffix(".lock.json")
    place = origin if named and origin != named else source.url or source.path
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


def _key_in(origin: str, keys: tuple[str, ...]) -> str | None:
    """The key that the file name of an archive or folder begins with; None for a bare key.

    Raises:
        BadParameter: It is a URL or path whose name says no key.
    """
    if origin in keys or ("/" not in origin and not Path(origin).exists()):
        return None
    name = Path(origin).name
    found = [key for key in keys if re.match(rf"{re.escape(key)}(?:[-.](?!\d)|$)", name)]
    if not found:
        message = f"{name} does not say which model of the catalogue it is. Give --model KEY"
        raise typer.BadParameter(message)
    return max(found, key=len)


@models_app.command("add")
def models_add(  # noqa: PLR0913, PLR0917 - one option a field of the entry
    name: Annotated[str, typer.Argument(help="Its name; the key is NAME-VERSION.")],
    version: Annotated[str, typer.Argument(help="Its version, without a dash.")],
    loader: Annotated[
        str, typer.Option(help="spacy, transformers, lexicon, or module:callable.")
    ] = "spacy",
    path: Annotated[Path | None, typer.Option(help="A folder, file or archive.")] = None,
    url: Annotated[str | None, typer.Option(help="Where its archive can be fetched.")] = None,
    package: Annotated[str | None, typer.Option(help="An installed Python package.")] = None,
    sha256: Annotated[str | None, typer.Option(help="Digest of the archive.")] = None,
    label: Annotated[
        list[str] | None,
        typer.Option(help="MODEL_LABEL=STUDY_LABEL, or MODEL_LABEL=*; may be repeated."),
    ] = None,
    component: Annotated[
        list[str] | None, typer.Option(help="A component to run; may be repeated.")
    ] = None,
    knowledge_base: Annotated[
        Path | None, typer.Option(help="Concepts for the component scispacy_linker.")
    ] = None,
    allow_pickle: Annotated[
        list[str] | None, typer.Option(help="A pickled file that may be installed.")
    ] = None,
    options: Annotated[
        str | None, typer.Option(help="What module:callable is called with, as JSON.")
    ] = None,
    developer: Annotated[str | None, typer.Option(help="For the card.")] = None,
    license_: Annotated[str | None, typer.Option("--license", help="For the card.")] = None,
    intended_use: Annotated[str | None, typer.Option(help="For the card.")] = None,
    training_data: Annotated[str | None, typer.Option(help="For the card.")] = None,
    limits: Annotated[str | None, typer.Option(help="For the card.")] = None,
    homepage: Annotated[str | None, typer.Option(help="For the card.")] = None,
    as_json: Json = False,
) -> None:
    """Write a model into the catalogue, and have a running `hc ui` read it anew."""
    from hc_orchestration.models.catalogue_edit import add_entry
    from hc_orchestration.models.store import absence

    settings = open_workspace().settings
    base = settings.catalogue.parent
    source = {"url": url, "path": _as_written(path, base), "package": package, "sha256": sha256}
    card = {
        "developer": developer,
        "license": license_,
        "intended_use": intended_use,
        "training_data": training_data,
        "limits": limits,
        "homepage": homepage,
    }
    fields = {
        "name": name,
        "version": version,
        "loader": loader,
        "source": _given(source),
        "options": _json_option(options),
        "labels": dict(map(_pair, label or ())),
        "components": component,
        "knowledge_base": _as_written(knowledge_base, base),
        "allow_pickle": allow_pickle,
        "card": _given(card),
    }
    add_entry(settings.catalogue, _given(fields), _catalogue_lock(settings))
    entry = open_workspace().catalogue.models[-1]
    reason = absence(entry, settings.model_store)
    written = {
        "key": entry.key,
        "catalogue": str(settings.catalogue),
        "installed": reason is None,
        "reason": reason,
        "definitions": _reloaded(settings),
    }
    _print_document(written, as_json=as_json)


@models_app.command("check")
def models_check(
    key: Annotated[str, typer.Argument(help="A key of the catalogue.")],
    notes: Annotated[
        int, typer.Option(min=0, help="Try it on so many stored notes, not on made-up sentences.")
    ] = 0,
    as_json: Json = False,
) -> None:
    """Load a model and run a sample: labels, warnings, speed. Exit code 1 on trouble."""
    from dataclasses import asdict

    from hc_orchestration.models.checking import SENTENCES, check_model
    from hc_orchestration.models.store import installed_model

    workspace = open_workspace()
    model = installed_model(workspace.catalogue.entry(key), workspace.settings.model_store)
    texts = _stored_texts(workspace, notes) if notes else SENTENCES
    found = check_model(model, workspace.study.labels, texts)
    sample = f"{len(texts)} stored notes" if notes else f"{len(texts)} made-up sentences"
    document = {"ok": not found.problems, "sample": sample, **asdict(found)}
    _print_document(document, as_json=as_json)
    if found.problems:
        raise typer.Exit(1)


@models_app.command("remove")
def models_remove(
    key: Annotated[str, typer.Argument(help="A key of the catalogue.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Take a model out of the catalogue and the store; what was found with it is kept."""
    from hc_orchestration.models.catalogue_edit import remove_entry
    from hc_orchestration.models.install import uninstall_model

    workspace = open_workspace()
    settings = workspace.settings
    entry = workspace.catalogue.entry(key)
    if not yes:
        _ask(f"Take {key} out of {settings.catalogue} and remove its files from the store?")
    with _not_evaluated_now(key, settings):
        remove_entry(settings.catalogue, key, _catalogue_lock(settings))
        freed = uninstall_model(entry, settings.model_store)
    own = entry.source.path if entry.source and not entry.team_model else None
    written = {
        "key": key,
        "catalogue": str(settings.catalogue),
        "bytes_freed": freed,
        "left_in_place": own,
        "kept": "entities, metrics, records, Provenance, MLflow runs, and the digest in the lock",
        "evaluations_kept": len(workspace.records.of_model(key)),
        "definitions": _reloaded(settings),
    }
    _print_document(written, as_json=as_json)


def _given(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value not in (None, {}, [])}


def _as_written(path: Path | None, base: Path) -> str | None:
    """A path as the catalogue holds it: from its own folder where it lies below that."""
    if path is None:
        return None
    absolute = path.expanduser().absolute()
    return str(absolute.relative_to(base) if absolute.is_relative_to(base) else absolute)


def _pair(text: str) -> tuple[str, str]:
    model_label, equals, study_label = text.partition("=")
    if not equals or not model_label or not study_label:
        message = f"--label {text} is not MODEL_LABEL=STUDY_LABEL"
        raise typer.BadParameter(message)
    return model_label, study_label


def _json_option(text: str | None) -> dict[str, Any] | None:
    import json

    if text is None:
        return None
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        message = "--options is no JSON object, such as '{\"threshold\": 0.5}'"
        raise typer.BadParameter(message)
    return found


def _catalogue_lock(settings: "Settings") -> Path:
    from hc_orchestration.home import private_folder

    return private_folder(settings.locks) / "catalogue.lock"


def _reloaded(settings: "Settings") -> str:
    """What became of the definitions of a running `hc ui`, in words."""
    from hc_orchestration.ui import reload_definitions

    return reload_definitions(settings)


def _stored_texts(workspace: "Workspace", notes: int) -> list[str]:
    """The first notes of the stored corpus by id; their texts are not shown."""
    corpus = workspace.corpus.required()
    frame = workspace.corpus.notes(corpus.version).select("note_id", "text")
    texts: list[str] = frame.sort("note_id").head(notes).collect()["text"].to_list()
    return texts


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        message = "nobody can be asked here. Give --yes"
        raise typer.BadParameter(message)
    typer.confirm(question, abort=True, err=True)


@contextmanager
def _not_evaluated_now(key: str, settings: "Settings") -> Iterator[None]:
    """Holds what an extraction of the model holds."""
    from filelock import FileLock, Timeout

    from hc_orchestration.errors import ModelError
    from hc_orchestration.home import private_folder

    lock = FileLock(private_folder(settings.locks) / f"extract-{key}.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        message = f"model {key} is being run on the corpus. Remove it when that is over."
        raise ModelError(message) from None
    try:
        yield
    finally:
        lock.release()


def _print_document(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    said = [(name, _line(value)) for name, value in flat(document)]
    print_rows([{"field": name, "value": value} for name, value in said if value], as_json=False)


def _line(value: object) -> str:
    if isinstance(value, list | tuple):
        return "; ".join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}"
    return "" if value is None else str(value)
