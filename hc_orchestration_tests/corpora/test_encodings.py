"""Files in another encoding than UTF-8, where the study says which."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from hc_orchestration.corpora.sources import CorpusSource, Format
from hc_orchestration_tests.corpora.formats import (
    Reading,
    csv_bytes,
    jsonl,
    mimic_rows,
    pubtator,
    write,
)


@pytest.mark.parametrize("form", ["jsonl", "csv", "text", "brat", "pubtator", "mimic"])
@pytest.mark.parametrize("encoding", ["cp1252", "utf-16", "latin-1"])
def test_a_stated_encoding_gives_the_same_notes_as_utf_8(
    tmp_path: Path, form: Format, encoding: str
) -> None:
    text = "Sévère flu. Took aspirin for naïve pain."
    files = {
        "jsonl": {"a.jsonl": jsonl(text, ()).decode().encode()},
        "csv": {"a.csv": csv_bytes([{"note_id": "n1", "text": text}])},
        "text": {"a.txt": text.encode()},
        "brat": {"a.txt": text.encode(), "a.ann": b"T1\tDISEASE 7 10\tflu\n"},
        "pubtator": {"a.txt": pubtator(text, spans=())},
        "mimic": {"a.csv": csv_bytes(mimic_rows(text))},
    }[form]
    plain = Reading(write(tmp_path / "plain", files), form)
    coded = {name: content.decode().encode(encoding) for name, content in files.items()}
    read = Reading(write(tmp_path / "coded", coded), form, encoding=encoding)

    assert [note.text.strip() for note in plain.notes] == [text]
    assert [(n.text, n.gold) for n in read.notes] == [(n.text, n.gold) for n in plain.notes]


def test_a_byte_that_the_encoding_does_not_know_costs_its_row_only(tmp_path: Path) -> None:
    content = b"note_id,text\nbad,a\x81b\ngood,na\xefve\n"
    read = Reading(write(tmp_path, {"a.csv": content}), "csv", encoding="cp1252")

    assert (read.reasons, [note.text for note in read.notes]) == (["undecodable_bytes"], ["naïve"])
    assert read.adds_up


def test_a_file_in_another_encoding_than_stated_is_one_reject(tmp_path: Path) -> None:
    read = Reading(write(tmp_path, {"a.csv": b"note_id,text\nn1,odd"}), "csv", encoding="utf-16-le")
    assert read.notes == []
    assert len(read.reasons) == 1
    assert read.adds_up


@pytest.mark.parametrize(
    ("form", "encoding", "told"),
    [("parquet", "cp1252", "encoding is for"), ("csv", "rot13", "knows no text encoding")],
)
def test_an_encoding_that_does_not_fit_is_refused(form: str, encoding: str, told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        CorpusSource.model_validate(
            {"name": "a", "path": "a", "format": form, "encoding": encoding}
        )
