"""A new home's MLflow database begins as a copy of an empty one, and is what MLflow would make."""

import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.tracking.client import MlflowStore, open_client, sqlite_file
from hc_orchestration.tracking.empty_database import begin_with_copy, kept, make


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment for which no database was made."""
    monkeypatch.setattr(sys, "prefix", str(tmp_path / "environment"))


def opened(home: Path) -> Any:
    """A client of the database of a home."""
    home.mkdir()
    return open_client(MlflowStore(f"sqlite:///{home / 'mlflow.db'}", home, "http://127.0.0.1:1"))


def content(database: Path, query: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(database)) as connection:
        return sorted(connection.execute(query).fetchall(), key=repr)


def schema(database: Path) -> list[tuple[str, str, list[str]]]:
    """Kind, name and definition of all there is; MLflow's constraints are in no fixed order."""
    return [
        (kind, name, sorted(line.strip(" \t,)") for line in (sql or "").splitlines()))
        for kind, name, sql in content(database, "select type, name, sql from sqlite_master")
    ]


def test_a_copy_is_what_mlflow_makes(tmp_path: Path) -> None:
    usual = opened(tmp_path / "usual")
    make()
    copied = opened(tmp_path / "copied")

    databases = [tmp_path / home / "mlflow.db" for home in ("usual", "copied")]
    assert kept().is_file()
    assert schema(databases[0]) == schema(databases[1])
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


def test_it_is_made_once() -> None:
    kept().parent.mkdir(parents=True)
    kept().write_bytes(b"made before")

    make()

    assert kept().read_bytes() == b"made before"
    assert list(kept().parent.iterdir()) == [kept()]


def test_what_is_there_is_left_alone_and_so_is_what_is_no_file(tmp_path: Path) -> None:
    kept().parent.mkdir(parents=True)
    kept().write_bytes(b"empty")
    there = tmp_path / "there.db"
    there.write_bytes(b"runs")

    for database in (there, Path(":memory:"), tmp_path / "no" / "folder" / "new.db"):
        begin_with_copy(database)

    assert there.read_bytes() == b"runs"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["environment", "there.db"]
    assert not Path(":memory:").exists()


@pytest.mark.parametrize(
    ("uri", "file"),
    [
        ("sqlite:////data/mlflow.db", Path("/data/mlflow.db")),
        ("sqlite:////data/mlflow.db?timeout=5", Path("/data/mlflow.db")),
        ("sqlite:///mlflow.db", Path("mlflow.db")),
        ("postgresql://user:secret@host/mlflow.db", None),
        ("http://127.0.0.1:5000", None),
    ],
)
def test_only_a_sqlite_store_is_a_file(uri: str, file: Path | None) -> None:
    assert sqlite_file(uri) == file


def test_without_an_empty_one_mlflow_makes_the_database(tmp_path: Path) -> None:
    assert opened(tmp_path / "home").search_experiments()
    assert not kept().exists()
