"""Leaving an MLflow server alone for a while after it took a call and did not answer it.

A server that refuses a call costs nothing. One that is silent costs the whole timeout, for every
call of every step; so after the first such call nobody on this machine calls it for `PAUSE_S`.
"""

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from hc_orchestration.errors import TrackingError, TrackingTimeoutError
from hc_orchestration.home import private_folder

PAUSE_S = 300.0


class Silence:
    """Whether a server was silent lately; a file says so, since steps may be processes."""

    def __init__(self, tracking_uri: str, home: Path) -> None:
        """Of the server at `tracking_uri`, remembered below `home`."""
        address = urlsplit(tracking_uri).netloc.rpartition("@")[2]  # no credentials
        name = hashlib.sha256(address.encode()).hexdigest()[:12]
        self._folder = home / "locks"
        self._file = self._folder / f"mlflow-silent-{name}"

    @contextmanager
    def heeded(self) -> Iterator[None]:
        """Calls go inside; one that is not answered begins a pause.

        Raises:
            TrackingError: The server was silent less than `PAUSE_S` ago.
        """
        if (until := self._until()) > time.time():
            message = (
                "MLflow did not answer lately; it is left alone until "
                f"{datetime.fromtimestamp(until, UTC):%H:%M:%S} UTC. `hc mlflow sync` asks at once."
            )
            raise TrackingError(message)
        try:
            yield
        except TrackingTimeoutError:
            private_folder(self._folder)
            self._file.touch()
            raise

    def forget(self) -> None:
        """Let the next call go through: somebody asks for it."""
        self._file.unlink(missing_ok=True)

    def _until(self) -> float:
        try:
            return self._file.stat().st_mtime + PAUSE_S
        except OSError:
            return 0.0
