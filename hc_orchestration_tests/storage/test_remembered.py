"""A remembered answer is given again only while nothing that it was made from has changed."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hc_orchestration.storage import remembered as module
from hc_orchestration.storage.remembered import Remembered

ANSWER = {"scores": [0.5, None], "words": "ü"}


@pytest.fixture
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written just now counts as long unchanged."""
    monkeypatch.setattr(module, "_SETTLED", 0)


@pytest.fixture
def sources(tmp_path: Path) -> list[Path]:
    """A file, a folder with a file, and a place where nothing is."""
    (tmp_path / "file").write_text("one", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inner").write_text("two", encoding="utf-8")
    return [tmp_path / "file", tmp_path / "folder", tmp_path / "absent"]


def answer_of(tmp_path: Path, *about: str) -> Remembered:
    return Remembered(tmp_path / "kept" / "answer.json", *about)


@pytest.mark.usefixtures("_settled")
def test_an_answer_is_given_again_and_only_its_owner_may_read_it(
    tmp_path: Path, sources: list[Path]
) -> None:
    assert answer_of(tmp_path, "study").read() is None
    answer_of(tmp_path, "study").write(ANSWER, sources)

    assert answer_of(tmp_path, "study").read() == ANSWER
    assert answer_of(tmp_path, "another study").read() is None
    assert (tmp_path / "kept").stat().st_mode & 0o077 == 0


def rewrite(folder: Path) -> None:
    before = (folder / "file").stat()
    (folder / "file").write_text("eno", encoding="utf-8")
    os.utime(folder / "file", ns=(before.st_atime_ns, before.st_mtime_ns))  # as a copy may do


CHANGES: dict[str, Callable[[Path], object]] = {
    "a file of the same size and time": rewrite,
    "a file is gone": lambda folder: (folder / "file").unlink(),
    "a file more in a folder": lambda folder: (folder / "folder" / "new").touch(),
    "something where nothing was": lambda folder: (folder / "absent").touch(),
}


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_makes_it_forgotten(
    tmp_path: Path, sources: list[Path], change: Callable[[Path], object]
) -> None:
    answer_of(tmp_path).write(ANSWER, sources)
    assert answer_of(tmp_path).read() == ANSWER
    time.sleep(0.02)  # a clock's tick

    change(tmp_path)

    assert answer_of(tmp_path).read() is None


@pytest.mark.usefixtures("_settled")
def test_what_changes_while_the_answer_is_made_leaves_nothing_remembered(
    tmp_path: Path, sources: list[Path]
) -> None:
    made = answer_of(tmp_path)
    time.sleep(0.02)
    (tmp_path / "file").write_text("changed", encoding="utf-8")
    made.write(ANSWER, sources)

    assert answer_of(tmp_path).read() is None


def test_what_changed_a_moment_ago_might_change_again_unseen(
    tmp_path: Path, sources: list[Path]
) -> None:
    answer_of(tmp_path).write(ANSWER, sources)

    assert answer_of(tmp_path).read() is None


@pytest.mark.usefixtures("_settled")
@pytest.mark.parametrize("content", [b"", b"\xff{", b"[]", b"{}", b'{"about": 1}'])
def test_a_damaged_file_is_no_answer(tmp_path: Path, sources: list[Path], content: bytes) -> None:
    answer_of(tmp_path).write(ANSWER, sources)
    (tmp_path / "kept" / "answer.json").write_bytes(content)

    assert answer_of(tmp_path).read() is None


@pytest.mark.usefixtures("_settled")
def test_another_version_of_the_program_makes_its_own(tmp_path: Path, sources: list[Path]) -> None:
    answer_of(tmp_path).write(ANSWER, sources)
    file = tmp_path / "kept" / "answer.json"
    known = json.loads(file.read_text(encoding="utf-8"))
    file.write_text(json.dumps({**known, "code": [known["code"][0] + 1, 0]}), encoding="utf-8")

    assert answer_of(tmp_path).read() is None


@pytest.mark.usefixtures("_settled")
def test_a_folder_that_cannot_be_written_is_no_error(tmp_path: Path, sources: list[Path]) -> None:
    (tmp_path / "kept").write_text("a file where the folder would be", encoding="utf-8")
    answer_of(tmp_path).write(ANSWER, sources)

    assert answer_of(tmp_path).read() is None
