"""The stored corpus: when a version is made, what it holds, and what stays readable."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.corpora.ingest import Ingestion
from hc_orchestration.corpora.sources import CorpusSource
from hc_orchestration.errors import CorpusError, StorageError
from hc_orchestration.storage import corpus as corpus_module
from hc_orchestration.storage.corpus import NOTES, CorpusTables, CorpusVersion
from hc_orchestration.storage.delta import DeltaStore

ASTHMA = {
    "note_id": "n1",
    "text": "Asthma since 2001.",
    "note_type": "consult",
    "spans": [
        {"start": 0, "end": 6, "label": "Disease"},
        {"start": 13, "end": 17, "label": "Year"},
    ],
}
CLEAR = {"note_id": "n2", "text": "Nothing found.", "spans": []}
UNREAD = {"note_id": "n3", "text": "Nobody annotated this."}
NO_TEXT = {"note_id": "n4"}


class Deployment:
    """A notes file, and the tables that it is stored in."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "notes.jsonl"
        self.store = DeltaStore(str(folder / "tables"), folder / "locks")
        self.tables = CorpusTables(self.store)

    def write(self, *notes: dict[str, Any]) -> None:
        self.file.write_text("".join(json.dumps(note) + "\n" for note in notes), encoding="utf-8")

    def reading(self) -> Ingestion:
        source = CorpusSource(
            name="ehr", path=str(self.file), format="jsonl", labels={"Disease": "DISEASE"}
        )
        return Ingestion([source], ["DISEASE"])

    def ingest(self, *notes: dict[str, Any]) -> CorpusVersion:
        self.write(*notes)
        return self.tables.ingest(self.reading)

    def texts(self, version: int) -> dict[str, str]:
        return dict(self.tables.notes(version).select("note_id", "text").collect().iter_rows())


