"""What tests of tracking share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hc_orchestration.settings import Settings
from hc_orchestration_tests.tracking.mlflow_store import Tracking


@pytest.fixture(autouse=True)
def _default_sigterm() -> Iterator[None]:
    """SIGTERM as a new process has it: Dagster, run in this process before, leaves its own."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def search_below() -> Callable[[Path, str], list[Path]]:
    """The files below a folder whose bytes hold a word."""

    def search(folder: Path, word: str) -> list[Path]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return [path for path in files if word.encode() in path.read_bytes()]

    return search


@pytest.fixture
def tracking(settings: Settings) -> Tracking:
    """The MLflow store of a small deployment."""
    return Tracking(settings)
