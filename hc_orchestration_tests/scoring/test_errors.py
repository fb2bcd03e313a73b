"""Error analysis by hand: each mention is one kind of error, and no word is told."""

import json

from hc_orchestration.scoring.errors import ErrorAnalysis, LabelPairs, LengthErrors, NoteErrors
from hc_orchestration_tests.scoring.frames import LABELS, Mention, evaluated

D, C = "DISEASE", "CHEMICAL"
GOLD: dict[str, list[Mention]] = {
    "n1": [(0, 5, D), (10, 16, D), (20, 31, C), (40, 90, D)],
    "n2": [(0, 4, C), (10, 14, D), (20, 24, D)],
    "n3": [],
}
FOUND: dict[str, list[Mention]] = {
    "n1": [(0, 5, D), (10, 18, D), (22, 28, C), (35, 60, D)],  # right, longer, shorter, shifted
    "n2": [(0, 4, D), (9, 14, C), (30, 33, C)],  # label, label and longer, invented; one missed
    "n3": [(0, 3, D), (5, 8, D)],
}


def analysis(mapping: dict[str, str] | None = None) -> ErrorAnalysis:
    return evaluated(GOLD, FOUND, mapping).errors


def test_each_mention_is_one_kind_of_error() -> None:
    found = analysis()

    assert (found.correct, found.label, found.boundary, found.label_and_boundary) == (1, 1, 3, 1)
    assert (found.missed, found.spurious) == (1, 3)
    assert (found.longer, found.shorter, found.shifted) == (2, 1, 1)


def test_confusion_tells_which_label_was_taken_for_which() -> None:
    assert set(analysis().confusion) == {
        LabelPairs(D, D, 1, 2, 0),
        LabelPairs(C, C, 0, 1, 0),
        LabelPairs(C, D, 1, 0, 0),
        LabelPairs(D, C, 0, 1, 0),
        LabelPairs(D, None, 0, 0, 1),
        LabelPairs(None, C, 0, 0, 1),
        LabelPairs(None, D, 0, 0, 2),
    }


def test_errors_by_length_count_gold_mentions_not_found_as_they_are() -> None:
    assert analysis().by_length == (
        LengthErrors("1-5", 4, 3),
        LengthErrors("6-10", 1, 1),
        LengthErrors("11-20", 1, 1),
        LengthErrors("21-40", 0, 0),
        LengthErrors("41+", 1, 1),
    )


def test_the_worst_notes_come_first() -> None:
    assert analysis().worst_notes == (
        NoteErrors("n1", 3, 3),
        NoteErrors("n2", 3, 3),
        NoteErrors("n3", 0, 2),
    )


def test_labels_of_an_untyped_model_are_not_heeded() -> None:
    found = analysis(dict.fromkeys(LABELS, "*"))

    assert (found.correct, found.label, found.boundary, found.label_and_boundary) == (2, 0, 4, 0)
    assert (found.missed, found.spurious, found.confusion) == (1, 3, ())


def test_the_file_holds_counts_labels_and_note_ids_only() -> None:
    document = json.loads(analysis().as_json())

    assert document["worst_notes"][0] == {"note_id": "n1", "missed": 3, "spurious": 3}
    assert document["by_length"][0] == {"length": "1-5", "gold": 4, "errors": 3}
    assert set(document) == set(ErrorAnalysis.__dataclass_fields__)


def test_nothing_to_analyse_is_no_error() -> None:
    found = evaluated({"n1": []}, {"n1": []}).errors
    assert (found.correct, found.missed, found.spurious, found.worst_notes) == (0, 0, 0, ())
