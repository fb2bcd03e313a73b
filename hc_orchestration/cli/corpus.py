"""`hc corpus`: what would be read, and what is stored."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import console, flat, open_workspace, print_json

if TYPE_CHECKING:
    from hc_orchestration.corpora.ingest import CorpusCounts

_FORMATS = "jsonl, csv, parquet, text, brat, pubtator, bioc, fhir or mimic"

corpus_app = typer.Typer(help="The notes corpus.", no_args_is_help=True)


@corpus_app.command("check")
def corpus_check(
    path: Annotated[
        str | None, typer.Argument(help="A file, folder or URL; default: the study's corpora.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help=f"The format of PATH: {_FORMATS}.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--column", help="FIELD=COLUMN of a csv or parquet; once for each field."),
    ] = None,
    show_text: Annotated[
        bool, typer.Option("--show-text", help="Print the notes too. Mind who sees the screen.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read without storing: what would be stored, and what is rejected and why.

    Fails when nothing would be stored, or a larger part is rejected than the study allows. Shows no
    text unless asked to.
    """
    from hc_orchestration.corpora.notes import Reject

    sources = None if path is None else (_adhoc_source(path, form, columns or []),)
    workspace = open_workspace()
    ingestion = workspace.new_ingestion(sources)
    rejects: list[Reject] = []
    texts: list[dict[str, str]] = []
    for item in ingestion:
        if isinstance(item, Reject):
            rejects.append(item)
        elif show_text:
            texts.append({"note_id": item.note_id, "text": item.text})
    document = {
        "digest": ingestion.digest,
        **{name: _plain(value) for name, value in vars(ingestion.counts).items()},
        "quarantine_share": ingestion.counts.quarantine_share,
        "notes_whose_quotes_differ": ingestion.counts.reasons["span_text_differs"],
        "rejects": [
            {"source": r.source, "position": r.position, "reason": r.reason.value} for r in rejects
        ],
    }
    if show_text:
        document["texts"] = texts
    _print_corpus(document, as_json=as_json)
    refusal = _refusal(ingestion.counts, workspace.study.quarantine.maximum_share)
    if refusal:
        typer.echo(f"hc: {refusal}", err=True)
        raise typer.Exit(1)


@corpus_app.command("show")
def corpus_show(as_json: Json = False) -> None:
    """What is stored: the version, its digest, counts, and the quarantine."""
    tables = open_workspace().corpus
    corpus = tables.required()
    document = {
        "version": corpus.version,
        "digest": corpus.digest,
        **corpus.counts,
        "quarantine_share": corpus.quarantine_share,
        "changes": tables.changes(corpus.version).to_dicts(),
        "rejects": tables.quarantine(corpus.quarantine_version).to_dicts(),
    }
    _print_corpus(document, as_json=as_json)


@corpus_app.command("purge")
def corpus_purge(
    notes: Annotated[
        list[str], typer.Option("--note", help="The id of a note; once for each note.")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Json = False,
) -> None:
    """Remove notes, and all that tells of single ones, from every version of everything stored.

    It cannot be undone, and no older version of the tables can be read afterwards. Scores and
    records stay: they sum over notes. The source is not touched, but the notes are left out when it
    is read again.
    """
    import getpass
    from datetime import UTC, datetime

    from hc_orchestration.resources.purging import purge_notes
    from hc_orchestration.resources.workspace import mlflow_projection
    from hc_orchestration.tracking.sync import synchronize

    if not yes:
        question = f"Remove {len(notes)} notes for good, with all older versions of their tables?"
        typer.confirm(question, abort=True, err=True)
    workspace = open_workspace()
    purges = purge_notes(workspace, notes, getpass.getuser(), datetime.now(UTC))
    projection = mlflow_projection(workspace.settings.tracking_uri, workspace)
    report = synchronize(workspace, projection, ask_mlflow=False)
    tables = [purge for purge in purges if purge.before_version is not None]
    document = {
        "notes": len(notes),
        "tables": [
            {"name": purge.subject, "before_version": purge.before_version} for purge in tables
        ],
        "files": len(purges) - len(tables),
        "mlflow_lacks": len(report.failed),
    }
    if as_json:
        print_json(document)
    else:
        console().print(
            f"removed from {len(tables)} tables and {document['files']} files. Every "
            "evaluation is stale now: run `hc evaluate`. Take the notes out of their source and of "
            "backups too."
        )
        if report.failed:
            console().print("MLflow still shows their ids: run `hc mlflow sync` when it is back.")
    if report.failed:
        raise typer.Exit(1)


def _refusal(counts: "CorpusCounts", allowed: float | None) -> str | None:
    share = counts.quarantine_share
    if counts.stored == 0:
        return "nothing would be stored. Mend the rejects, or what the study selects."
    if allowed is None or share is None or share <= allowed:
        return None
    return (
        f"{share:.2%} of the records would be in quarantine; the study allows {allowed:.2%}. "
        "Mend the rejects, or raise `quarantine: {maximum_share: …}`."
    )


def _adhoc_source(path: str, form: str | None, columns: list[str]) -> Any:  # noqa: ANN401 - CorpusSource, lazily
    from pydantic import ValidationError

    from hc_orchestration.corpora.sources import CorpusSource

    mapping = dict(column.partition("=")[::2] for column in columns) or None
    given = {"name": "given", "path": path, "format": form, "columns": mapping}
    try:
        source = CorpusSource.model_validate(given)
    except ValidationError as error:
        if any(item["loc"] == ("format",) for item in error.errors(include_url=False)):
            message = f"with PATH, give its form: --format jsonl ({_FORMATS})"
        else:
            message = "--column is for csv and parquet, and names note_id=… and text=… at least"
        raise typer.BadParameter(message) from None
    return source.resolved(Path.cwd())


def _plain(value: Any) -> Any:  # noqa: ANN401 - a count or a Counter
    return dict(value) if hasattr(value, "items") else value


def _print_corpus(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from hc_orchestration.reporting.console import print_table

    listed = {name: document.pop(name, []) for name in ("texts", "changes", "rejects")}
    rows = [{"field": name, "value": value} for name, value in flat(document)]
    print_table(console(), rows)
    titles = {
        "texts": "Notes",
        "changes": "Changed since the version before",
        "rejects": "Quarantine",
    }
    for name, title in titles.items():
        if listed[name]:
            print_table(console(), listed[name], title=title)
