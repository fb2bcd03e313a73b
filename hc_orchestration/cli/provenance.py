"""`hc provenance`: the signed records of evaluations."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import (
    console,
    open_workspace,
    print_json,
    print_rows,
    print_written,
)
from hc_orchestration.errors import ConfigurationError, EvaluationError

if TYPE_CHECKING:
    from hc_orchestration.healthcare.verification import Verification
    from hc_orchestration.storage.workspace import Workspace

provenance_app = typer.Typer(help="The signed records of evaluations.", no_args_is_help=True)


@provenance_app.callback()
def provenance() -> None:
    """The signed records of evaluations."""


@provenance_app.command()
def keygen(
    path: Annotated[Path, typer.Argument(help="Where the private key is to be; not there yet.")],
    as_json: Json = False,
) -> None:
    """Make an Ed25519 key to sign records with; then set HC_SIGNING_KEY to its path."""
    from hc_orchestration.healthcare.signing import generate_key, public_path

    key = generate_key(path)
    made = {"key_id": key.key_id, "private": str(path), "public": str(public_path(path))}
    print_written(made, as_json=as_json)


Record = Annotated[
    Path | None, typer.Argument(help="A record that was handed out; default: the stored ones.")
]
Model = Annotated[str | None, typer.Option("--model", help="Only the records of this model.")]


@provenance_app.command()
def verify(
    file: Record = None,
    model: Model = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="A public key that you trust; each record must then be signed with one."),
    ] = None,
    head: Annotated[
        list[str] | None,
        typer.Option(help="The digest of a record that you kept yourself; it must be here."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Hold records against all that they name; exit code 1 for what differs or cannot be looked at.

    Bytes, validity, signature, chain, artifacts, entities, scores and notes at their versions.
    """
    from hc_orchestration.reporting.verification import as_document
    from hc_orchestration.storage.verification import SigningKeys, verify_file, verify_records

    if file is not None and (model is not None or head):
        message = "give a file, or --model and --head for the stored records; not both."
        raise ConfigurationError(message)
    workspace, keys = open_workspace(), SigningKeys.read(key or [])
    if file is not None:
        found = verify_file(workspace, file, keys)
    else:
        found = verify_records(workspace, model, keys, head or [])
        _require_records(workspace, found, model)
    print_json(as_document(found)) if as_json else _print(found)
    if not found.clean:
        raise typer.Exit(1)


def _print(found: "Verification") -> None:
    from hc_orchestration.reporting.console import print_table
    from hc_orchestration.reporting.verification import chain_rows, finding_rows, summary

    page = console()
    if chains := chain_rows(found):
        print_table(page, chains)
    if findings := finding_rows(found):
        print_table(page, findings)
    page.print(summary(found), markup=False)


def _require_records(workspace: "Workspace", found: "Verification", model: str | None) -> None:
    if found.records or found.chains:
        return
    if model is not None:
        workspace.catalogue.entry(model)  # bad use, if nobody knows it
    message = f"{model or 'no model'} has {'no' if model else 'a'} record. Run: hc evaluate"
    raise EvaluationError(message)


@provenance_app.command()
def upload(
    server: Annotated[str, typer.Option(help="The base URL of a FHIR R4 server.")],
    file: Annotated[
        Path | None, typer.Argument(help="A record; default: the newest one of each model.")
    ] = None,
    model: Model = None,
    at_once: Annotated[
        int | None,
        typer.Option(min=1, help="Entries a transaction, where a server limits them (Medplum: 8)."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Send records to a FHIR server, which keeps nothing twice; HC_FHIR_TOKEN is the bearer token.

    What it then holds is a copy with ids of its own; the stored record stays the one to verify.
    """
    import os

    from hc_orchestration.healthcare.fhir_server import FhirServer
    from hc_orchestration.storage.uploads import record_in, records_to_upload, sent

    if file is not None and model is not None:
        message = "give a file or --model, not both."
        raise ConfigurationError(message)
    to = FhirServer(server, os.environ.get("HC_FHIR_TOKEN"))
    records = [record_in(file)] if file else records_to_upload(open_workspace(), model)
    print_rows([asdict(sent(record, to, at_once)) for record in records], as_json=as_json)
