"""Offsets as other tools count them, converted to code points where quoted mentions prove it."""

from collections.abc import Iterator, Sequence
from enum import StrEnum

from hc_orchestration.corpora.raw import RawSpan


class OffsetUnit(StrEnum):
    """What an offset counts.

    Python and brat count code points of the text as given; Java, JavaScript and C# count UTF-16
    code units (two for an emoji); C tools count bytes; a tool that opens files in text mode counts
    a Windows line end as one.
    """

    CODE_POINT = "code_point"
    CRLF_AS_ONE = "crlf_as_one"
    UTF16 = "utf16"
    UTF8 = "utf8"


def converted(text: str, spans: Sequence[RawSpan], unit: OffsetUnit) -> list[RawSpan] | None:
    """The spans in code points, if their offsets count `unit`; None if one falls inside one.

    Raises nothing for offsets outside of the text: they fall on no boundary either.
    """
    if unit is OffsetUnit.CODE_POINT:
        return list(spans)
    boundary: dict[int, int] = {}
    position = 0
    for index, width in enumerate(_widths(text, unit)):
        boundary.setdefault(position, index)
        position += width
    boundary.setdefault(position, len(text))
    placed = [(boundary.get(span.start), boundary.get(span.end), span) for span in spans]
    result = [
        RawSpan(start, end, span.label, span.text)
        for start, end, span in placed
        if start is not None and end is not None
    ]
    return result if len(result) == len(spans) else None


def in_code_points(text: str, spans: Sequence[RawSpan]) -> tuple[tuple[RawSpan, ...], OffsetUnit]:
    """The spans in code points, in the first unit that makes every quoted mention agree.

    When no unit does, or nothing is quoted, they are returned as they are: checking the note then
    refuses them.
    """
    if any(span.text is not None for span in spans):
        for unit in OffsetUnit:
            found = converted(text, spans, unit)
            if found is not None and quotes_agree(text, found):
                return tuple(found), unit
    return tuple(spans), OffsetUnit.CODE_POINT


def quotes_agree(text: str, spans: Sequence[RawSpan]) -> bool:
    """Whether every mention lies in the text and reads there as it is quoted."""
    return all(
        0 <= span.start < span.end <= len(text)
        and (span.text is None or text[span.start : span.end] == span.text)
        for span in spans
    )


def width(text: str, unit: OffsetUnit) -> int:
    """The length of a text in `unit`."""
    return len(text) if unit is OffsetUnit.CODE_POINT else sum(_widths(text, unit))


def _widths(text: str, unit: OffsetUnit) -> Iterator[int]:
    if unit is OffsetUnit.CRLF_AS_ONE:
        return (int(text[index : index + 2] != "\r\n") for index in range(len(text)))
    if unit is OffsetUnit.UTF16:
        return (1 + (ord(character) > 0xFFFF) for character in text)  # noqa: PLR2004 - end of the BMP
    return (len(character.encode("utf-8", "surrogatepass")) for character in text)
