"""The JSON Lines reader: each way a line can be wrong, and that right ones come back unchanged."""

import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hc_orchestration.corpora.jsonl import read_jsonl
from hc_orchestration.corpora.notes import InvalidNoteError, Note, RejectReason, Span
from hc_orchestration.corpora.raw import RawNote, Unreadable


def outcomes(content: bytes) -> list[Note | RejectReason]:
    """A note, or why there is none, for every line."""
    found: list[Note | RejectReason] = []
    for item in read_jsonl(io.BytesIO(content)):
        if isinstance(item, Unreadable):
            found.append(item.reason)
            continue
        try:
            found.append(item.note())
        except InvalidNoteError as error:
            found.append(error.reason)
    return found


def one(**record: Any) -> Note | RejectReason:
    (outcome,) = outcomes(json.dumps(record).encode())
    return outcome


def test_line_becomes_a_note_with_spans_and_attributes() -> None:
    line = (
        '{"note_id": "n1", "text": "Severe flu.", "note_type": "consult",'
        ' "spans": [{"start": 7, "end": 10, "label": "DISEASE", "text": "flu"}]}'
    )
    spans = (Span(7, 10, "DISEASE"),)
    assert outcomes(line.encode()) == [Note("n1", "Severe flu.", spans, {"note_type": "consult"})]


def test_no_spans_means_nobody_annotated_and_an_empty_list_that_nothing_was_found() -> None:
    assert one(note_id="n1", text="flu") == Note("n1", "flu", None, {})
    assert one(note_id="n1", text="flu", spans=None) == Note("n1", "flu", None, {})
    assert one(note_id="n1", text="flu", spans=[]) == Note("n1", "flu", (), {})


def test_number_as_id_is_taken_as_text() -> None:
    assert one(note_id=10_020_303, text="flu") == Note("10020303", "flu", None, {})


def test_attributes_are_kept_as_text_and_null_ones_left_out() -> None:
    note = one(note_id="n1", text="flu", ward="ICU", age=71, tags=["é", 1], smoker=True, bed=None)
    assert isinstance(note, Note)
    assert note.attributes == {"ward": "ICU", "age": "71", "tags": '["é", 1]', "smoker": "true"}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"note_id": "n1", "text": "gripe \xe9"}', RejectReason.UNDECODABLE),
        ('{"note_id": "n1", "text": "flu"}'.encode("utf-16"), RejectReason.UNDECODABLE),
        (b'{"note_id": "n1", "text": "flu"', RejectReason.BROKEN_JSON),
        (b'{"note_id": "n1"} {"text": "flu"}', RejectReason.BROKEN_JSON),
        (
            b'{"note_id": "n1", "text": "flu", "age": ' + b"9" * 5000 + b"}",
            RejectReason.BROKEN_JSON,
        ),
        (b"[" * 100_000, RejectReason.BROKEN_JSON),
        (b'["n1", "flu"]', RejectReason.NOT_A_NOTE),
        (b'"flu"', RejectReason.NOT_A_NOTE),
        (b"null", RejectReason.NOT_A_NOTE),
        (b'{"text": "flu"}', RejectReason.MISSING_ID),
        (b'{"note_id": null, "text": "flu"}', RejectReason.MISSING_ID),
        (b'{"note_id": true, "text": "flu"}', RejectReason.MISSING_ID),
        (b'{"note_id": 1.5, "text": "flu"}', RejectReason.MISSING_ID),
        (b'{"note_id": " ", "text": "flu"}', RejectReason.MISSING_ID),
        (b'{"note_id": "n1"}', RejectReason.MISSING_TEXT),
        (b'{"note_id": "n1", "text": ["flu"]}', RejectReason.MISSING_TEXT),
        (b'{"note_id": "n1", "text": " \\n "}', RejectReason.EMPTY_TEXT),
        (b'{"note_id": "n1", "text": "fl\\u0000u"}', RejectReason.NUL_CHARACTER),
        (b'{"note_id": "n1", "text": "flu \\ud83d"}', RejectReason.LONE_SURROGATE),
        (b'{"note_id": "n1", "text": "flu", "\\ud83d": 1}', RejectReason.LONE_SURROGATE),
        (b'{"note_id": "n1", "text": "flu", "spans": {}}', RejectReason.BAD_SPAN),
    ],
)
def test_line_that_is_no_note_is_rejected_with_its_reason(
    line: bytes, reason: RejectReason
) -> None:
    assert outcomes(line) == [reason]


