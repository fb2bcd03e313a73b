"""Lines of a binary stream, bounded: one endless line must not fill the memory."""

from collections.abc import Iterator
from typing import IO

LONGEST_RECORD = 64 * 2**20
"""Bytes of the longest line, row, file or element that is looked into."""


def bounded_lines(stream: IO[bytes], longest: int = LONGEST_RECORD) -> Iterator[bytes]:
    """Yield each line with its end; of a longer one the first `longest` + 1 bytes."""
    while line := stream.readline(longest + 1):
        yield line
        rest = line
        while too_long(rest, longest) and not rest.endswith(b"\n"):
            rest = stream.readline(longest + 1)


def too_long(line: bytes, longest: int = LONGEST_RECORD) -> bool:
    """Whether `bounded_lines` cut the line short."""
    return len(line) > longest
