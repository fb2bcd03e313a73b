"""Dagster resources that lead to the workspace and to MLflow; definitions open nothing."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.settings import Settings

if TYPE_CHECKING:
    from hc_orchestration.storage.records import ShownIn
    from hc_orchestration.storage.workspace import Workspace
    from hc_orchestration.tracking.projection import MlflowProjection
    from hc_orchestration.tracking.registry import PromotionProjection


class WorkspaceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The study, the catalogue and the tables of one deployment."""

    home: str = Field(description="Folder of all state (HC_HOME).")
    study: str = Field(description="The study file (HC_STUDY).")
    catalogue: str = Field(description="The model catalogue (HC_MODELS).")
    storage: str = Field(description="Root URI of the tables (HC_STORAGE).")
    dagster_url: str = Field(description="Root of the Dagster web page that links point to.")
    mlflow_url: str = Field(description="Root of the MLflow web page that links point to.")
    signing_key: str = Field(default="", description="Private key file (HC_SIGNING_KEY).")

    @classmethod
    def of(cls, settings: Settings) -> "WorkspaceResource":
        """The resource for these settings."""
        return cls(
            home=str(settings.home),
            study=str(settings.study),
            catalogue=str(settings.catalogue),
            storage=settings.storage,
            dagster_url=settings.dagster_url,
            mlflow_url=settings.mlflow_url,
            signing_key=str(settings.signing_key or ""),
        )

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Tag the run with its process, by which it is known as dead when that is gone."""
        run, instance = context.run, context.instance
        if run is not None and instance is not None:
            tags = ProcessIdentity.current().as_tags_of(run.run_id)
            instance.add_run_tags(run.run_id, tags)

    def open(self) -> "Workspace":
        """The workspace, its study and catalogue read anew."""
        from hc_orchestration.storage.workspace import Workspace

        settings = Settings(
            home=Path(self.home),
            study=Path(self.study),
            catalogue=Path(self.catalogue),
            storage=self.storage,
            tracking_uri="",
            dagster_url=self.dagster_url,
            mlflow_url=self.mlflow_url,
            signing_key=Path(self.signing_key) if self.signing_key else None,
        )
        return Workspace(settings)


class MlflowResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The MLflow store that our runs are shown in; the names are those of dagster-mlflow."""

    mlflow_tracking_uri: str = Field(description="MLflow tracking URI (MLFLOW_TRACKING_URI).")
    experiment_name: str | None = Field(
        default=None, description="The experiment; default: the study's name."
    )
    parent_run_id: str | None = Field(
        default=None, description="An MLflow run that every run of ours becomes a child of."
    )
    mlflow_run_id: str | None = Field(
        default=None,
        description="An MLflow run that the evaluation goes into; for a run of one model only.",
    )
    env: dict[str, str] = Field(
        default={}, description="Environment variables for the MLflow client; no secrets here."
    )
    env_to_tag: list[str] = Field(
        default=[], description="Environment variables whose values become tags of each run."
    )
    extra_tags: dict[str, str] = Field(default={}, description="Tags of each run.")
    per_note_steps: int = Field(
        default=200,
        ge=0,
        description="For how many notes counts are logged by step; an artifact has all of them.",
    )

    @classmethod
    def of(cls, settings: Settings) -> "MlflowResource":
        """The resource for these settings.

        A tracking URI of the environment is read there by each process and never shown, as it may
        hold credentials.
        """
        if os.environ.get("MLFLOW_TRACKING_URI") == settings.tracking_uri:
            return cls(mlflow_tracking_uri=dg.EnvVar("MLFLOW_TRACKING_URI"))
        return cls(mlflow_tracking_uri=settings.tracking_uri)

    def shown_in(self) -> "ShownIn":
        """Where and how this deployment shows evaluations, to be kept in their records."""
        from hc_orchestration.storage.records import ShownIn

        values = {**os.environ, **self.env}
        tags = {name: values[name] for name in self.env_to_tag if name in values}
        return ShownIn(
            experiment=self.experiment_name,
            parent_run_id=self.parent_run_id,
            run_id=self.mlflow_run_id,
            tags={**tags, **self.extra_tags},
            per_note_steps=self.per_note_steps,
        )

    def projection(self, workspace: "Workspace") -> "MlflowProjection":
        """The writer of this store; it connects when it is first used."""
        os.environ.update(self.env)
        return mlflow_projection(self.mlflow_tracking_uri, workspace)

    def promotions(self, workspace: "Workspace") -> "PromotionProjection":
        """What shows promotions in this store; it connects when it is first used."""
        os.environ.update(self.env)
        return promotion_projection(self.mlflow_tracking_uri, workspace)


def mlflow_projection(tracking_uri: str, workspace: "Workspace") -> "MlflowProjection":
    """The writer of the MLflow store at `tracking_uri` for a workspace's records."""
    from hc_orchestration.tracking.beside import projection
    from hc_orchestration.tracking.client import MlflowStore

    settings = workspace.settings
    store = MlflowStore(tracking_uri, settings.home, settings.mlflow_url)
    return projection(store, workspace.files, settings.dagster_url)


def promotion_projection(tracking_uri: str, workspace: "Workspace") -> "PromotionProjection":
    """What shows a workspace's promotions in the MLflow store at `tracking_uri`."""
    from hc_orchestration.tracking.client import MlflowStore
    from hc_orchestration.tracking.registry import PromotionProjection

    settings = workspace.settings
    return PromotionProjection(
        MlflowStore(tracking_uri, settings.home, settings.mlflow_url),
        mlflow_projection(tracking_uri, workspace),
        workspace.records,
        workspace.promotions,
    )
