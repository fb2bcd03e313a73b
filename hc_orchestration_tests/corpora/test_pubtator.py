"""The PubTator reader: blocks, offsets over the join of title and abstract, broken lines."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hc_orchestration.corpora.notes import InvalidNoteError, Note, RejectReason, Span
from hc_orchestration.corpora.pubtator import read_pubtator
from hc_orchestration.corpora.raw import Unreadable

BLOCK = """\
227508|t|Naloxone reverses hypertension.
227508|a|Clonidine was given.
227508\t0\t8\tNaloxone\tChemical\tD009270
227508\t18\t30\thypertension\tDisease\tD006973
227508\t32\t41\tClonidine\tChemical\tD003000
227508\tCID\tD003000\tD006973
"""
NOTE = Note(
    "227508",
    "Naloxone reverses hypertension.\nClonidine was given.",
    (Span(0, 8, "Chemical"), Span(18, 30, "Disease"), Span(32, 41, "Chemical")),
    {},
)


def outcomes(content: str | bytes) -> list[Note | RejectReason]:
    """A note, or why there is none, for every block."""
    stream = io.BytesIO(content if isinstance(content, bytes) else content.encode("utf-8"))
    found: list[Note | RejectReason] = []
    for item in read_pubtator(stream):
        if isinstance(item, Unreadable):
            found.append(item.reason)
            continue
        try:
            found.append(item.note())
        except InvalidNoteError as error:
            found.append(error.reason)
    return found


def test_block_becomes_a_note_and_its_relation_no_mention() -> None:
    assert outcomes(BLOCK) == [NOTE]


def test_offsets_count_one_separator_between_title_and_abstract() -> None:
    (note,) = outcomes(BLOCK)
    assert isinstance(note, Note)
    mentions = [note.text[span.start : span.end] for span in note.spans or ()]
    assert mentions == ["Naloxone", "hypertension", "Clonidine"]


def test_offsets_count_code_points() -> None:
    content = "1|t|\U0001f637 é flu\n1|a|\n1\t4\t7\tflu\tDisease\tD1\n"
    assert outcomes(content) == [Note("1", "\U0001f637 é flu\n", (Span(4, 7, "Disease"),), {})]


def test_title_without_an_abstract_is_a_note() -> None:
    content = "1|t|Severe flu\n1\t7\t10\tflu\tDisease\tD1\n"
    assert outcomes(content) == [Note("1", "Severe flu\n", (Span(7, 10, "Disease"),), {})]


def test_block_without_mentions_is_annotated_with_nothing() -> None:
    assert outcomes("1|t|Title\n1|a|Abstract\n") == [Note("1", "Title\nAbstract", (), {})]


def test_bar_in_the_text_belongs_to_the_text() -> None:
    assert outcomes("1|t|a|b\n1|a|c|a|d\n") == [Note("1", "a|b\nc|a|d", (), {})]


def test_mention_without_a_concept_is_a_mention() -> None:
    content = "1|t|Severe flu\n1\t7\t10\tflu\tDisease\n"
    assert outcomes(content) == [Note("1", "Severe flu\n", (Span(7, 10, "Disease"),), {})]


def test_mention_with_more_columns_is_a_mention() -> None:
    content = "1|t|lung and liver cancer\n1\t9\t21\tliver cancer\tDisease\tD1|D2\tlung cancer\n"
    assert outcomes(content) == [
        Note("1", "lung and liver cancer\n", (Span(9, 21, "Disease"),), {})
    ]


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_line_ends_and_blank_lines_change_nothing(line_end: str) -> None:
    content = f"\n\n{BLOCK}\n \n\n{BLOCK.replace('227508', '9')}".replace("\n", line_end)
    assert outcomes(content) == [NOTE, Note("9", NOTE.text, NOTE.spans, {})]


def test_byte_order_mark_before_the_first_block_is_passed_over() -> None:
    assert outcomes("\ufeff" + BLOCK) == [NOTE]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("Naloxone reverses hypertension.\n", id="no bars"),
        pytest.param("1|x|Title\n", id="neither title nor abstract"),
        pytest.param("1|a|Abstract\n1|t|Title\n", id="abstract first"),
        pytest.param("1|t|Title\n2|a|Abstract\n", id="abstract of another note"),
        pytest.param("1|t|Title\n1|a|Abstract\n1|a|Abstract\n", id="two abstracts"),
        pytest.param("1|t|Title\n2\t0\t5\tTitle\tDisease\tD1\n", id="mention of another note"),
        pytest.param("1|t|Title\n1\t0\t5\tTitle\n", id="mention without a label"),
        pytest.param("1|t|Title\n1\tzero\t5\tTitle\tDisease\tD1\n", id="offset in words"),
        pytest.param("1|t|Title\n1\t-1\t5\tTitle\tDisease\tD1\n", id="negative offset"),
        pytest.param("1|t|Title\n1\t\u0660\t5\tTitle\tDisease\tD1\n", id="foreign digit"),
        pytest.param("1|t|Title\n1\t0\t\u00b2\tTitle\tDisease\tD1\n", id="superscript digit"),
        pytest.param(f"1|t|Title\n1\t0\t{'9' * 5000}\tT\tDisease\tD1\n", id="endless offset"),
        pytest.param("1|t|Title\nnonsense\n", id="a line of words"),
    ],
)
def test_block_with_a_broken_line_is_rejected(content: str) -> None:
    assert outcomes(content) == [RejectReason.BROKEN_LINE]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"1|t|gripe \xe9\n", RejectReason.UNDECODABLE),
        (b"|t|Title\n", RejectReason.MISSING_ID),
        (b"1|t|\n1|a|\n", RejectReason.EMPTY_TEXT),
        (b"1|t|Ti\x00tle\n", RejectReason.NUL_CHARACTER),
        (b"1|t|Title\n1\t5\t5\t\tDisease\tD1\n", RejectReason.BAD_SPAN),
        (b"1|t|Title\n1\t0\t5\tTitle\t\tD1\n", RejectReason.BAD_SPAN),
        (b"1|t|Title\n1\t0\t99\tTitle\tDisease\tD1\n", RejectReason.SPAN_OUT_OF_RANGE),
        (b"1|t|Title\n1\t0\t5\tOther\tDisease\tD1\n", RejectReason.SPAN_TEXT_DIFFERS),
    ],
)
def test_block_that_is_no_note_is_rejected_with_its_reason(
    content: bytes, reason: RejectReason
) -> None:
    assert outcomes(content) == [reason]


def test_bad_block_costs_no_other_block() -> None:
    assert outcomes(f"nonsense\n\n{BLOCK}") == [RejectReason.BROKEN_LINE, NOTE]


def test_position_is_the_first_line_of_the_block() -> None:
    content = f"\n{BLOCK}\n\nnonsense\nmore\n".encode()
    assert [item.position for item in read_pubtator(io.BytesIO(content))] == ["line 2", "line 10"]


@given(
    st.lists(
        st.binary(max_size=20)
        | st.sampled_from([b"\n", b"1|t|flu\n", b"1|a|gout\n", b"1\t0\t3\tflu\tDisease\tD1\n"])
    )
)
@settings(max_examples=300, deadline=None)
def test_random_bytes_never_raise_and_every_block_has_an_outcome(pieces: list[bytes]) -> None:
    content = b"".join(pieces)
    blank = [not line.strip() for line in content.split(b"\n")]
    begins = [not here and before for before, here in zip([True, *blank], blank, strict=False)]
    assert len(outcomes(content)) == sum(begins)
