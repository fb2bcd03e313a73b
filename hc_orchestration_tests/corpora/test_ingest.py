"""Ingestion: what is stored, what is counted, and a digest that is the corpus and nothing else."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hc_orchestration.corpora.ingest import (
    CorpusCounts,
    CorpusNote,
    Ingestion,
    corpus_digest,
    corpus_note,
)
from hc_orchestration.corpora.notes import Note, Reject, RejectReason, Span, text_digest
from hc_orchestration.corpora.sources import CorpusSource

LABELS = ("DISEASE", "CHEMICAL")
FLU = {
    "note_id": "n1",
    "text": "Severe flu.",
    "spans": [{"start": 7, "end": 10, "label": "DISEASE"}],
}


def source(
    folder: Path, *records: Any, name: str = "notes", labels: dict[str, str] | None = None
) -> CorpusSource:
    """A corpus of the given records; a text stands for a line that is no record."""
    path = folder / f"{name}.jsonl"
    lines = [record if isinstance(record, str) else json.dumps(record) for record in records]
    path.write_text("\n".join(lines), encoding="utf-8")
    return CorpusSource(name=name, path=str(path), format="jsonl", labels=labels)


def ingested(*sources: CorpusSource) -> tuple[Ingestion, list[CorpusNote], list[Reject]]:
    ingestion = Ingestion(sources, LABELS)
    items = list(ingestion)
    stored = [item for item in items if isinstance(item, CorpusNote)]
    return ingestion, stored, [item for item in items if isinstance(item, Reject)]


def test_note_is_stored_with_its_text_and_mapped_gold(tmp_path: Path) -> None:
    _, (note,), rejects = ingested(source(tmp_path, {**FLU, "ward": "ICU", "age": 71}))
    assert rejects == []
    assert (note.note_id, note.text, note.source) == ("n1", "Severe flu.", "notes")
    assert note.text_sha256 == text_digest("Severe flu.")
    assert note.attributes == (("age", "71"), ("ward", "ICU"))
    assert note.gold == (Span(7, 10, "DISEASE"),)
    assert note.gold_unmapped == 0


def test_gold_is_distinct_and_in_order(tmp_path: Path) -> None:
    def span(start: int, end: int, label: str) -> dict[str, Any]:
        return {"start": start, "end": end, "label": label}

    spans = [span(7, 10, "A"), span(0, 10, "B"), span(7, 10, "A"), span(7, 10, "B")]
    mapping = {"A": "DISEASE", "B": "DISEASE"}
    _, (note,), _ = ingested(source(tmp_path, {**FLU, "spans": spans}, labels=mapping))
    assert note.gold == (Span(0, 10, "DISEASE"), Span(7, 10, "DISEASE"))


def test_label_that_the_study_does_not_map_is_left_out_and_counted(tmp_path: Path) -> None:
    spans = [
        {"start": 7, "end": 10, "label": "Disease"},
        {"start": 0, "end": 6, "label": "Severity"},
        {"start": 0, "end": 3, "label": "Severity"},
        {"start": 0, "end": 2, "label": "DISEASE"},
    ]
    mapped = source(tmp_path, {**FLU, "spans": spans}, labels={"Disease": "DISEASE"})
    ingestion, (note,), _ = ingested(mapped)
    assert note.gold == (Span(7, 10, "DISEASE"),)
    assert note.gold_unmapped == 3
    assert ingestion.counts.gold == Counter({"DISEASE": 1})
    assert ingestion.counts.gold_unmapped == Counter({"Severity": 2, "DISEASE": 1})


def test_empty_mapping_leaves_every_label_out(tmp_path: Path) -> None:
    _, (note,), _ = ingested(source(tmp_path, FLU, labels={}))
    assert (note.gold, note.gold_unmapped) == ((), 1)


def test_note_that_nobody_annotated_has_no_gold_and_one_with_nothing_has_empty_gold(
    tmp_path: Path,
) -> None:
    unread = {"note_id": "n1", "text": "flu"}
    nothing = {"note_id": "n2", "text": "well", "spans": []}
    ingestion, stored, _ = ingested(source(tmp_path, unread, nothing))
    assert [note.gold for note in stored] == [None, ()]
    assert (ingestion.counts.stored, ingestion.counts.annotated) == (2, 1)
    assert stored[0].digest != corpus_note(Note("n1", "flu", ()), "notes", {}).digest


def test_note_given_twice_is_stored_once_and_counted(tmp_path: Path) -> None:
    ingestion, stored, rejects = ingested(source(tmp_path, FLU, FLU, FLU))
    assert (len(stored), rejects) == (1, [])
    assert (ingestion.counts.read, ingestion.counts.duplicates) == (3, 2)
    assert ingestion.counts.gold == Counter({"DISEASE": 1})


@pytest.mark.parametrize("change", [{"text": "Severe flu!"}, {"spans": []}, {"ward": "ICU"}])
def test_same_id_with_other_content_is_quarantined_and_the_first_kept(
    tmp_path: Path, change: dict[str, Any]
) -> None:
    ingestion, stored, (reject,) = ingested(source(tmp_path, FLU, {**FLU, **change}))
    assert [note.text for note in stored] == ["Severe flu."]
    assert reject.reason is RejectReason.DUPLICATE_ID
    assert ingestion.counts.reasons == Counter({"duplicate_id_different_content": 1})
    assert "n1" not in repr(reject)


def test_same_id_in_two_corpora_is_quarantined(tmp_path: Path) -> None:
    first, second = source(tmp_path, FLU, name="a"), source(tmp_path, FLU, name="b")
    ingestion, (note,), (reject,) = ingested(first, second)
    assert (note.source, reject.source) == ("a", "b")
    assert ingestion.counts.sources == Counter({"a": 1})


def test_texts_that_stand_twice_under_other_ids_are_kept_and_counted(tmp_path: Path) -> None:
    again = {**FLU, "note_id": "n2"}
    ingestion, stored, _ = ingested(source(tmp_path, FLU, again, {**FLU, "note_id": "n3"}))
    assert len(stored) == 3
    assert ingestion.counts.duplicate_texts == 2


def test_every_outcome_has_its_count(tmp_path: Path) -> None:
    unread = {"note_id": "n2", "text": "Severe flu."}
    records = [FLU, FLU, "nonsense", unread, {**unread, "text": "other"}, {"text": "no id"}]
    ingestion, _, rejects = ingested(source(tmp_path, *records))
    assert len(rejects) == 3
    assert ingestion.counts == CorpusCounts(
        read=6,
        stored=2,
        duplicates=1,
        quarantined=3,
        annotated=1,
        duplicate_texts=1,
        gold=Counter({"DISEASE": 1}),
        offsets=Counter({"code_point": 1}),
        reasons=Counter({"broken_json": 1, "duplicate_id_different_content": 1, "missing_id": 1}),
        sources=Counter({"notes": 2}),
        lengths=Counter({"under 500": 2}),
    )


BASE = Note("n1", "Severe flu.", (Span(7, 10, "A"),), {"ward": "ICU"})
MAPPING = {"A": "DISEASE", "B": "CHEMICAL"}


@pytest.mark.parametrize(
    ("note", "origin", "mapping"),
    [
        pytest.param(Note("n2", BASE.text, BASE.spans, BASE.attributes), "s", MAPPING, id="id"),
        pytest.param(
            Note("n1", "Severe flu!", BASE.spans, BASE.attributes), "s", MAPPING, id="text"
        ),
        pytest.param(Note("n1", BASE.text, None, BASE.attributes), "s", MAPPING, id="no gold"),
        pytest.param(Note("n1", BASE.text, (), BASE.attributes), "s", MAPPING, id="empty gold"),
        pytest.param(
            Note("n1", BASE.text, (Span(7, 11, "A"),), BASE.attributes), "s", MAPPING, id="boundary"
        ),
        pytest.param(
            Note("n1", BASE.text, (Span(7, 10, "B"),), BASE.attributes), "s", MAPPING, id="label"
        ),
        pytest.param(Note("n1", BASE.text, BASE.spans, {}), "s", MAPPING, id="attribute"),
        pytest.param(BASE, "other", MAPPING, id="source"),
        pytest.param(BASE, "s", {"A": "CHEMICAL"}, id="mapping"),
    ],
)
def test_digest_of_a_note_changes_with_each_of_its_parts(
    note: Note, origin: str, mapping: dict[str, str]
) -> None:
    base = corpus_note(BASE, "s", MAPPING).digest
    assert corpus_note(BASE, "s", dict(reversed(MAPPING.items()))).digest == base
    assert corpus_note(note, origin, mapping).digest != base


def test_corpus_digest_depends_on_which_notes_there_are() -> None:
    one, two, three = (bytes([value]) * 32 for value in (1, 2, 3))
    assert corpus_digest([one, two]) == corpus_digest([two, one])
    assert len({corpus_digest(part) for part in ([], [one], [two], [one, two], [one, three])}) == 5


def test_digest_of_an_ingestion_is_that_of_its_stored_notes(tmp_path: Path) -> None:
    ingestion, stored, _ = ingested(source(tmp_path, FLU, {"note_id": "n2", "text": "gout"}, FLU))
    assert ingestion.digest == corpus_digest(bytes.fromhex(note.digest) for note in stored)


RECORDS = st.fixed_dictionaries(
    {"note_id": st.sampled_from(["a", "b", "c", ""]), "text": st.sampled_from(["flu", "gout", ""])},
    optional={
        "spans": st.lists(
            st.fixed_dictionaries(
                {
                    "start": st.integers(0, 2),
                    "end": st.integers(2, 5),
                    "label": st.sampled_from([*LABELS, "OTHER"]),
                }
            ),
            max_size=2,
        ),
        "ward": st.sampled_from(["ICU", "ED"]),
    },
)
MIXED = st.lists(RECORDS | st.sampled_from(["nonsense", "[]"]), max_size=8)


@given(MIXED, MIXED)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_record_read_is_stored_a_duplicate_or_quarantined(
    tmp_path: Path, first: list[Any], second: list[Any]
) -> None:
    corpora = (source(tmp_path, *first, name="a"), source(tmp_path, *second, name="b"))
    ingestion, stored, rejects = ingested(*corpora)
    counts = ingestion.counts
    assert counts.read == len(first) + len(second)
    assert counts.read == counts.stored + counts.duplicates + counts.quarantined
    assert (counts.stored, counts.quarantined) == (len(stored), len(rejects))
    assert counts.stored == counts.sources.total() == len({note.note_id for note in stored})
    assert counts.quarantined == counts.reasons.total()
    assert counts.annotated == sum(note.gold is not None for note in stored)
    assert counts.gold.total() == sum(len(note.gold or ()) for note in stored)
    assert counts.gold_unmapped.total() == sum(note.gold_unmapped for note in stored)
    assert counts.duplicate_texts == len(stored) - len({note.text for note in stored})


@given(
    st.lists(RECORDS, max_size=5, unique_by=lambda record: record["note_id"]),
    st.randoms(use_true_random=False),
)
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_order_of_records_and_of_their_spans_has_no_part_in_the_digest(
    tmp_path: Path, records: list[dict[str, Any]], random: Any
) -> None:
    shuffled = [dict(record) for record in records]
    random.shuffle(shuffled)
    for record in shuffled:
        if "spans" in record:
            record["spans"] = random.sample(record["spans"], len(record["spans"]))
    one, stored, _ = ingested(source(tmp_path, *records))
    other, stored_again, _ = ingested(source(tmp_path, *shuffled))
    assert other.digest == one.digest
    assert {note.digest for note in stored_again} == {note.digest for note in stored}
