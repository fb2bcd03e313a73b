"""`hc`, the command line. Exit codes: 0 done, 1 failed, 2 bad use; `--json` for programs."""

import json
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hc_orchestration.errors import ConfigurationError, EvaluationError, HcError
from hc_orchestration.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

    from hc_orchestration.evaluate import EvaluationReport
    from hc_orchestration.storage.workspace import Workspace

app = typer.Typer(
    name="hc",
    help="Evaluate clinical NER models on your notes, with evidence. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The model catalogue.", no_args_is_help=True)
corpus_app = typer.Typer(help="The notes corpus.", no_args_is_help=True)
mlflow_app = typer.Typer(help="MLflow as a projection of the records.", no_args_is_help=True)
export_app = typer.Typer(help="Write stored results to a file.", no_args_is_help=True)
app.add_typer(models_app, name="models")
app.add_typer(corpus_app, name="corpus")
app.add_typer(export_app, name="export")
app.add_typer(mlflow_app, name="mlflow")

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
ModelKey = Annotated[str, typer.Option("--model", help="A key of the catalogue.")]
Output = Annotated[Path, typer.Option("--output", help="The file to write.")]


_WIDTH_IN_FILES = 120
_STALE = "stale: not of the corpus, the label mapping and the model files as they are now"


class TableFormat(StrEnum):
    """How `hc metrics` prints."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


@app.command()
def evaluate(
    model: Annotated[
        list[str] | None, typer.Option("--model", help="A model to evaluate; may be repeated.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Also run models whose files are not here (they fail).")
    ] = False,
    as_json: Json = False,
) -> None:
    """Read the corpus, evaluate the models, compare them. Real Dagster runs, shown in its UI."""
    from hc_orchestration.evaluate import report_as_json, run_evaluation

    settings = Settings.from_environment()
    if model and everything:
        message = "give either --model or --all"
        raise typer.BadParameter(message)
    with _status() as say:
        report = run_evaluation(settings, model or [], everything=everything, say=say)
    document = report_as_json(report, _workspace())
    if as_json:
        _print_json(document)
    else:
        _print_report(report, document)
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed:
        raise typer.Exit(1)


@models_app.command("list")
def models_list(as_json: Json = False) -> None:
    """Every model of the catalogue, and whether its files are here."""
    from hc_orchestration.models.store import absence

    workspace = _workspace()
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
    _print_rows(rows, as_json=as_json)


@models_app.command("show")
def models_show(
    key: Annotated[str, typer.Argument(help="A key of the catalogue.")], as_json: Json = False
) -> None:
    """One model: where it comes from, its card, files and fingerprint."""
    from hc_orchestration.models.store import absence, installed_model

    workspace = _workspace()
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
        _print_json(document)
        return
    flat = [{"field": name, "value": value} for name, value in _flat(document)]
    _print_rows(flat, as_json=False)


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
    ingestion = _workspace().new_ingestion(sources)
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
    tables = _workspace().corpus
    corpus = tables.required()
    document = {
        "version": corpus.version,
        "digest": corpus.digest,
        **corpus.counts,
        "rejects": tables.quarantine(corpus.quarantine_version).to_dicts(),
    }
    _print_corpus(document, as_json=as_json)


@app.command()
def metrics(
    model: Annotated[
        str | None, typer.Option("--model", help="Only this model; default: all of them.")
    ] = None,
    form: Annotated[
        TableFormat, typer.Option("--format", help="How to print.")
    ] = TableFormat.TABLE,
    as_json: Json = False,
) -> None:
    """The stored scores of each model's last finished evaluation, and whether they are stale."""
    from hc_orchestration.reporting.scores import last_scores

    workspace = _workspace()
    keys = [workspace.catalogue.entry(model).key] if model else list(workspace.catalogue.keys)
    table = last_scores(workspace, keys)
    chosen = TableFormat.JSON if as_json else form
    if chosen is TableFormat.CSV:
        sys.stdout.write(table.write_csv())
    elif chosen is TableFormat.MARKDOWN:
        from hc_orchestration.reporting.metadata import markdown_table

        sys.stdout.write(markdown_table(table.to_dicts(), limit=table.height) + "\n")
    elif chosen is TableFormat.JSON:
        _print_json(table.to_dicts())
    else:
        from hc_orchestration.reporting.console import print_table
        from hc_orchestration.reporting.metadata import score_rows

        for key in table["model"].unique(maintain_order=True):
            rows = score_rows(table.filter(table["model"] == key))
            stale = table.filter(table["model"] == key)["stale"].any()
            print_table(_console(), rows, title=f"{key}\n{_STALE}" if stale else key)
    if table.is_empty():
        which = f"model {model}" if model else "no model"
        verb = "has no" if model else "has a"
        message = f"{which} {verb} finished evaluation. Run: hc evaluate"
        raise EvaluationError(message)


