"""Which model a study holds to be its champion, and every promotion that made one."""

from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any

import polars as pl
from pydantic import TypeAdapter

from hc_orchestration.scoring.gates import GateResult
from hc_orchestration.storage.delta import DeltaStore, TableSpec

PROMOTIONS = TableSpec(
    "promotions",
    {
        **dict.fromkeys(
            (
                "promotion_id",
                "study",
                "model_key",
                "fingerprint",
                "evaluation_id",
                "evaluation_digest",
                "provenance_sha256",
                "previous",
                "previous_evaluation_id",
                "forced_reason",
                "by",
                "gates",
            ),
            pl.String,
        ),
        "at": pl.Datetime("us", "UTC"),
    },
)
SHOWN = TableSpec(
    "promotions_shown",
    {"promotion_id": pl.String, "version": pl.String, "at": pl.Datetime("us", "UTC")},
)
_GATES = TypeAdapter(tuple[GateResult, ...])


@dataclass(frozen=True, slots=True)
class Promotion:
    """A model became the champion of a study.

    Attributes:
        study: The study's name.
        fingerprint: Of the model's files and settings then.
        evaluation_id: The evaluation that it was promoted on.
        provenance_sha256: Of the evaluation's record.
        previous: Key of the champion before it; None for the first. `previous_evaluation_id` is
            the evaluation that it was held against; None when there was none to hold it against.
        forced_reason: Why it was promoted against its gates; None when they held.
        by: The account that asked for it.
        gates: What the gates said at the promotion.
        at: When.
    """

    promotion_id: str
    study: str
    model_key: str
    fingerprint: str
    evaluation_id: str
    evaluation_digest: str
    provenance_sha256: str
    previous: str | None
    previous_evaluation_id: str | None
    forced_reason: str | None
    by: str
    gates: tuple[GateResult, ...]
    at: datetime


class PromotionTable:
    """Appends promotions and reads the champion; nothing is ever taken back."""

    def __init__(self, store: DeltaStore) -> None:
        """Use the tables of `store`."""
        self._store = store

    def append(self, promotion: Promotion) -> int:
        """Store a promotion; returns the table's version."""
        row = {field.name: getattr(promotion, field.name) for field in fields(promotion)}
        row["gates"] = _GATES.dump_json(promotion.gates).decode()
        return self._store.append(PROMOTIONS, pl.DataFrame([row], schema=dict(PROMOTIONS.schema)))

    def all(self) -> list[Promotion]:
        """Every promotion, newest first."""
        rows = self._store.read(PROMOTIONS).sort("at", descending=True)
        return [_promotion(row) for row in rows.to_dicts()]

    def of_study(self, study: str) -> list[Promotion]:
        """The promotions of a study, newest first."""
        return [promotion for promotion in self.all() if promotion.study == study]

    def champion(self, study: str) -> Promotion | None:
        """The newest promotion of the study, or None before the first."""
        return next(iter(self.of_study(study)), None)

    def show(self, promotion_id: str, version: str, at: datetime) -> None:
        """Note that MLflow was told of a promotion, and which model version shows it."""
        row = {"promotion_id": promotion_id, "version": version, "at": at}
        self._store.append(SHOWN, pl.DataFrame([row], schema=dict(SHOWN.schema)))

    def unshown(self) -> list[Promotion]:
        """The promotions that MLflow was not told of, oldest first."""
        shown = set(self._store.read(SHOWN)["promotion_id"])
        return [made for made in reversed(self.all()) if made.promotion_id not in shown]


def _promotion(row: dict[str, Any]) -> Promotion:
    return Promotion(**{**row, "gates": _GATES.validate_json(row["gates"])})
