"""The counts behind the integrity checks, each with rows that pass and rows that fail."""

import polars as pl
import pytest

from hc_orchestration.storage.integrity import (
    misplaced_spans,
    out_of_bounds,
    repeated_ids,
    row_counts,
)

SPAN = pl.Struct({"start": pl.Int64, "end": pl.Int64, "label": pl.String})


def rows_of(*ids: str) -> pl.LazyFrame:
    return pl.LazyFrame({"note_id": list(ids)}, schema={"note_id": pl.String})


@pytest.mark.parametrize(
    ("ids", "repeated"), [(("n1", "n2"), 0), ((), 0), (("n1", "n2", "n1", "n1"), 1)]
)
def test_ids_that_stand_more_than_once_are_counted(ids: tuple[str, ...], repeated: int) -> None:
    assert repeated_ids(rows_of(*ids)) == repeated


@pytest.mark.parametrize(
    ("start", "end", "misplaced"),
    [(0, 5, 0), (4, 5, 0), (0, 6, 1), (5, 6, 1), (-1, 2, 1), (3, 3, 1), (4, 2, 1)],
)
def test_a_span_must_lie_in_its_text(start: int, end: int, misplaced: int) -> None:
    notes = pl.LazyFrame(
        {"text": ["five5"], "gold": [[{"start": start, "end": end, "label": "A"}]]},
        schema={"text": pl.String, "gold": pl.List(SPAN)},
    )

    assert misplaced_spans(notes, "gold") == misplaced


def test_offsets_count_code_points_not_bytes() -> None:
    """38.5 °C is seven code points and eight bytes."""
    notes = pl.LazyFrame(
        {"text": ["38.5 °C"] * 2, "spans": [[(0, 7)], [(0, 8)]]},
        schema={
            "text": pl.String,
            "spans": pl.List(pl.Struct({"start": pl.Int64, "end": pl.Int64})),
        },
    )

    assert misplaced_spans(notes, "spans") == 1


def test_notes_without_spans_or_annotation_misplace_nothing() -> None:
    notes = pl.LazyFrame(
        {"text": ["a", "b"], "gold": [None, []]},
        schema={"text": pl.String, "gold": pl.List(SPAN)},
    )

    assert misplaced_spans(notes, "gold") == 0


@pytest.mark.parametrize(
    ("entities", "expected"),
    [
        (("n1", "n2", "n3"), (0, 0)),
        (("n1", "n3"), (1, 0)),
        ((), (3, 0)),
        (("n1", "n2", "n2", "n3", "n3", "n3"), (0, 2)),
        (("n1", "n1", "n2", "left"), (1, 1)),
    ],
)
def test_notes_without_a_row_and_with_several_are_counted(
    entities: tuple[str, ...], expected: tuple[int, int]
) -> None:
    assert row_counts(rows_of("n1", "n2", "n3"), rows_of(*entities)) == expected


def score(value: float | None, gold: int, predicted: int, credit: float) -> pl.DataFrame:
    names = {"mode": "strict", "statistic": "f1", "label": "DISEASE"}
    row = {**names, "value": value, "gold": gold, "predicted": predicted, "credit": credit}
    return pl.DataFrame([row], schema_overrides={"value": pl.Float64})


@pytest.mark.parametrize(
    "scores",
    [
        score(0.5, gold=2, predicted=2, credit=1.0),
        score(0.0, gold=2, predicted=2, credit=0.0),
        score(1.0, gold=2, predicted=2, credit=2.0),
        score(None, gold=0, predicted=0, credit=0.0),
    ],
)
def test_a_score_within_its_bounds_is_not_named(scores: pl.DataFrame) -> None:
    assert out_of_bounds(scores) == []


@pytest.mark.parametrize(
    "scores",
    [
        score(1.2, gold=2, predicted=2, credit=1.0),
        score(-0.1, gold=2, predicted=2, credit=1.0),
        score(float("nan"), gold=2, predicted=2, credit=1.0),
        score(0.5, gold=2, predicted=1, credit=1.5),
        score(None, gold=-1, predicted=2, credit=-1.0),
    ],
)
def test_a_score_that_cannot_be_is_named(scores: pl.DataFrame) -> None:
    assert out_of_bounds(scores) == ["strict.f1 DISEASE"]
