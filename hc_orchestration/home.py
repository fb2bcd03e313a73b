"""First-time set-up of HC_HOME: folders that only their owner reads, and Dagster's own settings."""

import os
from pathlib import Path

from filelock import FileLock

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.settings import Settings

_DAGSTER_YAML = """\
# Written once by hc; edit it as you like (https://docs.dagster.io, "dagster.yaml").
telemetry:
  enabled: false
python_logs:
  managed_python_loggers: [hc_orchestration]
  python_log_level: INFO
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 2
    dequeue_interval_seconds: 1
    tag_concurrency_limits: # one run of a model at a time: racing ones would wait for each other
      - key: dagster/partition
        value: {applyLimitPerUniqueValue: true}
        limit: 1
run_monitoring:
  enabled: true
"""


def prepare_home(settings: Settings) -> None:
    """Make the folders and dagster.yaml if they are not there, and point Dagster at them.

    Raises:
        ConfigurationError: The folder cannot be written.
    """
    try:
        settings.home.mkdir(parents=True, exist_ok=True, mode=0o700)
        settings.locks.mkdir(exist_ok=True)
        with FileLock(settings.locks / "home.lock"):
            _write_once(settings.dagster_home / "dagster.yaml", _DAGSTER_YAML)
    except OSError as error:
        message = (
            f"HC_HOME {settings.home} cannot be used ({type(error).__name__}). "
            "Point HC_HOME at a folder that you may write."
        )
        raise ConfigurationError(message) from None
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)


def _write_once(path: Path, content: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
