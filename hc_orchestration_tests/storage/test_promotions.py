"""Promotions: the newest of a study is its champion, and none is ever lost."""

from datetime import UTC, datetime
from pathlib import Path

from hc_orchestration.scoring.gates import Estimate, Rule, minimum_gate
from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.promotions import Promotion, PromotionTable


def promotion(study: str, key: str, day: int, reason: str | None = None) -> Promotion:
    said = minimum_gate(Rule("g", "strict.f1", 0.6), Estimate(0.7, 0.65, 0.75, 500))
    return Promotion(
        promotion_id=f"p{day}",
        study=study,
        model_key=key,
        fingerprint="f" * 64,
        evaluation_id=f"e{day}",
        evaluation_digest="d" * 64,
        provenance_sha256="a" * 64,
        previous=None,
        previous_evaluation_id=None,
        forced_reason=reason,
        by="somebody",
        gates=(said,),
        at=datetime(2026, 1, day, tzinfo=UTC),
    )


def test_the_champion_is_the_model_promoted_last_in_the_study(tmp_path: Path) -> None:
    table = PromotionTable(DeltaStore(str(tmp_path / "tables"), tmp_path / "locks"))
    assert table.champion("s") is None

    told = [
        promotion("s", "a-1", 1),
        promotion("s", "b-1", 3, "the gate is too strict for rare diseases"),
        promotion("s", "c-1", 2),
        promotion("other", "d-1", 9),
    ]
    for one in told:
        table.append(one)

    assert table.champion("s") == told[1]
    assert table.champion("other") == told[3]
    assert table.of_study("s") == [told[1], told[2], told[0]]


def test_what_mlflow_was_not_told_is_known_oldest_first(tmp_path: Path) -> None:
    table = PromotionTable(DeltaStore(str(tmp_path / "tables"), tmp_path / "locks"))
    told = [promotion("s", "a-1", 1), promotion("s", "b-1", 3), promotion("s", "c-1", 2)]
    for one in told:
        table.append(one)

    table.show("p1", "1", datetime(2026, 1, 4, tzinfo=UTC))

    assert table.unshown() == [told[2], told[1]]
