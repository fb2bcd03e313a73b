"""From the path in a study file to notes: files, folders, globs, URLs, compressed and damaged."""

import gzip
import hashlib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from hc_orchestration.corpora.notes import Note, Reject, RejectReason
from hc_orchestration.corpora.sources import CorpusSource, read_source
from hc_orchestration.errors import CorpusError

FLU = b'{"note_id": "flu", "text": "Severe flu."}\n'
GOUT = b'{"note_id": "gout", "text": "Gout flare."}\n'


def source(path: object, form: Literal["jsonl", "pubtator"] = "jsonl") -> CorpusSource:
    return CorpusSource(name="notes", path=str(path), format=form)


def ids(path: object, form: Literal["jsonl", "pubtator"] = "jsonl") -> list[str]:
    return [item.note_id for item in read_source(source(path, form)) if isinstance(item, Note)]


def test_file_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "export.data").write_bytes(FLU + GOUT)
    assert ids(tmp_path / "export.data") == ["flu", "gout"]


def test_folder_gives_its_files_of_the_format_in_the_order_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "b.jsonl").write_bytes(FLU)
    (tmp_path / "a.ndjson").write_bytes(GOUT)
    (tmp_path / "deeper" / "c.jsonl").write_bytes(b'{"note_id": "deep", "text": "x"}')
    (tmp_path / "README.md").write_bytes(b"not a note")
    (tmp_path / "abstracts.txt").write_bytes(b"1|t|Title\n")
    assert ids(tmp_path) == ["gout", "flu", "deep"]
    assert ids(tmp_path, "pubtator") == ["1"]


def test_glob_gives_the_files_that_fit(tmp_path: Path) -> None:
    (tmp_path / "a1.jsonl").write_bytes(FLU)
    (tmp_path / "a2.jsonl").write_bytes(GOUT)
    (tmp_path / "b1.jsonl").write_bytes(b'{"note_id": "other", "text": "x"}')
    (tmp_path / "a3").mkdir()
    assert ids(tmp_path / "a*") == ["flu", "gout"]


@pytest.mark.parametrize("name", ["notes [v1].jsonl", "what?.jsonl", "a*b.jsonl"])
def test_file_may_be_named_like_a_glob(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "study [2]"
    folder.mkdir()
    (folder / name).write_bytes(FLU)
    assert ids(folder / name) == ["flu"]
    assert ids(folder) == ["flu"]


def test_compressed_file_is_unpacked_on_the_way(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl.gz").write_bytes(gzip.compress(FLU + GOUT))
    assert ids(tmp_path / "notes.jsonl.gz") == ["flu", "gout"]
    assert ids(tmp_path) == ["flu", "gout"]


def test_file_url_is_read_like_the_path(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_bytes(FLU)
    assert ids((tmp_path / "notes.jsonl").as_uri()) == ["flu"]
    assert ids(tmp_path.as_uri()) == ["flu"]
    assert ids(tmp_path.as_uri() + "/*.jsonl") == ["flu"]


@pytest.fixture
def memory() -> Iterator[fsspec.AbstractFileSystem]:
    filesystem = fsspec.filesystem("memory")
    yield filesystem
    filesystem.rm("/hc-tests", recursive=True)


def test_url_of_another_store_is_read(memory: fsspec.AbstractFileSystem) -> None:
    memory.pipe("/hc-tests/notes.jsonl", FLU)
    assert ids("memory://hc-tests/notes.jsonl") == ["flu"]
    assert ids("memory://hc-tests") == ["flu"]


def test_file_in_an_archive_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "corpus.zip", "w") as archive:
        archive.writestr("part/notes.jsonl", FLU)
    assert ids(f"zip://part/notes.jsonl::{tmp_path / 'corpus.zip'}") == ["flu"]


@pytest.mark.parametrize("path", ["absent.jsonl", "absent", "*.jsonl", "file:///absent/notes"])
def test_nothing_there_names_the_corpus_and_the_path(tmp_path: Path, path: str) -> None:
    with pytest.raises(CorpusError, match=r"corpus 'notes': no jsonl file at .*Mend `path`"):
        ids(path if "://" in path else tmp_path / path)


def test_folder_without_a_file_of_the_format_says_what_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "notes.csv").write_bytes(b"id,text\n")
    with pytest.raises(CorpusError, match=r"\.jsonl, \.jsonl\.gz, \.ndjson, \.ndjson\.gz"):
        ids(tmp_path)


def test_unknown_kind_of_url_is_refused() -> None:
    with pytest.raises(CorpusError, match="hc-none://x cannot be opened"):
        ids("hc-none://x")


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(GOUT * 1000)[:-20], gzip.compress(GOUT)[:12] + b"\xff" * 30],
    ids=["not compressed", "cut short", "overwritten"],
)
def test_damaged_archive_is_one_reject_and_costs_no_other_file(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    (tmp_path / "b.jsonl").write_bytes(FLU)
    items = list(read_source(source(tmp_path)))
    digest = hashlib.sha256(content).hexdigest()
    damaged = Reject("notes", "a.jsonl.gz file", RejectReason.BROKEN_FILE, digest)
    assert [item for item in items if isinstance(item, Reject)] == [damaged]
    assert [item.note_id for item in items if isinstance(item, Note)][-1] == "flu"


def test_file_that_may_not_be_read_stops_the_reading(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.jsonl").write_bytes(FLU)

    def refused(*_: object, **__: object) -> None:
        raise PermissionError

    monkeypatch.setattr(LocalFileSystem, "_open", refused)
    with pytest.raises(CorpusError, match=r"corpus 'notes': a\.jsonl cannot be read \(Permission"):
        ids(tmp_path)


def test_reject_names_corpus_file_and_line_and_digests_the_raw_bytes(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_bytes(FLU + b"nonsense\n")
    rejects = [item for item in read_source(source(tmp_path)) if isinstance(item, Reject)]
    digest = hashlib.sha256(b"nonsense\n").hexdigest()
    position = "notes.jsonl line 2"
    assert rejects == [Reject("notes", position, RejectReason.BROKEN_JSON, digest)]


@pytest.mark.parametrize(
    ("form", "content"),
    [
        ("jsonl", b'{"note_id": "Abernathy", "text": "Abernathy has flu", "spans": 1}'),
        ("jsonl", b'{"note_id": "Abernathy", "text": "Abernathy has \\ud800"}'),
        ("jsonl", b"Abernathy has flu"),
        ("pubtator", b"Abernathy|t|Abernathy has flu\nAbernathy\t0\t99\tAbernathy\tDisease\tD1"),
        ("pubtator", b"Abernathy has flu"),
    ],
)
def test_reject_never_holds_words_of_the_note(
    tmp_path: Path, form: Literal["jsonl", "pubtator"], content: bytes
) -> None:
    (tmp_path / "notes").write_bytes(content)
    (reject,) = read_source(source(tmp_path / "notes", form))
    assert isinstance(reject, Reject)
    assert "Abernathy" not in repr(reject)
    assert "flu" not in repr(reject)
