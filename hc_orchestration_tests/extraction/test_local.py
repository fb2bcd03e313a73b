"""The local engine: rows for each note, and a failing model whose words never leave it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from hc_orchestration.errors import ModelError
from hc_orchestration.extraction.local import extract_batches
from hc_orchestration.models.loaders import ModelSpan
from hc_orchestration.models.predictions import NoteEntities, NoteText


def note(note_id: str, text: str) -> NoteText:
    return NoteText(note_id, text, f"digest of {note_id}")


@dataclass
class FakeModel:
    """Answers each text with what `find` gives; notes the batches that it was given."""

    find: Callable[[str], list[ModelSpan]]
    batches: list[list[str]] = field(default_factory=list)

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        self.batches.append(list(texts))
        return [self.find(text) for text in texts]


def whole(text: str) -> list[ModelSpan]:
    return [(0, len(text), "DISEASE")]


def chokes_on_abernathy(text: str) -> list[ModelSpan]:
    if "Abernathy" in text:
        message = f"cannot digest {text!r}"
        raise RuntimeError(message)
    return whole(text)


def only_row(spans: list[ModelSpan]) -> NoteEntities:
    ((row,),) = extract_batches(FakeModel(lambda _: spans), [[note("n1", "Severe flu")]])
    return row


def test_each_note_has_a_row_with_its_id_and_text_digest() -> None:
    model = FakeModel(lambda text: [] if text == "Well" else whole(text))
    batches = [[note("n1", "flu"), note("n2", "Well")], [note("n3", "gout")]]
    assert list(extract_batches(model, batches)) == [
        [
            NoteEntities("n1", "digest of n1", ((0, 3, "DISEASE", None),)),
            NoteEntities("n2", "digest of n2", ()),
        ],
        [NoteEntities("n3", "digest of n3", ((0, 4, "DISEASE", None),))],
    ]
    assert model.batches == [["flu", "Well"], ["gout"]]


def test_batch_is_given_on_before_the_next_one_is_read() -> None:
    model = FakeModel(whole)
    rows = extract_batches(model, ([note(str(number), "flu")] for number in range(3)))
    next(rows)
    assert model.batches == [["flu"]]


def test_scores_are_kept_and_absent_ones_are_none() -> None:
    row = only_row([(7, 10, "DISEASE", 0.25), (0, 6, "SEVERITY")])
    assert row.spans == ((7, 10, "DISEASE", 0.25), (0, 6, "SEVERITY", None))


def test_score_of_zero_is_a_score() -> None:
    (span,) = only_row([(0, 6, "SEVERITY", 0.0)]).spans
    assert span[3] is not None
    assert math.isclose(span[3], 0.0)


@pytest.mark.parametrize("size", [1, 2, 3, 8])
@pytest.mark.parametrize("position", ["first", "last"])
def test_model_that_raises_on_one_text_names_the_note_and_not_its_words(
    size: int, position: str
) -> None:
    notes = [note(f"n{number}", "flu") for number in range(size)]
    notes[0 if position == "first" else -1] = note("bad-one", "Mrs Abernathy has flu")
    given = extract_batches(FakeModel(chokes_on_abernathy), [notes])
    kept = [row.note_id for row in next(given)] if size > 1 else []
    with pytest.raises(ModelError) as caught:
        next(given)
    assert str(caught.value) == "the model raised RuntimeError on note bad-one."
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert kept == [each.note_id for each in notes if each.note_id != "bad-one"]


def test_model_that_fails_on_a_full_batch_only_is_given_smaller_ones() -> None:
    class NarrowModel(FakeModel):
        def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
            if len(texts) > 2:
                raise MemoryError
            return super().extract(texts)

    notes = [note(f"n{number}", "flu" * (number + 1)) for number in range(5)]
    (rows,) = extract_batches(NarrowModel(whole), [notes])
    assert [(row.note_id, row.spans[0][1]) for row in rows] == [
        ("n0", 3),
        ("n1", 6),
        ("n2", 9),
        ("n3", 12),
        ("n4", 15),
    ]


@pytest.mark.parametrize("answers", [0, 1, 3])
def test_wrong_number_of_results_is_refused(answers: int) -> None:
    class Miscounting:
        def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
            del texts
            return [[] for _ in range(answers)]

    batch = [note("n1", "flu"), note("n2", "gout")]
    with pytest.raises(ModelError, match=f"the model gave {answers} results for 2 texts"):
        list(extract_batches(Miscounting(), [batch]))


@pytest.mark.parametrize(
    "span",
    [
        (0, 11, "DISEASE"),
        (-1, 3, "DISEASE"),
        (3, 3, "DISEASE"),
        (4, 3, "DISEASE"),
        (10, 11, "DISEASE"),
        (0, 3, ""),
    ],
)
def test_span_outside_the_note_is_refused_naming_the_note(span: ModelSpan) -> None:
    with pytest.raises(ModelError, match="outside note n1") as caught:
        only_row([(0, 10, "DISEASE"), span])
    assert "Severe" not in str(caught.value)


def test_offsets_count_code_points() -> None:
    text = "\U0001f637 flu"
    model = FakeModel(lambda _: [(2, 5, "DISEASE")])
    ((row,),) = extract_batches(model, [[note("n1", text)]])
    assert row.spans == ((2, 5, "DISEASE", None),)
