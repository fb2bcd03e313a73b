"""Whether an MLflow database that we open ourselves has the schema of this MLflow."""

from hc_orchestration.tracking.client import guarded


def schema_outdated(tracking_uri: str) -> bool:
    """Whether the database at a tracking URI needs `mlflow db upgrade`.

    False for a server, which sees to its own database, and for a database without tables, which
    MLflow makes when it first opens it.

    Raises:
        TrackingError: The database cannot be reached.
    """
    if not tracking_uri.startswith(("sqlite:", "postgresql", "mysql", "mssql")):
        return False
    return guarded(lambda: _differs(tracking_uri))


def _differs(tracking_uri: str) -> bool:
    from importlib.util import find_spec
    from pathlib import Path

    from alembic.script import ScriptDirectory
    from sqlalchemy import create_engine, inspect, text

    mlflow = find_spec("mlflow")
    assert mlflow is not None  # noqa: S101 - it is a dependency
    migrations = Path(str(mlflow.origin)).parent / "store" / "db_migrations"
    newest = ScriptDirectory(str(migrations)).get_current_head()
    engine = create_engine(tracking_uri)
    try:
        if not inspect(engine).has_table("alembic_version"):
            return False
        with engine.connect() as connection:
            row = connection.execute(text("SELECT version_num FROM alembic_version")).first()
    finally:
        engine.dispose()
    return row is not None and row[0] != newest
