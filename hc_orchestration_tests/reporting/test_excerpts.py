"""Each mention of an excerpt is marked with its outcome, and no text is lost or doubled."""

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from hc_orchestration.reporting.excerpts import MarkedSpan, mark_in_context
from hc_orchestration.reporting.report_data import Mark, Outcome

TEXT = "asthma and gout"
ASTHMA = MarkedSpan(0, 6, "DISEASE")

spans = st.lists(
    st.builds(
        lambda start, length, label: MarkedSpan(start, min(start + length, 15), label),
        st.integers(0, 14),
        st.integers(1, 8),
        st.sampled_from(["A", "B"]),
    ),
    max_size=6,
)


@pytest.mark.parametrize(
    ("gold", "predicted", "outcome"),
    [
        ([ASTHMA], [ASTHMA], Outcome.CORRECT),
        ([ASTHMA], [], Outcome.MISSED),
        ([], [ASTHMA], Outcome.SPURIOUS),
        ([ASTHMA], [MarkedSpan(0, 10, "DISEASE")], Outcome.BOUNDARY),
        ([ASTHMA], [MarkedSpan(0, 6, "CHEMICAL")], Outcome.LABEL),
        ([ASTHMA], [MarkedSpan(0, 10, "CHEMICAL")], Outcome.LABEL),
    ],
)
def test_outcome_of_one_mention(
    gold: list[MarkedSpan], predicted: list[MarkedSpan], outcome: Outcome
) -> None:
    first = mark_in_context(TEXT, gold, predicted)[0]
    assert [mark.outcome for mark in first.marks] == [outcome]


def test_adjacent_mentions_do_not_overlap() -> None:
    segments = mark_in_context(TEXT, [ASTHMA], [MarkedSpan(6, 10, "DISEASE")])
    outcomes = [mark.outcome for segment in segments for mark in segment.marks]
    assert outcomes == [Outcome.MISSED, Outcome.SPURIOUS]


def test_same_mention_is_paired_before_an_overlapping_one() -> None:
    longer = MarkedSpan(0, 10, "DISEASE")
    segments = mark_in_context(TEXT, [longer, ASTHMA], [ASTHMA])
    assert segments[0].marks == (
        Mark(Outcome.CORRECT, "DISEASE", "DISEASE"),
        Mark(Outcome.MISSED, "DISEASE", None),
    )
    assert segments[1].marks == (Mark(Outcome.MISSED, "DISEASE", None),)


def test_text_far_from_mentions_is_left_out() -> None:
    text = "x" * 500 + "gout" + "y" * 500
    before, mention, after = mark_in_context(text, [MarkedSpan(500, 504, "DISEASE")], [])
    assert (before.text, mention.text, after.text) == (" … " + "x" * 80, "gout", "y" * 80 + " … ")


def test_span_outside_the_text_is_refused_without_quoting_the_note() -> None:
    with pytest.raises(ValueError, match="outside the note's 15 characters") as caught:
        mark_in_context(TEXT, [MarkedSpan(10, 99, "DISEASE")], [])
    assert "gout" not in str(caught.value)


@given(spans, spans)
def test_segments_join_to_the_text(gold: list[MarkedSpan], predicted: list[MarkedSpan]) -> None:
    assume(gold or predicted)
    assert "".join(s.text for s in mark_in_context(TEXT, gold, predicted)) == TEXT


def test_note_without_mentions_shows_nothing() -> None:
    assert mark_in_context(TEXT, [], []) == ()
