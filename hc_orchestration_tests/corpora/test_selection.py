"""Which notes of a source are taken: by attribute, by sample, by number."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hc_orchestration_tests.corpora.formats import Reading, write

NOTES = [
    {"note_id": f"n{i}", "text": f"Note {i}.", "note_type": ("ed", "consult", "ward")[i % 3]}
    for i in range(300)
]


def reading(folder: Path, notes: list[dict[str, Any]] = NOTES, **options: Any) -> Reading:
    content = "\n".join(map(json.dumps, notes)).encode()
    return Reading(write(folder, {"notes.jsonl": content}), "jsonl", **options)


def ids(found: Reading) -> set[str]:
    return {note.note_id for note in found.notes}


@pytest.mark.parametrize(
    ("where", "stored"),
    [
        ({"note_type": "ed"}, 100),
        ({"note_type": ("ed", "ward")}, 200),
        ({"note_type": "ed", "specialty": "x"}, 0),
        ({"note_type": ()}, 0),
    ],
)
def test_where_takes_notes_with_the_attributes_and_counts_the_rest(
    tmp_path: Path, where: dict[str, Any], stored: int
) -> None:
    found = reading(tmp_path, where=where)
    assert (found.counts.stored, found.counts.not_selected) == (stored, 300 - stored)
    assert found.adds_up
    assert found.counts.selection["given"]["where"] == {
        key: list(value) if isinstance(value, tuple) else value for key, value in where.items()
    }


def test_limit_takes_the_first_notes_and_reads_no_further(tmp_path: Path) -> None:
    found = reading(tmp_path, limit=5, where={"note_type": "ed"})
    assert [note.note_id for note in found.notes] == ["n0", "n3", "n6", "n9", "n12"]
    assert (found.counts.read, found.counts.not_selected) == (13, 8)
    assert found.adds_up


def test_sample_of_n_takes_as_many_and_the_same_in_any_order(tmp_path: Path) -> None:
    one = reading(tmp_path, sample={"n": 40, "seed": 7})
    other = reading(tmp_path, list(reversed(NOTES)), sample={"n": 40, "seed": 7})
    assert len(one.notes) == 40
    assert one.ingestion.digest == other.ingestion.digest
    assert one.counts.selection == {"given": {"sample": {"n": 40, "seed": 7}}}
    assert one.adds_up


def test_sample_of_more_than_there_are_takes_all(tmp_path: Path) -> None:
    assert reading(tmp_path, sample={"n": 301}).counts.stored == 300


def test_sample_is_drawn_from_what_where_leaves(tmp_path: Path) -> None:
    found = reading(tmp_path, sample={"n": 40}, where={"note_type": "ed"})
    assert found.counts.note_types == Counter({"ed": 40})


def test_another_seed_draws_other_notes(tmp_path: Path) -> None:
    drawn = [ids(reading(tmp_path, sample={"n": 40, "seed": seed})) for seed in (1, 2)]
    assert drawn[0] != drawn[1]


def test_fraction_takes_about_that_part_and_a_note_does_not_depend_on_the_others(
    tmp_path: Path,
) -> None:
    whole = reading(tmp_path, sample={"fraction": 0.3})
    half = reading(tmp_path, NOTES[:150], sample={"fraction": 0.3})
    assert 60 <= whole.counts.stored <= 120
    assert ids(half) == ids(whole) & {note["note_id"] for note in NOTES[:150]}


def test_a_note_given_twice_counts_once_in_a_sample(tmp_path: Path) -> None:
    found = reading(tmp_path, NOTES + NOTES, sample={"n": 40})
    assert (found.counts.stored, found.counts.duplicates) == (40, 40)
    assert found.adds_up


def test_repeated_texts_are_kept_once_under_the_id_that_sorts_first(tmp_path: Path) -> None:
    copies = [
        {**note, "text": "Same." if index % 2 else "Other."} for index, note in enumerate(NOTES)
    ]
    one = reading(tmp_path, copies, repeated_texts="once")
    other = reading(tmp_path, list(reversed(copies)), repeated_texts="once")
    assert ids(one) == ids(other) == {"n0", "n1"}
    assert (one.counts.repeated_texts, one.counts.duplicate_texts) == (298, 0)
    assert one.adds_up
    assert other.adds_up


def test_what_cannot_be_read_is_quarantined_whatever_is_selected(tmp_path: Path) -> None:
    found = reading(tmp_path, [{"note_id": "bad"}, *NOTES], where={"note_type": "ed"})
    assert found.reasons == ["missing_text"]


OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "where": st.sampled_from([{"note_type": "ed"}, {"note_type": ("ed", "ward")}]),
        "sample": st.one_of(
            st.builds(lambda n, seed: {"n": n, "seed": seed}, st.integers(1, 30), st.integers()),
            st.builds(lambda part: {"fraction": part}, st.floats(0.01, 1)),
        ),
        "limit": st.integers(1, 30),
        "repeated_texts": st.just("once"),
    },
)


@given(order=st.permutations(range(24)), options=OPTIONS)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_selection_adds_up_and_is_the_same_in_any_order(
    tmp_path: Path, order: list[int], options: dict[str, Any]
) -> None:
    notes = [{**NOTES[i], "text": f"Text {i // 2}."} for i in range(24)]
    one = reading(tmp_path, notes, **options)
    other = reading(tmp_path, [notes[i] for i in order], **options)

    assert one.adds_up
    assert other.adds_up
    assert one.counts.stored == other.counts.stored
    if "limit" not in options:  # the limit takes the first ones in the order of the file
        assert ids(one) == ids(other)
