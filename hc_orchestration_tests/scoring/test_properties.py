"""Scoring against oracles and laws, on random gold and predictions."""

from collections.abc import Sequence
from itertools import product
from random import Random

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hc_orchestration_tests.scoring.frames import LABELS, Mention, evaluated, statistics, totals

MODES = ("strict", "exact", "partial", "type")
Corpus = dict[str, list[Mention]]
FAST = settings(max_examples=40, deadline=None)

# Few offsets, so that spans often share a boundary, nest, touch and repeat.
MENTION = st.tuples(st.integers(0, 3), st.integers(1, 3), st.sampled_from(LABELS)).map(
    lambda drawn: (drawn[0], drawn[0] + drawn[1], drawn[2])
)
NOTE_IDS = ("n1", "n2", "n3")
CORPUS = st.fixed_dictionaries(dict.fromkeys(NOTE_IDS, st.lists(MENTION, max_size=5)))


def keyed(corpus: Corpus) -> set[tuple[str, int, int, str]]:
    return {(note_id, *mention) for note_id, mentions in corpus.items() for mention in mentions}


def ratio(numerator: float, denominator: float) -> float | None:
    return numerator / denominator if denominator else None


def by_set_arithmetic(gold: set[object], predicted: set[object]) -> dict[str, float | None]:
    right = len(gold & predicted)
    return {
        "precision": ratio(right, len(predicted)),
        "recall": ratio(right, len(gold)),
        "f1": ratio(2 * right, len(gold) + len(predicted)),
    }


def most_pairs(gold: Sequence[Mention], predicted: Sequence[Mention]) -> int:
    """The most one-to-one pairs of the same boundary, found by trying every pairing."""
    if not gold:
        return 0
    best = most_pairs(gold[1:], predicted)
    for index, (start, end, _) in enumerate(predicted):
        if (start, end) == gold[0][:2]:
            rest = [*predicted[:index], *predicted[index + 1 :]]
            best = max(best, 1 + most_pairs(gold[1:], rest))
    return best


@given(CORPUS, CORPUS)
@FAST
def test_strict_is_set_arithmetic_on_note_start_end_and_label(
    gold: Corpus, predicted: Corpus
) -> None:
    result = evaluated(gold, predicted)
    wanted, found = keyed(gold), keyed(predicted)
    expected = by_set_arithmetic(set(wanted), set(found))
    assert statistics(result, "strict") == pytest.approx(expected, abs=1e-9)
    for label in LABELS:
        expected = by_set_arithmetic(
            {mention for mention in wanted if mention[3] == label},
            {mention for mention in found if mention[3] == label},
        )
        assert statistics(result, "strict", label) == pytest.approx(expected, abs=1e-9)


@given(CORPUS, CORPUS)
@FAST
def test_exact_is_the_largest_one_to_one_pairing_of_boundaries(
    gold: Corpus, predicted: Corpus
) -> None:
    pairs = sum(most_pairs(list(set(gold[n])), list(set(predicted[n]))) for n in NOTE_IDS)
    wanted, found = len(keyed(gold)), len(keyed(predicted))
    result = evaluated(gold, predicted)
    assert statistics(result, "exact") == pytest.approx(
        {
            "precision": ratio(pairs, found),
            "recall": ratio(pairs, wanted),
            "f1": ratio(2 * pairs, wanted + found),
        },
        abs=1e-9,
    )
    assert result.support == wanted


@given(CORPUS)
@FAST
def test_gold_scored_against_itself_is_one_wherever_it_is_defined(gold: Corpus) -> None:
    result = evaluated(gold, gold)
    assert set(result.values.values()) <= {1.0}
    present = {mention[2] for mentions in gold.values() for mention in mentions}
    for mode in MODES:
        averages = ("micro", "macro") if mode in ("strict", "type") else ("micro",)
        for average in averages:
            expected = dict.fromkeys(("precision", "recall", "f1"), 1.0 if present else None)
            assert statistics(result, mode, average=average) == expected
        for label in present:
            assert set(statistics(result, mode, label).values()) == {1.0}


@given(CORPUS, CORPUS)
@FAST
def test_swapping_gold_and_predicted_swaps_precision_and_recall(
    gold: Corpus, predicted: Corpus
) -> None:
    one, other = evaluated(gold, predicted), evaluated(predicted, gold)
    by_label = product(("strict", "type"), ("", *LABELS))
    for mode, label in (("exact", ""), ("partial", ""), *by_label):
        forth, back = statistics(one, mode, label), statistics(other, mode, label)
        assert forth["precision"] == back["recall"]
        assert forth["recall"] == back["precision"]
        assert forth["f1"] == back["f1"]


@given(CORPUS, CORPUS, st.randoms(use_true_random=False))
@FAST
def test_order_of_notes_and_mentions_is_irrelevant(
    gold: Corpus, predicted: Corpus, random: Random
) -> None:
    def shuffled(corpus: Corpus) -> Corpus:
        note_ids = random.sample(NOTE_IDS, len(NOTE_IDS))
        return {n: random.sample(corpus[n], len(corpus[n])) for n in note_ids}

    one, other = evaluated(gold, predicted), evaluated(shuffled(gold), shuffled(predicted))
    for one_table, other_table in ((one.counts, other.counts), (one.scores, other.scores)):
        assert one_table.sort(pl.all()).equals(other_table.sort(pl.all()))


@given(CORPUS, CORPUS)
@FAST
def test_scoring_every_note_twice_changes_no_ratio(gold: Corpus, predicted: Corpus) -> None:
    def doubled(corpus: Corpus) -> Corpus:
        return corpus | {f"{note_id} again": mentions for note_id, mentions in corpus.items()}

    one, other = evaluated(gold, predicted), evaluated(doubled(gold), doubled(predicted))
    assert other.values == pytest.approx(one.values, abs=1e-12)
    assert other.support == 2 * one.support


@given(CORPUS, CORPUS, st.sampled_from(NOTE_IDS), MENTION)
@FAST
def test_prediction_that_equals_no_gold_never_raises_precision(
    gold: Corpus, predicted: Corpus, note_id: str, added: Mention
) -> None:
    before = evaluated(gold, predicted).values
    after = evaluated(gold, predicted | {note_id: [*predicted[note_id], added]}).values
    if added not in gold[note_id]:
        assert after["strict.precision"] <= before.get("strict.precision", 0.0)
    if added[:2] not in [mention[:2] for mention in gold[note_id]]:
        assert after["exact.precision"] <= before.get("exact.precision", 0.0)
    if not any(start < added[1] and added[0] < end for start, end, _ in gold[note_id]):
        for mode in MODES:
            assert after[f"{mode}.precision"] <= before.get(f"{mode}.precision", 0.0)


@given(CORPUS, CORPUS)
@FAST
def test_counts_of_the_notes_add_up_to_those_of_the_scores(gold: Corpus, predicted: Corpus) -> None:
    result = evaluated(gold, predicted)
    for mode in ("strict", "type", "exact", "partial"):
        summed = [sum(column) for column in zip(*totals(result, mode).values(), strict=True)]
        micro = result.scores.filter(mode=mode, average="micro")
        stored = micro.select("gold", "predicted", "credit").unique().rows()
        gold_and_predicted = [row[:2] for row in stored]
        assert gold_and_predicted == [tuple(summed[:2] or (0, 0))]
        if mode in ("strict", "exact"):
            assert stored == [tuple(summed or (0, 0, 0))]
