"""The reviewable source form of the shipped corpus: notes with mentions marked in the text.

A `.note` file is a header of `key: value` lines, a line `---`, and the text, in which a gold
mention stands as `[surface form](LABEL)`. `python -m hc_orchestration.corpora.inline SOURCE OUTPUT`
writes the JSON Lines that the study reads; each span quotes its surface form for readers to check.
"""

import json
import re
import sys
from pathlib import Path

from hc_orchestration.corpora.notes import Note, Span
from hc_orchestration.errors import CorpusError

_MENTION = re.compile(r"\[([^\[\]\n]+)\]\(([A-Z_]+)\)")


def parse_inline(note_id: str, content: str, labels: frozenset[str]) -> Note:
    """Parse one `.note` file.

    Raises:
        CorpusError: The header is missing or malformed, or a mark is not of the form above or has a
            label that is not in `labels`.
    """
    header, separator, marked = content.partition("\n---\n")
    if not separator:
        message = f"{note_id}: no line '---' between header and text."
        raise CorpusError(message)
    attributes = dict(_header_line(note_id, line) for line in header.splitlines())
    text, spans = _unmark(note_id, marked.rstrip("\n"))
    unknown = sorted({span.label for span in spans} - labels)
    if unknown:
        message = f"{note_id}: unknown label {', '.join(unknown)}."
        raise CorpusError(message)
    return Note(note_id, text, spans, attributes)


def _header_line(note_id: str, line: str) -> tuple[str, str]:
    key, colon, value = line.partition(":")
    if not colon or not value.strip():
        message = f"{note_id}: header line {key!r} is not 'key: value'."
        raise CorpusError(message)
    return key.strip(), value.strip()


def _unmark(note_id: str, marked: str) -> tuple[str, tuple[Span, ...]]:
    pieces: list[str] = []
    spans: list[Span] = []
    position = length = 0
    for match in _MENTION.finditer(marked):
        plain = marked[position : match.start()]
        start = length + len(plain)
        length = start + len(match[1])
        pieces += [plain, match[1]]
        spans.append(Span(start, length, match[2]))
        position = match.end()
    text = "".join([*pieces, marked[position:]])
    if "](" in text:
        message = f"{note_id}: a mark is left over at code point {text.index('](')} of the text."
        raise CorpusError(message)
    return text, tuple(spans)


def build_jsonl(source: Path, labels: frozenset[str]) -> str:
    """The JSON Lines of all `.note` files in `source`, in the order of their ids."""
    lines = []
    for path in sorted(source.glob("*.note")):
        note = parse_inline(path.stem, path.read_text(encoding="utf-8"), labels)
        spans = [
            {"start": s.start, "end": s.end, "label": s.label, "text": note.text[s.start : s.end]}
            for s in note.spans or ()
        ]
        record = {"note_id": note.note_id, **note.attributes, "text": note.text, "spans": spans}
        lines.append(json.dumps(record, ensure_ascii=False))
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    Path(sys.argv[2]).write_text(
        build_jsonl(Path(sys.argv[1]), frozenset({"DISEASE", "CHEMICAL"})), encoding="utf-8"
    )
