"""Upkeep: fewer files, the same rows, and every version that a record names as it was."""

import os
import time
from datetime import timedelta
from pathlib import Path

import pytest
from deltalake import DeltaTable

from hc_orchestration.corpora.notes import text_digest
from hc_orchestration.errors import StorageError
from hc_orchestration.models.predictions import NoteEntities
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.entities import entities_table
from hc_orchestration.storage.records import EvaluationRecord
from hc_orchestration.storage.upkeep import Tidied, tidy_tables
from hc_orchestration_tests.storage.parts import extraction_part, inputs_part
from hc_orchestration_tests.storage.test_entities import KEY, Stored

NOTES = {f"n{number}": f"text {number}" for number in range(12)}
LONG_AGO_S = timedelta(days=60).total_seconds()


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    """Twelve notes and the entities of each in a commit and a file of its own."""
    made = Stored(tmp_path)
    made.ingest(**NOTES)
    for name, text in NOTES.items():
        made.entities.insert(KEY, "f1", [NoteEntities(name, text_digest(text), ())])
    return made


def store(folder: Path) -> DeltaStore:
    return DeltaStore(str(folder / "tables"), folder / "locks")


def record(stored: Stored, entities_version: int) -> EvaluationRecord:
    corpus = stored.corpus.required()
    return EvaluationRecord(
        evaluation_id="e1",
        model_key=KEY,
        inputs=inputs_part(corpus_version=corpus.version),
        extraction=extraction_part(entities_version=entities_version),
    )


def tidied(folder: Path, stored: Stored, *records: EvaluationRecord, days: int) -> Tidied:
    done = tidy_tables(store(folder), records, stored.corpus.versions(), days)
    return next(one for one in done if one.table == f"entities/{KEY}")


def notes_at(folder: Path, version: int | None) -> int:
    return store(folder).scan(entities_table(KEY), version).collect().height


def test_small_files_become_one_and_the_rows_stay(stored: Stored, tmp_path: Path) -> None:
    before = store(tmp_path).scan(entities_table(KEY)).sort("note_id").collect()
    done = tidied(tmp_path, stored, record(stored, 3), days=7)

    assert (done.files, done.compacted, done.deleted) == (12, 12, 0)
    assert store(tmp_path).files(entities_table(KEY)) == 1
    assert store(tmp_path).scan(entities_table(KEY)).sort("note_id").collect().equals(before)


def test_version_that_a_record_names_is_read_after_the_rest_is_deleted(
    stored: Stored, tmp_path: Path
) -> None:
    done = tidied(tmp_path, stored, record(stored, 3), days=0)

    assert (done.kept_versions, done.deleted) == (1, 9)  # of 12, version 3 has three
    assert notes_at(tmp_path, 3) == 3
    assert notes_at(tmp_path, None) == 12
    with pytest.raises((StorageError, FileNotFoundError)):
        notes_at(tmp_path, 8)


def test_what_was_in_use_of_late_stays_without_a_record(stored: Stored, tmp_path: Path) -> None:
    assert tidied(tmp_path, stored, record(stored, 3), days=1).deleted == 0
    assert notes_at(tmp_path, 8) == 8


def test_every_stored_corpus_stays_with_its_quarantine(stored: Stored, tmp_path: Path) -> None:
    for text in ("second", "third"):
        stored.ingest(**{**NOTES, "n0": text})
    tidied(tmp_path, stored, record(stored, 12), days=0)

    versions = stored.corpus.versions()
    assert len(versions) == 3
    for corpus in versions:
        assert stored.corpus.notes(corpus.version).collect().height == 12
        assert stored.corpus.quarantine(corpus.quarantine_version).is_empty()


def test_few_files_are_left_alone(tmp_path: Path) -> None:
    made = Stored(tmp_path)
    made.ingest(n1="one")
    made.entities.insert(KEY, "f1", [NoteEntities("n1", text_digest("one"), ())])
    assert tidied(tmp_path, made, record(made, 1), days=0).compacted == 0


def test_old_versions_are_read_however_long_ago_they_were_written(
    stored: Stored, tmp_path: Path
) -> None:
    """Delta's own clean-up forgets versions of more than 30 days at the next checkpoint."""
    uri = tmp_path / "tables" / "entities" / KEY
    long_ago = time.time() - LONG_AGO_S
    for file in (uri / "_delta_log").iterdir():
        os.utime(file, (long_ago, long_ago))
    table = DeltaTable(uri)
    table.create_checkpoint()
    table.cleanup_metadata()

    assert notes_at(tmp_path, 3) == 3
    assert stored.entities.count(KEY, "f1", stored.corpus.required().version) == 12
