"""The Ray engine: the notes table streamed by Ray Data through actors that hold the model.

For a corpus larger than one machine (extra `ray`). Every node needs this package, the model's
files at the same path, and the storage; rows come back to the driver, which commits them.
"""

import os
import time
from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING, Any, Self

from hc_orchestration.errors import ConfigurationError, HcError, ModelError
from hc_orchestration.extraction.batches import length_aware
from hc_orchestration.extraction.local import extract_batch
from hc_orchestration.extraction.results import Extracted, Failed
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.predictions import NoteText
from hc_orchestration.models.store import InstalledModel

if TYPE_CHECKING:
    import pyarrow as pa

_ACTOR_CPUS = 0.5
_READER_CPUS = 0.25

_NOTES_A_TASK = 256
_TRIES_AGAIN = 3
_RESTARTS = 20


class RayEngine:
    """Runs a model over the notes of a table on a Ray cluster.

    A cluster that this process is connected to already (by dagster-ray's resources, say) is used as
    it is. A lost actor or node is replaced by Ray and its notes are read again; the driver's merge
    keeps each row once. A batch that ended several actors ends the extraction; Ray does not tell
    which note it was, but the local engine does.

    Attributes:
        device: Where the model runs; None before the first rows.
        ready_at: When the cluster was asked to begin (`time.perf_counter`); None before.
        processes: How many actors hold the model.
        lost: Ray keeps this count to itself.
        here: Never this process.
    """

    lost = 0
    here = False

    def __init__(
        self,
        installed: InstalledModel,
        files: Sequence[str],
        note_ids: Sequence[str],
        address: str | None,
        actors: int | None,
    ) -> None:
        """Connect to nothing yet.

        Args:
            installed: The model.
            files: URIs of the notes table's Parquet files, as every node reads them.
            note_ids: The notes to extract.
            address: Of the cluster; None starts one on this machine, for this extraction only.
            actors: How many hold the model; None: one for each CPU of the cluster.
        """
        self.device: str | None = None
        self.ready_at: float | None = None
        self._installed = installed
        self._files = list(files)
        self._note_ids = note_ids
        self._address = address
        self.processes = actors or 0
        self._ours = False

    def __enter__(self) -> Self:
        """Connect to the cluster, or start one.

        Raises:
            ConfigurationError: Ray is not installed, or does not answer at the address.
        """
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is told to anybody
        try:
            import ray
            import ray.data
        except ImportError:
            message = "the Ray engine needs the extra `ray`, which is not installed."
            raise ConfigurationError(message) from None
        if not ray.is_initialized():
            options: dict[str, Any] = {"address": self._address or "local", "log_to_driver": False}
            if self._address is None:
                options["include_dashboard"] = False
            try:
                ray.init(**options, configure_logging=False)
            except (ConnectionError, RuntimeError, ValueError) as error:
                where = self._address or "this machine"
                message = f"Ray cannot be used at {where} ({type(error).__name__})."
                raise ConfigurationError(message) from None
            self._ours = True
        total: Callable[[], dict[str, float]] = ray.cluster_resources
        cpus = int(total().get("CPU", 1))
        self.processes = self.processes or max(1, cpus)
        self._share = actor_share(cpus, self.processes)
        self.ready_at = time.perf_counter()
        return self

    def __exit__(self, *details: object) -> None:
        """Leave the cluster; one that was started here ends."""
        import ray

        if self._ours:
            ray.shutdown()

    def extract(self) -> Generator[Extracted]:
        """Yield the entities of each batch as the cluster gives them; it waits while we commit.

        Raises:
            ModelError: The model cannot be loaded, broke its contract, or ended several actors.
        """
        import ray
        from ray.data import ActorPoolStrategy, DataContext, read_parquet

        DataContext.get_current().enable_progress_bars = False
        wanted = ray.put(frozenset(self._note_ids))
        notes = (
            read_parquet(self._files, num_cpus=_READER_CPUS)
            .select_columns(["note_id", "text", "text_sha256"])
            .repartition(target_num_rows_per_block=_NOTES_A_TASK)  # else a file is one actor's
        )
        results = notes.map_batches(
            _Extracting,
            fn_constructor_args=(self._installed, [wanted]),
            batch_format="pyarrow",
            batch_size=_NOTES_A_TASK,
            compute=ActorPoolStrategy(size=self.processes),
            num_cpus=self._share,
            max_restarts=_RESTARTS,
            max_task_retries=_TRIES_AGAIN,
        )
        try:
            for row in results.iter_rows():
                yield self._result(row["result"])
        except ray.exceptions.RayError as error:
            message = (
                f"model {self._installed.entry.key}: Ray ended the extraction "
                f"({type(error).__name__}). Rows that were committed are not run again; if it "
                "happens again, `extraction: {engine: local}` names the note."
            )
            raise ModelError(message) from None

    def _result(self, result: tuple[str, Extracted] | Failed) -> Extracted:
        if isinstance(result, Failed):
            raise ModelError(result.message)
        self.device, extracted = result
        return extracted


def actor_share(cpus: int, actors: int) -> float:
    """The CPUs that Ray is to count for an actor, which computes on one whatever it counts.

    Ray Data lists the table's files in a task of a whole CPU, and reads them in others. Actors that
    held all CPUs would wait for these, and these for the actors, for ever.
    """
    return max(0.0, min(_ACTOR_CPUS, (cpus - 1) / actors))


class _Extracting:
    """An actor: loads the model once, then packs the spans of each block of notes."""

    def __init__(self, installed: InstalledModel, wanted: list[Any]) -> None:
        import ray

        self._wanted: frozenset[str] = ray.get(wanted[0])
        self._failed: Failed | None = None
        try:
            self._model = load_model(installed)
        except HcError as error:  # raised here, Ray would start the actor again and again
            self._failed = Failed(str(error))

    def __call__(self, notes: "pa.Table") -> dict[str, list[Any]]:
        if self._failed is not None:
            return {"result": [self._failed]}
        columns = (notes[name].to_pylist() for name in ("note_id", "text", "text_sha256"))
        wanted = [NoteText(*row) for row in zip(*columns, strict=True) if row[0] in self._wanted]
        results: list[Any] = []
        try:
            results.extend(
                (self._model.device, extract_batch(self._model, batch))
                for batch in length_aware([wanted])
            )
        except HcError as error:
            results.append(Failed(str(error)))
        except Exception as error:  # noqa: BLE001 - its words may quote a note
            results.append(Failed(f"an actor failed ({type(error).__name__})."))
        return {"result": results}
