"""Running the project's jobs in this process, as real Dagster runs of the deployment's instance."""

import logging
import os
import signal
import socket
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import dagster as dg
from dagster._core.instance.ref import InstanceRef
from dagster._core.storage.noop_compute_log_manager import NoOpComputeLogManager
from dagster._serdes import ConfigurableClassData

from hc_orchestration.dagster_sqlite import kept_open
from hc_orchestration.errors import DagsterStoreError
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.settings import Settings

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
_INTERRUPTED = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
_LOGIN = ("authentication failed", "no password supplied", "pg_hba.conf", 'role "')
_log = logging.getLogger(__name__)
_STOP = (signal.SIGINT, signal.SIGTERM)


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


@contextmanager
def dagster_instance() -> Iterator[dg.DagsterInstance]:
    """The Dagster instance of DAGSTER_HOME.

    Raises:
        DagsterStoreError: Its database is away or refuses the login. The words are ours: a driver's
            may quote the URL, and that holds the password.
    """
    try:
        home = InstanceRef.from_dir(os.environ["DAGSTER_HOME"])
        instance = dg.DagsterInstance.from_ref(kept_open(_uncaptured(home)))
    except Exception as error:
        causes = list(_causes(error))
        if not any(type(cause).__name__ == "OperationalError" for cause in causes):
            raise
        raise _unopened(" ".join(map(str, causes))) from None
    with instance:
        yield instance


def _uncaptured(home: InstanceRef) -> InstanceRef:
    """The same instance, not keeping what its runs print: that is for this process's terminal.

    Dagster keeps it in files by default, with four more processes a run. A team's own choice stays.
    """
    if home.compute_logs_data.class_name != "LocalComputeLogManager":
        return home
    module, kept = NoOpComputeLogManager.__module__, NoOpComputeLogManager.__name__
    return home._replace(compute_logs_data=ConfigurableClassData(module, kept, "{}"))


def make_dagster_stores() -> None:
    """Touch every store of a new instance, so that web server and daemon do not race to make it."""
    with dagster_instance() as instance:
        instance.get_runs(limit=1)
        instance.all_asset_keys()
        instance.all_instigator_state()


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and all that it came from."""
    while error is not None:
        yield error
        error = error.__cause__


def _unopened(words: str) -> DagsterStoreError:
    if any(word in words for word in _LOGIN):
        remedy = "mend user and password where dagster.yaml takes them from"
        return DagsterStoreError("refuses the login", remedy)
    return DagsterStoreError("cannot be reached", "start it, or mend its URL")


def new_run_id() -> str:
    """An id for a Dagster run that is not begun yet."""
    return str(uuid.uuid4())


class InProcessRuns:
    """Runs jobs one after the other, and closes its own runs whatever happens."""

    def __init__(
        self,
        definitions: dg.Definitions,
        instance: dg.DagsterInstance,
        settings: Settings | None = None,
    ) -> None:
        """Use the jobs of `definitions` and record in `instance`.

        With the settings of the deployment, the evaluations of its runs are closed too.
        """
        self._definitions = definitions
        self._instance = instance
        self._settings = settings
        # The daemon cannot run again what it did not launch.
        self._tags = {
            "hc.launcher": "hc",
            "dagster/max_retries": "0",
            **ProcessIdentity.current().as_tags(),
        }

    def run(
        self, job: str, partition_key: str | None = None, run_id: str | None = None
    ) -> RunOutcome:
        """Run a job to its end.

        Args:
            job: Its name.
            partition_key: Of a job over partitions.
            run_id: The id that its Dagster run is to have, if that is told.

        Raises:
            BaseException: Whatever ended the run from outside of it; its Dagster run is closed.
        """
        definition = self._definitions.resolve_job_def(job)
        run_id = run_id or new_run_id()
        with _signals() as signals:
            try:
                result = definition.execute_in_process(
                    instance=self._instance,
                    partition_key=partition_key,
                    raise_on_error=False,
                    run_config=_QUIET,
                    tags={**self._tags, **ProcessIdentity.current().as_tags_of(run_id)},
                    run_id=run_id,
                )
            except BaseException as error:
                self.close()
                interrupted = bool(signals()) or isinstance(error, KeyboardInterrupt)
                self._close_evaluation(run_id, interrupted=interrupted)
                raise
            failures = [event for event in result.all_events if event.is_step_failure]
            errors = [event.step_failure_data.error for event in failures]
            names = {name for error in errors for name in _class_names(error)}
            interrupted = bool(signals()) or bool(names & _INTERRUPTED)
            if not result.success:
                self._close_evaluation(run_id, interrupted=interrupted)
            interrupted = interrupted or bool(signals())
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

    def close_dead(self, run_id: str, why: str) -> RunOutcome:
        """Close what is left open of a run whose process died."""
        run = self._instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            self._instance.report_run_failed(run, why)
        self._close_evaluation(run_id, interrupted=False)
        return RunOutcome(run_id, success=False, error=why, interrupted=False)

    def _close_evaluation(self, run_id: str, *, interrupted: bool) -> None:
        """Close the evaluation that a run left open, here and in MLflow.

        What goes wrong meanwhile must not hide how the run ended; sensors and doctor catch up.
        """
        run = self._instance.get_run_by_id(run_id)
        if self._settings is None or run is None:
            return
        try:
            self._close_evaluation_of(run, self._settings, interrupted=interrupted)
        except Exception as error:  # noqa: BLE001
            _log.warning("run %s: closing its evaluation: %s", run_id, type(error).__name__)

    @staticmethod
    def _close_evaluation_of(run: dg.DagsterRun, settings: Settings, *, interrupted: bool) -> None:
        from hc_orchestration.resources.closing import close_evaluation, evaluation_of_run
        from hc_orchestration.resources.workspace import mlflow_projection
        from hc_orchestration.storage.records import Status
        from hc_orchestration.storage.workspace import Workspace

        workspace = Workspace(settings)
        record = evaluation_of_run(workspace.records, run)
        if record is None:
            return
        projection = mlflow_projection(settings.tracking_uri, workspace)
        ended = Status.KILLED if interrupted else run.status
        close_evaluation(workspace.records, projection, record, ended)


@contextmanager
def _signals() -> Iterator[Callable[[], frozenset[int]]]:
    """Gives a function that names the signals to stop that have arrived so far.

    Dagster puts handlers of its own in place while it runs a job, and an exception may be swallowed
    or replaced by whatever it interrupts. What Python writes to the wakeup socket depends on
    neither. Afterwards the handlers are those from before: Dagster leaves its own for SIGTERM.
    """
    arrived: set[int] = set()
    if threading.current_thread() is not threading.main_thread():
        yield lambda: frozenset(arrived)
        return
    handlers = {number: signal.getsignal(number) for number in _STOP}
    reader, writer = socket.socketpair()
    with reader, writer:
        reader.settimeout(0)
        writer.settimeout(0)
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)

        def so_far() -> frozenset[int]:
            with suppress(BlockingIOError):
                while numbers := reader.recv(4096):
                    arrived.update(number for number in numbers if number in _STOP)
            return frozenset(arrived)

        try:
            yield so_far
        finally:
            signal.set_wakeup_fd(before)
            for number, handler in handlers.items():
                signal.signal(number, handler)


def _class_names(error: object) -> Iterator[str]:
    """The classes of an error and of all that it came from, or happened while it was handled."""
    if error is None:
        return
    yield getattr(error, "cls_name", "") or ""
    yield from _class_names(getattr(error, "cause", None))
    yield from _class_names(getattr(error, "context", None))


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
