"""MLflow: evaluation records shown in it, and the tutorial's API for experiments of one's own.

The names below are loaded when they are first used, so importing the package loads neither mlflow
nor spaCy. It is the only package that imports mlflow.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hc_orchestration.healthcare.contexts import HealthcareRunContext, PatientContext
    from hc_orchestration.tracking.components import (
        MLFlowComponent,
        MLFlowEndRunComponent,
        MLFlowStartRunComponent,
    )
    from hc_orchestration.tracking.config import (
        LimitPolicy,
        MLFlowConfig,
        OnUnavailable,
        is_mlflow_available,
    )
    from hc_orchestration.tracking.decorators import TrackedPipeline, track_model, track_pipeline
    from hc_orchestration.tracking.run import TrackedRun
    from hc_orchestration.tracking.tracker import MLFlowTracker

__all__ = [
    "HealthcareRunContext",
    "LimitPolicy",
    "MLFlowComponent",
    "MLFlowConfig",
    "MLFlowEndRunComponent",
    "MLFlowStartRunComponent",
    "MLFlowTracker",
    "OnUnavailable",
    "PatientContext",
    "TrackedPipeline",
    "TrackedRun",
    "is_mlflow_available",
    "track_model",
    "track_pipeline",
]

_COMPONENTS = "hc_orchestration.tracking.components"
_CONFIG = "hc_orchestration.tracking.config"
_CONTEXTS = "hc_orchestration.healthcare.contexts"
_DECORATORS = "hc_orchestration.tracking.decorators"
_RUN = "hc_orchestration.tracking.run"
_TRACKER = "hc_orchestration.tracking.tracker"
_MODULES = {
    "HealthcareRunContext": _CONTEXTS,
    "LimitPolicy": _CONFIG,
    "MLFlowComponent": _COMPONENTS,
    "MLFlowConfig": _CONFIG,
    "MLFlowEndRunComponent": _COMPONENTS,
    "MLFlowStartRunComponent": _COMPONENTS,
    "MLFlowTracker": _TRACKER,
    "OnUnavailable": _CONFIG,
    "PatientContext": _CONTEXTS,
    "TrackedPipeline": _DECORATORS,
    "TrackedRun": _RUN,
    "is_mlflow_available": _CONFIG,
    "track_model": _DECORATORS,
    "track_pipeline": _DECORATORS,
}


def __getattr__(name: str) -> object:
    """Load a public name when it is first asked for."""
    if name not in _MODULES:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    found: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = found
    return found
