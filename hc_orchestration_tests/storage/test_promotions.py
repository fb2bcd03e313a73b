"""Promotions: the newest of a study is its champion, and none is ever lost."""

from datetime import UTC, datetime
from pathlib import Path

from hc_orchestration.storage.delta import DeltaStore
from hc_orchestration.storage.promotions import Promotion, PromotionTable


def promotion(study: str, key: str, day: int, reason: str | None = None) -> Promotion:
    return Promotion(study, key, f"e{day}", "f" * 64, reason, datetime(2026, 1, day, tzinfo=UTC))


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

    assert table.champion("s") == "b-1"
    assert table.champion("other") == "d-1"
    assert table.of_study("s") == [told[1], told[2], told[0]]
