"""`hc evaluate`: corpus, models, comparison as Dagster runs of this process; and what came out."""

import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from types import FrameType
from typing import Any

from hc_orchestration.definitions import build_definitions
from hc_orchestration.errors import EvaluationError
from hc_orchestration.extraction.sizing import seconds_a_megacharacter
from hc_orchestration.home import prepare_home
from hc_orchestration.jobs import COMPARE_MODELS, EVALUATE_MODEL, REFRESH_CORPUS
from hc_orchestration.models.store import absence, bytes_of
from hc_orchestration.reporting.comparison import ComparedModel, compare_models
from hc_orchestration.resources.evaluation import evaluation_id
from hc_orchestration.runs import InProcessRuns, RunOutcome, dagster_instance, new_run_id
from hc_orchestration.settings import Settings
from hc_orchestration.side_process import SideProcess, Task
from hc_orchestration.storage.corpus import CorpusVersion
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.workspace import Workspace

EVALUATED = "evaluated"
FAILED = "failed"


@dataclass(frozen=True, slots=True)
class ModelOutcome:
    """How one model's run ended; `record` is None when it did not even begin a record."""

    key: str
    status: str
    error: str | None
    dagster_run_id: str
    record: EvaluationRecord | None


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """Everything that `hc evaluate` did.

    Attributes:
        missing: Key and reason of each model of the catalogue that was not run, or ran without
            failing and has no rank all the same.
        interrupted: A signal ended it before all was done.
        comparison_error: Why the models could not be compared.
    """

    corpus: CorpusVersion
    models: tuple[ModelOutcome, ...]
    comparison: tuple[ComparedModel, ...]
    missing: tuple[tuple[str, str], ...]
    interrupted: bool
    comparison_error: str | None = None

    @property
    def failed(self) -> bool:
        """Whether anything that was asked for did not come about."""
        return (
            self.interrupted
            or self.comparison_error is not None
            or any(model.status == FAILED for model in self.models)
        )


def run_evaluation(
    settings: Settings,
    chosen: Sequence[str],
    *,
    say: Callable[[str], None],
    beside: SideProcess | None = None,
) -> EvaluationReport:
    """Evaluate models on the study's corpus.

    Args:
        settings: The deployment.
        chosen: Keys of the models; one that is absent fails, saying how to install it.
        say: Told in one line what is being done; by several threads with a process beside.
        beside: The second process, which takes its share of the models.

    Raises:
        EvaluationError: The corpus could not be read or stored, or a run in the second process
            could not begin.
        KeyboardInterrupt: A signal ended it while the corpus was read.
    """
    prepare_home(settings)
    workspace = Workspace(settings)
    with dagster_instance() as instance, _terminate_as_interrupt() as stopped:
        if beside is not None:
            beside.open_home()
        runs = InProcessRuns(build_definitions(settings), instance, settings)
        say("reading the corpus")
        corpus = _refresh(runs, workspace, say)
        order = chosen if beside is None else _slowest_first(workspace, chosen)
        ended = _evaluate(runs, _Models(order, say), beside, stopped)
        outcomes = [_outcome(workspace, key, ended[key]) for key in chosen if key in ended]
        interrupted = bool(stopped) or any(run.interrupted for run in ended.values())
        comparison_error = None
        if not interrupted:
            say("comparing")
            run = runs.run(COMPARE_MODELS)
            interrupted = run.interrupted or bool(stopped)
            comparison_error = run.error
    comparison = tuple(compare_models(workspace))
    return EvaluationReport(
        corpus=corpus,
        models=tuple(outcomes),
        comparison=comparison,
        missing=_missing(workspace, comparison, chosen, outcomes),
        interrupted=interrupted,
        comparison_error=comparison_error,
    )


def report_as_json(report: EvaluationReport, workspace: Workspace) -> dict[str, Any]:
    """The report in the form that other programs read; see the README."""
    return {
        "corpus": {
            "digest": report.corpus.digest,
            "version": report.corpus.version,
            "notes": report.corpus.notes,
            "quarantined": report.corpus.counts["quarantined"],
        },
        "models": [_model_as_json(outcome, workspace) for outcome in report.models],
        "comparison": [
            {
                "rank": model.rank,
                "key": model.key,
                "evaluation_id": model.record.evaluation_id,
                "metrics": model.record.metrics.values if model.record.metrics else {},
                "support": model.record.metrics.support if model.record.metrics else None,
                "notes_per_second": model.notes_per_second,
            }
            for model in report.comparison
            if model.record is not None
        ],
        "missing": [{"key": key, "reason": reason} for key, reason in report.missing],
        "interrupted": report.interrupted,
        "comparison_error": report.comparison_error,
    }


