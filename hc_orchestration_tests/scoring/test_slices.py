"""Slices and sampling units: which notes belong together, and which numbers stay untold."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from hc_orchestration.errors import EvaluationError
from hc_orchestration.scoring.evaluation import Evaluation
from hc_orchestration.scoring.slices import cut, grouped_notes
from hc_orchestration_tests.scoring.frames import PLAN, Mention, evaluated, notes, statistics

D = "DISEASE"


def of_types(**sizes: int) -> dict[str, dict[str, str]]:
    """Note ids with their type: so many notes of each."""
    return {f"{name}{i}": {"note_type": name} for name, size in sizes.items() for i in range(size)}


def sliced(
    attributes: Mapping[str, Mapping[str, str]], smallest_cell: int, *names: str
) -> dict[str, list[str] | None]:
    """Slice → its notes; None: withheld."""
    groups = grouped_notes(notes(dict.fromkeys(attributes, ()), attributes), names, None)
    return {
        part.name: None if part.rows is None else groups["note_id"].gather(part.rows).to_list()
        for part in cut(groups, names, smallest_cell)
    }


def test_a_slice_is_the_notes_that_share_a_value() -> None:
    attributes = {
        "n1": {"note_type": "consult", "source": "a"},
        "n2": {"note_type": "ed_note", "source": "a"},
        "n3": {"note_type": "consult", "source": "b"},
        "n4": {"source": "b"},
    }
    assert sliced(attributes, 1, "note_type", "source") == {
        "note_type.(none)": ["n4"],
        "note_type.consult": ["n1", "n3"],
        "note_type.ed_note": ["n2"],
        "source.a": ["n1", "n2"],
        "source.b": ["n3", "n4"],
    }


def test_length_is_a_tertile_and_equal_lengths_stay_together() -> None:
    texts = {f"n{length}": "x" * length for length in (10, 20, 30, 40, 50, 60)}
    texts["again"] = "y" * 20
    groups = grouped_notes(notes(dict.fromkeys(texts, ()), texts=texts), ("length",), None)
    found = {
        part.value: groups["note_id"].gather(part.rows).to_list()
        for part in cut(groups, ("length",), 1)
        if part.rows is not None
    }
    assert found == {
        "short": ["again", "n10", "n20"],
        "medium": ["n30", "n40"],
        "long": ["n50", "n60"],
    }


def test_notes_that_nobody_annotated_are_in_no_slice() -> None:
    groups = grouped_notes(notes({"n1": [], "n2": None}), ("source",), None)
    assert groups["note_id"].to_list() == ["n1"]


@pytest.mark.parametrize(
    ("sizes", "withheld"),
    [
        ({"a": 11, "b": 12}, set()),
        ({"a": 10, "b": 12, "c": 40}, {"a", "b"}),
        ({"a": 10, "b": 12, "c": 12}, {"a", "b"}),
        ({"a": 3, "b": 4, "c": 30, "d": 40}, {"a", "b", "c"}),
        ({"a": 10}, {"a"}),
        ({"a": 1, "b": 100}, {"a", "b"}),
    ],
)
def test_a_small_slice_is_withheld_with_the_next_smallest(
    sizes: dict[str, int], withheld: set[str]
) -> None:
    """Else the total less the slices that are shown would be the small one."""
    found = sliced(of_types(**sizes), 11, "note_type")
    assert {name.split(".")[1] for name, shown in found.items() if shown is None} == withheld


def test_attributes_are_withheld_each_by_itself() -> None:
    attributes = {f"n{i}": {"note_type": "x" if i < 12 else "y", "source": "a"} for i in range(15)}
    found = sliced(attributes, 5, "note_type", "source")
    assert {name for name, shown in found.items() if shown is None} == {
        "note_type.x",
        "note_type.y",
    }


def test_an_attribute_that_names_notes_is_no_slice() -> None:
    attributes = {f"n{i}": {"record": str(i)} for i in range(101)}
    with pytest.raises(EvaluationError, match="record has 101 values"):
        sliced(attributes, 1, "record")


def of_two_types(smallest_cell: int) -> Evaluation:
    """Consults are all found, notes of the emergency department never."""
    attributes = of_types(consult=3, ed=2)
    mention: list[Mention] = [(0, 3, D)]
    gold = dict.fromkeys(attributes, mention)
    found = {note_id: mention for note_id in attributes if note_id.startswith("consult")}
    plan = replace(PLAN, slices=("note_type",), smallest_cell=smallest_cell)
    return evaluated(gold, found, plan=plan, attributes=attributes)


def test_a_slice_has_the_same_rows_as_the_corpus() -> None:
    result = of_two_types(smallest_cell=1)

    assert statistics(result, "strict", part="note_type.consult")["f1"] == 1.0
    assert statistics(result, "strict", part="note_type.ed")["f1"] == 0.0
    assert statistics(result, "strict")["recall"] == pytest.approx(3 / 5)
    keys = ["mode", "average", "label", "statistic"]
    rows = {
        part: set(result.scores.filter(slice=part).select(keys).iter_rows())
        for part in ("all", "note_type.consult", "note_type.ed")
    }
    assert rows["all"] == rows["note_type.consult"] == rows["note_type.ed"]
    notes_of = dict(result.scores.select("slice", "notes").unique().iter_rows())
    assert notes_of == {"all": 5, "note_type.consult": 3, "note_type.ed": 2}
    assert result.values["strict.recall.slice.note_type.consult"] == 1.0
    assert "strict.recall.label.DISEASE.slice.note_type.consult" not in result.values


def test_a_withheld_slice_has_rows_and_no_number() -> None:
    result = of_two_types(smallest_cell=3)

    assert result.withheld == 2
    withheld = result.scores.filter(result.scores["slice"] != "all")
    assert withheld["withheld"].all()
    assert withheld.height == 2 * result.scores.filter(slice="all").height
    told = withheld.drop("mode", "average", "label", "slice", "statistic", "withheld")
    assert told.null_count().row(0) == (withheld.height,) * len(told.columns)
    assert not result.scores.filter(slice="all")["withheld"].any()
    assert not any(".slice." in name for name in result.values)


@pytest.mark.parametrize(
    ("cluster", "expected"),
    [(None, {("n1", "n3"), ("n2",), ("n4",)}), ("patient", {("n1", "n2"), ("n3",), ("n4",)})],
)
def test_notes_are_drawn_by_patient_or_else_by_text(
    cluster: str | None, expected: set[tuple[str, ...]]
) -> None:
    """A note without a patient stands with those of its text that have none either."""
    texts = {"n1": "same", "n2": "own", "n3": "same", "n4": "third"}
    patients = {"n1": {"patient": "p1"}, "n2": {"patient": "p1"}}
    table = grouped_notes(notes(dict.fromkeys(texts, ()), patients, texts), (), cluster)
    together: dict[int, list[str]] = {}
    for note_id, unit in table.select("note_id", "cluster").iter_rows():
        together.setdefault(unit, []).append(note_id)
    assert {tuple(ids) for ids in together.values()} == expected
    assert set(together) == {0, 1, 2}
