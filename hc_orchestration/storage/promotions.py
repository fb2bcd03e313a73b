"""Which model a study holds to be its champion, and every promotion that made one."""

from dataclasses import dataclass
from datetime import datetime

import polars as pl

from hc_orchestration.storage.delta import DeltaStore, TableSpec

PROMOTIONS = TableSpec(
    "promotions",
    {
        "study": pl.String,
        "model_key": pl.String,
        "evaluation_id": pl.String,
        "fingerprint": pl.String,
        "forced_reason": pl.String,
        "at": pl.Datetime("us", "UTC"),
    },
)


@dataclass(frozen=True, slots=True)
class Promotion:
    """A model became the champion of a study.

    Attributes:
        study: The study's name.
        evaluation_id: The evaluation that it was promoted on.
        fingerprint: Of the model's files and settings then.
        forced_reason: Why it was promoted against its gates; None when they held.
        at: When.
    """

    study: str
    model_key: str
    evaluation_id: str
    fingerprint: str
    forced_reason: str | None
    at: datetime


class PromotionTable:
    """Appends promotions and reads the champion; nothing is ever taken back."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(self, promotion: Promotion) -> int:
        """Store a promotion; returns the table's version."""
        row = {name: getattr(promotion, name) for name in PROMOTIONS.schema}
        return self._store.append(PROMOTIONS, pl.DataFrame([row], schema=dict(PROMOTIONS.schema)))

    def of_study(self, study: str) -> list[Promotion]:
        """The promotions of a study, newest first."""
        rows = self._store.scan(PROMOTIONS).filter(pl.col("study") == study).collect()
        return [Promotion(**row) for row in rows.sort("at", descending=True).to_dicts()]

    def champion(self, study: str) -> str | None:
        """The key of the model promoted last, or None before the first promotion."""
        promotions = self.of_study(study)
        return promotions[0].model_key if promotions else None
