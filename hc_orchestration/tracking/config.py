"""How to track: the store, the experiment, and what happens when MLflow refuses or is away."""

import math
from collections.abc import Mapping
from enum import StrEnum
from importlib.util import find_spec
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from hc_orchestration.errors import ConfigurationError, TrackingError
from hc_orchestration.settings import Settings
from hc_orchestration.tracking.client import MlflowStore, sqlite_file
from hc_orchestration.tracking.names import LONGEST_NAME, LONGEST_TAG, metric_name, shortened

DEFAULT_EXPERIMENT = "hc-default"
PIPELINES_EXPERIMENT = "hc-pipelines"


class OnUnavailable(StrEnum):
    """What a run does when MLflow is not installed or its store cannot be reached at the start."""

    WARN = "warn"
    ERROR = "error"


class LimitPolicy(StrEnum):
    """What happens to a name or a value that MLflow does not take.

    SHORTEN cuts a value with a visible mark and rewrites a name, with the artifact
    `metric_names.json` to map it back. FAIL raises a TrackingError at the call.
    """

    SHORTEN = "shorten"
    FAIL = "fail"


def is_mlflow_available() -> bool:
    """Whether mlflow is installed; it is not imported to find out."""
    return find_spec("mlflow") is not None


def _served(uri: str) -> str:
    """Refuse a folder as store, as MLflow does, but with the remedy."""
    scheme = urlsplit(uri).scheme
    if uri == "databricks" or (len(scheme) > 1 and scheme != "file"):
        return uri
    message = (
        "tracking_uri: MLflow no longer keeps runs in a folder. Use a database, such as "
        '"sqlite:///mlflow.db", or the address of a server; leave it out for the default.'
    )
    raise ConfigurationError(message)


class MLFlowConfig(BaseModel):
    """Where and how runs are tracked.

    Attributes:
        tracking_uri: A database or a server, by default that of the settings (SQLite in HC_HOME).
            May hold credentials, so it is not shown.
        experiment_name: Groups related runs; made when it is not there.
        artifact_location: Where a new experiment keeps its artifacts, a folder or a URI.
        tags: Given to every run.
        on_unavailable: Whether a run that MLflow cannot take is left untracked with a warning.
        limits: What happens to a name or a value that MLflow does not take.
        metric_points: So many points of a metric are sent as they are; then every second, fourth,
            eighth one and so on, and the last. All points of such a metric are in the artifact
            `metric_history.csv`. None sends every point (0.1 ms each).
    """

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    tracking_uri: Annotated[str, AfterValidator(_served)] = Field(
        default_factory=lambda: Settings.from_environment().tracking_uri,
        validate_default=True,
        repr=False,
    )
    experiment_name: str = Field(default=DEFAULT_EXPERIMENT, min_length=1)
    artifact_location: str | None = None
    tags: dict[str, str] = Field(default_factory=dict)
    on_unavailable: OnUnavailable = OnUnavailable.WARN
    limits: LimitPolicy = LimitPolicy.SHORTEN
    metric_points: int | None = Field(default=200, ge=1)

    @property
    def key(self) -> tuple[str, str]:
        """Store and experiment: trackers that agree in them see each other's runs."""
        return self.tracking_uri, self.experiment_name

    @property
    def store(self) -> MlflowStore:
        """The store; locks and artifacts of a SQLite file lie beside it."""
        settings = Settings.from_environment()
        database = sqlite_file(self.tracking_uri)
        if database is None:
            return MlflowStore(self.tracking_uri, settings.home, settings.mlflow_url)
        return MlflowStore(self.tracking_uri, database.absolute().parent, settings.mlflow_url)


class Fitter:
    """Names and values as MLflow takes them, by a policy.

    Attributes:
        renamed: MLflow's name to ours, for every name that was rewritten.
    """

    def __init__(self, policy: LimitPolicy) -> None:
        """Apply `policy`."""
        self._fails = policy is LimitPolicy.FAIL
        self.renamed: dict[str, str] = {}

    def name(self, name: str) -> str:
        """The name that MLflow takes; slashes that group metrics are kept.

        Raises:
            TrackingError: It is empty, or the policy is to fail.
        """
        if not name:
            message = "a metric, param or tag has an empty name"
            raise TrackingError(message)
        parts = name.split("/")
        fitted = "/".join(map(metric_name, parts)) if all(parts) else metric_name(name)
        if len(fitted) > LONGEST_NAME:
            fitted = metric_name(name)
        if fitted == name:
            return name
        if self._fails:
            message = (
                f"MLflow takes no name like {name[:80]!r}: letters, digits and _ - . / only, "
                f"at most {LONGEST_NAME}"
            )
            raise TrackingError(message)
        self.renamed[fitted] = name
        return fitted

    def value(self, name: str, value: object, longest: int) -> str:
        """The value as text, no longer than MLflow keeps.

        Raises:
            TrackingError: It is longer, and the policy is to fail.
        """
        text = str(value)
        if self._fails and len(text) > longest:
            message = f"{name}: {len(text)} characters; MLflow keeps {longest}"
            raise TrackingError(message)
        return shortened(text, longest)

    def tags(self, tags: Mapping[str, object]) -> dict[str, str]:
        """Tags as MLflow takes them."""
        return {self.name(k): self.value(k, v, LONGEST_TAG) for k, v in tags.items()}


def metric_value(name: str, value: object) -> float:
    """The value of a metric as a number, which may be NaN or infinite.

    Raises:
        TrackingError: It is no number.
    """
    try:
        if not isinstance(value, str | bytes):
            return float(value)  # type: ignore[arg-type] # numpy scalars and the like
    except OverflowError:
        return math.inf
    except (TypeError, ValueError):
        pass
    message = f"metric {name}: a {type(value).__name__} is no number"
    raise TrackingError(message)
