"""notes_corpus: the notes of the study, in a job of its own because it has no partitions."""

import dagster as dg

from hc_orchestration.assets.columns import NOTES, table_metadata
from hc_orchestration.resources.materializing import UP_TO_DATE, Materialization
from hc_orchestration.resources.withholding import words_withheld
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource

OWNERS = ["team:clinical-nlp"]


@dg.asset(
    group_name="corpus",
    metadata=table_metadata("notes", NOTES),
    kinds={"deltalake", "polars"},
    owners=OWNERS,
    code_version="1",
    description=(
        "One row per note, with gold spans where the source has them. "
        "Records that cannot be used are in quarantine with a reason, never silently left out."
    ),
    check_specs=[
        dg.AssetCheckSpec(
            UP_TO_DATE, asset="notes_corpus", description="MLflow shows the stored corpus."
        )
    ],
)
def notes_corpus(
    context: dg.AssetExecutionContext, workspace: WorkspaceResource, mlflow: MlflowResource
) -> dg.MaterializeResult:  # type: ignore[type-arg] # Dagster knows only the bare class here
    """Read the study's sources; an unchanged corpus makes no new version and no new MLflow run."""
    from hc_orchestration.reporting.metadata import corpus_metadata

    with words_withheld():
        opened = workspace.open()
        materialization = Materialization(context, opened, mlflow)
        corpus = opened.corpus.ingest(opened.new_ingestion)
        shown = materialization.corpus(corpus)
    return dg.MaterializeResult(
        metadata={**corpus_metadata(corpus), **shown.metadata},
        data_version=dg.DataVersion(corpus.digest),
        check_results=[shown.check],
    )
