"""strict on real predictions is what sets, spaCy and seqeval say; nervaluate differs elsewhere."""

import pytest

from hc_orchestration_tests.scoring.frames import LABELS, evaluated, statistics
from hc_orchestration_tests.scoring.oracles import (
    BC5CDR_TEST,
    MODELS,
    Predicted,
    bc5cdr_predictions,
    by_seqeval,
    by_sets,
    by_spacy,
    without_overlap,
)

D = "DISEASE"
needs_bc5cdr = pytest.mark.skipif(
    not BC5CDR_TEST.is_file(), reason="BC5CDR is not beside the project"
)
NOTES = {"bc5cdr_terms-1.0.0": 200, "bc5cdr_cnn_sm-1.1.0": 60}


@pytest.fixture(scope="module", params=MODELS)
def predictions(request: pytest.FixtureRequest) -> list[Predicted]:
    """Some abstracts of BC5CDR Test with a shipped model's mentions; benchmarks take them all."""
    return bc5cdr_predictions(request.param, NOTES[request.param])


def ours(notes: list[Predicted]) -> dict[str, float]:
    result = evaluated(
        {note.note_id: note.gold for note in notes}, {note.note_id: note.found for note in notes}
    )
    micro_and_labels = {
        name: value
        for name, value in result.values.items()
        if name.startswith("strict") and "macro" not in name and ".ci_" not in name
    }
    assert len(micro_and_labels) == 9
    return micro_and_labels


@needs_bc5cdr
def test_strict_is_set_arithmetic_and_spacy(predictions: list[Predicted]) -> None:
    scores = ours(predictions)

    assert scores == pytest.approx(by_sets(predictions, LABELS), abs=1e-9)
    assert scores == pytest.approx(by_spacy(predictions, LABELS), abs=1e-9)
    assert 0.5 < scores["strict.f1"] < 1


@needs_bc5cdr
def test_strict_is_seqeval_where_nothing_overlaps(predictions: list[Predicted]) -> None:
    flat = without_overlap(predictions)

    assert len(flat) > 0.8 * len(predictions)
    assert ours(flat) == pytest.approx(by_seqeval(flat, LABELS), abs=1e-9)


def nervaluate_partial(gold: list[tuple[int, int]], found: list[tuple[int, int]]) -> float:
    from nervaluate import Evaluator

    given = [[{"start": s, "end": e, "label": D} for s, e in side] for side in (gold, found)]
    overall = Evaluator([given[0]], [given[1]], tags=[D]).evaluate()["overall"]
    return float(overall["partial"].f1)


def partial(gold: list[tuple[int, int]], found: list[tuple[int, int]]) -> float | None:
    given = [[(start, end, D) for start, end in side] for side in (gold, found)]
    return statistics(evaluated({"n1": given[0]}, {"n1": given[1]}), "partial")["f1"]


def test_the_order_of_predictions_changes_no_score_of_ours_and_one_of_nervaluate() -> None:
    """It takes the first overlap it meets, and so misses that the other prediction is exact."""
    gold, found = [(0, 4), (3, 8)], [(3, 5), (0, 4)]

    assert nervaluate_partial(gold, found) == pytest.approx(0.5)
    assert nervaluate_partial(gold, found[::-1]) == pytest.approx(0.75)
    assert partial(gold, found) == partial(gold, found[::-1]) == pytest.approx(0.75)


def test_adjacent_spans_have_no_character_in_common_though_nervaluate_says_so() -> None:
    assert nervaluate_partial([(0, 5)], [(5, 9)]) == pytest.approx(0.5)
    assert partial([(0, 5)], [(5, 9)]) == 0.0
