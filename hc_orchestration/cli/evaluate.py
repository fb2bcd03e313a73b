"""`hc evaluate`: the main job, and what it prints."""

from collections.abc import Callable
from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hc_orchestration.cli.options import Json
from hc_orchestration.cli.output import Status, console, open_workspace, print_json
from hc_orchestration.settings import Settings

if TYPE_CHECKING:
    from hc_orchestration.evaluate import EvaluationReport


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
    settings = Settings.from_environment()
    if model and everything:
        message = "give either --model or --all"
        raise typer.BadParameter(message)
    with Status() as say:
        report = _evaluated(settings, model or [], everything=everything, say=say)
    from hc_orchestration.evaluate import report_as_json

    document = report_as_json(report, open_workspace())
    if as_json:
        print_json(document)
    else:
        _print_report(report, document)
    if report.interrupted:
        raise typer.Exit(130)
    if report.failed:
        raise typer.Exit(1)


def _evaluated(
    settings: Settings, asked: list[str], *, everything: bool, say: Callable[[str], None]
) -> "EvaluationReport":
    """What came of it; MLflow's process begins first, as all else waits for it."""
    from hc_orchestration.tracking.process import MlflowProcess, worthwhile

    with ExitStack() as processes:
        mlflow = processes.enter_context(MlflowProcess()) if worthwhile() else None
        from hc_orchestration.extraction.sizing import Machine
        from hc_orchestration.home import prepare_home
        from hc_orchestration.models.catalogue import load_catalogue
        from hc_orchestration.models.store import chosen_models
        from hc_orchestration.processes import importing_much
        from hc_orchestration.side_process import SideProcess
        from hc_orchestration.side_process import worthwhile as two_are_faster
        from hc_orchestration.tracking.client import MlflowStore

        catalogue = load_catalogue(settings.catalogue)
        chosen = chosen_models(catalogue, settings.model_store, asked, everything=everything)
        prepare_home(settings)
        if mlflow is not None:
            mlflow.open(MlflowStore(settings.tracking_uri, settings.home, settings.mlflow_url))
        with importing_much():
            from hc_orchestration.evaluate import run_evaluation
        # Not before: its imports would keep MLflow's process, for which all wait, from its own.
        beside = None
        if two_are_faster(len(chosen), Machine.here()):
            handed = [mlflow.second] if mlflow else []
            beside = processes.enter_context(SideProcess(settings, say, handed))
        return run_evaluation(settings, chosen, say=say, beside=beside)


def _print_report(report: "EvaluationReport", document: dict[str, Any]) -> None:
    from hc_orchestration.reporting.console import leaderboard, print_table

    out = console()
    corpus = document["corpus"]
    out.print(
        f"Corpus: {corpus['notes']} notes, {corpus['quarantined']} in quarantine "
        f"(version {corpus['version']}, digest {corpus['digest'][:12]})"
    )
    print_table(out, leaderboard(document["comparison"]))
    for model in report.models:
        if model.error:
            out.print(f"failed   {model.key}: {model.error}", style="red", markup=False)
    absent = [key for key, reason in report.missing if reason.startswith(f"model {key}")]
    for key, reason in report.missing:
        if key not in absent:
            said = reason.split(". ", maxsplit=1)[0]
            out.print(f"missing  {key}: {said}", style="dim", markup=False, soft_wrap=True)
    if any(reason.startswith("stale") for _, reason in report.missing):
        out.print("         `hc evaluate --model KEY` evaluates a stale one.", style="dim")
    if absent:
        named = f"not here {', '.join(absent)} (`hc models show KEY` says how to install one)"
        out.print(named, style="dim", markup=False, soft_wrap=True)
    if document["comparison_error"]:
        said = f"not compared: {document['comparison_error']}"
        out.print(said, style="red", markup=False, soft_wrap=True)
    if document["comparison"] and not document["comparison_error"]:
        from hc_orchestration.resources.comparing import newest_report

        out.print(f"\nReport: {newest_report(open_workspace().settings)}", soft_wrap=True)
    out.print("\nLook closer:  hc ui   ·   hc metrics   ·   hc export provenance --model KEY")
