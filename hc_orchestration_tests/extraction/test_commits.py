"""The committing thread: everything that came in is stored once, whatever ends it."""

import threading
from collections.abc import Sequence

import pytest

from hc_orchestration.errors import StorageError
from hc_orchestration.extraction import commits as commits_module
from hc_orchestration.extraction.commits import Commits
from hc_orchestration.models.predictions import NoteEntities, PackedEntities, pack


def note(number: int) -> PackedEntities:
    return pack([NoteEntities(f"n{number}", "digest", ())])


class Table:
    """Keeps the ids of each commit; refuses the commits from `refused_from` on."""

    def __init__(self, refused_from: int = 1_000_000) -> None:
        self.commits: list[list[str]] = []
        self.committed = threading.Event()
        self._refused_from = refused_from

    def insert(self, packed: Sequence[PackedEntities]) -> int:
        if len(self.commits) >= self._refused_from:
            message = "no room"
            raise StorageError(message)
        self.commits.append([note_id for part in packed for note_id in part.note_ids])
        self.committed.set()
        return len(self.commits[-1])


def test_few_results_are_one_commit() -> None:
    table = Table()
    with Commits(table.insert) as commits:
        for number in range(3):
            commits.put(note(number))
    assert table.commits == [["n0", "n1", "n2"]]


def test_nothing_is_no_commit() -> None:
    table = Table()
    with Commits(table.insert):
        pass
    assert table.commits == []


def test_results_are_committed_while_others_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "_SHORTEST_S", 0.01)
    table = Table()
    with Commits(table.insert) as commits:
        commits.put(note(0))
        assert table.committed.wait(timeout=10)
        commits.put(note(1))
    assert [note_id for commit in table.commits for note_id in commit] == ["n0", "n1"]


def test_many_results_are_committed_before_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "_ROWS", 2)
    table = Table()
    with Commits(table.insert) as commits:
        for number in range(4):
            commits.put(note(number))
    assert table.commits == [["n0", "n1"], ["n2", "n3"]]


def test_what_came_in_before_an_interrupt_is_stored() -> None:
    table = Table()

    def interrupted() -> None:
        with Commits(table.insert) as commits:
            commits.put(note(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert table.commits == [["n0"]]


def test_failed_last_commit_is_raised() -> None:
    def extracted() -> None:
        with Commits(Table(refused_from=0).insert) as commits:
            commits.put(note(0))

    with pytest.raises(StorageError, match="no room"):
        extracted()


def test_failed_commit_ends_the_extraction(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits_module, "_ROWS", 1)

    def extracted() -> None:
        with Commits(Table(refused_from=1).insert) as commits:
            for number in range(100_000):
                commits.put(note(number))
        pytest.fail("100,000 results were taken in, and none stored")

    with pytest.raises(StorageError, match="no room"):
        extracted()
