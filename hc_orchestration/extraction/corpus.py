"""Extracting a model's entities for the notes of a corpus version that it has no row for yet."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from hc_orchestration.extraction.local import extract_batches
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.store import InstalledModel
from hc_orchestration.storage.entities import EntityTables

NOTES_A_BATCH = 256
_PROGRESS_EVERY_S = 2.0
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ExtractionOutcome:
    """What one extraction did.

    Attributes:
        reused: Notes that had a row already.
        extracted: Notes that were given to the model now.
        seconds: Time in the model and in storing its rows, loading it left out; 0 if nothing ran.
        device: Where the model ran ("cpu", "cuda:0"); None if nothing ran.
    """

    reused: int
    extracted: int
    seconds: float
    device: str | None = None


def extract_corpus(
    installed: InstalledModel,
    corpus_version: int,
    entities: EntityTables,
    locks: Path,
) -> ExtractionOutcome:
    """Store a row for every note of a corpus version that has none for this model.

    Rows are committed batch by batch, so that a killed extraction goes on where it stopped. One
    writer per model and machine at a time: a second one waits and then finds nothing to do; writers
    on other machines are kept apart by the tables themselves.

    Args:
        installed: The model.
        corpus_version: Version of the notes table.
        entities: The tables.
        locks: Folder of lock files.

    Raises:
        ModelError: The model cannot be loaded, or fails on a note.
    """
    key, fingerprint = installed.entry.key, installed.fingerprint
    locks.mkdir(parents=True, exist_ok=True)
    with FileLock(locks / f"extract-{key}.lock"):
        missing = entities.missing(key, fingerprint, corpus_version)
        reused = entities.count(key, fingerprint, corpus_version)
        if missing.is_empty():
            return ExtractionOutcome(reused, 0, 0.0)
        model = load_model(installed)
        begun = told = time.perf_counter()
        done = 0
        texts = entities.texts(missing, corpus_version, NOTES_A_BATCH)
        for rows in extract_batches(model, texts):
            entities.insert(key, fingerprint, rows)
            done += len(rows)
            if (now := time.perf_counter()) - told > _PROGRESS_EVERY_S:
                told = now
                rate = done / (now - begun)
                _log.info("%s: %d of %d notes, %.0f notes/s", key, done, missing.height, rate)
        return ExtractionOutcome(reused, done, time.perf_counter() - begun, model.device)
