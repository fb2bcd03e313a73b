"""The elements of one array in a JSON document, one at a time, however long the document is."""

import codecs
import json
from collections.abc import Iterator
from typing import IO, Any

from hc_orchestration.corpora.lines import LONGEST_RECORD
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.raw import UnreadableError

_CHUNK = 2**16
_BLANK = " \t\r\n"
_ENDS = frozenset(f"{_BLANK},:]}}")


def array_elements(stream: IO[bytes], key: str) -> Iterator[Any]:
    """Yield the elements of the array under `key` of the top-level object.

    A document without that key is yielded whole, as the one element that it is.

    Raises:
        UnreadableError: Not UTF-8, not JSON, or an element beyond `LONGEST_RECORD`; what was
            yielded before stands.
    """
    window = _Window(stream)
    window.expect("{")
    rest: dict[str, Any] = {}
    found = False
    if window.peek() == "}":
        window.expect("}")
    else:
        while True:
            name = window.value()
            if not isinstance(name, str):
                raise UnreadableError(RejectReason.BROKEN_JSON)
            window.expect(":")
            if name == key and window.peek() == "[":
                found = True
                yield from _elements(window)
            else:
                rest[name] = window.value()
            if window.peek() != ",":
                break
            window.expect(",")
        window.expect("}")
    if window.peek():
        raise UnreadableError(RejectReason.BROKEN_JSON)
    if not found:
        yield rest


def _elements(window: "_Window") -> Iterator[Any]:
    window.expect("[")
    if window.peek() == "]":
        window.expect("]")
        return
    while True:
        yield window.value()
        if window.peek() != ",":
            break
        window.expect(",")
    window.expect("]")


class _Window:
    """The part of the document that is looked at."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._json = json.JSONDecoder()
        self._text = ""
        self._position = 0
        self._ended = False

    def peek(self) -> str:
        """The next character that is not blank; empty at the end."""
        while True:
            while self._position < len(self._text):
                character = self._text[self._position]
                if character not in _BLANK:
                    return character
                self._position += 1
            if not self._more(_CHUNK):
                return ""

    def expect(self, character: str) -> None:
        """Step over `character`."""
        if self.peek() != character:
            raise UnreadableError(RejectReason.BROKEN_JSON)
        self._position += 1

    def value(self) -> Any:  # noqa: ANN401 - whatever JSON holds
        """The next value, read on until it is whole."""
        self.peek()
        size = _CHUNK
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._position)
            except (ValueError, RecursionError) as error:
                if isinstance(error, RecursionError) or not self._more(size):
                    raise UnreadableError(RejectReason.BROKEN_JSON) from None
            else:
                # a number goes on until something follows that ends it
                if self._text[end : end + 1] in _ENDS or not self._more(size):
                    self._position = end
                    return value
            if len(self._text) - self._position > LONGEST_RECORD:
                raise UnreadableError(RejectReason.OVER_LONG)
            size *= 2

    def _more(self, size: int) -> bool:
        """Read on, forgetting what lies behind; False at the end."""
        if self._ended:
            return False
        chunk = self._stream.read(size)
        self._ended = not chunk
        try:
            added = self._decode.decode(chunk, final=self._ended)
        except UnicodeDecodeError:
            raise UnreadableError(RejectReason.UNDECODABLE) from None
        self._text = self._text[self._position :] + added
        self._position = 0
        return not self._ended
