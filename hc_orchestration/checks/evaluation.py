"""Checks of each model's partition; a failed blocking one closes the evaluation as FAILED."""

import warnings
from collections.abc import Iterator

import dagster as dg

from hc_orchestration.resources.evaluation import evaluation_step
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource

# Partitioned checks are marked as a preview in this pinned version of Dagster; they were tried.
warnings.filterwarnings("ignore", message=".*partitions_def.*", category=dg.PreviewWarning)


def evaluation_checks(
    models: dg.PartitionsDefinition[str],
) -> list[dg.AssetChecksDefinition]:
    """The checks of the chain over the partitions `models`."""

    @dg.asset_check(
        asset="extracted_entities",
        blocking=True,
        partitions_def=models,
        description="Every note of the pinned corpus version has exactly one row.",
    )
    def every_note_has_one_row(
        context: dg.AssetCheckExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
    ) -> dg.AssetCheckResult:
        from hc_orchestration.resources.integrity import notes_and_entities
        from hc_orchestration.storage.integrity import row_counts

        with evaluation_step(context, workspace, mlflow) as step:
            missing, several = row_counts(*notes_and_entities(step))
            healed_by = "" if missing + several == 0 else "; materialize extracted_entities again"
            return step.checked(
                passed=missing + several == 0,
                description=f"{missing} notes without a row, {several} with several{healed_by}",
                metadata={"missing": missing, "several": several},
            )

    @dg.asset_check(
        asset="extracted_entities",
        blocking=True,
        partitions_def=models,
        description="Every extracted span lies in its note.",
    )
    def spans_lie_in_their_notes(
        context: dg.AssetCheckExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
    ) -> dg.AssetCheckResult:
        from hc_orchestration.resources.integrity import notes_and_entities
        from hc_orchestration.storage.integrity import misplaced_spans

        with evaluation_step(context, workspace, mlflow) as step:
            notes, entities = notes_and_entities(step)
            rows = entities.join(notes.select("note_id", "text"), on="note_id")
            misplaced = misplaced_spans(rows, "spans")
            return step.checked(
                passed=misplaced == 0,
                description=f"{misplaced} spans do not lie in their note",
                metadata={"misplaced": misplaced},
            )

    @dg.asset_check(
        asset="evaluation_metrics",
        blocking=True,
        partitions_def=models,
        description="Every score lies in 0..1 and no credit exceeds what was counted.",
    )
    def scores_within_bounds(
        context: dg.AssetCheckExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
    ) -> dg.AssetCheckResult:
        from hc_orchestration.resources.integrity import stored_scores
        from hc_orchestration.storage.integrity import out_of_bounds

        with evaluation_step(context, workspace, mlflow) as step:
            scores = stored_scores(step)
            wrong = out_of_bounds(scores)
            return step.checked(
                passed=not wrong and scores.height > 0,
                description=f"{scores.height} scores, {len(wrong)} out of bounds",
                metadata={"scores": scores.height, "out_of_bounds": len(wrong)},
            )

    @dg.multi_asset_check(
        name="provenance_checks",
        specs=[
            dg.AssetCheckSpec(
                "provenance_valid",
                asset="provenance",
                blocking=True,
                partitions_def=models,
                description="The stored Provenance is unchanged and a valid R4 resource.",
            ),
            dg.AssetCheckSpec(
                "provenance_chain",
                asset="provenance",
                partitions_def=models,
                description=(
                    "All that the record names is as it says, and the model's records make one "
                    "chain that ends in it. It fails no evaluation: no run could mend it."
                ),
            ),
            dg.AssetCheckSpec(
                "mlflow_up_to_date",
                asset="provenance",
                partitions_def=models,
                description="MLflow shows everything that the evaluation's record says.",
            ),
        ],
    )
    def provenance_checks(  # one step: only so is the look at MLflow the last thing that happens
        context: dg.AssetCheckExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
    ) -> Iterator[dg.AssetCheckResult]:
        from hc_orchestration.resources.integrity import (
            chain_problems,
            stored_provenance_problem,
        )

        with evaluation_step(context, workspace, mlflow) as step:
            problem = stored_provenance_problem(step)
            valid = step.checked(
                name="provenance_valid",
                passed=problem is None,
                description=problem or "valid, and its bytes are those that were stored",
                metadata={},
            )
            broken = chain_problems(step)
            shown = step.told_mlflow()
        yield valid
        yield dg.AssetCheckResult(
            check_name="provenance_chain",
            passed=not broken,
            description="; ".join(broken) or "unbroken, and the record is as it says",
            metadata={"problems": len(broken)},
        )
        yield shown

    return [
        every_note_has_one_row,
        spans_lie_in_their_notes,
        scores_within_bounds,
        provenance_checks,
    ]
