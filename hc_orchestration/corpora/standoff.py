"""One note a file: plain text, and brat's text with standoff annotations beside it.

brat: `T1<TAB>Label start end<TAB>quoted text`; offsets count code points of the text as given, and
are converted where the quotes prove another unit. A discontinuous mention (`0 5;7 9`) is left out
and counted. Lines of relations, events, attributes and remarks are no mentions.
"""

import re
from collections.abc import Iterator

from hc_orchestration.corpora.files import CorpusFile
from hc_orchestration.corpora.lines import LONGEST_RECORD
from hc_orchestration.corpora.notes import RejectReason
from hc_orchestration.corpora.offsets import in_code_points
from hc_orchestration.corpora.raw import RawItem, RawNote, RawSpan, Unreadable, UnreadableError

_MENTION = re.compile(r"T[^\t]*\t(\S+) (\d{1,12} \d{1,12}(?:;\d{1,12} \d{1,12})*)(?:\t(.*))?")
_OTHER_LINES = ("R", "E", "A", "M", "N", "#", "*")
_LINE_END = re.compile(r"\r\n|\r|\n")


def read_text(file: CorpusFile) -> Iterator[RawItem]:
    """Yield the one note of a text file; its id is the path below the folder, without suffix."""
    yield _file_note(file, None)


def read_brat(file: CorpusFile) -> Iterator[RawItem]:
    """Yield the note of a `.txt` file, annotated when there is an `.ann` file beside it."""
    yield _file_note(file, file.beside(".txt", ".ann"))


def note_id_of(name: str) -> str:
    """The id of the note in a file: its name without `.gz` and suffix."""
    bare = name.removesuffix(".gz")
    stem, dot, _ = bare.rpartition(".")
    return stem if dot and "/" not in bare[len(stem) :] and stem else bare


def _file_note(file: CorpusFile, annotations: CorpusFile | None) -> RawItem:
    raw = b""
    try:
        raw = _content(file)
        text = _decoded(raw)
        if annotations is None:
            return RawNote("file", raw, note_id_of(file.name), text, None, {})
        marks = _content(annotations)
        raw = raw + b"\x00" + marks
        spans, discontinuous = _mentions(text, _decoded(marks))
    except UnreadableError as error:
        return Unreadable("file", raw, error.reason)
    placed, unit = in_code_points(text, spans)
    return RawNote("file", raw, note_id_of(file.name), text, placed, {}, discontinuous, unit.value)


def _content(file: CorpusFile) -> bytes:
    if file.outside:
        raise UnreadableError(RejectReason.OUTSIDE_FOLDER)
    with file.open() as stream:
        content = stream.read(LONGEST_RECORD + 1)
    if len(content) > LONGEST_RECORD:
        raise UnreadableError(RejectReason.OVER_LONG)
    return content


def _decoded(content: bytes) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnreadableError(RejectReason.UNDECODABLE) from None


def _mentions(text: str, annotations: str) -> tuple[list[RawSpan], int]:
    spans: list[RawSpan] = []
    discontinuous = 0
    for line in _LINE_END.split(annotations):
        if not line.strip() or line.startswith(_OTHER_LINES):
            continue
        match = _MENTION.fullmatch(line)
        if match is None:
            raise UnreadableError(RejectReason.BROKEN_LINE)
        label, offsets, quoted = match.groups()
        if ";" in offsets:
            discontinuous += 1
            continue
        start, end = map(int, offsets.split(" "))
        spans.append(RawSpan(start, end, label, _with_line_ends(quoted, text, start, end)))
    return spans, discontinuous


def _with_line_ends(quoted: str | None, text: str, start: int, end: int) -> str | None:
    """The quote, with the line ends that brat writes as blanks when a mention spans lines."""
    surface = text[start:end]
    return surface if quoted == _LINE_END.sub(" ", surface) else quoted