@export_app.command("entities")
def export_entities(model: ModelKey, output: Output, as_json: Json = False) -> None:
    """The extracted spans of each note, without its text, as .jsonl, .ndjson, .json or .parquet."""
    from hc_orchestration.reporting.exports import write_entities

    _print_written(write_entities(_workspace(), model, output), as_json=as_json)


@export_app.command("metrics")
def export_metrics(model: ModelKey, output: Output, as_json: Json = False) -> None:
    """The last finished evaluation's scores, as .jsonl, .ndjson, .json, .parquet or .csv."""
    from hc_orchestration.reporting.exports import write_metrics

    _print_written(write_metrics(_workspace(), model, output), as_json=as_json)


@export_app.command("provenance")
def export_provenance(model: ModelKey, output: Output, as_json: Json = False) -> None:
    """The FHIR Provenance of the last finished evaluation, byte for byte as it was stored."""
    from hc_orchestration.reporting.exports import write_provenance

    _print_written(write_provenance(_workspace(), model, output), as_json=as_json)


@mlflow_app.command("sync")
def mlflow_sync(as_json: Json = False) -> None:
    """Bring MLflow up to date from the records: after it was away, or into an empty database."""
    from hc_orchestration.resources.workspace import mlflow_projection
    from hc_orchestration.tracking.sync import synchronize

    workspace = _workspace()
    projection = mlflow_projection(workspace.settings.tracking_uri, workspace)
    report = synchronize(workspace.records, projection, ask_mlflow=True)
    document = {
        "projected": list(report.projected),
        "current": report.current,
        "failed": [{"evaluation_id": key, "reason": reason} for key, reason in report.failed],
    }
    if as_json:
        _print_json(document)
    else:
        told, lacks = len(report.projected), len(report.failed)
        _console().print(f"told MLflow of {told} evaluations; {report.current} were there already")
        for key, reason in report.failed:
            _console().print(f"failed  {key}: {reason}", style="red", markup=False)
        if lacks:
            _console().print(f"MLflow still lacks {lacks}; run it again when it is back.")
    if report.failed:
        raise typer.Exit(1)