def _model_as_json(outcome: ModelOutcome, workspace: Workspace) -> dict[str, Any]:
    record = outcome.record
    inputs = record.inputs if record else None
    extraction = record.extraction if record else None
    metrics = record.metrics if record else None
    provenance = record.provenance if record else None
    seconds = None
    if record and record.run and record.status:
        seconds = (record.status.at - record.run.started_at).total_seconds()
    return {
        "key": outcome.key,
        "status": outcome.status,
        "error": outcome.error,
        "fingerprint": inputs.model_fingerprint if inputs else None,
        "notes": extraction.notes if extraction else None,
        "entities": extraction.entities if extraction else None,
        "reused": extraction.reused if extraction else None,
        "extracted": extraction.extracted if extraction else None,
        "notes_per_second": extraction.notes_per_second if extraction else None,
        "support": metrics.support if metrics else None,
        "metrics": metrics.values if metrics and outcome.status == EVALUATED else {},
        "not_applicable": list(metrics.not_applicable) if metrics else [],
        "evaluation_id": record.evaluation_id if record else None,
        "evaluation_digest": metrics.evaluation_digest if metrics else None,
        "inputs_unchanged": metrics.inputs_unchanged if metrics else None,
        "mlflow_run_id": record.mlflow.run_id if record and record.mlflow else None,
        "dagster_run_id": outcome.dagster_run_id,
        "provenance": workspace.files.location(provenance.file) if provenance else None,
        "seconds": seconds,
    }


class _Models:
    """The models that are left; whoever is free, in whichever thread, takes the next."""

    def __init__(self, keys: Sequence[str], say: Callable[[str], None]) -> None:
        self._left = deque(keys)
        self._of = len(keys)
        self._say = say
        self._taking = Lock()

    def take(self) -> Task | None:
        """The next model, or None if there is none."""
        with self._taking:
            if not self._left:
                return None
            key = self._left.popleft()
            self._say(f"evaluating {key} ({self._of - len(self._left)} of {self._of})")
        return Task(key, new_run_id())

    def none_left(self) -> None:
        """Give out no more."""
        with self._taking:
            self._left.clear()


def _evaluate(
    runs: InProcessRuns, models: _Models, beside: SideProcess | None, stopped: Sequence[int]
) -> dict[str, RunOutcome]:
    """Evaluate, here and beside, until no model is left or a signal ends it."""
    task = models.take()
    if beside is not None:
        beside.begin(models.take)
    ended: dict[str, RunOutcome] = {}
    while task is not None:
        ended[task.key] = run = runs.run(EVALUATE_MODEL, task.key, task.run_id)
        if run.interrupted or stopped:
            models.none_left()
            if beside is not None:
                beside.stop()
        task = models.take()
    if beside is not None:
        beside.finish()
        ended |= beside.outcomes
        if beside.died is not None:
            task, why = beside.died
            ended[task.key] = runs.close_dead(task.run_id, why)
    return ended


def _slowest_first(workspace: Workspace, keys: Sequence[str]) -> list[str]:
    """The order in which two processes are done at nearly the same time, by loader and size.

    This process takes the first: the one beside it is ready sooner, and has time for more.
    """
    store = workspace.settings.model_store

    def slowness(key: str) -> tuple[float, int]:
        entry = workspace.catalogue.entry(key)
        return seconds_a_megacharacter(entry.loader), bytes_of(entry, store)

    return sorted(keys, key=slowness, reverse=True)


def _missing(
    workspace: Workspace,
    comparison: Sequence[ComparedModel],
    chosen: Sequence[str],
    outcomes: Sequence[ModelOutcome],
) -> tuple[tuple[str, str], ...]:
    """Models that this call says nothing of otherwise, with the reason, as they are compared.

    A model that failed in this call is told there. One that stands in the comparison from earlier
    is missing only if it cannot be run now.
    """
    ended = {outcome.key: outcome.status for outcome in outcomes}
    missing: list[tuple[str, str]] = []
    for model in comparison:
        reason = model.missing
        if model.key not in ended:
            entry = workspace.catalogue.entry(model.key)
            asked = model.key in chosen
            absent = absence(entry, workspace.settings.model_store)
            reason = "not reached: interrupted" if asked else reason or absent
        if reason is not None and ended.get(model.key) != FAILED:
            missing.append((model.key, reason))
    return tuple(missing)


def _refresh(
    runs: InProcessRuns, workspace: Workspace, say: Callable[[str], None]
) -> CorpusVersion:
    outcome = runs.run(REFRESH_CORPUS)
    if outcome.interrupted:
        say("stopped while the corpus was read; no model was evaluated")
        raise KeyboardInterrupt
    if not outcome.success:
        message = f"the corpus could not be read: {outcome.error}"
        raise EvaluationError(message)
    return workspace.corpus.required()


def _outcome(workspace: Workspace, key: str, run: RunOutcome) -> ModelOutcome:
    identity = evaluation_id(run.run_id, key)
    record = workspace.records.read(identity)
    error = None if run.success else run.error
    if record and record.status and record.status.failed_step and record.status.error:
        error = record.status.error
    return ModelOutcome(
        key=key,
        status=EVALUATED if run.success else FAILED,
        error=error,
        dagster_run_id=run.run_id,
        record=record,
    )


@contextmanager
def _terminate_as_interrupt() -> Iterator[list[int]]:
    """Treat SIGTERM between runs as Ctrl-C, so that what was begun is closed.

    Gives the signals that arrived between runs; an exception alone may be swallowed by whatever
    it interrupts. An ignored SIGINT (a background job of a shell) stays ignored.
    """
    arrived: list[int] = []

    def interrupt(signum: int, frame: FrameType | None) -> None:
        del frame
        arrived.append(signum)
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    heeded = [n for n in before if n is signal.SIGTERM or before[n] is not signal.SIG_IGN]
    for number in heeded:
        signal.signal(number, interrupt)
    try:
        yield arrived
    finally:
        for number in heeded:
            signal.signal(number, before[number])
