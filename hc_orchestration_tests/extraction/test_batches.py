"""Batches: texts of like length together, within limits, none lost."""

from hc_orchestration.extraction.batches import length_aware
from hc_orchestration.models.predictions import NoteText


def notes(*lengths: int) -> list[NoteText]:
    return [NoteText(f"n{i}", "x" * length, "digest") for i, length in enumerate(lengths)]


def lengths(windows: list[list[NoteText]]) -> list[list[int]]:
    return [[len(note.text) for note in batch] for batch in length_aware(windows)]


def test_longest_come_first_within_a_window() -> None:
    assert lengths([notes(3, 9, 5), notes(20)]) == [[9, 5, 3], [20]]


def test_batch_holds_so_many_characters_and_a_longer_text_goes_alone() -> None:
    assert lengths([notes(10, 100_000, 40_000, 30_000, 20_000)]) == [
        [100_000],
        [40_000],
        [30_000, 20_000, 10],
    ]


def test_batch_holds_so_many_notes() -> None:
    assert [len(batch) for batch in lengths([notes(*[5] * 70)])] == [32, 32, 6]


def test_empty_window_gives_no_batch() -> None:
    assert lengths([[]]) == []
