"""One partition of a backfill as one Dagster run in a process of its own; loaded once, then forked.

Everything heavy is imported here, so that a fork server pays for it only once.
"""

import os
from collections.abc import Mapping

import dagster as dg
import deltalake  # noqa: F401 - to be loaded before the fork
import mlflow  # noqa: F401
import polars as pl  # noqa: F401
import spacy  # noqa: F401

from hc_orchestration.definitions import build_definitions
from hc_orchestration.settings import Settings

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def run_partition(environment: Mapping[str, str], key: str, backfill: str) -> None:
    """Evaluate the model `key` of the deployment in `environment`."""
    os.environ.clear()
    os.environ.update(environment)
    definitions = build_definitions(Settings.from_environment())
    with dg.DagsterInstance.get() as instance:
        definitions.resolve_job_def("evaluate_model").execute_in_process(
            instance=instance,
            partition_key=key,
            raise_on_error=False,
            run_config=QUIET,
            tags={"dagster/backfill": backfill},
        )
