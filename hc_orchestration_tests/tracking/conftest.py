"""What tests of tracking share."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def search_below() -> Callable[[Path, str], list[Path]]:
    """The files below a folder whose bytes hold a word."""

    def search(folder: Path, word: str) -> list[Path]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return [path for path in files if word.encode() in path.read_bytes()]

    return search
