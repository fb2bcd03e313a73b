"""What the gates said, as the record of an evaluation and the stored comparison tell it."""

from typing import TYPE_CHECKING

import dagster as dg

from hc_orchestration.errors import EvaluationError
from hc_orchestration.resources.evaluation import evaluation_id_of_run
from hc_orchestration.scoring.gates import GateResult, Verdict

if TYPE_CHECKING:
    from hc_orchestration.storage.workspace import Workspace


def minimum_results_of_run(
    workspace: "Workspace", instance: dg.DagsterInstance, run: dg.DagsterRun, model_key: str
) -> dict[str, GateResult]:
    """Gate name → result, of the evaluation that a run works on.

    Raises:
        EvaluationError: It has no scores.
    """
    identity = evaluation_id_of_run(workspace.records, instance, run, model_key)
    record = workspace.records.read(identity)
    if record is None or record.gates is None:
        message = f"model {model_key} has no scores in this run. Materialize evaluation_metrics."
        raise EvaluationError(message)
    return {result.name: result for result in record.gates.results}


def regression_results_of_latest(workspace: "Workspace") -> dict[str, list[tuple[Verdict, str]]]:
    """Gate name → verdict and sentence, with the model's key, of each model but the champion.

    Raises:
        EvaluationError: Nothing was ever compared.
    """
    latest = workspace.comparisons.latest()
    if latest.is_empty():
        message = "nothing is compared yet. Materialize model_comparison."
        raise EvaluationError(message)
    rows = workspace.comparisons.gates(latest["comparison_id"][0]).sort("model_key")
    results: dict[str, list[tuple[Verdict, str]]] = {}
    for row in rows.iter_rows(named=True):
        said = f"{row['model_key']} {row['sentence']}"
        results.setdefault(row["name"], []).append((Verdict(row["verdict"]), said))
    return results


def gate_check(name: str, verdicts: list[Verdict], description: str) -> dg.AssetCheckResult:
    """A check that shows the worst of several verdicts; only FAIL is an error, others warn."""
    failed = Verdict.FAIL in verdicts
    return dg.AssetCheckResult(
        check_name=name,
        passed=all(verdict is Verdict.PASS for verdict in verdicts),
        severity=dg.AssetCheckSeverity.ERROR if failed else dg.AssetCheckSeverity.WARN,
        description=description,
        metadata={"verdict": ", ".join(verdict.value for verdict in verdicts) or "none"},
    )


def unknown_gate(name: str) -> dg.AssetCheckResult:
    """A check whose gate was not known when the scores were made."""
    return gate_check(
        name,
        [Verdict.INCONCLUSIVE],
        "INCONCLUSIVE: the gates of the study file have changed since; run it again after "
        "reloading the definitions.",
    )
