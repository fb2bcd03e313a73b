"""Checks of each model's partition; a failed blocking one closes the evaluation as FAILED."""

import warnings

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

    @dg.asset_check(
        asset="provenance",
        blocking=True,
        partitions_def=models,
        description="The stored Provenance is unchanged and a valid R4 resource.",
    )
    def provenance_valid(
        context: dg.AssetCheckExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
    ) -> dg.AssetCheckResult:
        from hc_orchestration.resources.integrity import stored_provenance_problem

        with evaluation_step(context, workspace, mlflow) as step:
            problem = stored_provenance_problem(step)
            return step.checked(
                passed=problem is None,
                description=problem or "valid, and its bytes are those that were stored",
                metadata={},
            )

    @dg.asset_check(
        asset="provenance",
        partitions_def=models,
        description="MLflow shows everything that the evaluation's record says.",
    )
    def mlflow_up_to_date(
        context: dg.AssetCheckExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
    ) -> dg.AssetCheckResult:
        with evaluation_step(context, workspace, mlflow) as step:
            return step.told_mlflow()

    return [
        every_note_has_one_row,
        spans_lie_in_their_notes,
        scores_within_bounds,
        provenance_valid,
        mlflow_up_to_date,
    ]
