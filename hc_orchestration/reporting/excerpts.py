"""Errors marked in their context, for studies that allow note text in reports."""

import itertools
from collections.abc import Callable, Sequence
from typing import NamedTuple

from hc_orchestration.reporting.report_data import Mark, Outcome, Segment

_CONTEXT = 80
"""Characters of unmarked text that are kept on each side of a mention."""


class MarkedSpan(NamedTuple):
    """A half-open span in code points of the note text, with its label."""

    start: int
    end: int
    label: str


class _Mention(NamedTuple):
    start: int
    end: int
    mark: Mark


def mark_in_context(
    text: str, gold: Sequence[MarkedSpan], predicted: Sequence[MarkedSpan]
) -> tuple[Segment, ...]:
    """Cut a note at the ends of its mentions; each segment names all mentions that cover it.

    A gold and a predicted mention are shown as one outcome when they are the same, then when only
    the label differs, then when they overlap with the same label, then when they overlap at all;
    each is used once. Nested and overlapping mentions thus never break the text. Long unmarked text
    is cut to 80 characters beside a mention; a note without mentions has nothing to show.

    Args:
        text: The note as ingested.
        gold: Its gold mentions; duplicates count once, as in scoring.
        predicted: The model's mentions.

    Raises:
        ValueError: A span is empty or outside the text.
    """
    if any(not 0 <= span.start < span.end <= len(text) for span in (*gold, *predicted)):
        message = f"a span lies outside the note's {len(text)} characters: the note has changed"
        raise ValueError(message)
    if not gold and not predicted:
        return ()
    mentions = _outcomes(sorted(set(gold)), sorted(set(predicted)))
    cuts = sorted({0, len(text), *(end for m in mentions for end in (m.start, m.end))})
    segments = [
        Segment(text[start:end], _covering(mentions, start, end))
        for start, end in itertools.pairwise(cuts)
    ]
    last = len(segments) - 1
    return tuple(
        _shortened(segment, first=index == 0, last=index == last)
        for index, segment in enumerate(segments)
    )


def _outcomes(gold: list[MarkedSpan], predicted: list[MarkedSpan]) -> list[_Mention]:
    mentions: list[_Mention] = []
    for outcome, agree in _RULES:
        for span in list(gold):
            partner = next((other for other in predicted if agree(span, other)), None)
            if partner is None:
                continue
            gold.remove(span)
            predicted.remove(partner)
            mark = Mark(outcome, span.label, partner.label)
            mentions.append(_Mention(*_union(span, partner), mark))
    mentions += [_Mention(s.start, s.end, Mark(Outcome.MISSED, s.label, None)) for s in gold]
    mentions += [_Mention(s.start, s.end, Mark(Outcome.SPURIOUS, None, s.label)) for s in predicted]
    return sorted(mentions, key=lambda mention: mention[:2])


def _overlap(one: MarkedSpan, other: MarkedSpan) -> bool:
    return one.start < other.end and other.start < one.end


_RULES: tuple[tuple[Outcome, Callable[[MarkedSpan, MarkedSpan], bool]], ...] = (
    (Outcome.CORRECT, lambda one, other: one == other),
    (Outcome.LABEL, lambda one, other: one[:2] == other[:2]),
    (Outcome.BOUNDARY, lambda one, other: one.label == other.label and _overlap(one, other)),
    (Outcome.LABEL, _overlap),
)


def _union(one: MarkedSpan, other: MarkedSpan) -> tuple[int, int]:
    return min(one.start, other.start), max(one.end, other.end)


def _covering(mentions: list[_Mention], start: int, end: int) -> tuple[Mark, ...]:
    return tuple(m.mark for m in mentions if m.start <= start and end <= m.end)


def _shortened(segment: Segment, *, first: bool, last: bool) -> Segment:
    kept_head, kept_tail = (0 if first else _CONTEXT), (0 if last else _CONTEXT)
    if segment.marks or len(segment.text) <= kept_head + kept_tail:
        return segment
    tail = segment.text[len(segment.text) - kept_tail :]
    return Segment(f"{segment.text[:kept_head]} … {tail}")
