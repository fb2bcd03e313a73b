"""Stored entities: which notes still need a row, and which rows belong to a corpus version."""

from pathlib import Path

import polars as pl
import pytest

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.corpora.notes import text_digest
from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.models.predictions import NoteEntities, NoteText
from hc_orchestration.storage.corpus import CorpusTables
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.entities import EntityTables

KEY = "model-1"
Span = tuple[int, int, str, float | None]


class Stored:
    """Tables in a folder, filled with notes by id and text."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "notes.jsonl"
        store = DeltaStore(str(folder / "tables"), folder / "locks")
        self.corpus = CorpusTables(store)
        self.entities = EntityTables(store, self.corpus)

    def ingest(self, **notes: str) -> int:
        lines = [f'{{"note_id": "{name}", "text": "{text}"}}' for name, text in notes.items()]
        self.file.write_text("\n".join(lines), encoding="utf-8")
        source = CorpusSource(name="ehr", path=str(self.file), format="jsonl")
        return self.corpus.ingest(lambda: Ingestion([source], ["A"])).version


def found(note_id: str, text: str, *spans: Span) -> NoteEntities:
    return NoteEntities(note_id, text_digest(text), spans)


def ids(frame: pl.DataFrame) -> list[str]:
    return sorted(frame["note_id"])


@pytest.fixture
def stored(tmp_path: Path) -> Stored:
    return Stored(tmp_path)


def test_before_any_extraction_every_note_is_missing(stored: Stored) -> None:
    version = stored.ingest(n1="one", n2="two")

    assert ids(stored.entities.missing(KEY, "f1", version)) == ["n1", "n2"]
    assert stored.entities.count(KEY, "f1", version) == 0
    assert stored.entities.version(KEY) is None


def test_spans_come_back_as_they_were_stored(stored: Stored) -> None:
    version = stored.ingest(n1="one", n2="two")

    stored.entities.insert(
        KEY, "f1", [found("n1", "one", (0, 3, "A", 0.5), (1, 2, "B", None)), found("n2", "two")]
    )

    rows = stored.entities.of_corpus(KEY, "f1", version, None).collect()
    assert dict(rows.select("note_id", "spans").iter_rows()) == {
        "n1": [
            {"start": 0, "end": 3, "label": "A", "score": 0.5, "concept": None},
            {"start": 1, "end": 2, "label": "B", "score": None, "concept": None},
        ],
        "n2": [],
    }
    assert stored.entities.missing(KEY, "f1", version).is_empty()


def test_only_a_changed_note_is_missing_again(stored: Stored) -> None:
    stored.ingest(n1="one", n2="two")
    stored.entities.insert(KEY, "f1", [found("n1", "one"), found("n2", "two")])

    version = stored.ingest(n1="one", n2="changed")

    assert ids(stored.entities.missing(KEY, "f1", version)) == ["n2"]
    assert stored.entities.count(KEY, "f1", version) == 1


def test_other_model_files_and_other_models_have_rows_of_their_own(stored: Stored) -> None:
    version = stored.ingest(n1="one")
    stored.entities.insert(KEY, "f1", [found("n1", "one", (0, 1, "A", None))])

    assert ids(stored.entities.missing(KEY, "f2", version)) == ["n1"]
    assert ids(stored.entities.missing("other-1", "f1", version)) == ["n1"]


def test_rows_that_are_there_already_stay_as_they_are(stored: Stored) -> None:
    version = stored.ingest(n1="one", n2="two")
    assert stored.entities.insert(KEY, "f1", [found("n1", "one", (0, 1, "A", None))]) == 1

    again = [found("n1", "one", (0, 3, "B", None)), found("n2", "two")]

    assert stored.entities.insert(KEY, "f1", again) == 1
    rows = stored.entities.of_corpus(KEY, "f1", version, None).sort("note_id").collect()
    assert [[span["label"] for span in spans] for spans in rows["spans"].to_list()] == [["A"], []]


def test_rows_of_notes_that_left_the_corpus_are_not_of_it(stored: Stored) -> None:
    old = stored.ingest(n1="one", n2="two")
    stored.entities.insert(KEY, "f1", [found("n1", "one"), found("n2", "two")])
    new = stored.ingest(n2="two")

    assert ids(stored.entities.of_corpus(KEY, "f1", new, None).collect()) == ["n2"]
    assert ids(stored.entities.of_corpus(KEY, "f1", old, None).collect()) == ["n1", "n2"]


def test_an_old_version_of_the_entities_can_be_read(stored: Stored) -> None:
    version = stored.ingest(n1="one", n2="two")
    stored.entities.insert(KEY, "f1", [found("n1", "one")])
    early = stored.entities.version(KEY)
    stored.entities.insert(KEY, "f1", [found("n2", "two")])

    assert ids(stored.entities.of_corpus(KEY, "f1", version, early).collect()) == ["n1"]


def test_texts_are_streamed_in_batches_of_the_wanted_notes_only(stored: Stored) -> None:
    notes = {f"n{number}": f"text {number}" for number in range(7)}
    version = stored.ingest(**notes)
    wanted = pl.DataFrame({"note_id": [f"n{number}" for number in range(5)]})

    batches = list(stored.entities.texts(wanted, version, 2))

    assert max(map(len, batches)) <= 2
    given = {text for batch in batches for text in batch}
    assert given == {
        NoteText(name, notes[name], text_digest(notes[name])) for name in wanted["note_id"]
    }
    assert sum(map(len, batches)) == 5
