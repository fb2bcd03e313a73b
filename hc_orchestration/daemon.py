"""The Dagster daemon of `hc ui`: Dagster's own, which looks for backfills every 2 s, not every 30.

A backfill of three models then takes about 20 s in place of 80. Dagster offers no setting for it,
so this sets a constant of the version that pyproject.toml pins; where a Dagster has none of that
name, its own pace stays. A team's deployment runs `dagster-daemon` itself.

A backfill waits for definitions that cannot be loaded just now, where Dagster's default is to end
it and all its runs.
"""

import os

from dagster._daemon import controller
from dagster._daemon.cli import create_dagster_daemon_cli

_BETWEEN_LOOKS_S = 2


def main() -> None:
    """Run the command line of `dagster-daemon`."""
    os.environ.setdefault("DAGSTER_BACKFILL_RETRY_DEFINITION_CHANGED_ERROR", "1")
    if hasattr(controller, "DEFAULT_DAEMON_INTERVAL_SECONDS"):
        controller.DEFAULT_DAEMON_INTERVAL_SECONDS = _BETWEEN_LOOKS_S
    create_dagster_daemon_cli()()


if __name__ == "__main__":
    main()
