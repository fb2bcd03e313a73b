"""The digest of an evaluation: another one for every input that a score depends on."""

from dataclasses import replace
from typing import Any

import pytest

from hc_orchestration.scoring.identity import (
    ScoringPlan,
    entities_digest,
    evaluation_digest,
    seed_of,
)

PLAN = ScoringPlan(("DISEASE", "CHEMICAL"), ("source", "note_type"), "patient", 11)
BASE: dict[str, Any] = {
    "corpus_digest": "c" * 64,
    "model_fingerprint": "m" * 64,
    "plan": PLAN,
    "label_mapping": {"DIS": "DISEASE", "DRUG": "CHEMICAL"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"corpus_digest": "d" * 64},
        {"model_fingerprint": "n" * 64},
        {"corpus_digest": "m" * 64, "model_fingerprint": "c" * 64},
        {"plan": replace(PLAN, labels=("DISEASE",))},
        {"plan": replace(PLAN, labels=("DISEASE", "CHEMICAL", "GENE"))},
        {"plan": replace(PLAN, labels=("DISEASECHEMICAL",))},
        {"plan": replace(PLAN, slices=("source",))},
        {"plan": replace(PLAN, cluster=None)},
        {"plan": replace(PLAN, smallest_cell=5)},
        {"label_mapping": {"DIS": "DISEASE"}},
        {"label_mapping": {"DIS": "CHEMICAL", "DRUG": "DISEASE"}},
        {"label_mapping": {"DIS": "*", "DRUG": "CHEMICAL"}},
        {"label_mapping": {}},
    ],
)
def test_digest_changes_with_each_input(change: dict[str, Any]) -> None:
    assert evaluation_digest(**BASE | change) != evaluation_digest(**BASE)


@pytest.mark.parametrize(
    "change",
    [
        {"plan": replace(PLAN, labels=("CHEMICAL", "DISEASE"))},
        {"plan": replace(PLAN, slices=("note_type", "source"))},
        {"label_mapping": {"DRUG": "CHEMICAL", "DIS": "DISEASE"}},
    ],
)
def test_order_of_labels_has_no_part_in_the_digest(change: dict[str, Any]) -> None:
    assert evaluation_digest(**BASE | change) == evaluation_digest(**BASE)


def test_digest_changes_with_the_version_of_the_scoring(monkeypatch: pytest.MonkeyPatch) -> None:
    before = evaluation_digest(**BASE)
    monkeypatch.setattr("hc_orchestration.scoring.identity.SCORING_VERSION", "next")
    assert evaluation_digest(**BASE) != before


def test_digest_of_entities_depends_on_corpus_and_model() -> None:
    digests = {
        entities_digest("a", "b"),
        entities_digest("b", "a"),
        entities_digest("a", "c"),
        entities_digest("ab", ""),
    }
    assert len(digests) == 4
    assert entities_digest("a", "b") == entities_digest("a", "b")


def test_seed_follows_from_purpose_and_digests_in_any_order() -> None:
    assert seed_of("difference", "a", "b") == seed_of("difference", "b", "a")
    assert len({seed_of("difference", "a", "b"), seed_of("x", "a", "b"), seed_of("x", "a")}) == 3
    assert 0 <= seed_of("bootstrap", "a") < 2**32
