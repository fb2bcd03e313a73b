"""The jobs.

Corpus and comparison stand by themselves: in one job with a model's chain they would run once for
each model.
"""

import dagster as dg
from pydantic import Field

from hc_orchestration.resources.withholding import words_withheld
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource

REFRESH_CORPUS = "refresh_corpus"
EVALUATE_MODEL = "evaluate_model"
COMPARE_MODELS = "compare_models"
PROMOTE_MODEL = "promote_model"

refresh_corpus = dg.define_asset_job(
    REFRESH_CORPUS,
    selection=dg.AssetSelection.assets("notes_corpus"),
    description="Read the study's sources into the notes table.",
)
evaluate_model = dg.define_asset_job(
    EVALUATE_MODEL,
    selection=dg.AssetSelection.groups("evaluation"),
    description="Evaluate one model on the stored corpus: files, entities, metrics, Provenance.",
)
compare_models = dg.define_asset_job(
    COMPARE_MODELS,
    selection=dg.AssetSelection.assets("model_comparison"),
    description="Rank every model's evaluation of the stored corpus.",
)


class PromotionConfig(dg.Config):
    """Which model is to become the champion."""

    model: str = Field(description="Key of the model in the catalogue: `<name>-<version>`.")
    force_reason: str = Field(
        default="",
        description=(
            "Why it is promoted although its gates do not hold; empty: only if they hold. The "
            "reason goes on record, in MLflow and in the model's next Provenance."
        ),
    )


@dg.op(name="promote", description="Hold the model to all gates again and make it the champion.")
def promote_op(
    context: dg.OpExecutionContext,
    config: PromotionConfig,
    workspace: WorkspaceResource,
    mlflow: MlflowResource,
) -> None:
    """Promote; a refusal fails the run and names every gate that does not hold."""
    from hc_orchestration.reporting.metadata import promotion_metadata
    from hc_orchestration.resources.promoting import promote

    with words_withheld():
        opened = workspace.open()
        force = config.force_reason or None
        outcome = promote(opened, mlflow.promotions(opened), config.model, force)
    url = outcome.shown.url if outcome.shown else None
    shown = promotion_metadata(outcome.promotion, url)
    context.add_output_metadata({"champion_before": not outcome.made, **shown})


@dg.job(name=PROMOTE_MODEL, description="Make a model the champion of the study, if it may be.")
def promote_model() -> None:
    """One step, the same as `hc promote`."""
    promote_op()


JOBS = (refresh_corpus, evaluate_model, compare_models, promote_model)