@app.command()
def doctor(
    repair: Annotated[
        bool, typer.Option("--repair", help="Close dead runs; each finding says what else helps.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Dead runs, and records that MLflow lacks; exit code 1 while anything is left to mend."""
    from dataclasses import asdict

    from hc_orchestration.doctor import examine

    findings = examine(Settings.from_environment(), repair=repair)
    _print_rows([asdict(finding) for finding in findings], as_json=as_json)
    if any(not finding.mended for finding in findings):
        raise typer.Exit(1)


@app.command()
def ui(
    dagster_port: Annotated[int, typer.Option(help="Port of the Dagster page.")] = 3000,
    mlflow_port: Annotated[int, typer.Option(help="Port of the MLflow page.")] = 5000,
) -> None:
    """Both web pages on this machine only; Ctrl-C stops both."""
    from hc_orchestration.ui import serve

    serve(Settings.from_environment(), dagster_port, mlflow_port)


def main() -> None:
    """Entry point: errors of ours become one line, never a traceback."""
    try:
        app()
    except ConfigurationError as error:
        sys.stderr.write(f"hc: {error}\n")
        sys.exit(2)
    except HcError as error:
        sys.stderr.write(f"hc: {error}\n")
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.stderr.write("hc: stopped\n")
        sys.exit(130)


def _exit_code(error: HcError) -> int:
    """A model that nobody knows is bad use; anything else failed."""
    from hc_orchestration.models.catalogue import UnknownModelError

    return 2 if isinstance(error, UnknownModelError) else 1


def _workspace() -> "Workspace":
    from hc_orchestration.storage.workspace import Workspace

    return Workspace(Settings.from_environment())


def _adhoc_source(path: str, form: str | None) -> Any:  # noqa: ANN401 - CorpusSource, lazily
    from pydantic import ValidationError

    from hc_orchestration.corpora.sources import CorpusSource

    try:
        source = CorpusSource.model_validate({"name": "given", "path": path, "format": form})
    except ValidationError:
        message = "with PATH, give its form: --format jsonl or --format pubtator"
        raise typer.BadParameter(message) from None
    return source.resolved(Path.cwd())


def _flat(document: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def _plain(value: Any) -> Any:  # noqa: ANN401 - a count or a Counter
    return dict(value) if hasattr(value, "items") else value


def _print_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n")


def _print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    if as_json:
        _print_json(rows)
        return
    from hc_orchestration.reporting.console import print_table

    print_table(_console(), rows)


def _print_corpus(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _print_json(document)
        return
    from hc_orchestration.reporting.console import print_table

    rejects = document.pop("rejects")
    rows = [{"field": name, "value": value} for name, value in _flat(document)]
    print_table(_console(), rows)
    if rejects:
        print_table(_console(), rejects, title="Quarantine")


def _print_written(written: dict[str, Any], *, as_json: bool) -> None:
    _print_rows([written], as_json=False) if not as_json else _print_json(written)


def _print_report(report: "EvaluationReport", document: dict[str, Any]) -> None:
    from hc_orchestration.reporting.console import leaderboard, print_table

    console = _console()
    corpus = document["corpus"]
    console.print(
        f"Corpus: {corpus['notes']} notes, {corpus['quarantined']} in quarantine "
        f"(version {corpus['version']}, digest {corpus['digest'][:12]})"
    )
    print_table(console, leaderboard(document["comparison"]))
    for model in report.models:
        if model.error:
            console.print(f"failed   {model.key}: {model.error}", style="red", markup=False)
    for key, reason in report.missing:
        said = reason.split(". ", maxsplit=1)[0]
        console.print(f"missing  {key}: {said}", style="dim", markup=False, soft_wrap=True)
    if any(reason.startswith("stale") for _, reason in report.missing):
        console.print("         `hc evaluate --model KEY` evaluates a stale one.", style="dim")
    if any(reason.startswith(f"model {key}") for key, reason in report.missing):
        console.print("         `hc models show KEY` says how to install one.", style="dim")
    if document["comparison_error"]:
        said = f"not compared: {document['comparison_error']}"
        console.print(said, style="red", markup=False, soft_wrap=True)
    unused = _workspace().study.unused
    if unused:
        console.print(
            f"not used by this version, though given: {', '.join(unused)}", style="yellow"
        )
    console.print("\nLook closer:  hc ui   ·   hc metrics   ·   hc export provenance --model KEY")


def _console() -> "Console":
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH_IN_FILES)
    return console


class _Status:
    """A spinner with one line on standard error; plain lines when that is not a terminal."""

    def __enter__(self) -> Callable[[str], None]:
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._spinner = self._console.status("starting")
        if self._console.is_terminal:
            self._spinner.start()
        self._handler = _listen(self._say)
        return self._say

    def __exit__(self, *details: object) -> None:
        import logging

        self._spinner.stop()
        logging.getLogger("hc_orchestration").removeHandler(self._handler)

    def _say(self, line: str) -> None:
        if self._console.is_terminal:
            self._spinner.update(line)
        else:
            self._console.print(line, markup=False)


def _listen(say: Callable[[str], None]) -> Any:  # noqa: ANN401 - a logging.Handler, lazily
    """Show what the package logs (extraction progress) as status."""
    import logging

    class Progress(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    handler = Progress(level=logging.INFO)
    logger = logging.getLogger("hc_orchestration")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler


def _status() -> _Status:
    return _Status()
