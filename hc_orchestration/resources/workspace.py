"""Dagster resources that lead to the workspace and to MLflow; definitions open nothing."""

from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from hc_orchestration.settings import Settings

if TYPE_CHECKING:
    from hc_orchestration.storage.workspace import Workspace
    from hc_orchestration.tracking.projection import MlflowProjection


class WorkspaceResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The study, the catalogue and the tables of one deployment."""

    home: str = Field(description="Folder of all state (HC_HOME).")
    study: str = Field(description="The study file (HC_STUDY).")
    catalogue: str = Field(description="The model catalogue (HC_MODELS).")
    storage: str = Field(description="Root URI of the tables (HC_STORAGE).")
    dagster_url: str = Field(description="Root of the Dagster web page that links point to.")
    mlflow_url: str = Field(description="Root of the MLflow web page that links point to.")

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
        )

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
        )
        return Workspace(settings)


class MlflowResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """The MLflow store that evaluations are shown in."""

    tracking_uri: str = Field(description="MLflow tracking URI (MLFLOW_TRACKING_URI).")

    @classmethod
    def of(cls, settings: Settings) -> "MlflowResource":
        """The resource for these settings.

        A tracking URI of the environment is read there by each process and never shown, as it may
        hold credentials.
        """
        import os

        if os.environ.get("MLFLOW_TRACKING_URI") == settings.tracking_uri:
            return cls(tracking_uri=dg.EnvVar("MLFLOW_TRACKING_URI"))
        return cls(tracking_uri=settings.tracking_uri)

    def projection(self, workspace: "Workspace") -> "MlflowProjection":
        """The writer of this store; it connects when it is first used."""
        from hc_orchestration.tracking.client import MlflowStore
        from hc_orchestration.tracking.projection import MlflowProjection

        settings = workspace.settings
        store = MlflowStore(self.tracking_uri, settings.home, settings.mlflow_url)
        return MlflowProjection(store, workspace.files, settings.dagster_url)
