"""Calling `hc` in this process, and what it said."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hc_orchestration.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """How a call of `hc` ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def squeezed(self) -> str:
        """Standard output without the line breaks and blanks of a table."""
        return " ".join(self.out.split())


_PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in the background
from hc_orchestration.cli.app import program
program()
"""


@contextlib.contextmanager
def started(*arguments: str, first: str = "") -> Iterator["subprocess.Popen[str]"]:
    """`hc` as a process of its own, killed at the end; `first` is run before it."""
    with subprocess.Popen(
        [sys.executable, "-c", first + _PROGRAM, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def call(*arguments: str) -> Outcome:
    """Call `hc` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as patch,
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        patch.setenv("COLUMNS", "200")
        patch.setenv("DAGSTER_HOME", "")  # prepare_home sets it
        patch.setattr(sys, "argv", ["hc", *arguments])
        with pytest.raises(SystemExit) as ended:
            main()
    code = ended.value.code
    assert code is None or isinstance(code, int)
    assert "Traceback" not in out.getvalue() + err.getvalue()
    return Outcome(code or 0, out.getvalue(), err.getvalue())


def call_json(*arguments: str) -> tuple[int, Any]:
    """Exit code and document of a call with `--json`."""
    outcome = call(*arguments, "--json")
    return outcome.code, outcome.json
