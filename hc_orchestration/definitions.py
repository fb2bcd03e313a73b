"""The code location: the only place where assets, checks, jobs and resources are joined."""

from collections.abc import Mapping

import dagster as dg

from hc_orchestration.assets.comparison import comparison_asset
from hc_orchestration.assets.corpus import notes_corpus
from hc_orchestration.assets.evaluation import evaluation_assets
from hc_orchestration.checks.corpus import CORPUS_CHECKS
from hc_orchestration.checks.evaluation import evaluation_checks
from hc_orchestration.checks.gates import gate_checks
from hc_orchestration.jobs import JOBS
from hc_orchestration.partitions import model_partitions
from hc_orchestration.resources.workspace import MlflowResource, WorkspaceResource
from hc_orchestration.schedules import nightly_schedule
from hc_orchestration.sensors import (
    alert_sensor,
    closing_sensors,
    comparison_sensor,
    evaluation_sensor,
    mlflow_sync_sensor,
    new_model_sensor,
)
from hc_orchestration.settings import Settings
from hc_orchestration.study import load_study


def build_definitions(
    settings: Settings, resource_overrides: Mapping[str, object] | None = None
) -> dg.Definitions:
    """Everything that Dagster is to know of the deployment that `settings` describe.

    Raises:
        ConfigurationError: The study or the catalogue cannot be read.
    """
    study = load_study(settings.study)
    models = model_partitions(settings)
    chain = evaluation_assets(models)
    metrics = next(asset for asset in chain if asset.key == dg.AssetKey("evaluation_metrics"))
    resources = {
        "workspace": WorkspaceResource.of(settings),
        "mlflow": MlflowResource.of(settings),
        "ray_cluster": dg.ResourceDefinition.none_resource(
            "A RayResource of dagster-ray, where Ray's cluster is made for each run."
        ),
        **(resource_overrides or {}),
    }
    return dg.Definitions(
        assets=[notes_corpus, *chain, comparison_asset(metrics)],
        asset_checks=[
            *CORPUS_CHECKS,
            *evaluation_checks(models),
            *gate_checks(study.gates, models),
        ],
        jobs=JOBS,
        schedules=[nightly_schedule(study.schedule)],
        sensors=[
            evaluation_sensor(settings),
            new_model_sensor(settings),
            comparison_sensor(settings),
            *closing_sensors(settings),
            mlflow_sync_sensor(settings),
            alert_sensor(settings),
        ],
        resources=resources,
        executor=dg.in_process_executor,  # the steps of one model are a chain: nothing to spread
    )


defs = build_definitions(Settings.from_environment())
