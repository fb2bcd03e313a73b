"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output.")]
ModelKey = Annotated[str, typer.Option("--model", help="A key of the catalogue.")]
Output = Annotated[Path, typer.Option("--output", help="The file to write.")]
