"""`hc mlflow`: MLflow as a projection of the records."""

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import console, open_workspace, print_json

mlflow_app = typer.Typer(help="MLflow as a projection of the records.", no_args_is_help=True)


@mlflow_app.command("sync")
def mlflow_sync(as_json: Json = False) -> None:
    """Bring MLflow up to date from the records: after it was away, or into an empty database."""
    from hc_orchestration.resources.workspace import mlflow_projection
    from hc_orchestration.tracking.sync import synchronize

    workspace = open_workspace()
    projection = mlflow_projection(workspace.settings.tracking_uri, workspace)
    projection.ask_at_once()
    report = synchronize(workspace, projection, ask_mlflow=True)
    document = {
        "projected": list(report.projected),
        "current": report.current,
        "failed": [
            {"kind": one.kind, f"{one.kind}_id": one.identity, "reason": one.reason}
            for one in report.failed
        ],
    }
    if as_json:
        print_json(document)
    else:
        told, lacks = len(report.projected), len(report.failed)
        console().print(f"told MLflow of {told} records; {report.current} were there already")
        for one in report.failed:
            line = f"failed  {one.kind} {one.identity}: {one.reason}"
            console().print(line, style="red", markup=False)
        if lacks:
            console().print(f"MLflow still lacks {lacks}; run it again when it is back.")
    if report.failed:
        raise typer.Exit(1)
