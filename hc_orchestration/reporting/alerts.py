"""Alerts: what somebody should be told of, once each. Ids and numbers, nothing about patients."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import polars as pl

from hc_orchestration.scoring.gates import Verdict
from hc_orchestration.storage.comparisons import ComparisonRows
from hc_orchestration.storage.promotions import Promotion
from hc_orchestration.storage.records import EvaluationRecord, Status
from hc_orchestration.storage.workspace import Workspace

SIGNIFICANCE = 0.05
_HEADLINE = "strict.f1"
_ID_CHARACTERS = 20
_LONGEST_TEXT = 600


class AlertKind(StrEnum):
    """What happened."""

    GATE_FAILED = "gate_failed"
    CHAMPION_BEATEN = "champion_beaten"
    EVALUATION_MISSING = "evaluation_missing"


@dataclass(frozen=True, slots=True)
class Alert:
    """Something that somebody should know.

    Attributes:
        about: What makes it one event: the same evidence again is the same alert.
        at: When it happened.
        text: One sentence for people.
        value: The model's score; `reference` is the champion's.
        low: Lower end of the interval that decided; `high` likewise.
        threshold: The gate's minimum or margin.
        support: Gold mentions.
        p: Adjusted over all pairs (Holm).
    """

    kind: AlertKind
    about: tuple[str, ...]
    at: datetime
    model_key: str
    text: str
    evaluation_id: str | None = None
    champion: str | None = None
    metric: str | None = None
    value: float | None = None
    reference: float | None = None
    low: float | None = None
    high: float | None = None
    threshold: float | None = None
    support: int | None = None
    p: float | None = None
    verdict: str | None = None

    @property
    def id(self) -> str:
        """The same for the same event, so that who receives it twice can tell."""
        named = "\n".join([self.kind, *self.about])
        return hashlib.sha256(named.encode()).hexdigest()[:_ID_CHARACTERS]


def alerts_since(workspace: Workspace, moment: datetime) -> list[Alert]:
    """Failed gates and beaten champions of the study since a moment, oldest first.

    The same scores looked at again, of an evaluation with unchanged inputs or in another
    comparison, are one event.
    """
    records = workspace.records.all()
    promotions = workspace.promotions.of_study(workspace.study.name)
    metrics = tuple(g.score for g in workspace.study.gates if g.regression is not None)
    found = [
        alert
        for record in records
        if record.run is not None and record.run.study == workspace.study.name
        for alert in failed_minimum_gates(record, moment)
    ]
    by_id = {record.evaluation_id: record for record in records}
    for comparison in workspace.comparisons.since(moment):
        found += failed_regression_gates(comparison)
        found += beaten_champion(comparison, promotions, by_id, metrics or (_HEADLINE,))
    once = {alert.id: alert for alert in sorted(found, key=lambda alert: alert.at, reverse=True)}
    return sorted(once.values(), key=lambda alert: alert.at)


def failed_minimum_gates(record: EvaluationRecord, moment: datetime) -> Iterator[Alert]:
    """The `minimum` gates that failed in an evaluation that ended since a moment."""
    status, metrics, gates = record.status, record.metrics, record.gates
    if status is None or metrics is None or gates is None or status.at < moment:
        return
    if status.status is not Status.FINISHED:
        return
    for result in gates.results:
        if result.verdict is not Verdict.FAIL:
            continue
        threshold = f"{result.threshold:g}"
        yield Alert(
            kind=AlertKind.GATE_FAILED,
            about=(record.model_key, result.name, threshold, metrics.evaluation_digest),
            at=status.at,
            model_key=record.model_key,
            text=f"{record.model_key} {result.sentence}",
            evaluation_id=record.evaluation_id,
            metric=result.metric,
            value=result.value,
            low=result.low,
            high=result.high,
            threshold=result.threshold,
            support=result.support,
            verdict=result.verdict,
        )


def failed_regression_gates(comparison: ComparisonRows) -> Iterator[Alert]:
    """The `regression` gates that failed in a comparison."""
    evaluations = _evaluations(comparison.models)
    for row in comparison.gates.filter(verdict=Verdict.FAIL.value).iter_rows(named=True):
        key, champion = row["model_key"], row["champion"]
        digests = (evaluations[key][1], evaluations.get(champion, ("", ""))[1])
        yield Alert(
            kind=AlertKind.GATE_FAILED,
            about=(key, champion, row["name"], f"{row['threshold']:g}", *digests),
            at=row["compared_at"],
            model_key=key,
            text=f"{key} {row['sentence']}",
            evaluation_id=evaluations[key][0],
            champion=champion,
            verdict=row["verdict"],
            **{
                name: row[name]
                for name in ("metric", "value", "reference", "low", "high", "threshold", "support")
            },
        )


def beaten_champion(
    comparison: ComparisonRows,
    promotions: Iterable[Promotion],
    records: dict[str, EvaluationRecord],
    metrics: Sequence[str],
) -> Iterator[Alert]:
    """The models that are better than the champion, by interval and by adjusted p-value.

    Args:
        comparison: A comparison.
        promotions: Of the study, newest first; the champion is that of the comparison's time.
        records: By evaluation id; other files under the champion's name are not the champion.
        metrics: The scores that count.
    """
    evaluations = _evaluations(comparison.models)
    at = comparison.models["compared_at"].max()
    champion = next((made for made in promotions if made.at <= at), None)  # type: ignore[operator]
    if champion is None or champion.model_key not in evaluations:
        return
    of_champion = records.get(evaluations[champion.model_key][0])
    inputs = of_champion.inputs if of_champion else None
    if inputs is None or inputs.model_fingerprint != champion.fingerprint:
        return
    rows = comparison.pairs.filter(pl.col("metric").is_in(list(metrics)))
    for row in rows.iter_rows(named=True):
        better = _better(row, champion.model_key)
        if better is None:
            continue
        key, value, reference, low, high = better
        yield Alert(
            kind=AlertKind.CHAMPION_BEATEN,
            about=(key, row["metric"], *(evaluations[k][1] for k in (key, champion.model_key))),
            at=row["compared_at"],
            model_key=key,
            text=(
                f"{key} is better than the champion {champion.model_key}: {row['metric']} "
                f"{value:.3f} against {reference:.3f}, 95 % interval of the difference "
                f"{low:.3f} to {high:.3f}, p {row['p_holm']:.4f} (Holm), on {row['gold']} gold "
                "mentions."
            ),
            evaluation_id=evaluations[key][0],
            champion=champion.model_key,
            metric=row["metric"],
            value=value,
            reference=reference,
            low=low,
            high=high,
            support=row["gold"],
            p=row["p_holm"],
        )


def missing_evaluation(model_key: str, tick: datetime, deadline: datetime) -> Alert:
    """A model that a night brought no finished evaluation of."""
    hours = (deadline - tick).total_seconds() / 3600
    return Alert(
        kind=AlertKind.EVALUATION_MISSING,
        about=(model_key, tick.isoformat()),
        at=deadline,
        model_key=model_key,
        text=(
            f"{model_key} has no finished evaluation of the night of "
            f"{tick.isoformat(timespec='minutes')}, {hours:g} hours after it began."
        ),
    )


def payload(
    alert: Alert, study: str, record: EvaluationRecord | None, dagster_url: str
) -> dict[str, Any]:
    """What a webhook is sent, bounded; `text` is what chat programs show.

    Args:
        alert: The alert.
        study: The study's name.
        record: The evaluation that it is about.
        dagster_url: Root of the Dagster web page.
    """
    run = record.run if record else None
    mlflow = record.mlflow if record else None
    interval = None if alert.low is None else {"low": alert.low, "high": alert.high}
    return {
        "text": _bounded(alert.text),
        "id": alert.id,
        "kind": alert.kind.value,
        "at": alert.at.isoformat(timespec="seconds"),
        "study": _bounded(study),
        "model": _bounded(alert.model_key),
        "champion": _bounded(alert.champion),
        "metric": _bounded(alert.metric),
        "value": alert.value,
        "reference": alert.reference,
        "interval": interval,
        "threshold": alert.threshold,
        "support": alert.support,
        "p_holm": alert.p,
        "verdict": alert.verdict,
        "evaluation_id": alert.evaluation_id,
        "links": {
            "dagster": f"{dagster_url}/runs/{run.dagster_run_id}" if run else None,
            "mlflow": mlflow.url if mlflow else None,
        },
    }


def _bounded(text: str | None) -> str | None:
    if text is None or len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[: _LONGEST_TEXT - 2]} …"


def _evaluations(models: pl.DataFrame) -> dict[str, tuple[str, str]]:
    """Model key → evaluation id and digest, of the models that were compared."""
    there = models.filter(pl.col("evaluation_id").is_not_null())
    rows = there.select("model_key", "evaluation_id", "evaluation_digest").iter_rows()
    return {key: (identity, digest) for key, identity, digest in rows}


def _better(row: dict[str, Any], champion: str) -> tuple[str, float, float, float, float] | None:
    """The model of a pair that beats the champion: key, its score, the champion's, interval."""
    p, low, high = row["p_holm"], row["ci_low"], row["ci_high"]
    if champion not in (row["first"], row["second"]) or low is None or p is None:
        return None
    if p > SIGNIFICANCE:
        return None
    if row["second"] == champion and low > 0:
        return row["first"], row["first_value"], row["second_value"], low, high
    if row["first"] == champion and high < 0:
        return row["second"], row["second_value"], row["first_value"], -high, -low
    return None
