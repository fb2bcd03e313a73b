"""Promotion: whether a model may become the champion, and making it so."""

import getpass
import logging
import uuid
from dataclasses import dataclass
from datetime import UTC, datetime

from filelock import FileLock

from hc_orchestration.errors import PromotionError, TrackingError
from hc_orchestration.healthcare.guard import identifier_rule
from hc_orchestration.home import private_folder
from hc_orchestration.models.catalogue import UnknownModelError
from hc_orchestration.reporting.comparison import ComparedModel, compared_model
from hc_orchestration.reporting.differences import differences, regression_results
from hc_orchestration.reporting.gates import minimum_results
from hc_orchestration.scoring.gates import GateOutcome, GateResult, Verdict, outcome
from hc_orchestration.storage.promotions import Promotion
from hc_orchestration.storage.records import InputsPart, MetricsPart, ProvenancePart
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.registry import PromotionProjection, RegisteredVersion

_LONGEST_REASON = 500
_HOLDS = (Verdict.PASS, Verdict.WARN)
_log = logging.getLogger(__name__)


class PromotionRefusedError(PromotionError):
    """The gates do not hold.

    Attributes:
        gates: What each of them said.
    """

    def __init__(self, model_key: str, gates: tuple[GateResult, ...], hint: str) -> None:
        """Name every gate that does not hold."""
        self.gates = gates
        said = " ".join(result.sentence for result in gates if result.verdict not in _HOLDS)
        super().__init__(
            f"{model_key} is not promoted, because its gates do not hold. {said} {hint}".strip()
        )


@dataclass(frozen=True, slots=True)
class PromotionOutcome:
    """How a promotion went.

    Attributes:
        promotion: The one that was made, or that had made this evaluation the champion already.
        made: False when nothing had to be done.
        shown: The version in MLflow's registry; None when MLflow could not be told yet.
    """

    promotion: Promotion
    made: bool
    shown: RegisteredVersion | None


def promote(
    workspace: Workspace, projection: PromotionProjection, model_key: str, force: str | None
) -> PromotionOutcome:
    """Make a model the champion of the study if its gates hold, or by force with a reason.

    The gates are evaluated anew: the `minimum` ones on the model's last evaluation, the
    `regression` ones against the champion as it is now. What is decided is kept in our own store
    first and shown in MLflow after it.

    Args:
        workspace: The deployment.
        projection: Shows the promotion in MLflow.
        model_key: The model.
        force: Why it is to be promoted although its gates do not hold; None: not by force. It is
            kept only if they do not hold.

    Raises:
        UnknownModelError: The model is not in the catalogue.
        PromotionError: It has no finished evaluation of the corpus and files as they are now, or
            the reason is empty or looks as if it named a patient.
        PromotionRefusedError: A gate says FAIL or INCONCLUSIVE, and no reason is given.
    """
    reason = None if force is None else checked_reason(force)
    private_folder(workspace.settings.locks)
    with FileLock(workspace.settings.locks / "promotion.lock"):
        promotion, made = _decide(workspace, model_key, reason)
        if made:
            workspace.promotions.append(promotion)
    return PromotionOutcome(promotion, made, _show(projection, promotion))


def checked_reason(reason: str) -> str:
    """The reason of a forced promotion in one line.

    Raises:
        PromotionError: It is empty, too long, or looks as if it named a patient.
    """
    line = " ".join(reason.split())
    if not line:
        message = "a forced promotion needs a reason that is not empty; it goes on record."
        raise PromotionError(message)
    if len(line) > _LONGEST_REASON:
        message = f"the reason is longer than {_LONGEST_REASON} characters. Say it shorter."
        raise PromotionError(message)
    if (rule := identifier_rule(line)) is not None:
        message = (
            f"the reason looks as if it held an identifier ({rule}). Say why without numbers, "
            "dates or addresses of a person; it goes on record."
        )
        raise PromotionError(message)
    return line


