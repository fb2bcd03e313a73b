"""Where this deployment keeps its state: read from the environment, once per process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from hc_orchestration.errors import ConfigurationError

_KNOWN = (
    "HC_HOME",
    "HC_STUDY",
    "HC_MODELS",
    "HC_STORAGE",
    "HC_SIGNING_KEY",
    "HC_FHIR_TOKEN",  # read where it is used: a secret is no setting that is shown
    "HC_DAGSTER_URL",
    "HC_MLFLOW_URL",
)


@dataclass(frozen=True)
class Settings:
    """Resolved settings; every path is absolute.

    Attributes:
        home: State of this deployment; everything below it may be deleted to start anew.
        study: The study file (YAML).
        catalogue: The model catalogue (YAML).
        storage: Root URI of the Delta tables and files kept by digest.
        tracking_uri: MLflow tracking URI; may hold credentials, so it is never shown or stored.
        dagster_url: Root of the Dagster web page that links point to.
        mlflow_url: Root of the MLflow web page that links point to.
        signing_key: The private key that records are signed with; None leaves them unsigned.
    """

    home: Path
    study: Path
    catalogue: Path
    storage: str
    tracking_uri: str
    dagster_url: str
    mlflow_url: str
    signing_key: Path | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the variables named in the README; defaults are relative to the project.

        Raises:
            ConfigurationError: A variable of ours is empty, or its name is nearly one of ours
                (other programs may own names that begin with `HC_`, so those are left alone).
        """
        env = os.environ if environment is None else environment
        for name in sorted(name for name in env if name.startswith("HC_")):
            if name not in _KNOWN and (near := get_close_matches(name, _KNOWN, n=1, cutoff=0.85)):
                message = f"environment: {name} is not a setting; did you mean {near[0]}?"
                raise ConfigurationError(message)
            if name in _KNOWN and not env[name].strip():
                message = f"environment: {name} is empty. Give it a value or unset it."
                raise ConfigurationError(message)
        project = project_root()
        home = Path(env.get("HC_HOME", project / ".hc")).expanduser().absolute()
        tracking_uri = env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}"
        served = tracking_uri.startswith(("http://", "https://")) and "@" not in tracking_uri
        mlflow_url = tracking_uri if served else "http://127.0.0.1:5000"
        return cls(
            home=home,
            study=_file(env.get("HC_STUDY"), project / "data" / "study.yaml"),
            catalogue=_file(env.get("HC_MODELS"), project / "data" / "models.yaml"),
            storage=_uri(env.get("HC_STORAGE"), home / "tables"),
            tracking_uri=tracking_uri,
            dagster_url=env.get("HC_DAGSTER_URL", "http://127.0.0.1:3000").rstrip("/"),
            mlflow_url=env.get("HC_MLFLOW_URL", mlflow_url).rstrip("/"),
            signing_key=_key(env.get("HC_SIGNING_KEY")),
        )

    @property
    def dagster_home(self) -> Path:
        """DAGSTER_HOME of this deployment."""
        return self.home / "dagster"

    @property
    def locks(self) -> Path:
        """Folder of the lock files that serialise first-time set-up and writers of one model."""
        return self.home / "locks"

    @property
    def model_store(self) -> Path:
        """Folder of installed models, one subfolder per model key."""
        return self.home / "models"


def project_root() -> Path:
    """The folder that holds `data/`: the checkout, or the working directory for an installed hc."""
    checkout = Path(__file__).resolve().parent.parent
    return checkout if (checkout / "data" / "models.yaml").is_file() else Path.cwd()


def _file(value: str | None, default: Path) -> Path:
    return Path(value).expanduser().absolute() if value else default


def _key(value: str | None) -> Path | None:
    return Path(value).expanduser().absolute() if value else None


def _uri(value: str | None, default: Path) -> str:
    if value is None:
        return str(default)
    return value.rstrip("/") if "://" in value else str(Path(value).expanduser().absolute())
