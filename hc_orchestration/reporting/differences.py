"""Differences of compared models, and what the regression gates make of them."""

from collections.abc import Iterable, Sequence

from hc_orchestration.errors import EvaluationError
from hc_orchestration.reporting.comparison import ComparedModel, compared_model
from hc_orchestration.reporting.gates import estimate
from hc_orchestration.scoring.difference import Difference
from hc_orchestration.scoring.differences import ScoredModel, paired_differences
from hc_orchestration.scoring.gates import Estimate, GateResult, Rule, regression_gate
from hc_orchestration.scoring.slices import grouped_notes
from hc_orchestration.storage.promotions import Promotion
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.study import Gate


def differences(workspace: Workspace, models: Iterable[ComparedModel]) -> list[Difference]:
    """Every pair of the models that are compared, the better ranked first, in every metric."""
    scored = [
        ScoredModel(
            key=model.key,
            evaluation_digest=metrics.evaluation_digest,
            counts=workspace.metrics.note_counts(model.key, metrics.evaluation_digest),
            untyped=bool(metrics.not_applicable),
        )
        for model in models
        if model.record is not None and (metrics := model.record.metrics) is not None
    ]
    if not scored:
        return []
    plan = workspace.study.scoring
    notes = workspace.corpus.notes(workspace.corpus.required().version)
    return paired_differences(scored, grouped_notes(notes, (), plan.cluster), plan.labels)


def differences_of(workspace: Workspace, first: str, second: str) -> list[Difference]:
    """First minus second in every metric, on the corpus that is stored now.

    Raises:
        ModelError: A model is not in the catalogue.
        EvaluationError: They are one, or one of them has no evaluation of this corpus.
    """
    if first == second:
        message = f"{first} is named twice; a comparison needs two models."
        raise EvaluationError(message)
    models = [compared_model(workspace, key) for key in (first, second)]
    for model in models:
        if model.missing is not None:
            message = f"{model.key} cannot be compared: {model.missing}"
            raise EvaluationError(message)
    return differences(workspace, models)


def regression_results(
    workspace: Workspace,
    models: Sequence[ComparedModel],
    found: Iterable[Difference],
    champion: Promotion | None,
) -> dict[str, list[GateResult]]:
    """What the study's `regression` gates say of each compared model but the champion.

    Args:
        workspace: The study, its gates and stored scores.
        models: The comparison.
        found: The differences of its models.
        champion: The promotion that made the champion; None: nothing to fall behind.

    Returns:
        By model key. A champion that is missing from the comparison, or whose files are not those
        that were promoted, leaves every gate INCONCLUSIVE.
    """
    if champion is None:
        return {}
    gates = [gate for gate in workspace.study.gates if gate.regression is not None]
    of_champion = next((model for model in models if _is_champion(model, champion)), None)
    against = {} if of_champion is None else _against(of_champion.key, found)
    return {
        model.key: [
            _regression(
                gate,
                _estimate(workspace, gate, model),
                _estimate(workspace, gate, of_champion),
                against.get((model.key, gate.score)),
            )
            for gate in gates
        ]
        for model in models
        if model.record is not None and not _is_champion(model, champion)
    }


def _is_champion(model: ComparedModel, champion: Promotion) -> bool:
    """Whether an evaluation is of the very files that were promoted."""
    inputs = model.record.inputs if model.record is not None else None
    return (
        inputs is not None
        and model.key == champion.model_key
        and inputs.model_fingerprint == champion.fingerprint
    )


def _against(champion: str, found: Iterable[Difference]) -> dict[tuple[str, str], Difference]:
    """Each model's difference from the champion by model and metric."""
    against: dict[tuple[str, str], Difference] = {}
    for difference in found:
        if difference.second == champion:
            against[difference.first, difference.metric] = difference
        elif difference.first == champion:
            against[difference.second, difference.metric] = difference.reversed()
    return against


def _regression(
    gate: Gate, new: Estimate, champion: Estimate, difference: Difference | None
) -> GateResult:
    seen = Estimate(None)
    if difference is not None:
        seen = Estimate(
            difference.difference, difference.ci_low, difference.ci_high, difference.gold
        )
    rule = Rule(gate.check, gate.score, gate.regression or 0.0, gate.minimum_support)
    return regression_gate(rule, new, champion, seen)


def _estimate(workspace: Workspace, gate: Gate, model: ComparedModel | None) -> Estimate:
    metrics = model.record.metrics if model is not None and model.record is not None else None
    if model is None or metrics is None:
        return Estimate(None)
    scores = workspace.metrics.scores(model.key, metrics.evaluation_digest)
    return estimate(gate, scores, metrics.not_applicable)
