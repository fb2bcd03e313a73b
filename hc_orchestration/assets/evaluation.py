"""The chain of a model's evaluation: files, entities, metrics, provenance; a partition a model."""

import dagster as dg

from hc_orchestration.assets.columns import ENTITIES, METRICS, MODEL_FILES, table_metadata
from hc_orchestration.assets.corpus import OWNERS, notes_corpus
from hc_orchestration.resources.evaluation import evaluation_step
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource

GROUP = "evaluation"


def evaluation_assets(models: dg.PartitionsDefinition[str]) -> list[dg.AssetsDefinition]:
    """The four assets of the chain over the partitions `models`."""

    @dg.asset(
        partitions_def=models,
        group_name=GROUP,
        metadata=table_metadata("model_files/<model>", MODEL_FILES),
        kinds={"deltalake"},
        owners=OWNERS,
        code_version="1",
        description=(
            "One row per file of the model. Its data version is the model's fingerprint, so that "
            "everything made with other files shows as stale."
        ),
    )
    def model_files(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, mlflow: MlflowResource
    ) -> dg.MaterializeResult[None]:
        from hc_orchestration.models.store import installed_model
        from hc_orchestration.reporting.metadata import model_files_metadata

        with evaluation_step(context, workspace, mlflow) as step:
            model = installed_model(step.entry, step.workspace.settings.model_store)
            step.workspace.model_files.insert(model)
            return step.materialized(
                metadata=model_files_metadata(model), data_version=model.fingerprint
            )

    @dg.asset(
        partitions_def=models,
        deps=[notes_corpus, model_files],
        group_name=GROUP,
        metadata=table_metadata("entities/<model>", ENTITIES),
        kinds={"spacy", "deltalake"},
        pool="extraction",
        owners=OWNERS,
        code_version="1",
        description=(
            "One row per note and model: offsets and labels of the mentions that the model found. "
            "Pins the corpus version that the rest of the evaluation reads; notes that have a row "
            "for this text and these model files are not run again."
        ),
    )
    def extracted_entities(
        context: dg.AssetExecutionContext,
        workspace: WorkspaceResource,
        mlflow: MlflowResource,
        ray_cluster: dg.ResourceParam[object],
    ) -> dg.MaterializeResult[None]:
        from hc_orchestration.reporting.metadata import extraction_metadata
        from hc_orchestration.resources.steps import extract
        from hc_orchestration.scoring.identity import entities_digest

        with evaluation_step(context, workspace, mlflow) as step:
            inputs, extraction = extract(step, ray_cluster)
            return step.materialized(
                inputs,
                extraction,
                metadata=extraction_metadata(extraction, inputs),
                data_version=entities_digest(inputs.corpus_digest, inputs.model_fingerprint),
            )

    @dg.asset(
        partitions_def=models,
        deps=[extracted_entities, notes_corpus, model_files],
        group_name=GROUP,
        metadata=table_metadata("metrics/<model>", METRICS),
        kinds={"polars", "deltalake"},
        owners=OWNERS,
        code_version="2",
        description=(
            "One row per (match mode, average, label, slice, statistic): precision, recall and F1 "
            "of the extracted mentions against gold, with the counts that they come from and 95 % "
            "intervals. Undefined is null, never 0; slices of too few notes are withheld."
        ),
    )
    def evaluation_metrics(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, mlflow: MlflowResource
    ) -> dg.MaterializeResult[None]:
        from hc_orchestration.reporting.metadata import metrics_metadata
        from hc_orchestration.resources.steps import score

        with evaluation_step(context, workspace, mlflow) as step:
            inputs, metrics, gates, scores = score(step)
            return step.materialized(
                inputs,
                metrics,
                gates,
                metadata=metrics_metadata(metrics, gates, scores),
                data_version=metrics.evaluation_digest,
            )

    @dg.asset(
        partitions_def=models,
        deps=[evaluation_metrics, notes_corpus, model_files],
        group_name=GROUP,
        kinds={"fhir"},
        owners=OWNERS,
        code_version="1",
        description=(
            "One FHIR R4 record (a Bundle) per evaluation: what was made, from which corpus and "
            "model, by which software, for whom and when. Unchanged inputs make no new one."
        ),
    )
    def provenance(
        context: dg.AssetExecutionContext, workspace: WorkspaceResource, mlflow: MlflowResource
    ) -> dg.MaterializeResult[None]:
        from hc_orchestration.resources.recording import record_provenance

        with evaluation_step(context, workspace, mlflow) as step:
            evaluated, part = record_provenance(step)
            return step.materialized(
                *evaluated,
                part,
                metadata={
                    "fhir_provenance": dg.MetadataValue.path(
                        step.workspace.files.location(part.file)
                    ),
                    "sha256": part.file.sha256,
                    "new": part.of_evaluation == step.evaluation_id,
                },
                data_version=part.evaluation_digest,
            )

    return [model_files, extracted_entities, evaluation_metrics, provenance]