@pytest.mark.parametrize(
    ("span", "reason"),
    [
        ([0, 3, "DISEASE"], RejectReason.BAD_SPAN),
        ({"start": 0, "end": 3}, RejectReason.BAD_SPAN),
        ({"start": 0, "end": 3, "label": ""}, RejectReason.BAD_SPAN),
        ({"start": 0, "end": 3, "label": 7}, RejectReason.BAD_SPAN),
        ({"end": 3, "label": "DISEASE"}, RejectReason.BAD_SPAN),
        ({"start": "0", "end": 3, "label": "DISEASE"}, RejectReason.BAD_SPAN),
        ({"start": False, "end": 3, "label": "DISEASE"}, RejectReason.BAD_SPAN),
        ({"start": 0.0, "end": 3, "label": "DISEASE"}, RejectReason.BAD_SPAN),
        ({"start": 2, "end": 2, "label": "DISEASE"}, RejectReason.BAD_SPAN),
        ({"start": -3, "end": 3, "label": "DISEASE"}, RejectReason.BAD_SPAN),
        ({"start": 0, "end": 3, "label": "DISEASE", "text": 7}, RejectReason.BAD_SPAN),
        ({"start": 0, "end": 4, "label": "DISEASE"}, RejectReason.SPAN_OUT_OF_RANGE),
        ({"start": 0, "end": 10**30, "label": "DISEASE"}, RejectReason.SPAN_OUT_OF_RANGE),
        ({"start": 0, "end": 3, "label": "DISEASE", "text": "Flu"}, RejectReason.SPAN_TEXT_DIFFERS),
    ],
)
def test_one_bad_span_rejects_its_note(span: object, reason: RejectReason) -> None:
    good = {"start": 0, "end": 1, "label": "DISEASE"}
    assert one(note_id="n1", text="flu", spans=[good, span]) is reason


def test_bad_line_costs_no_other_line() -> None:
    content = b'{"note_id": 1, "text": "flu"}\nnonsense\n{"note_id": 2, "text": "gout"}\n'
    assert outcomes(content) == [
        Note("1", "flu", None, {}),
        RejectReason.BROKEN_JSON,
        Note("2", "gout", None, {}),
    ]


def test_byte_order_mark_blank_lines_and_windows_line_ends_are_passed_over() -> None:
    content = b'\xef\xbb\xbf{"note_id": 1, "text": "flu"}\r\n\r\n  \n{"note_id": 2, "text": "gout"}'
    assert outcomes(content) == [Note("1", "flu", None, {}), Note("2", "gout", None, {})]


def test_position_is_the_line_in_the_file() -> None:
    content = b'\n{"note_id": 1, "text": "flu"}\n\nnonsense\n'
    assert [item.position for item in read_jsonl(io.BytesIO(content))] == ["line 2", "line 4"]


def test_raw_bytes_are_those_of_the_line() -> None:
    (item,) = read_jsonl(io.BytesIO(b"nonsense\n"))
    assert item.raw == b"nonsense\n"


@given(st.lists(st.binary(max_size=40) | st.sampled_from([b"\n", b'{"note_id":1,"text":"flu"}'])))
@settings(max_examples=300, deadline=None)
def test_random_bytes_never_raise_and_every_line_has_an_outcome(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    lines = [line for line in content.split(b"\n") if line.strip()]
    assert len(outcomes(content)) == len(lines)


def json_values() -> st.SearchStrategy[Any]:
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    return st.recursive(
        scalars,
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["start", "end", "label", "text", "x"]), inner)
        ),
        max_leaves=8,
    )


@given(st.dictionaries(st.sampled_from(["note_id", "text", "spans", "ward"]), json_values()))
@settings(max_examples=300, deadline=None)
def test_random_json_never_raises(record: dict[str, Any]) -> None:
    (item,) = read_jsonl(io.BytesIO(json.dumps(record).encode()))
    if isinstance(item, RawNote):
        try:
            item.note()
        except InvalidNoteError as error:
            assert error.reason in RejectReason  # noqa: PT017 - both outcomes are right


TEXTS = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=30
)
NAMES = TEXTS.filter(str.strip)


@st.composite
def notes(draw: st.DrawFn) -> Note:
    text = draw(NAMES)
    offsets = st.lists(st.integers(0, len(text)), min_size=2, max_size=2, unique=True).map(sorted)
    span = st.builds(lambda pair, label: Span(*pair, label), offsets, NAMES)
    own = {"note_id", "text", "spans"}
    attributes = st.dictionaries(NAMES.filter(lambda key: key not in own), TEXTS, max_size=3)
    spans = st.none() | st.lists(span, max_size=4).map(tuple)
    return Note(draw(NAMES), text, draw(spans), draw(attributes))


def as_line(note: Note, *, ascii_only: bool) -> str:
    record: dict[str, Any] = {"note_id": note.note_id, "text": note.text, **note.attributes}
    if note.spans is not None:
        record["spans"] = [
            {"start": s.start, "end": s.end, "label": s.label, "text": note.text[s.start : s.end]}
            for s in note.spans
        ]
    return json.dumps(record, ensure_ascii=ascii_only)


@given(st.lists(notes(), max_size=4), st.booleans())
@settings(max_examples=200, deadline=None)
def test_notes_written_as_json_lines_come_back_equal(written: list[Note], ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    lines = "\n".join(as_line(note, ascii_only=ascii_only) for note in written)
    assert outcomes(lines.encode()) == written
