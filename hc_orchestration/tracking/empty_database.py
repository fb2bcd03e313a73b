"""An empty MLflow database, made at set-up; that of a new home begins as a copy of it.

MLflow makes a schema by some fifty migrations, which take it two seconds, and nothing can be
evaluated in a new home before they are done. `make setup` runs this module, once for each version
of MLflow. Where nobody did, MLflow makes the database as always.
"""

import shutil
import sqlite3
import sys
from contextlib import closing, suppress
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory


def kept() -> Path:
    """Where the empty database of this environment's MLflow lies, if it was made."""
    return Path(sys.prefix, "share", "hc_orchestration", f"mlflow-{version('mlflow')}.db")


def make() -> None:
    """Have MLflow make the empty database, unless it is there.

    Raises:
        TrackingError: MLflow failed.
    """
    from hc_orchestration.tracking.client import MlflowStore, open_client

    target = kept()
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent) as folder:
        home = Path(folder)
        made = home / "mlflow.db"
        open_client(MlflowStore(f"sqlite:///{made}", home, url=""))
        with closing(sqlite3.connect(made)) as database, database:
            # Its Default experiment names this folder; each copy gets one of its own.
            database.execute("delete from experiments")
        made.replace(target)


def begin_with_copy(database: Path) -> None:
    """Put a copy where a database is to be and is not yet.

    Only where the path is absolute: SQLite's `:memory:` is no file.
    """
    if not database.is_absolute() or database.exists() or not kept().is_file():
        return
    with suppress(OSError), TemporaryDirectory(dir=database.parent) as folder:
        copy = Path(folder, "mlflow.db")
        shutil.copyfile(kept(), copy)
        database.hardlink_to(copy)  # not a rename: another program may just have made it


if __name__ == "__main__":
    make()
