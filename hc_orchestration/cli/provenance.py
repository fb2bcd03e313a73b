"""`hc provenance`: the signed records of evaluations."""

from pathlib import Path
from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import print_written

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
