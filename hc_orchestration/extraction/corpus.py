"""Extracting a model's entities for the notes of a corpus version that it has no row for yet."""

import logging
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol, Self

import polars as pl
from filelock import FileLock, Timeout

from hc_orchestration.errors import ModelError
from hc_orchestration.extraction.batches import NOTES_A_WINDOW, length_aware
from hc_orchestration.extraction.commits import Commits
from hc_orchestration.extraction.local import extract_batches
from hc_orchestration.extraction.results import Extracted, Unprocessed
from hc_orchestration.extraction.sizing import Machine, processes_for
from hc_orchestration.extraction.workers import WorkerPool
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.predictions import NoteText
from hc_orchestration.models.store import InstalledModel
from hc_orchestration.storage.entities import EntityTables
from hc_orchestration.study import ExtractionSettings

_PROGRESS_EVERY_S = 2.0
_UNPROCESSED = 10
"""So many notes that a model cannot process are the model's fault; it is not run on the rest."""

_SHOWN = 5
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExtractionOutcome:
    """What one extraction did.

    Attributes:
        reused: Notes that had a row already.
        extracted: Notes that were given to the model now.
        seconds: Time in the model and in storing its rows, loading it left out; 0 if nothing ran.
        device: Where the model ran ("cpu", "cuda:0"); None if nothing ran.
        engine: "local" or "ray".
        processes: How many ran the model; 0 if nothing ran.
        lost: How many of them died and were replaced.
    """

    reused: int
    extracted: int
    seconds: float
    device: str | None = None
    engine: str = "local"
    processes: int = 0
    lost: int = 0


class Engine(Protocol):
    """Runs one model over batches of notes.

    Attributes:
        device: Where the model runs; None before it is loaded.
        ready_at: When it was loaded (`time.perf_counter`); None before.
        lost: How many of its processes died.
        processes: How many hold the model.
        here: Whether this process does, and dies with it.
    """

    device: str | None
    ready_at: float | None
    lost: int
    processes: int
    here: bool

    def __enter__(self) -> Self:
        """Get ready."""
        ...

    def __exit__(self, *details: object) -> None:
        """Let go of everything, whatever it is doing."""
        ...

    def extract(self) -> Generator[Extracted]:
        """Yield the entities of all notes, batch by batch, in any order."""
        ...


class InThisProcess:
    """The engine without processes of its own: the model is loaded here."""

    lost = 0
    processes = 1
    here = True

    def __init__(self, installed: InstalledModel, batches: Iterable[Sequence[NoteText]]) -> None:
        """Load nothing yet."""
        self._batches = batches
        self.device: str | None = None
        self.ready_at: float | None = None
        self._installed = installed

    def __enter__(self) -> Self:
        """Load the model."""
        self._model = load_model(self._installed)
        self.device, self.ready_at = self._model.device, time.perf_counter()
        return self

    def __exit__(self, *details: object) -> None:
        """Nothing is left to end."""

    def extract(self) -> Generator[Extracted]:
        """See `extract_batches`."""
        return extract_batches(self._model, self._batches)


def extract_corpus(
    installed: InstalledModel,
    corpus_version: int,
    entities: EntityTables,
    locks: Path,
    settings: ExtractionSettings,
) -> ExtractionOutcome:
    """Store a row for every note of a corpus version that has none for this model.

    Rows are committed every few seconds, so that a killed extraction goes on where it stopped. One
    writer per model and machine at a time: a second one waits and then finds nothing to do; writers
    on other machines are kept apart by the tables themselves.

    A note that the model cannot process is set aside by its id while the others are done. It has no
    row then, because "no entities" would be untrue, and without it the corpus is not evaluated.

    Args:
        installed: The model.
        corpus_version: Version of the notes table.
        entities: The tables.
        locks: Folder of lock files.
        settings: Which engine, and how many processes.

    Raises:
        ModelError: The model cannot be loaded, broke its contract, or could not process a note; the
            rows of the others are stored.
    """
    key, fingerprint = installed.entry.key, installed.fingerprint
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"extract-{key}.lock"):
        missing = entities.missing(key, fingerprint, corpus_version)
        reused = entities.count(key, fingerprint, corpus_version)
        if missing.is_empty():
            return ExtractionOutcome(reused, 0, 0.0)
        notes = _Missing(entities, corpus_version, missing)
        marker = locks / f"extract-{key}.here"
        engine = _engine(installed, notes, settings, died_here=marker.exists())
        spread = isinstance(engine, WorkerPool) and settings.processes == "auto"
        progress = _Progress(key, missing.height, notes.characters)
        with (
            _all_cores(locks, key) if spread else nullcontext(),
            _marked(marker) if engine.here else nullcontext(),
            engine,
        ):
            with (
                Commits(lambda packed: entities.insert_packed(key, fingerprint, packed)) as commits,
                closing(engine.extract()) as results,
            ):
                for result in results:
                    commits.put(result.entities)
                    progress.told(result, engine.ready_at)
            seconds = time.perf_counter() - (engine.ready_at or 0.0)
        entities.compact(key)
        progress.complain()
        marker.unlink(missing_ok=True)
        return ExtractionOutcome(
            reused=reused,
            extracted=progress.done,
            seconds=seconds,
            device=engine.device,
            engine=settings.engine,
            processes=engine.processes,
            lost=engine.lost,
        )


