"""`hc mlflow`: MLflow as a projection of the records."""

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import console, open_workspace, print_json

mlflow_app = typer.Typer(help="MLflow as a projection of the records.", no_args_is_help=True)


@mlflow_app.command("sync")
def mlflow_sync(as_json: Json = False) -> None:
    """Bring MLflow up to date from the records: after it was away, or into an empty database."""
    from hc_orchestration.resources.workspace import mlflow_projection, promotion_projection
    from hc_orchestration.tracking.registry import synchronize_promotions
    from hc_orchestration.tracking.sync import synchronize

    workspace = open_workspace()
    projection = mlflow_projection(workspace.settings.tracking_uri, workspace)
    projection.ask_at_once()
    report = synchronize(workspace, projection, ask_mlflow=True)
    registry = promotion_projection(workspace.settings.tracking_uri, workspace)
    promoted, unpromoted = synchronize_promotions(workspace.promotions, registry, ask_mlflow=True)
    document = {
        "projected": list(report.projected),
        "current": report.current,
        "failed": [
            {"kind": one.kind, f"{one.kind}_id": one.identity, "reason": one.reason}
            for one in report.failed
        ],
        "promotions": {
            "projected": list(promoted),
            "failed": [{"promotion_id": key, "reason": reason} for key, reason in unpromoted],
        },
    }
    if as_json:
        print_json(document)
    else:
        told, lacks = len(report.projected), len(report.failed) + len(unpromoted)
        console().print(f"told MLflow of {told} records; {report.current} were there already")
        if promoted:
            console().print(f"told MLflow of {len(promoted)} promotions")
        failed = [(f"{one.kind} {one.identity}", one.reason) for one in report.failed]
        failed += [(f"promotion {key}", reason) for key, reason in unpromoted]
        for what, reason in failed:
            console().print(f"failed  {what}: {reason}", style="red", markup=False)
        if lacks:
            console().print(f"MLflow still lacks {lacks}; run it again when it is back.")
    if report.failed or unpromoted:
        raise typer.Exit(1)
