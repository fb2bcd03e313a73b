"""What the comparison does with the workspace: rank, pair, hold to the gates, store."""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from hc_orchestration.home import private_folder
from hc_orchestration.reporting.comparison import ComparedModel, compare_models, comparison_rows
from hc_orchestration.reporting.differences import differences, regression_results
from hc_orchestration.reporting.evidence import report_data
from hc_orchestration.reporting.report import render_report
from hc_orchestration.scoring.difference import Difference
from hc_orchestration.scoring.gates import GateResult
from hc_orchestration.settings import Settings
from hc_orchestration.storage.corpus import CorpusVersion
from hc_orchestration.storage.files import StoredFile
from hc_orchestration.storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Comparison:
    """One comparison, as it was stored.

    Attributes:
        comparison_id: What its rows are stored under.
        corpus: The corpus that they are compared on.
        models: Every model of the catalogue, best first, missing ones last.
        differences: Every pair of ranked models in every metric.
        champion: Key of the champion, or None.
        gates: Model key → what the regression gates say of it.
        digest: Of what was compared.
        report: The report of it, `report.html`.
    """

    comparison_id: str
    corpus: CorpusVersion
    models: list[ComparedModel]
    differences: list[Difference]
    champion: str | None
    gates: dict[str, list[GateResult]]
    digest: str
    report: StoredFile


def compare(workspace: Workspace, comparison_id: str) -> Comparison:
    """Compare all models on the corpus that is stored now, and store what came out."""
    corpus = workspace.corpus.required()
    models = compare_models(workspace)
    found = differences(workspace, models)
    champion = workspace.promotions.champion(workspace.study.name)
    gates = regression_results(workspace, models, found, champion)
    champion_key = champion.model_key if champion else None
    now = datetime.now(UTC)
    about = {
        "comparison_id": comparison_id,
        "compared_at": now,
        "corpus_digest": corpus.digest,
        "corpus_version": corpus.version,
    }
    workspace.comparisons.append_evidence(
        [{**about, **asdict(difference)} for difference in found],
        [
            {**about, "model_key": key, "champion": champion_key, **asdict(result)}
            for key, results in gates.items()
            for result in results
        ],
    )
    rows = comparison_rows(models, corpus)
    workspace.comparisons.append([{**row, **about} for row in rows])
    page = render_report(report_data(workspace, models, found, gates, now))
    report = workspace.files.put("report.html", page.encode("utf-8"))
    _keep_newest(workspace, page)
    return Comparison(
        comparison_id, corpus, models, found, champion_key, gates, _digest(rows), report
    )


def _keep_newest(workspace: Workspace, page: str) -> None:
    """The newest report under a name that stays, for people; each one is kept by its digest too."""
    path = newest_report(workspace.settings)
    partial = path.with_suffix(".partial")
    partial.write_text(page, encoding="utf-8")
    partial.replace(path)


def newest_report(settings: Settings) -> Path:
    """Where the newest report of this machine's deployment lies."""
    return private_folder(settings.home) / "report.html"


def _digest(rows: list[dict[str, Any]]) -> str:
    digests = sorted((row["model_key"], row["evaluation_digest"]) for row in rows)
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()
