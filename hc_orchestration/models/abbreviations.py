"""Abbreviations that a text defines itself, as in "acute renal failure (ARF)".

The method is that of Schwartz and Hearst 2003 (PSB 8:451): the characters of the short form are
looked for in the words before the bracket, from right to left; the first must begin a word.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from spacy.tokens import Doc

_SHORT_LENGTHS = range(2, 11)
_SHORT_TOKENS = 3

TokenRange = tuple[int, int]


def defined_abbreviations(doc: "Doc") -> Iterator[tuple[TokenRange, TokenRange]]:
    """Yield long form and short form of every definition, as half-open ranges of tokens."""
    for opening in range(1, len(doc) - 2):
        if doc[opening].text == "(":
            closing = _closing(doc, opening)
            if closing is not None:
                start = _long_form_start(doc, opening, doc[opening + 1 : closing].text)
                if start is not None:
                    yield (start, opening), (opening + 1, closing)


def _closing(doc: "Doc", opening: int) -> int | None:
    """The bracket (or comma, semicolon) that ends a possible short form behind `opening`."""
    for position in range(opening + 1, min(opening + 2 + _SHORT_TOKENS, len(doc))):
        if doc[position].text in {")", ",", ";"}:
            short = doc[opening + 1 : position].text
            return position if _may_be_short_form(short) else None
    return None


def _may_be_short_form(text: str) -> bool:
    return len(text) in _SHORT_LENGTHS and text[0].isalnum() and any(map(str.isupper, text))


def _long_form_start(doc: "Doc", end: int, short: str) -> int | None:
    """The token where the long form of `short` begins that ends before the token `end`."""
    letters = [character for character in short.lower() if character.isalnum()]
    words = min(len(letters) + 5, 2 * len(letters))
    first = _words_back(doc, end, words)
    text = doc[first:end].text.lower()
    offset = doc[first].idx
    at = len(text)
    for number, letter in enumerate(reversed(letters), start=1):
        at = text.rfind(letter, 0, at)
        while number == len(letters) and at > 0 and text[at - 1].isalnum():
            at = text.rfind(letter, 0, at)
        if at < 0:
            return None
    starts = (position for position in range(first, end) if doc[position].idx >= offset + at)
    start = next(starts, None)
    if start is None or doc[start].idx != offset + at or len(text) - at <= len(short):
        return None
    return start


def _words_back(doc: "Doc", end: int, words: int) -> int:
    """The first of the last `words` words before `end`, within its sentence or bracket."""
    position = end
    while position > 0 and words > 0 and doc[position - 1].text not in {".", ";", "(", ")"}:
        position -= 1
        words -= doc[position].text[0].isalnum()
    return position
