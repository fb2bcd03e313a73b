"""The entry point of `hc`. Exit codes: 0 done, 1 failed, 2 bad use; `--json` for programs."""

import atexit
import os
import sys

import typer

from hc_orchestration.cli.backup import backup, restore
from hc_orchestration.cli.compare import compare
from hc_orchestration.cli.corpus import corpus_app
from hc_orchestration.cli.evaluate import evaluate
from hc_orchestration.cli.export import export_app
from hc_orchestration.cli.metrics import metrics
from hc_orchestration.cli.mlflow import mlflow_app
from hc_orchestration.cli.models import models_app
from hc_orchestration.cli.operations import doctor, ui
from hc_orchestration.cli.promote import promote
from hc_orchestration.cli.provenance import provenance_app
from hc_orchestration.cli.tables import tables_app
from hc_orchestration.errors import ConfigurationError, HcError

app = typer.Typer(
    name="hc",
    help="Evaluate clinical NER models on your notes, with evidence. Not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,  # plain help: rich would take longer to load than all the rest
    pretty_exceptions_enable=False,
)
for command in (evaluate, metrics, compare, promote, doctor, ui, backup, restore):
    app.command()(command)
app.add_typer(models_app, name="models")
app.add_typer(corpus_app, name="corpus")
app.add_typer(export_app, name="export")
app.add_typer(mlflow_app, name="mlflow")
app.add_typer(provenance_app, name="provenance")
app.add_typer(tables_app, name="tables")


def program() -> None:
    """`hc` as it is installed: `main`, and then a quick end.

    Taking apart everything that was imported lasts a second or two, and nothing is left to close.
    What ends the process so is registered before all else, and therefore comes last.
    """
    code = 1  # of an exception that nobody foresaw

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    atexit.register(leave)
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        raise


def main() -> None:
    """Entry point: errors of ours become one line, never a traceback.

    What it writes, and what the processes that it starts write, only its own account may read.
    """
    os.umask(0o077)
    try:
        app()
    except ConfigurationError as error:
        sys.stderr.write(f"hc: {error}\n")
        sys.exit(2)
    except HcError as error:
        sys.stderr.write(f"hc: {error}\n")
        sys.exit(_exit_code(error))
    except KeyboardInterrupt:
        sys.stderr.write("hc: stopped\n")
        sys.exit(130)


def _exit_code(error: HcError) -> int:
    """A model that nobody knows is bad use; anything else failed."""
    from hc_orchestration.models.catalogue import UnknownModelError

    return 2 if isinstance(error, UnknownModelError) else 1
