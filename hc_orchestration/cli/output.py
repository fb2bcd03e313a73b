"""What commands print: JSON for programs, tables for people, progress on standard error."""

import json
import sys
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

    from hc_orchestration.storage.workspace import Workspace

_WIDTH_IN_FILES = 120


def open_workspace() -> "Workspace":
    """The workspace of the settings in the environment."""
    from hc_orchestration.settings import Settings
    from hc_orchestration.storage.workspace import Workspace

    return Workspace(Settings.from_environment())


def print_json(document: object) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(document, ensure_ascii=False, indent=2, default=str) + "\n")


class TableFormat(StrEnum):
    """How a table is printed."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "markdown"


def print_records(
    rows: list[dict[str, Any]], form: TableFormat, columns: Sequence[str] | None = None
) -> None:
    """All rows as CSV, Markdown or JSON; `columns` for a CSV without any."""
    if form is TableFormat.CSV:
        import polars as pl

        from hc_orchestration.reporting.csv_cells import inert

        table = pl.DataFrame(rows, schema=columns, infer_schema_length=None)
        sys.stdout.write(inert(table).write_csv())
    elif form is TableFormat.MARKDOWN:
        from hc_orchestration.reporting.metadata import markdown_table

        sys.stdout.write(markdown_table(rows, limit=len(rows)) + "\n")
    else:
        print_json(rows)


def print_rows(rows: list[dict[str, Any]], *, as_json: bool) -> None:
    """Rows as a table or as JSON."""
    if as_json:
        print_json(rows)
        return
    from hc_orchestration.reporting.console import print_table

    print_table(console(), rows)


def print_written(written: dict[str, Any], *, as_json: bool) -> None:
    """What was written where."""
    print_rows([written], as_json=False) if not as_json else print_json(written)


def flat(document: dict[str, Any], prefix: str = "") -> list[tuple[str, object]]:
    """The leaves of nested mappings, their keys joined by dots."""
    rows: list[tuple[str, object]] = []
    for name, value in document.items():
        if isinstance(value, dict):
            rows += flat(value, f"{prefix}{name}.")
        else:
            rows.append((prefix + name, value))
    return rows


def console() -> "Console":
    """Standard output for people; wide enough for the tables when it is a file."""
    from rich.console import Console

    made = Console(highlight=False)
    if not made.is_terminal:
        made.width = max(made.width, _WIDTH_IN_FILES)
    return made


class Status:
    """A spinner with one line on standard error; plain lines when that is not a terminal."""

    def __enter__(self) -> Callable[[str], None]:
        """Start; returns what sets the line."""
        from rich.console import Console

        self._console = Console(stderr=True, highlight=False)
        self._spinner = self._console.status("starting")
        if self._console.is_terminal:
            self._spinner.start()
        self._handler = _listen(self._say)
        return self._say

    def __exit__(self, *details: object) -> None:
        """Stop."""
        import logging

        self._spinner.stop()
        logging.getLogger("hc_orchestration").removeHandler(self._handler)

    def _say(self, line: str) -> None:
        if self._console.is_terminal:
            self._spinner.update(line)
        else:
            self._console.print(line, markup=False)


def _listen(say: Callable[[str], None]) -> Any:  # noqa: ANN401 - a logging.Handler, lazily
    """Show what the package logs (extraction progress) as status."""
    import logging

    class Progress(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            say(record.getMessage())

    handler = Progress(level=logging.INFO)
    logger = logging.getLogger("hc_orchestration")
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    return handler
