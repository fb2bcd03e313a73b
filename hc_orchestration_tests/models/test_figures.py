"""The figures of a model card."""

from collections.abc import Sequence
from pathlib import Path

from hc_orchestration.corpora.notes import Note, Span
from hc_orchestration.models.figures import (
    Figures,
    StrictCounts,
    figures_table,
    folder_bytes,
    measure,
)
from hc_orchestration.models.loaders import ModelSpan


class FirstWord:
    """A model that takes the first four characters of every text for a chemical."""

    device = "cpu"
    labels = None

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        return [[(0, 4, "CHEMICAL")] for _ in texts]


HIT = (Span(0, 4, "CHEMICAL"),)
MISS = (Span(0, 4, "DISEASE"),)


def test_figures_of_a_model_that_is_always_right_have_no_spread() -> None:
    figures = measure(FirstWord(), [Note("1", "iron", HIT), Note("2", "zinc", HIT)])
    assert figures.counts["micro"] == StrictCounts(gold=2, predicted=2, correct=2)
    assert figures.interval == (1.0, 1.0)
    assert figures.words_per_second > 0


def test_interval_holds_the_score_and_is_the_same_each_time() -> None:
    notes = [Note(str(number), "iron", HIT if number % 2 else MISS) for number in range(40)]
    first, second = measure(FirstWord(), notes), measure(FirstWord(), notes)
    assert first.interval == second.interval
    assert first.interval is not None
    low, high = first.interval
    # 40 notes of 0 or 1: the standard error is 0.5 / sqrt(40), so 95 % are about 0.5 +- 0.155.
    assert 0.32 < low < 0.38
    assert 0.62 < high < 0.68


def test_table_shows_labels_and_leaves_out_what_is_undefined() -> None:
    counts = {"micro": StrictCounts(0, 0, 0), "DISEASE": StrictCounts(0, 0, 0)}
    table = figures_table([("Test", Figures(counts, None, 1.0))])
    assert table.splitlines()[2:] == [
        "| Test | all | 0 | \u2013 | \u2013 | \u2013 | \u2013 |",
        "|  | DISEASE | 0 | \u2013 | \u2013 | \u2013 |  |",
    ]


def test_size_counts_files_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_bytes(b"123")
    (tmp_path / "a").write_bytes(b"12")
    assert folder_bytes(tmp_path) == 5