@pytest.fixture
def corpus(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def test_notes_are_stored_with_mapped_gold_attributes_and_source(corpus: Deployment) -> None:
    version = corpus.ingest(ASTHMA, CLEAR, UNREAD)

    rows = {
        row["note_id"]: row for row in corpus.tables.notes(version.version).collect().to_dicts()
    }
    assert rows["n1"]["gold"] == [{"start": 0, "end": 6, "label": "DISEASE"}]
    assert rows["n1"]["gold_unmapped"] == 1
    assert rows["n1"]["attributes"] == [{"name": "note_type", "value": "consult"}]
    assert rows["n1"]["source"] == "ehr"
    assert rows["n2"]["gold"] == []
    assert rows["n3"]["gold"] is None


def test_every_record_read_is_counted_once(corpus: Deployment) -> None:
    same_text = {**UNREAD, "note_id": "n5"}
    other_text = {**CLEAR, "text": "Something else."}

    version = corpus.ingest(ASTHMA, CLEAR, UNREAD, CLEAR, other_text, NO_TEXT, same_text)

    digest = version.counts["quarantine_digest"]
    assert version.counts == {
        "read": 7,
        "stored": 4,
        "duplicates": 1,
        "repeated_texts": 0,
        "not_selected": 0,
        "purged": 0,
        "quarantined": 2,
        "annotated": 2,
        "duplicate_texts": 1,
        "gold": {"DISEASE": 1},
        "gold_unmapped": {"Year": 1},
        "gold_discontinuous": 0,
        "gold_quoted": 0,
        "offsets": {"code_point": 2},
        "reasons": {"duplicate_id_different_content": 1, "missing_text": 1},
        "sources": {"ehr": 4},
        "note_types": {"consult": 1},
        "lengths": {"under 500": 4},
        "passed_over": {},
        "selection": {},
        "quarantine_digest": digest,
    }
    assert version.notes == 4
    assert corpus.tables.required().counts == version.counts


def test_an_unchanged_corpus_makes_no_new_version(corpus: Deployment) -> None:
    first = corpus.ingest(ASTHMA, NO_TEXT)
    second = corpus.ingest(ASTHMA, NO_TEXT)

    assert (first.changed, second.changed) == (True, False)
    assert (second.version, second.quarantine_version) == (
        first.version,
        first.quarantine_version,
    )
    assert corpus.store.version(NOTES) == first.version


def test_the_order_of_the_lines_is_no_change(corpus: Deployment) -> None:
    first = corpus.ingest(ASTHMA, CLEAR, UNREAD)
    second = corpus.ingest(UNREAD, ASTHMA, CLEAR)

    assert second.digest == first.digest
    assert not second.changed


def test_another_reject_changes_the_quarantine_and_not_the_notes(corpus: Deployment) -> None:
    first = corpus.ingest(ASTHMA, NO_TEXT)
    second = corpus.ingest(ASTHMA, {"note_id": "n4", "text": " "})

    assert second.changed
    assert second.version == first.version == corpus.store.version(NOTES)
    assert second.digest == first.digest
    reasons = [
        corpus.tables.quarantine(version.quarantine_version)["reason"].to_list()
        for version in (first, second)
    ]
    assert reasons == [["missing_text"], ["empty_text"]]


def test_a_reject_of_other_bytes_is_another_reject(corpus: Deployment) -> None:
    first = corpus.ingest(ASTHMA, {"note_id": "n4", "x": 1})
    second = corpus.ingest(ASTHMA, {"note_id": "n4", "x": 2})

    assert second.changed
    digests = [
        corpus.tables.quarantine(version.quarantine_version)["digest"].item()
        for version in (first, second)
    ]
    assert digests[0] != digests[1]


def test_the_quarantine_says_where_and_why_and_never_what(corpus: Deployment) -> None:
    version = corpus.ingest(ASTHMA, {"note_id": "n4", "texts": "tachyphemia"})

    table = corpus.tables.quarantine(version.quarantine_version)
    (row,) = table.to_dicts()
    assert (row["source"], row["position"], row["reason"]) == (
        "ehr",
        "notes.jsonl line 2",
        "missing_text",
    )
    assert "tachyphemia" not in str(table.to_dicts())


def test_an_old_version_keeps_its_texts(corpus: Deployment) -> None:
    old = corpus.ingest(ASTHMA, CLEAR)
    new = corpus.ingest({**ASTHMA, "text": "Asthma since 2002."}, UNREAD)

    assert corpus.texts(old.version) == {"n1": "Asthma since 2001.", "n2": "Nothing found."}
    assert corpus.texts(new.version) == {
        "n1": "Asthma since 2002.",
        "n3": "Nobody annotated this.",
    }
    assert corpus.tables.required().version == new.version


def test_a_corpus_that_comes_back_is_the_latest_again(corpus: Deployment) -> None:
    first = corpus.ingest(ASTHMA)
    corpus.ingest(CLEAR)
    again = corpus.ingest(ASTHMA)

    assert again.digest == first.digest
    assert again.changed
    assert corpus.texts(corpus.tables.required().version) == {"n1": "Asthma since 2001."}


class ChangesBetweenPasses:
    """A source that is changed after it was read once."""

    def __init__(self, corpus: Deployment, change: Callable[[], object]) -> None:
        self.corpus = corpus
        self.change = change
        self.passes = 0

    def __call__(self) -> Ingestion:
        self.passes += 1
        if self.passes == 2:
            self.change()
        return self.corpus.reading()


def test_a_source_that_changes_while_it_is_read_is_refused_and_nothing_is_stored(
    corpus: Deployment,
) -> None:
    before = corpus.ingest(ASTHMA)
    corpus.write(ASTHMA, CLEAR)
    changing = ChangesBetweenPasses(corpus, lambda: corpus.write(ASTHMA, UNREAD))

    with pytest.raises(StorageError, match="changed while they were read"):
        corpus.tables.ingest(changing)

    assert corpus.tables.latest() == CorpusVersion(
        before.version, before.quarantine_version, before.digest, before.counts
    )
    assert corpus.store.version(NOTES) == before.version
    assert corpus.texts(before.version) == {"n1": "Asthma since 2001."}


def test_a_source_that_goes_away_while_it_is_read_is_a_corpus_error(corpus: Deployment) -> None:
    corpus.write(ASTHMA)

    with pytest.raises(CorpusError, match="no jsonl file at"):
        corpus.tables.ingest(ChangesBetweenPasses(corpus, corpus.file.unlink))
    assert corpus.tables.latest() is None


@pytest.mark.parametrize("dies_at", ["insert_missing", "append"])
def test_a_crash_before_a_corpus_is_whole_costs_no_change_of_the_list(
    corpus: Deployment, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    before = corpus.ingest(ASTHMA, CLEAR)

    def dies(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as crash:
        crash.setattr(DeltaStore, dies_at, dies)
        with pytest.raises(KeyboardInterrupt):
            corpus.ingest(ASTHMA, UNREAD)
    assert corpus.tables.latest() == dataclasses.replace(before, changed=False)

    after = corpus.ingest(ASTHMA, UNREAD)

    changes = corpus.tables.changes(after.version).select("note_id", "change").rows()
    assert changes == [("n2", "removed"), ("n3", "added")]
    assert set(corpus.texts(after.version)) == {"n1", "n3"}


def test_more_notes_than_one_batch_are_all_stored(
    corpus: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(corpus_module, "_NOTES_A_BATCH", 2)

    version = corpus.ingest(*({"note_id": f"n{i}", "text": f"Text {i}"} for i in range(5)))

    assert corpus.texts(version.version) == {f"n{i}": f"Text {i}" for i in range(5)}


def test_a_corpus_without_any_note_is_stored_as_such(corpus: Deployment) -> None:
    version = corpus.ingest(NO_TEXT)

    assert version.notes == 0
    assert corpus.texts(version.version) == {}
    assert corpus.tables.quarantine(version.quarantine_version).height == 1


@pytest.mark.parametrize("ask", [CorpusTables.required, lambda tables: tables.notes(0)])
def test_before_any_ingestion_there_is_no_corpus(
    corpus: Deployment, ask: Callable[[CorpusTables], object]
) -> None:
    assert corpus.tables.latest() is None
    with pytest.raises(StorageError):
        ask(corpus.tables)
