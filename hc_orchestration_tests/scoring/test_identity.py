"""The digest of an evaluation: another one for every input that a score depends on."""

from typing import Any

import pytest

from hc_orchestration.scoring.identity import entities_digest, evaluation_digest

BASE: dict[str, Any] = {
    "corpus_digest": "c" * 64,
    "model_fingerprint": "m" * 64,
    "study_labels": ("DISEASE", "CHEMICAL"),
    "label_mapping": {"DIS": "DISEASE", "DRUG": "CHEMICAL"},
}


@pytest.mark.parametrize(
    "change",
    [
        {"corpus_digest": "d" * 64},
        {"model_fingerprint": "n" * 64},
        {"corpus_digest": "m" * 64, "model_fingerprint": "c" * 64},
        {"study_labels": ("DISEASE",)},
        {"study_labels": ("DISEASE", "CHEMICAL", "GENE")},
        {"study_labels": ("DISEASECHEMICAL",)},
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
        {"study_labels": ["CHEMICAL", "DISEASE"]},
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
