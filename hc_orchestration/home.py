"""First-time set-up of HC_HOME: folders that only their owner reads, settings, salt."""

import os
import secrets
import tempfile
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
    dequeue_interval_seconds: 1
    max_user_code_failure_retries: 20 # a run that meets no code server waits for it
    user_code_failure_retry_delay: 15
concurrency:
  runs:
    max_concurrent_runs: 2 # about one a core
    tag_concurrency_limits: # one run of a model at a time: racing ones would wait for each other
      - key: dagster/partition
        value: {applyLimitPerUniqueValue: true}
        limit: 1
  pools: # runs that extract, at once; for one model: dagster instance concurrency set extraction 1
    granularity: run
    default_limit: 2
run_retries: # of a run whose process died; one whose step failed would fail again
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false
run_monitoring:
  enabled: true
  poll_interval_seconds: 30
  start_timeout_seconds: 180
  cancel_timeout_seconds: 180
retention: # ticks that asked for nothing
  schedule: {purge_after_days: {skipped: 7, failure: 90}}
  sensor: {purge_after_days: {skipped: 2, failure: 30}}
"""


_SALT_BYTES = 32


def prepare_home(settings: Settings) -> None:
    """Make the folders and dagster.yaml if they are not there, and point Dagster at them.

    Raises:
        ConfigurationError: The folder cannot be written.
    """
    try:
        private_folder(settings.locks)
        with FileLock(settings.locks / "home.lock"):
            _write_once(settings.dagster_home / "dagster.yaml", _DAGSTER_YAML)
    except OSError as error:
        message = (
            f"HC_HOME {settings.home} cannot be used ({type(error).__name__}). "
            "Point HC_HOME at a folder that you may write."
        )
        raise ConfigurationError(message) from None
    os.environ["DAGSTER_HOME"] = str(settings.dagster_home)


def salt(settings: Settings) -> bytes:
    """The secret that pseudonyms are made with: 32 random bytes, made once per deployment.

    It is a file of its own, `$HC_HOME/secrets/salt`, that only its owner reads. Whoever has it and
    a list of ids can tell whose pseudonym is whose; whoever loses it gets other pseudonyms.

    Raises:
        ConfigurationError: The file cannot be read or written, or is not a salt.
    """
    path = settings.home / "secrets" / "salt"
    try:
        if not path.exists():
            _make_salt(path, settings.locks)
        found = path.read_bytes()
    except OSError as error:
        message = (
            f"{path} cannot be read or made ({type(error).__name__}). "
            "Point HC_HOME at a folder that you may write."
        )
        raise ConfigurationError(message) from None
    if len(found) != _SALT_BYTES:
        message = (
            f"{path}: not a salt of {_SALT_BYTES} bytes. Restore it from a backup, or remove it: "
            "then every note gets a new pseudonym and is extracted again."
        )
        raise ConfigurationError(message)
    return found


def _make_salt(path: Path, locks: Path) -> None:
    """Write a salt, unless another process just did; a reader sees all of it or nothing."""
    path.parent.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    path.parent.chmod(0o700)  # also when the folder was there before
    locks.mkdir(exist_ok=True)
    with FileLock(locks / "secrets.lock"):
        if path.exists():
            return
        descriptor, name = tempfile.mkstemp(dir=path.parent)  # mode 0600
        with os.fdopen(descriptor, "wb") as file:
            file.write(secrets.token_bytes(_SALT_BYTES))
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)


def private_folder(path: Path) -> Path:
    """Make a folder, and those above it that are not there, readable for their owner only.

    `mkdir(parents=True)` would give its mode to the last one only.
    """
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        folder.mkdir(exist_ok=True, mode=0o700)
    return path


def _write_once(path: Path, content: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
