"""`hc export`: stored results written to files."""

import typer

from hc_orchestration.cli.options import Json, ModelKey, Output
from hc_orchestration.cli.output import open_workspace, print_written

export_app = typer.Typer(help="Write stored results to a file.", no_args_is_help=True)


@export_app.command("entities")
def export_entities(model: ModelKey, output: Output, as_json: Json = False) -> None:
    """The extracted spans of each note, without its text, as .jsonl, .ndjson, .json or .parquet."""
    from hc_orchestration.reporting.exports import write_entities

    print_written(write_entities(open_workspace(), model, output), as_json=as_json)


@export_app.command("metrics")
def export_metrics(model: ModelKey, output: Output, as_json: Json = False) -> None:
    """The last finished evaluation's scores, as .jsonl, .ndjson, .json, .parquet or .csv."""
    from hc_orchestration.reporting.exports import write_metrics

    print_written(write_metrics(open_workspace(), model, output), as_json=as_json)


@export_app.command("provenance")
def export_provenance(model: ModelKey, output: Output, as_json: Json = False) -> None:
    """The FHIR Provenance of the last finished evaluation, byte for byte as it was stored."""
    from hc_orchestration.reporting.exports import write_provenance

    print_written(write_provenance(open_workspace(), model, output), as_json=as_json)
