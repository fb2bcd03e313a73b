"""Opening runs in one experiment of one store, and logging into the current one.

Only `MlflowClient` and explicit ids are used. The current run is a context variable, so threads and
asyncio tasks have their own; nothing happens at exit, and a run left open there says by its tags
which process is dead.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from hc_orchestration.errors import TrackingError
from hc_orchestration.healthcare.contexts import HealthcareRunContext
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.tracking.config import (
    DEFAULT_EXPERIMENT,
    Fitter,
    MLFlowConfig,
    OnUnavailable,
    is_mlflow_available,
)
from hc_orchestration.tracking.open_runs import enter, leave, open_runs, runs_here
from hc_orchestration.tracking.run import TrackedRun, warn_once
from hc_orchestration.tracking.sections import SectionLock
from hc_orchestration.tracking.writer import RETRY_AFTER_S, Connection, Writer

TRACKED = "tracked"
INFERENCE = "inference"


class MLFlowTracker:
    """Opens runs in one experiment of one store, and logs into the current one."""

    def __init__(self, config: MLFlowConfig | None = None) -> None:
        """Track as `config` says; nothing is opened before the first run."""
        self.config = config or MLFlowConfig()
        self._lock = SectionLock()
        self._connection: Connection | None = None
        self._next_try = 0.0

    @classmethod
    def from_config(cls, config: MLFlowConfig) -> Self:
        """A tracker for `config`."""
        return cls(config)

    def __reduce__(self) -> tuple[type[Self], tuple[MLFlowConfig]]:
        """Pickled (as spaCy does for worker processes) as its configuration."""
        return type(self), (self.config,)

    @contextmanager
    def start_run(
        self,
        run_name: str | None = None,
        tags: Mapping[str, object] | None = None,
        nested: bool = False,  # noqa: FBT001, FBT002 - MLflow's own signature
        description: str | None = None,
    ) -> Iterator[TrackedRun]:
        """A run as long as the code inside, and the current one there.

        Inside another run of the same experiment it becomes that one's child, and the other goes on
        afterwards; so it does inside a run of another experiment of the store if `nested`.

        Args:
            run_name: Shown by MLflow, which makes one up by default.
            tags: Beside those of the configuration.
            nested: Whether to become a child also of a run in another experiment.
            description: Markdown, shown at the top of the run's page.

        Yields:
            The run, with the same log methods, which also work in other threads.

        Raises:
            TrackingError: The store is away and the configuration says that this is an error.
        """
        note = {"mlflow.note.content": description} if description else {}
        run = self.open_run(run_name, {**note, **(tags or {})}, nested=nested)
        with run.lifetime():
            enter(run)
            try:
                yield run
            finally:
                leave(run)

    def open_run(
        self,
        run_name: str | None = None,
        tags: Mapping[str, object] | None = None,
        *,
        nested: bool = False,
        kind: str = TRACKED,
    ) -> TrackedRun:
        """A run that its caller closes, and makes the current one if it is to be.

        Raises:
            TrackingError: The store is away and the configuration says that this is an error.
        """
        all_tags = {
            **self.config.tags,
            **self._parent_tag(nested=nested),
            **(tags or {}),
            **ProcessIdentity.current().as_tags(),
            "hc.kind": kind,
        }
        fitter = Fitter(self.config.limits)
        fitted = fitter.tags(all_tags)
        if (connection := self._connected()) is not None:
            open_runs.watch()
            try:
                return self._create(connection, fitter, run_name, fitted)
            except TrackingError as error:
                self._unavailable(str(error))
            finally:
                open_runs.relax()
        return TrackedRun(self.config, fitter, run_name)

    def current_run(self) -> TrackedRun | None:
        """The innermost open run of this thread or task in the tracker's experiment, if any."""
        mine = [run for run in runs_here() if run.config.key == self.config.key]
        return mine[-1] if mine else None

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Log one value of a metric into the current run; see `TrackedRun.log_metrics`."""
        self._active().log_metric(name, value, step)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log metrics into the current run; see `TrackedRun.log_metrics`."""
        self._active().log_metrics(metrics, step)

    def log_param(self, name: str, value: object) -> None:
        """Log one param into the current run; see `TrackedRun.log_params`."""
        self._active().log_param(name, value)

    def log_params(self, params: Mapping[str, object]) -> None:
        """Log params into the current run; see `TrackedRun.log_params`."""
        self._active().log_params(params)

    def set_tag(self, name: str, value: object) -> None:
        """Set one tag of the current run."""
        self._active().set_tag(name, value)

    def set_tags(self, tags: Mapping[str, object]) -> None:
        """Set tags of the current run."""
        self._active().set_tags(tags)

    def log_artifact(self, local_path: str | Path, artifact_path: str | None = None) -> None:
        """Copy a file to the artifacts of the current run."""
        self._active().log_artifact(local_path, artifact_path)

    def log_artifacts(self, local_dir: str | Path, artifact_path: str | None = None) -> None:
        """Copy what is in a folder to the artifacts of the current run."""
        self._active().log_artifacts(local_dir, artifact_path)

    def log_dict(self, dictionary: Mapping[str, Any], artifact_file: str) -> None:
        """Log values as a JSON artifact of the current run."""
        self._active().log_dict(dictionary, artifact_file)

    def log_text(self, text: str, artifact_file: str) -> None:
        """Log a text as an artifact of the current run."""
        self._active().log_text(text, artifact_file)

    def log_healthcare_context(self, context: HealthcareRunContext) -> None:
        """Log a healthcare context into the current run; see `TrackedRun`."""
        self._active().log_healthcare_context(context)

    def get_run_id(self) -> str | None:
        """MLflow's id of the current run; None without one, or when it is untracked."""
        run = self.current_run()
        return None if run is None else run.run_id

    def get_artifact_uri(self) -> str | None:
        """Where the artifacts of the current run are; None without one, or when untracked."""
        run = self.current_run()
        return None if run is None else run.artifact_uri

    def get_experiment_id(self) -> str:
        """MLflow's id of the experiment, which is made if it is not there.

        Raises:
            TrackingError: The store cannot be reached.
        """
        return self._open_store().experiment

    def list_experiments(self) -> list[dict[str, Any]]:
        """The experiments of the store as plain values.

        Raises:
            TrackingError: The store cannot be reached.
        """
        found = self._open_store().call(lambda client: client.search_experiments())
        return [
            {
                "experiment_id": experiment.experiment_id,
                "name": experiment.name,
                "artifact_location": experiment.artifact_location,
                "tags": dict(experiment.tags),
            }
            for experiment in found
        ]

    def list_runs(self, filter_string: str = "", max_results: int = 100) -> list[dict[str, Any]]:
        """The newest runs of the experiment as plain values.

        Args:
            filter_string: In MLflow's search language, such as `attributes.status = 'FAILED'`.
            max_results: At most so many.

        Raises:
            TrackingError: The store cannot be reached.
        """
        store = self._open_store()
        found = store.call(
            lambda client: client.search_runs([store.experiment], filter_string, 1, max_results)
        )
        return [
            {
                "run_id": run.info.run_id,
                "run_name": run.info.run_name,
                "status": run.info.status,
                "start_time": run.info.start_time,
                "end_time": run.info.end_time,
                "params": dict(run.data.params),
                "metrics": dict(run.data.metrics),
                "tags": dict(run.data.tags),
            }
            for run in found
        ]

    def _active(self) -> TrackedRun:
        if (run := self.current_run()) is not None:
            return run
        message = (
            f"no run of experiment {self.config.experiment_name!r} is active here. Log inside "
            "`with tracker.start_run() as run:`; in another thread, call the methods of `run`."
        )
        raise TrackingError(message)

    def _parent_tag(self, *, nested: bool) -> dict[str, str]:
        """Names the innermost open run of the experiment (if `nested`, of the store)."""
        for run in reversed(runs_here()):
            same_store = run.config.tracking_uri == self.config.tracking_uri
            same = run.config.key == self.config.key or (nested and same_store)
            if same and run.run_id is not None:
                return {"mlflow.parentRunId": run.run_id}
        return {}

    def _connected(self) -> Connection | None:
        """The open store, or None while it is away and that is no error."""
        strict = self.config.on_unavailable is OnUnavailable.ERROR
        if not strict and time.monotonic() < self._next_try:
            return None
        try:
            return self._open_store()
        except TrackingError as error:
            self._unavailable(str(error))
            return None

    def _open_store(self) -> Connection:
        with self._lock:
            if not is_mlflow_available():
                message = "mlflow is not installed (pip install mlflow)."
                raise TrackingError(message)
            if self._connection is None:
                self._connection = Connection(self.config.store, self.config)
            return self._connection

    def _unavailable(self, reason: str) -> None:
        """Warn once a process, or raise; then the store is left alone for a while.

        Raises:
            TrackingError: The configuration says so.
        """
        if self.config.on_unavailable is OnUnavailable.ERROR:
            raise TrackingError(reason) from None
        self._next_try = time.monotonic() + RETRY_AFTER_S
        warn_once(
            f"unavailable {self.config.tracking_uri}",
            f"Runs are not tracked: {reason} Your code runs all the same; the store is tried again "
            f"every {RETRY_AFTER_S:.0f} s.",
        )

    def _create(
        self, connection: Connection, fitter: Fitter, name: str | None, tags: dict[str, str]
    ) -> TrackedRun:
        with self._lock, open_runs.making_one():  # SIGTERM waits for the run to be in the list
            made = connection.call(
                lambda client: client.create_run(connection.experiment, run_name=name, tags=tags)
            ).info
            writer = Writer(connection, made.run_id)
            run = TrackedRun(self.config, fitter, made.run_name, writer, made.artifact_uri)
            open_runs.add(run)
            return run


_shared: dict[tuple[str, str], MLFlowTracker] = {}
_shared_lock = SectionLock()


def shared_tracker(experiment: str | None = None, tracking_uri: str | None = None) -> MLFlowTracker:
    """The process's one tracker for a store and an experiment, so that it is opened once."""
    stored = {} if tracking_uri is None else {"tracking_uri": tracking_uri}
    config = MLFlowConfig(experiment_name=experiment or DEFAULT_EXPERIMENT, **stored)
    with _shared_lock:
        return _shared.setdefault(config.key, MLFlowTracker(config))