class _Missing:
    """The notes that have no row yet, read when an engine asks for them."""

    def __init__(self, entities: EntityTables, corpus_version: int, missing: pl.DataFrame) -> None:
        self.ids = missing["note_id"]
        self._windows = entities.texts(missing, corpus_version, NOTES_A_WINDOW)
        self._first = next(self._windows)
        shown = sum(len(note.text) for note in self._first)
        self.characters = shown * missing.height // len(self._first)  # as far as the first tell
        self._entities = entities
        self._corpus_version = corpus_version

    def batches(self) -> Iterator[list[NoteText]]:
        return length_aware(chain([self._first], self._windows))

    def files(self) -> list[str]:
        return self._entities.note_files(self._corpus_version)


def _engine(
    installed: InstalledModel, notes: _Missing, settings: ExtractionSettings, *, died_here: bool
) -> Engine:
    """What the study asks for; a model that its process died of gets one of its own."""
    told = settings.processes if isinstance(settings.processes, int) else None
    if settings.engine == "ray":
        from hc_orchestration.extraction.ray_engine import RayEngine

        return RayEngine(installed, notes.files(), notes.ids.to_list(), settings.ray_address, told)
    processes = told or processes_for(
        installed.entry.loader, installed.size, len(notes.ids), notes.characters, Machine.here()
    )
    if processes == 1 and not died_here:
        return InThisProcess(installed, notes.batches())
    return WorkerPool(installed, processes, notes.batches())


@contextmanager
def _all_cores(locks: Path, key: str) -> Iterator[None]:
    """One extraction of a deployment at a time spreads over the cores and memory of a machine."""
    lock = FileLock(locks / "extract.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.info("%s: waits for the cores; another model's extraction has them", key)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _marked(marker: Path) -> Iterator[None]:
    """Leave a mark that only a process that was killed, or crashed, leaves behind."""
    marker.touch()
    try:
        yield
    finally:
        marker.unlink(missing_ok=True)


class _Progress:
    """What is done, told every few seconds, and what could not be."""

    def __init__(self, key: str, notes: int, characters: int) -> None:
        self.done = 0
        self._characters = 0
        self._of_characters = characters
        self._unprocessed: list[Unprocessed] = []
        self._key = key
        self._notes = notes
        self._told_at = time.perf_counter()

    def told(self, result: Extracted, began: float | None) -> None:
        """Count a result.

        Raises:
            ModelError: The model could not process too many notes.
        """
        self.done += len(result.entities.note_ids)
        self._characters += result.characters
        self._unprocessed += result.unprocessed
        if len(self._unprocessed) >= _UNPROCESSED:
            self.complain()
        now = time.perf_counter()
        if began is None or now - self._told_at < _PROGRESS_EVERY_S:
            return
        self._told_at = now
        took = now - began
        left = took * (self._of_characters / max(self._characters, 1) - 1)
        _log.info(
            "%s: %d of %d notes, %.0f notes/s, %s left",
            *(self._key, self.done, self._notes, self.done / took, _minutes(max(left, 0.0))),
        )

    def complain(self) -> None:
        """Raise when the model could not process a note."""
        if not self._unprocessed:
            return
        named = [f"it {note.reason} on note {note.note_id}" for note in self._unprocessed]
        more = len(named) - _SHOWN
        listed = "; ".join(named[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        message = (
            f"model {self._key} could not process {len(named)} of {self._notes} notes: {listed}. "
            f"{self.done} notes are stored and will not be run again. Mend the model, or leave "
            "those notes out of the corpus, and materialize extracted_entities again."
        )
        raise ModelError(message)


def _minutes(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"  # noqa: PLR2004
