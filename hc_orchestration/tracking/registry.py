"""Promotions in MLflow's model registry: a version per fingerprint, and the alias `champion`.

What was promoted stands in our own table first; this shows it, and showing it again changes
nothing. MLflow holds no model files: a version leads to the run of the evaluation that it rests on.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

from hc_orchestration.errors import TrackingError
from hc_orchestration.scoring.gates import outcome
from hc_orchestration.storage.promotions import Promotion, PromotionTable
from hc_orchestration.storage.records import EvaluationRecord, MlflowPart, Records
from hc_orchestration.tracking.client import MlflowStore, creation_lock, guarded, open_client
from hc_orchestration.tracking.names import LONGEST_TAG, shortened
from hc_orchestration.tracking.projection import MlflowProjection

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion

CHAMPION = "champion"
_FINGERPRINT = "hc.model_fingerprint"
_PROMOTION = "hc.promotion_id"
_FORCED = "hc.forced_reason"
_REFUSED = re.compile(r"[/:'\"`\\]")
_DIGEST_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """The model version that shows a promotion: registered model, version, web address."""

    name: str
    version: str
    url: str


def registered_name(study: str) -> str:
    """The study's name as MLflow takes it for a model; different names stay different."""
    if _REFUSED.search(study) is None:
        return study
    digest = hashlib.sha256(study.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    return f"{_REFUSED.sub('-', study)}-{digest}"


class PromotionProjection:
    """Shows the promotions of a deployment in one MLflow store."""

    def __init__(
        self,
        store: MlflowStore,
        evaluations: MlflowProjection,
        records: Records,
        promotions: PromotionTable,
    ) -> None:
        """Show into `store`; nothing is opened yet."""
        self._store = store
        self._evaluations = evaluations
        self._records = records
        self._promotions = promotions
        self._opened: MlflowClient | None = None

    def project(self, promotion: Promotion) -> RegisteredVersion:
        """Make MLflow say that a model was promoted, and who the champion of its study is.

        Raises:
            TrackingError: MLflow could not be reached or refused; the promotion stands all the
                same, and the next call catches up.
        """
        record = self._records.required(promotion.evaluation_id)
        run = self._shown(record)
        name = registered_name(promotion.study)
        _ = self._client  # opened first: that takes the same lock
        with creation_lock(self._store):
            self._registered_model(name, promotion.study)
            version = self._version(name, promotion.fingerprint)
            version = version or self._create(name, promotion, run)
        self._tell(version, promotion, record, run)
        champion = self._promotions.champion(promotion.study)
        if champion is not None and champion.promotion_id == promotion.promotion_id:
            guarded(
                partial(
                    self._client.set_registered_model_alias, name, CHAMPION, str(version.version)
                )
            )
        self._promotions.show(promotion.promotion_id, str(version.version), datetime.now(UTC))
        return self._registered(version)

    def find(self, promotion: Promotion) -> RegisteredVersion | None:
        """The version that shows this very promotion, or None.

        Raises:
            TrackingError: MLflow could not be reached.
        """
        version = self._version(registered_name(promotion.study), promotion.fingerprint)
        if version is None or version.tags.get(_PROMOTION) != promotion.promotion_id:
            return None
        return self._registered(version)

    def complete(self, promotions: Sequence[Promotion]) -> bool:
        """Whether MLflow shows what the promotions of one study, newest first, come to.

        Raises:
            TrackingError: MLflow could not be reached.
        """
        newest: dict[str, Promotion] = {}
        for promotion in promotions:
            newest.setdefault(promotion.fingerprint, promotion)
        found = [self.find(promotion) for promotion in newest.values()]
        if None in found or not found:
            return not found
        name = registered_name(promotions[0].study)
        model = guarded(lambda: self._client.get_registered_model(name))
        champion = found[0]
        return champion is not None and str(model.aliases.get(CHAMPION)) == champion.version

    @property
    def _client(self) -> "MlflowClient":
        if self._opened is None:
            self._opened = open_client(self._store)
        return self._opened

    def _shown(self, record: EvaluationRecord) -> MlflowPart:
        """The run of the evaluation, shown first if MLflow lacks it."""
        if record.mlflow is not None and record.projected:
            return record.mlflow
        shown = self._evaluations.project(record)
        self._records.append(record.evaluation_id, record.model_key, shown)
        return shown

    def _registered_model(self, name: str, study: str) -> None:
        def make() -> None:
            from mlflow.exceptions import MlflowException

            try:
                self._client.get_registered_model(name)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                self._client.create_registered_model(
                    name,
                    tags={"hc.study": shortened(study, LONGEST_TAG)},
                    description=(
                        "Models of this study that were promoted, a version per fingerprint. The "
                        "alias `champion` is the model that others are held against. The files are "
                        "not here; each version leads to the evaluation that it rests on."
                    ),
                )

        guarded(make)

    def _version(self, name: str, fingerprint: str) -> "ModelVersion | None":
        """The oldest version of a fingerprint; a younger one beside it is deleted."""
        where = f"name = '{name}' and tags.`{_FINGERPRINT}` = '{fingerprint}'"
        versions = sorted(
            guarded(lambda: self._client.search_model_versions(where)),
            key=lambda version: int(version.version),
        )
        for younger in versions[1:]:
            guarded(partial(self._client.delete_model_version, name, str(younger.version)))
        return versions[0] if versions else None

    def _create(self, name: str, promotion: Promotion, run: MlflowPart) -> "ModelVersion":
        """Create, then look again: writers on other machines do not see our lock."""
        created = guarded(
            lambda: self._client.create_model_version(
                name,
                source=f"runs:/{run.run_id}",
                run_id=run.run_id,
                tags={_FINGERPRINT: promotion.fingerprint},
            )
        )
        return self._version(name, promotion.fingerprint) or created

    def _tell(
        self,
        version: "ModelVersion",
        promotion: Promotion,
        record: EvaluationRecord,
        run: MlflowPart,
    ) -> None:
        name, number = version.name, str(version.version)
        wanted = _tags(promotion, record, run)
        for key, value in wanted.items():
            if version.tags.get(key) != value:
                guarded(partial(self._client.set_model_version_tag, name, number, key, value))
        if _FORCED in version.tags and _FORCED not in wanted:
            guarded(partial(self._client.delete_model_version_tag, name, number, _FORCED))
        description = _description(promotion, run)
        if version.description != description:
            guarded(partial(self._client.update_model_version, name, number, description))
        of_run = {"hc.registered_model": f"{name}/{number}"}
        if _FORCED in wanted:
            of_run[_FORCED] = wanted[_FORCED]
        for key, value in of_run.items():
            guarded(partial(self._client.set_tag, run.run_id, key, value))

    def _registered(self, version: "ModelVersion") -> RegisteredVersion:
        url = f"{self._store.url}/#/models/{version.name}/versions/{version.version}"
        return RegisteredVersion(version.name, str(version.version), url)


def synchronize_promotions(
    promotions: PromotionTable, projection: PromotionProjection, *, ask_mlflow: bool
) -> tuple[tuple[str, ...], tuple[tuple[str, str], ...]]:
    """Show the promotions that MLflow lacks, oldest first, after the evaluations they rest on.

    Args:
        promotions: What was promoted.
        projection: The writer of the MLflow store.
        ask_mlflow: Look into MLflow too, instead of trusting what we wrote down.

    Returns:
        The promotions that were shown; and id and reason of those that could not be.
    """
    lacking = {promotion.promotion_id for promotion in promotions.unshown()}
    shown: list[str] = []
    failed: list[tuple[str, str]] = []
    every = promotions.all()
    for study in dict.fromkeys(promotion.study for promotion in every):
        of_study = [promotion for promotion in every if promotion.study == study]
        try:
            lost = ask_mlflow and not projection.complete(of_study)
        except TrackingError as error:
            failed += [(promotion.promotion_id, str(error)) for promotion in of_study]
            continue
        for promotion in reversed(of_study):
            if not lost and promotion.promotion_id not in lacking:
                continue
            try:
                projection.project(promotion)
            except TrackingError as error:
                failed.append((promotion.promotion_id, str(error)))
            else:
                shown.append(promotion.promotion_id)
    return tuple(shown), tuple(failed)


def _tags(promotion: Promotion, record: EvaluationRecord, run: MlflowPart) -> dict[str, str]:
    gates = outcome(result.verdict for result in promotion.gates)
    tags = {
        _PROMOTION: promotion.promotion_id,
        "hc.model": promotion.model_key,
        "hc.study": promotion.study,
        _FINGERPRINT: promotion.fingerprint,
        "hc.evaluation_id": promotion.evaluation_id,
        "hc.evaluation_digest": promotion.evaluation_digest,
        "hc.provenance_digest": promotion.provenance_sha256,
        "hc.corpus_digest": record.inputs.corpus_digest if record.inputs else None,
        "hc.dagster_run_id": record.run.dagster_run_id if record.run else None,
        "hc.mlflow_run": run.url,
        "hc.promoted_at": promotion.at.isoformat(timespec="seconds"),
        "hc.promoted_by": promotion.by,
        "hc.promoted_from": promotion.previous,
        "hc.gates": gates,
        _FORCED: promotion.forced_reason,
    }
    return {name: shortened(value, LONGEST_TAG) for name, value in tags.items() if value}


def _description(promotion: Promotion, run: MlflowPart) -> str:
    forced = promotion.forced_reason
    return "\n\n".join(
        [
            f"**{promotion.model_key}**, promoted on [its evaluation]({run.url})",
            *([f"Against its gates, because: {forced}"] if forced else []),
            *(f"- {result.sentence}" for result in promotion.gates),
        ]
    )
