"""The tracking components by name: `nlp.add_pipe("mlflow_component", config={…})`.

spaCy finds this module by its entry point and imports it when one of the names is first used;
importing it registers them. Their configuration is plain values, so a pipeline can be saved.

An entity ruler sends its phrases through the components before it when it is loaded. Put
`mlflow_start_run` behind it, or each phrase is a run that is never ended.
"""

from typing import Any

from spacy.language import Language

from hc_orchestration.tracking.components import (
    MLFlowComponent,
    MLFlowEndRunComponent,
    MLFlowStartRunComponent,
)
from hc_orchestration.tracking.config import DEFAULT_EXPERIMENT
from hc_orchestration.tracking.tracker import shared_tracker

_WHERE = {"experiment_name": DEFAULT_EXPERIMENT, "tracking_uri": None}


@Language.factory(
    "mlflow_component",
    default_config={
        **_WHERE,
        "track_predictions": True,
        "track_timing": True,
        "metric_extractors": None,
        "prefix": "pipeline",
    },
)
def make_mlflow_component(  # noqa: PLR0913, PLR0917 - a factory's signature is its configuration
    nlp: Language,  # noqa: ARG001 - spaCy passes it
    name: str,  # noqa: ARG001 - spaCy passes it
    experiment_name: str,
    tracking_uri: str | None,
    track_predictions: bool,  # noqa: FBT001
    track_timing: bool,  # noqa: FBT001
    metric_extractors: dict[str, Any] | None,  # spaCy checks types before it looks functions up
    prefix: str,
) -> MLFlowComponent:
    """Logs metrics of each Doc, into its own run or into the current one of the experiment.

    `metric_extractors` are functions of a spaCy registry: `{"long": {"@misc": "my_extractor"}}`.
    """
    tracker = shared_tracker(experiment_name, tracking_uri)
    return MLFlowComponent(
        tracker, track_predictions, track_timing, metric_extractors, prefix=prefix
    )


@Language.factory("mlflow_start_run", default_config={**_WHERE, "run_name": None, "tags": {}})
def make_mlflow_start_run(  # noqa: PLR0913, PLR0917 - a factory's signature is its configuration
    nlp: Language,  # noqa: ARG001 - spaCy passes it
    name: str,  # noqa: ARG001 - spaCy passes it
    experiment_name: str,
    tracking_uri: str | None,
    run_name: str | None,
    tags: dict[str, str],
) -> MLFlowStartRunComponent:
    """Opens a run for each Doc."""
    return MLFlowStartRunComponent(shared_tracker(experiment_name, tracking_uri), run_name, tags)


@Language.factory("mlflow_end_run", default_config=_WHERE)
def make_mlflow_end_run(
    nlp: Language,  # noqa: ARG001 - spaCy passes it
    name: str,  # noqa: ARG001 - spaCy passes it
    experiment_name: str,
    tracking_uri: str | None,
) -> MLFlowEndRunComponent:
    """Ends the run of each Doc."""
    return MLFlowEndRunComponent(shared_tracker(experiment_name, tracking_uri))
