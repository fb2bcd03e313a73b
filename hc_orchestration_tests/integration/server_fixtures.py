"""Fixtures that start servers: one of each a session, started when first asked for."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from hc_orchestration_tests.integration.servers import PASSWORD, USER, MlflowServer


@pytest.fixture(scope="session")
def postgres_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the PostgreSQL server of this session keeps its data."""
    return tmp_path_factory.mktemp("pg")


@pytest.fixture(scope="session")
def postgres(postgres_folder: Path) -> Iterator[str]:
    """URI of a database on a real PostgreSQL server of this session."""
    pgserver = pytest.importorskip("pgserver")
    import psycopg2

    server = pgserver.get_server(postgres_folder, cleanup_mode="stop")
    name = f"mlflow_{uuid.uuid4().hex[:8]}"
    server.psql(f"create database {name};")
    psycopg2.connect(server.get_uri(name)).close()
    yield server.get_uri(name).replace("postgresql://", "postgresql+psycopg2://", 1)
    server.cleanup()


@pytest.fixture(scope="session")
def mlflow_server(
    postgres: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MlflowServer]:
    """An MLflow server with login on that PostgreSQL."""
    server = MlflowServer(Path(tmp_path_factory.mktemp("mlflow-server")), postgres)
    server.start()
    yield server
    server.kill()


@pytest.fixture
def logged_in(mlflow_server: MlflowServer, monkeypatch: pytest.MonkeyPatch) -> MlflowServer:
    """The server, its URI and login in the environment, quick to give up when it is away.

    A machine that runs tests may be too busy to answer in the time that users wait.
    """
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", USER)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", PASSWORD)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "60")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR", "0")
    return mlflow_server
