"""Running the project's jobs in this process, as real Dagster runs of the deployment's instance."""

from collections.abc import Sequence
from dataclasses import dataclass

import dagster as dg

from hc_orchestration.processes import ProcessIdentity

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_INTERRUPTED = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """How an in-process run ended.

    Attributes:
        error: The message of the first step that failed, safe to show; None on success.
        interrupted: A signal asked for the end; no further run should begin.
    """

    run_id: str
    success: bool
    error: str | None
    interrupted: bool


class InProcessRuns:
    """Runs jobs one after the other, and closes its own runs whatever happens."""

    def __init__(self, definitions: dg.Definitions, instance: dg.DagsterInstance) -> None:
        """Use the jobs of `definitions` and record in `instance`."""
        self._definitions = definitions
        self._instance = instance
        self._tags = {"hc.launcher": "hc", **ProcessIdentity.current().as_tags()}

    def run(self, job: str, partition_key: str | None = None) -> RunOutcome:
        """Run a job to its end.

        Raises:
            BaseException: Whatever ended the run from outside of it; its Dagster run is closed.
        """
        definition = self._definitions.resolve_job_def(job)
        try:
            result = definition.execute_in_process(
                instance=self._instance,
                partition_key=partition_key,
                raise_on_error=False,
                run_config=_QUIET,
                tags=self._tags,
            )
        except BaseException:
            self.close()
            raise
        failures = [event for event in result.all_events if event.is_step_failure]
        errors = [event.step_failure_data.error for event in failures]
        names = {name for error in errors if error for name in _class_names(error)}
        interrupted = bool(names & _INTERRUPTED)
        return RunOutcome(
            run_id=result.run_id,
            success=result.success,
            error=None if result.success else _first_message(errors),
            interrupted=interrupted,
        )

    def close(self) -> None:
        """Report every run of this process that is not over as failed."""
        open_states = [
            dg.DagsterRunStatus.STARTED,
            dg.DagsterRunStatus.STARTING,
            dg.DagsterRunStatus.NOT_STARTED,
        ]
        mine = dg.RunsFilter(tags=self._tags, statuses=open_states)
        for run in self._instance.get_runs(filters=mine):
            self._instance.report_run_failed(run, "the hc process that ran it was stopped")


def _class_names(error: object) -> list[str]:
    names = []
    while error is not None:
        names.append(getattr(error, "cls_name", "") or "")
        error = getattr(error, "cause", None)
    return names


def _root_cause(error: object) -> object:
    while (cause := getattr(error, "cause", None)) is not None:
        error = cause
    return error


def _first_message(errors: Sequence[object]) -> str:
    for error in map(_root_cause, errors):
        message = getattr(error, "message", "") or ""
        if message:
            return " ".join(message.split(": ", maxsplit=1)[-1].split())
    return "a blocking check failed; see its result in Dagster"
