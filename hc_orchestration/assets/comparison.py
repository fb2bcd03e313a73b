"""model_comparison: every model's evaluation of the same corpus beside the others."""

import dagster as dg

from hc_orchestration.assets.columns import COMPARISON, table_metadata
from hc_orchestration.assets.corpus import OWNERS
from hc_orchestration.resources.materializing import UP_TO_DATE, Materialization
from hc_orchestration.resources.withholding import words_withheld
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource


def comparison_asset(evaluation_metrics: dg.AssetsDefinition) -> dg.AssetsDefinition:
    """The comparison over all partitions of `evaluation_metrics`."""

    @dg.asset(
        deps=[
            dg.AssetDep(evaluation_metrics.key, partition_mapping=dg.AllPartitionMapping()),
        ],
        group_name="comparison",
        metadata=table_metadata("comparisons", COMPARISON),
        kinds={"deltalake"},
        owners=OWNERS,
        code_version="2",
        description=(
            "One row per model of the catalogue: its rank and scores on the corpus that is stored "
            "now, or why it is missing (not installed, failed, stale). Beside it, paired "
            "differences of every two models, and regression gates against the champion."
        ),
        check_specs=[
            dg.AssetCheckSpec(
                UP_TO_DATE, asset="model_comparison", description="MLflow shows the comparison."
            )
        ],
    )
    def model_comparison(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, mlflow: MlflowResource
    ) -> dg.MaterializeResult:  # type: ignore[type-arg] # Dagster knows only the bare class here
        from hc_orchestration.reporting.metadata import comparison_metadata
        from hc_orchestration.resources.comparing import compare

        with words_withheld():
            opened = workspace.open()
            materialization = Materialization(context, opened, mlflow)
            done = compare(opened, context.run.run_id)
            in_mlflow = materialization.comparison(done)
        shown = comparison_metadata(done.models, done.differences, done.champion, done.gates)
        return dg.MaterializeResult(
            metadata={
                **shown,
                **in_mlflow.metadata,
                "report": dg.MetadataValue.path(opened.files.location(done.report)),
            },
            data_version=dg.DataVersion(done.digest),
            check_results=[in_mlflow.check],
        )

    return model_comparison
