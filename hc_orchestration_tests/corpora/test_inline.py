"""The source form of the shipped corpus, and the shipped corpus itself."""

import json
from collections import Counter
from pathlib import Path

import pytest

from hc_orchestration.corpora.inline import build_jsonl, parse_inline
from hc_orchestration.corpora.notes import Note, Span
from hc_orchestration.corpora.sources import CorpusSource, read_source
from hc_orchestration.errors import CorpusError

LABELS = frozenset({"DISEASE", "CHEMICAL"})
SHIPPED = Path(__file__).parents[2] / "data" / "corpora" / "synthetic_notes"


def test_marks_become_spans_and_the_header_attributes() -> None:
    content = (
        "note_type: consult\nspecialty: cardiology: adult\n---\n"
        "No [flu](DISEASE).\n\n[ASA](CHEMICAL) (81 mg) [held]\n\n"
    )
    text = "No flu.\n\nASA (81 mg) [held]"
    spans = (Span(3, 6, "DISEASE"), Span(9, 12, "CHEMICAL"))
    attributes = {"note_type": "consult", "specialty": "cardiology: adult"}
    assert parse_inline("n1", content, LABELS) == Note("n1", text, spans, attributes)


def test_text_without_marks_is_annotated_with_nothing() -> None:
    assert parse_inline("n1", "note_type: consult\n---\nDoing well.", LABELS).spans == ()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("note_type: consult\nNo line of dashes.", "n1: no line '---' between header and text"),
        ("note_type\n---\nflu", "n1: header line 'note_type' is not 'key: value'"),
        ("note_type:\n---\nflu", "n1: header line 'note_type' is not 'key: value'"),
        ("a: b\n---\n[flu](DISEAES) [x](DRUG)", "n1: unknown label DISEAES, DRUG"),
        ("a: b\n---\nx [flu](disease)", "n1: a mark is left over at code point 6"),
        ("a: b\n---\n[](DISEASE)", "n1: a mark is left over at code point 1"),
        ("a: b\n---\n[flu\n](DISEASE)", "n1: a mark is left over at code point 5"),
        ("a: b\n---\n[[flu](DISEASE) A](DISEASE)", "n1: a mark is left over at code point 6"),
    ],
)
def test_slip_in_a_note_file_is_named(content: str, expected: str) -> None:
    with pytest.raises(CorpusError) as caught:
        parse_inline("n1", content, LABELS)
    assert str(caught.value).startswith(expected)


def test_json_lines_are_in_the_order_of_the_ids_and_quote_each_mention(tmp_path: Path) -> None:
    (tmp_path / "b.note").write_text("ward: ED\n---\n[Flú](DISEASE).\n", encoding="utf-8")
    (tmp_path / "a.note").write_text("ward: ICU\n---\nWell.\n", encoding="utf-8")
    (tmp_path / "README.md").write_text("not a note", encoding="utf-8")
    assert build_jsonl(tmp_path, LABELS) == (
        '{"note_id": "a", "ward": "ICU", "text": "Well.", "spans": []}\n'
        '{"note_id": "b", "ward": "ED", "text": "Flú.", "spans": '
        '[{"start": 0, "end": 3, "label": "DISEASE", "text": "Flú"}]}\n'
    )


def test_shipped_notes_are_exactly_what_their_source_makes() -> None:
    written = (SHIPPED / "notes.jsonl").read_text(encoding="utf-8")
    assert written == build_jsonl(SHIPPED / "source", LABELS)


@pytest.fixture(scope="module")
def shipped() -> list[Note]:
    source = CorpusSource(name="synthetic-notes", path=str(SHIPPED), format="jsonl")
    items = list(read_source(source))
    notes = [item for item in items if isinstance(item, Note)]
    assert len(notes) == len(items)
    return notes


def test_shipped_notes_are_many_of_many_types_and_specialties(shipped: list[Note]) -> None:
    types = Counter(note.attributes["note_type"] for note in shipped)
    specialties = {note.attributes["specialty"] for note in shipped}
    assert len(shipped) >= 84
    assert len(types) >= 6
    assert min(types.values()) >= 4
    assert len(specialties) >= 8


def test_shipped_mentions_are_many_with_both_labels(shipped: list[Note]) -> None:
    labels = Counter(span.label for note in shipped for span in note.spans or ())
    assert set(labels) == LABELS
    assert labels.total() >= 1500


def test_shipped_notes_have_the_three_attributes_and_some_share_a_patient(
    shipped: list[Note],
) -> None:
    keys = {tuple(note.attributes) for note in shipped}
    patients = Counter(note.attributes["patient"] for note in shipped)
    assert keys == {("note_type", "specialty", "patient")}
    assert max(patients.values()) >= 4


def test_some_shipped_notes_have_no_mention(shipped: list[Note]) -> None:
    assert sum(note.spans == () for note in shipped) >= 3


def test_shipped_mentions_are_the_words_that_they_quote(shipped: list[Note]) -> None:
    lines = (SHIPPED / "notes.jsonl").read_text(encoding="utf-8").splitlines()
    quoted = [[span["text"] for span in json.loads(line)["spans"]] for line in lines]
    sliced = [[note.text[s.start : s.end] for s in note.spans or ()] for note in shipped]
    assert sliced == quoted


def test_shipped_mentions_begin_and_end_with_a_word(shipped: list[Note]) -> None:
    mentions = [note.text[s.start : s.end] for note in shipped for s in note.spans or ()]
    assert [mention for mention in mentions if mention != mention.strip(" \n\t,.;:")] == []
