"""`hc corpus`: what would be read, and what is stored."""

from pathlib import Path
from typing import Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import console, flat, open_workspace, print_json

corpus_app = typer.Typer(help="The notes corpus.", no_args_is_help=True)


@corpus_app.command("check")
def corpus_check(
    path: Annotated[
        str | None, typer.Argument(help="A file, folder or URL; default: the study's corpora.")
    ] = None,
    form: Annotated[
        str | None, typer.Option("--format", help="The format of PATH: jsonl or pubtator.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Read without storing: what would be stored, and what is rejected and why. Shows no text."""
    from hc_orchestration.corpora.notes import Reject

    sources = None if path is None else (_adhoc_source(path, form),)
    ingestion = open_workspace().new_ingestion(sources)
    rejects = [item for item in ingestion if isinstance(item, Reject)]
    document = {
        "digest": ingestion.digest,
        **{name: _plain(value) for name, value in vars(ingestion.counts).items()},
        "rejects": [
            {"source": r.source, "position": r.position, "reason": r.reason.value} for r in rejects
        ],
    }
    _print_corpus(document, as_json=as_json)
    if ingestion.counts.stored == 0:
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
        "rejects": tables.quarantine(corpus.quarantine_version).to_dicts(),
    }
    _print_corpus(document, as_json=as_json)


def _adhoc_source(path: str, form: str | None) -> Any:  # noqa: ANN401 - CorpusSource, lazily
    from pydantic import ValidationError

    from hc_orchestration.corpora.sources import CorpusSource

    try:
        source = CorpusSource.model_validate({"name": "given", "path": path, "format": form})
    except ValidationError:
        message = "with PATH, give its form: --format jsonl or --format pubtator"
        raise typer.BadParameter(message) from None
    return source.resolved(Path.cwd())


def _plain(value: Any) -> Any:  # noqa: ANN401 - a count or a Counter
    return dict(value) if hasattr(value, "items") else value


def _print_corpus(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(document)
        return
    from hc_orchestration.reporting.console import print_table

    rejects = document.pop("rejects")
    rows = [{"field": name, "value": value} for name, value in flat(document)]
    print_table(console(), rows)
    if rejects:
        print_table(console(), rejects, title="Quarantine")
