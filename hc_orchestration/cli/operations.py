"""`hc doctor` and `hc ui`: looking after a deployment."""

from typing import Annotated

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import print_rows
from hc_orchestration.settings import Settings


def doctor(
    repair: Annotated[
        bool,
        typer.Option(
            "--repair", help="Close dead runs, mend permissions; each finding says what else."
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """What does not work or tell the truth; exit code 1 while anything is left to mend.

    Looks at Python, packages, disk, permissions, secrets, models, the stores and their schemas, a
    running code location, dead runs, and records that MLflow lacks.
    """
    from dataclasses import asdict

    from hc_orchestration.doctor import examine

    findings = examine(Settings.from_environment(), repair=repair)
    print_rows([asdict(finding) for finding in findings], as_json=as_json)
    if any(not finding.mended for finding in findings):
        raise typer.Exit(1)


def ui(
    dagster_port: Annotated[int, typer.Option(help="Port of the Dagster page.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow page.")] = 5000,
) -> None:
    """Both web pages on this machine only; Ctrl-C stops both."""
    from hc_orchestration.ui import serve

    serve(Settings.from_environment(), dagster_port, mlflow_port)
