"""The words of a note stay in the notes table, whatever goes wrong.

A made-up word stands in one note, in the message of a model that fails on that note, and in records
that are rejected. Whatever is written or printed is searched for it.
"""

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage import integrity
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import NOTES, TERMS, note_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from spacy.language import Language
    from spacy.tokens import Doc

SENTINEL = "xanthoquill"
QUOTING = "quoting-1"
SPAN_BEYOND = {"start": 0, "end": 999, "label": "DISEASE"}


def holders(folder: Path) -> list[str]:
    """The files below a folder that hold the word: in their bytes, or in a Parquet column."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content = path.read_bytes()
        if path.suffix == ".parquet":
            content += pl.read_parquet(path).write_ndjson().encode()
        if SENTINEL.encode() in content:
            found.append(str(path.relative_to(folder)))
    return found


@pytest.fixture
def quoting_model(settings: Settings) -> None:
    """A pipeline that raises the text of the note which it cannot read."""
    import spacy
    from spacy.language import Language

    def make(nlp: "Language", name: str) -> "Callable[[Doc], Doc]":
        def quote(doc: "Doc") -> "Doc":
            if SENTINEL in doc.text:
                message = f"{name} of {nlp.lang} cannot read: {doc.text}"
                raise ValueError(message)
            return doc

        return quote

    Language.factory("hc_tests_quoting", assigns=["doc.ents"], func=make)
    nlp = spacy.blank("en")
    nlp.add_pipe("hc_tests_quoting")
    nlp.to_disk(settings.catalogue.parent / "quoting")
    with settings.catalogue.open("a", encoding="utf-8") as catalogue:
        catalogue.write(
            "  - {name: quoting, version: '1', loader: spacy, source: {path: quoting}}\n"
        )


@pytest.fixture
def sentinel_corpus(settings: Settings) -> None:
    """The notes, one more with the word in it, and two rejected ones with it."""
    lines = [note_line(note) for note in NOTES]
    for number, more in enumerate(({"spans": []}, {"spans": [SPAN_BEYOND]}, {"text": None})):
        note = {"note_id": f"s{number}", "text": f"Seen with {SENTINEL} today."}
        lines.append(json.dumps({**note, **more, "remark": None}))
    lines.append(f'{{"note_id": "s9", "text": "{SENTINEL}')
    notes = settings.study.parent / "notes.jsonl"
    notes.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.usefixtures("quoting_model", "sentinel_corpus")
def test_a_note_that_a_model_quotes_in_its_error_is_found_in_the_notes_table_only(
    settings: Settings, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)

    outcome = call("evaluate", "--model", QUOTING)
    shown = [call("corpus", "show"), call("models", "show", QUOTING), call("metrics")]

    assert outcome.code == 1
    assert "could not process 1 of 7 notes: it raised ValueError on note s0." in outcome.squeezed
    corpus = Workspace(settings).corpus.required()
    assert (corpus.notes, corpus.counts["quarantined"]) == (len(NOTES) + 1, 3)
    held = holders(settings.home)
    assert held
    assert [name for name in held if not name.startswith("tables/notes/")] == []
    printed = [text for each in (outcome, *shown) for text in (each.out, each.err)]
    assert SENTINEL not in "".join([*printed, *capfd.readouterr(), caplog.text])


@pytest.mark.usefixtures("sentinel_corpus")
def test_an_unforeseen_error_that_quotes_a_note_is_told_without_its_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def quoting(*_: object) -> None:
        message = f"a bug met {SENTINEL}"
        raise ValueError(message)

    monkeypatch.setattr(integrity, "row_counts", quoting)
    caplog.set_level(logging.DEBUG)

    outcome = call("evaluate", "--model", TERMS)

    assert outcome.code == 1
    assert f"failed {TERMS}: ValueError at test_note_text.py:" in outcome.squeezed
    assert [name for name in holders(settings.home) if not name.startswith("tables/notes/")] == []
    assert SENTINEL not in outcome.out + outcome.err + caplog.text
