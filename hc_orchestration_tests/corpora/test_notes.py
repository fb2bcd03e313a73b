"""Notes and spans: which ones exist, and which rule a refused one broke."""

import pytest

from hc_orchestration.corpora.notes import (
    InvalidNoteError,
    Note,
    Reject,
    RejectReason,
    Span,
    text_digest,
)
from hc_orchestration.corpora.raw import RawNote, RawSpan

SECRET = "Mrs Abernathy"  # noqa: S105 - a name in a note, no password


@pytest.mark.parametrize(
    ("start", "end", "label"),
    [(-1, 3, "DISEASE"), (3, 3, "DISEASE"), (4, 3, "DISEASE"), (0, 3, "")],
)
def test_span_that_no_text_can_hold_is_refused(start: int, end: int, label: str) -> None:
    with pytest.raises(InvalidNoteError) as caught:
        Span(start, end, label)
    assert caught.value.reason is RejectReason.BAD_SPAN


@pytest.mark.parametrize(
    ("note_id", "text", "reason"),
    [
        ("", "flu", RejectReason.MISSING_ID),
        (" \t", "flu", RejectReason.MISSING_ID),
        ("n1", "", RejectReason.EMPTY_TEXT),
        ("n1", " \n\u00a0", RejectReason.EMPTY_TEXT),
        ("n1", "f\x00lu", RejectReason.NUL_CHARACTER),
        ("n\x001", "flu", RejectReason.NUL_CHARACTER),
        ("n1", "flu \ud800", RejectReason.LONE_SURROGATE),
        ("n\udfff", "flu", RejectReason.LONE_SURROGATE),
    ],
)
def test_note_that_breaks_a_rule_is_refused_with_its_reason(
    note_id: str, text: str, reason: RejectReason
) -> None:
    with pytest.raises(InvalidNoteError) as caught:
        Note(note_id, text)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    "note",
    [
        {"attributes": {"ward": "\ud800"}},
        {"attributes": {"\ud800": "ICU"}},
        {"spans": (Span(0, 3, "\ud800"),)},
    ],
    ids=["attribute", "name of an attribute", "label"],
)
def test_no_part_of_a_note_holds_what_utf_8_cannot(note: dict[str, object]) -> None:
    with pytest.raises(InvalidNoteError) as caught:
        Note("n1", "flu", **note)  # type: ignore[arg-type]
    assert caught.value.reason is RejectReason.LONE_SURROGATE


def test_span_may_end_with_the_text_and_not_after_it() -> None:
    assert Note("n1", "flu", (Span(0, 3, "DISEASE"),)).spans == (Span(0, 3, "DISEASE"),)
    with pytest.raises(InvalidNoteError) as caught:
        Note("n1", "flu", (Span(0, 4, "DISEASE"),))
    assert caught.value.reason is RejectReason.SPAN_OUT_OF_RANGE


def test_offsets_count_code_points_not_bytes_nor_utf_16_units() -> None:
    text = "\U0001f637 gripe é flu"
    note = Note("n1", text, (Span(10, 13, "DISEASE"),))
    assert [text[span.start : span.end] for span in note.spans or ()] == ["flu"]
    with pytest.raises(InvalidNoteError):
        Note("n1", text, (Span(11, 14, "DISEASE"),))


def test_overlapping_and_nested_spans_are_legal() -> None:
    spans = (Span(0, 11, "DISEASE"), Span(0, 4, "CHEMICAL"), Span(2, 8, "DISEASE"))
    assert Note("n1", "lead poisoning", spans).spans == spans


def test_error_of_a_note_says_the_reason_and_no_text() -> None:
    with pytest.raises(InvalidNoteError) as caught:
        Note("n1", f"{SECRET} has flu", (Span(0, 99, "DISEASE"),))
    assert str(caught.value) == "span_out_of_range"


def test_quoted_mention_must_be_what_stands_at_its_offsets() -> None:
    def note(quoted: str) -> Note:
        spans = (RawSpan(4, 7, "DISEASE", quoted),)
        return RawNote("line 1", b"", "n1", "has flu", spans, {}).note()

    assert note("flu").spans == (Span(4, 7, "DISEASE"),)
    for other in ("Flu", "fl", "", "flu "):
        with pytest.raises(InvalidNoteError) as caught:
            note(other)
        assert caught.value.reason is RejectReason.SPAN_TEXT_DIFFERS


def test_reject_holds_no_field_for_a_text() -> None:
    assert Reject.__slots__ == ("source", "position", "reason", "digest")


def test_digest_of_a_text_is_that_of_its_utf_8_bytes() -> None:
    assert text_digest("abc").startswith("ba7816bf8f01cfea414140de5dae2223")  # FIPS 180-2, B.1
    assert text_digest("é") != text_digest("e\u0301")
