"""The Ray engine: the notes table streamed by Ray Data through actors that hold the model.

For a corpus larger than one machine (extra `ray`). Every node needs this package, the model's
files at the same path, and the storage; rows come back to the driver, which commits them. Every
task and actor of ours counts for next to no CPU, so that nothing waits for what never gets free.
"""

import os
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Self

import polars as pl

from hc_orchestration.errors import ConfigurationError, HcError, ModelError
from hc_orchestration.extraction.batches import length_aware
from hc_orchestration.extraction.local import extract_batch
from hc_orchestration.extraction.results import Extracted, Failed
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.predictions import NoteText
from hc_orchestration.models.store import InstalledModel

if TYPE_CHECKING:
    import pyarrow as pa

_SHARE = 0.01
"""The CPUs that Ray counts for an actor or a reader, whatever it computes on.

An actor keeps its share to the end. Were that a CPU or a half, actors could hold what the readers
need, or what those of a lost node need to start elsewhere, and all would wait for ever.
"""

_TASK_BYTES = 100_000
"""Of the notes of a task: what is repeated when an actor dies, and waited for at the end."""

_NOTES_A_READ = 32
_ACTORS_A_READER = 8
_AHEAD = 2
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
        ready_at: When the first actor that answered had loaded the model (`time.perf_counter`).
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

        arguments = (self._installed, self._files, self._note_ids, self.processes)
        left = set(self._note_ids)
        try:
            batches = _told_by_client(arguments) if _through_client() else _batches(*arguments)
            for result in chain.from_iterable(batches):
                extracted = self._extracted(result)
                left.difference_update(extracted.entities.note_ids)
                left.difference_update(note.note_id for note in extracted.unprocessed)
                yield extracted
        except ray.exceptions.RayError as error:
            message = (
                f"model {self._installed.entry.key}: Ray ended the extraction "
                f"({type(error).__name__}). Rows that were committed are not run again; if it "
                "happens again, `extraction: {engine: local}` names the note."
            )
            raise ModelError(message) from None
        if left:
            message = (
                f"model {self._installed.entry.key}: Ray lost {len(left)} notes on the way. The "
                "others are stored and will not be run again: materialize extracted_entities again."
            )
            raise ModelError(message)

    def _extracted(self, result: "_Result") -> Extracted:
        if isinstance(result.found, Failed):
            raise ModelError(result.found.message)
        if self.ready_at is None:
            self.device, self.ready_at = result.device, time.perf_counter() - result.seconds
        return result.found


@dataclass(frozen=True, slots=True)
class _Result:
    """What an actor found.

    Attributes:
        device: Where the model runs.
        seconds: How long ago it was loaded when this was sent: the actor's clock is not ours.
    """

    found: Extracted | Failed
    device: str | None = None
    seconds: float = 0.0


def _through_client() -> bool:
    from ray.util import client

    connected: Callable[[], bool] = client.ray.is_connected
    return connected()


def _told_by_client(arguments: tuple[Any, ...]) -> Iterator[list[_Result]]:
    """What `_batches` gives on a node of the cluster: Ray Data does not run behind Ray Client."""
    import ray

    stream: Any = ray.remote(_Batches).options(num_cpus=_SHARE).remote(*arguments)
    coming = stream.next.remote()
    while batch := ray.get(coming):
        coming = stream.next.remote()
        yield batch


class _Batches:
    """An actor that runs `_batches` for a client; it ends with the connection, and all it began."""

    def __init__(self, *arguments: Any) -> None:  # noqa: ANN401 - those of `_batches`
        self._batches = _batches(*arguments)

    def next(self) -> list[_Result]:
        """The next results; none at the end."""
        return next(self._batches, [])


def _batches(
    installed: InstalledModel, files: list[str], note_ids: Sequence[str], actors: int
) -> Iterator[list[_Result]]:
    """Read the wanted notes, give them to actors, and yield what these find, task by task."""
    import ray
    from ray.data import ActorPoolStrategy, DataContext, TaskPoolStrategy, from_items

    wanted = [ray.put(pl.Series("note_id", note_ids))]
    context = DataContext.get_current().copy()
    context.enable_progress_bars = False
    context.issue_detectors_config.detectors = []  # they warn of memory that is not asked for
    context.target_max_block_size = _TASK_BYTES
    with DataContext.current(context):
        notes = from_items(files, override_num_blocks=len(files)).map_batches(
            _read,  # type: ignore[arg-type]  # it takes one argument more
            fn_args=(wanted,),
            batch_size=1,
            compute=TaskPoolStrategy(size=1 + actors // _ACTORS_A_READER),
            num_cpus=_SHARE,
        )
        results = notes.map_batches(
            _Extracting,
            fn_constructor_args=(installed,),
            batch_format="pyarrow",
            batch_size=None,
            compute=ActorPoolStrategy(size=actors, max_tasks_in_flight_per_actor=_AHEAD),
            num_cpus=_SHARE,
            max_restarts=_RESTARTS,
            max_task_retries=_TRIES_AGAIN,
        )
    for batch in results.iter_batches(batch_size=None, batch_format="numpy"):
        yield list(batch["result"])


def _read(files: dict[str, Any], wanted: list[Any]) -> Iterator["pa.Table"]:
    """Read the wanted notes of the table's files, as the table itself is read.

    What a lost node held of this, Ray has read again and takes by its place: the same notes must
    come in the same portions each time.
    """
    import ray

    ids: pl.Series = ray.get(wanted[0])
    for file in files["item"]:
        notes = pl.scan_parquet(file).select("note_id", "text", "text_sha256")
        rest: pl.DataFrame | None = None
        for frame in notes.filter(pl.col("note_id").is_in(ids)).collect_batches():
            rows = frame if rest is None else pl.concat([rest, frame])
            whole = rows.height - rows.height % _NOTES_A_READ
            for part in rows.head(whole).iter_slices(_NOTES_A_READ):
                yield part.to_arrow()
            rest = rows.slice(whole)
        if rest is not None and not rest.is_empty():
            yield rest.to_arrow()


class _Extracting:
    """An actor: loads the model once, then packs the spans of each block of notes."""

    def __init__(self, installed: InstalledModel) -> None:
        self._failed: Failed | None = None
        try:
            self._model = load_model(installed)
        except HcError as error:  # raised here, Ray would start the actor again and again
            self._failed = Failed(str(error))
        self._ready_at = time.perf_counter()

    def __call__(self, notes: "pa.Table") -> dict[str, list[Any]]:
        if self._failed is not None:
            return {"result": [_Result(self._failed)]}
        columns = (notes[name].to_pylist() for name in ("note_id", "text", "text_sha256"))
        window = [NoteText(*row) for row in zip(*columns, strict=True)]
        found: list[Extracted | Failed] = []
        try:
            found.extend(extract_batch(self._model, batch) for batch in length_aware([window]))
        except HcError as error:
            found.append(Failed(str(error)))
        except Exception as error:  # noqa: BLE001 - its words may quote a note
            found.append(Failed(f"an actor failed ({type(error).__name__})."))
        seconds = time.perf_counter() - self._ready_at
        return {"result": [_Result(result, self._model.device, seconds) for result in found]}