def _decide(workspace: Workspace, model_key: str, reason: str | None) -> tuple[Promotion, bool]:
    """The promotion to make, or the one that was made already."""
    model = compared_model(workspace, model_key)
    evaluation_id, inputs, metrics, record = _evaluation(model)
    champion = workspace.promotions.champion(workspace.study.name)
    if champion is not None and (champion.model_key, champion.evaluation_digest) == (
        model_key,
        metrics.evaluation_digest,
    ):
        return champion, False
    rival = None if champion is None else _rival(workspace, champion, model_key)
    gates = gates_now(workspace, model, champion, rival)
    holds = outcome(result.verdict for result in gates) in (None, GateOutcome.PASSED)
    if not holds and reason is None:
        raise PromotionRefusedError(model_key, gates, _hint(champion, rival))
    promotion = Promotion(
        promotion_id=str(uuid.uuid4()),
        study=workspace.study.name,
        model_key=model_key,
        fingerprint=inputs.model_fingerprint,
        evaluation_id=evaluation_id,
        evaluation_digest=metrics.evaluation_digest,
        provenance_sha256=record.file.sha256,
        previous=champion.model_key if champion else None,
        previous_evaluation_id=rival.record.evaluation_id if rival and rival.record else None,
        forced_reason=None if holds else reason,
        by=_account(),
        gates=gates,
        at=datetime.now(UTC),
    )
    return promotion, True


def _evaluation(model: ComparedModel) -> tuple[str, InputsPart, MetricsPart, ProvenancePart]:
    """The evaluation that a promotion would rest on.

    Raises:
        PromotionError: There is none that is finished and of now, or it has no record for the
            auditor.
    """
    record = model.record
    if record is None or record.inputs is None or record.metrics is None:
        message = (
            f"{model.key} cannot be promoted: {model.missing}. Evaluate it first "
            f"(`hc evaluate --model {model.key}`)."
        )
        raise PromotionError(message)
    if record.provenance is None:
        message = (
            f"{model.key} cannot be promoted: its last evaluation has no Provenance. Materialize "
            "the asset provenance of this model."
        )
        raise PromotionError(message)
    return record.evaluation_id, record.inputs, record.metrics, record.provenance


def gates_now(
    workspace: Workspace,
    model: ComparedModel,
    champion: Promotion | None,
    rival: ComparedModel | None,
) -> tuple[GateResult, ...]:
    """What the study's gates, as they are now, say of a model's last evaluation.

    Args:
        workspace: The study and its stored scores.
        model: The model, with its evaluation.
        champion: The promotion that made the champion.
        rival: The champion as it stands for a comparison.
    """
    metrics = model.record.metrics if model.record is not None else None
    if metrics is None:
        return ()
    scores = workspace.metrics.scores(model.key, metrics.evaluation_digest)
    said = minimum_results(workspace.study.gates, scores, metrics.not_applicable)
    models = [model] if rival is None or rival.key == model.key else [model, rival]
    against = regression_results(workspace, models, differences(workspace, models), champion)
    return (*said, *against.get(model.key, ()))


def _rival(workspace: Workspace, champion: Promotion, model_key: str) -> ComparedModel | None:
    """The champion as it stands for a comparison; None when it is the model, or was removed."""
    if champion.model_key == model_key:
        return None
    try:
        return compared_model(workspace, champion.model_key)
    except UnknownModelError:
        return None


def _hint(champion: Promotion | None, rival: ComparedModel | None) -> str:
    if champion is not None and rival is not None and rival.missing is not None:
        return f"The champion {champion.model_key} cannot be compared with: {rival.missing}."
    return ""


def _show(projection: PromotionProjection, promotion: Promotion) -> RegisteredVersion | None:
    try:
        return projection.project(promotion)
    except TrackingError as error:
        _log.warning("%s The promotion is kept; `hc mlflow sync` shows it there.", error)
        return None


def _account() -> str:
    """The account that this process runs under."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container without a list of accounts
        return "unknown"
