"""A new home's MLflow database begins as a copy of an empty one, and is what MLflow would make."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration.tracking.empty_database import begin_with_copy, kept, make


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment for which no database was made."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))
    return tmp_path / "environment"


def opened(home: Path) -> Any:
    """A client of the database of a home."""
    home.mkdir()
    return open_client(MlflowStore(f"sqlite:///{home / 'mlflow.db'}", home, "http://127.0.0.1:1"))


def content(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.execute(query).fetchall())


@pytest.mark.usefixtures("environment")
def test_a_copy_is_what_mlflow_makes(tmp_path: Path) -> None:
    usual = opened(tmp_path / "usual")
    make()
    copied = opened(tmp_path / "copied")

    schema = "select type, name, sql from sqlite_master"
    databases = [tmp_path / home / "mlflow.db" for home in ("usual", "copied")]
    assert kept().is_file()
    assert content(databases[0], schema) == content(databases[1], schema)
    revision = "select version_num from alembic_version"
    assert content(databases[0], revision) == content(databases[1], revision)
    experiments = [
        [(found.name, found.experiment_id, found.artifact_location) for found in client]
        for client in (usual.search_experiments(), copied.search_experiments())
    ]
    assert experiments[0] == experiments[1]
    run = copied.create_run(copied.create_experiment("mine"))
    copied.log_metric(run.info.run_id, "f1", 0.5)
    assert copied.get_run(run.info.run_id).data.metrics == {"f1": 0.5}
    assert content(kept(), "select * from experiments") == []


@pytest.mark.usefixtures("environment")
def test_it_is_made_once(tmp_path: Path) -> None:
    kept().parent.mkdir(parents=True)
    kept().write_bytes(b"made before")

    make()

    assert kept().read_bytes() == b"made before"
    assert list(kept().parent.iterdir()) == [kept()]
    assert not (tmp_path / "mlflow.db").exists()


@pytest.mark.usefixtures("environment")
def test_what_is_there_is_left_alone_and_so_is_what_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept().parent.mkdir(parents=True)
    kept().write_bytes(b"empty")
    there = tmp_path / "there.db"
    there.write_bytes(b"runs")
    monkeypatch.chdir(tmp_path)

    for uri in (
        f"sqlite:///{there}",
        "sqlite:///mlflow.db",
        "sqlite:///:memory:",
        f"sqlite:///{tmp_path}/new.db?timeout=5",
        f"sqlite:///{tmp_path}/no/folder/new.db",
        "postgresql://user:secret@host/new.db",
        "http://127.0.0.1:5000",
    ):
        begin_with_copy(uri)

    assert there.read_bytes() == b"runs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environment", "there.db"]


@pytest.mark.usefixtures("environment")
def test_without_an_empty_one_mlflow_makes_the_database(tmp_path: Path) -> None:
    assert opened(tmp_path / "home").search_experiments()
    assert not kept().exists()
