"""What the comparison does with the workspace: rank, pair, hold to the gates, store."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from hc_orchestration.reporting.comparison import ComparedModel, compare_models, comparison_rows
from hc_orchestration.reporting.differences import differences, regression_results
from hc_orchestration.scoring.differences import Difference
from hc_orchestration.scoring.gates import GateResult
from hc_orchestration.storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, as it was stored.

    Attributes:
        models: Every model of the catalogue, best first, missing ones last.
        differences: Every pair of ranked models in every metric.
        champion: Key of the champion, or None.
        gates: Model key → what the regression gates say of it.
        digest: Of what was compared.
    """

    models: list[ComparedModel]
    differences: list[Difference]
    champion: str | None
    gates: dict[str, list[GateResult]]
    digest: str


def compare(workspace: Workspace, comparison_id: str) -> Comparison:
    """Compare all models on the corpus that is stored now, and store what came out."""
    corpus = workspace.corpus.required()
    models = compare_models(workspace)
    found = differences(workspace, models)
    champion = workspace.promotions.champion(workspace.study.name)
    gates = regression_results(workspace, models, found, champion)
    about = {
        "comparison_id": comparison_id,
        "compared_at": datetime.now(UTC),
        "corpus_digest": corpus.digest,
        "corpus_version": corpus.version,
    }
    workspace.comparisons.append_evidence(
        [{**about, **asdict(difference)} for difference in found],
        [
            {**about, "model_key": key, "champion": champion, **asdict(result)}
            for key, results in gates.items()
            for result in results
        ],
    )
    rows = comparison_rows(models, corpus)
    workspace.comparisons.append([{**row, **about} for row in rows])
    return Comparison(models, found, champion, gates, _digest(rows))


def _digest(rows: list[dict[str, Any]]) -> str:
    digests = sorted((row["model_key"], row["evaluation_digest"]) for row in rows)
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
