"""`hc backup` and `hc restore`: a deployment as one file, and back."""

from pathlib import Path
from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import print_written
from hc_orchestration.settings import Settings


def backup(
    file: Annotated[Path, typer.Argument(help="The file to write, e.g. hc-2026-01-31.tar.gz.")],
    secrets: Annotated[
        bool,
        typer.Option(
            "--secrets", help="With the salt. Without it the same ids get other pseudonyms."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """HC_HOME, tables, study and catalogue in one file; others may go on meanwhile.

    The file holds note text: keep it as you keep the notes. It does not hold the key of
    HC_SIGNING_KEY, nor stores on other machines.
    """
    from dataclasses import asdict
    from datetime import UTC, datetime

    from hc_orchestration.backup import back_up

    made = back_up(Settings.from_environment(), file, secrets=secrets, at=datetime.now(UTC))
    print_written({"file": str(file), **asdict(made)}, as_json=as_json)


def restore(
    file: Annotated[Path, typer.Argument(help="A file that `hc backup` wrote.")],
    as_json: Json = False,
) -> None:
    """Fill an empty HC_HOME from a backup; study and catalogue are put into HC_HOME/restored."""
    from dataclasses import asdict

    from hc_orchestration.backup import restore as fill

    settings = Settings.from_environment()
    made = fill(settings, file)
    print_written({**asdict(made), "restored_to": str(settings.home)}, as_json=as_json)
