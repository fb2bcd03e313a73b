"""`hc doctor`: what it finds in a deployment that is broken in one way, and what it says to do."""

import json
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import dagster as dg
import pytest

from hc_orchestration.doctor import examine
from hc_orchestration.examination.finding import Finding
from hc_orchestration.examination.machine import (
    disk_findings,
    package_findings,
    permission_findings,
    python_findings,
    secret_findings,
    secrets_in_settings,
)
from hc_orchestration.examination.stores import partition_findings, partitions_of
from hc_orchestration.home import salt
from hc_orchestration.settings import Settings
from hc_orchestration_tests.conftest import ABSENT, RULER, TERMS


def told(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return [(f.subject, f.problem, f.remedy) for f in findings]


def test_a_sound_deployment_has_no_findings(settings: Settings) -> None:
    assert examine(settings, repair=False) == []


@pytest.mark.parametrize("version", [(3, 10), (3, 13), (4, 0)])
def test_another_python_is_named(version: tuple[int, int]) -> None:
    ((subject, problem, _),) = told(python_findings(version))

    assert subject == "Python"
    assert problem == f"{version[0]}.{version[1]} runs hc; 3.11 or 3.12 is needed"


def test_packages_are_held_against_what_is_needed() -> None:
    wanted = ["polars>=99", "no-such-thing>=1", "typer>=0.1", 'absent; extra == "more"']

    found = told(package_findings(wanted))

    assert [(subject, problem.split(" ", 1)[-1], remedy) for subject, problem, remedy in found] == [
        ("package polars", "is installed; >=99 is needed", "make setup"),
        ("package no-such-thing", "not installed", "make setup"),
    ]


def test_a_full_disk_is_named(settings: Settings) -> None:
    ((subject, problem, _),) = told(disk_findings(settings, least_free=10**18))

    assert subject == f"HC_HOME {settings.home}"
    assert "are free on its disk" in problem


def test_what_others_may_read_is_named_and_repaired(settings: Settings) -> None:
    salt(settings)
    for path in (settings.home, settings.home / "secrets" / "salt"):
        path.chmod(0o755)

    found = permission_findings(settings, repair=False)

    assert [f.remedy for f in found] == [
        f"chmod 700 {settings.home}",
        f"chmod 600 {settings.home / 'secrets' / 'salt'}",
    ]
    assert [f.mended for f in permission_findings(settings, repair=True)] == [True, True]
    assert permission_findings(settings, repair=False) == []


def test_tables_elsewhere_are_looked_at_too(settings: Settings, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o750)
    moved = replace(settings, storage=str(elsewhere))

    assert [f.subject for f in permission_findings(moved, repair=False)] == [str(elsewhere)]


def test_secrets_that_cannot_be_used_are_named(settings: Settings, tmp_path: Path) -> None:
    salt(settings)
    (settings.home / "secrets" / "salt").write_bytes(b"short")
    keyed = replace(settings, signing_key=tmp_path / "no-key.pem")

    found = secret_findings(keyed)

    assert [(f.subject, f.remedy.split(" ")[0]) for f in found] == [
        ("salt", "restore"),
        ("signing key", "hc"),
    ]


def test_a_password_in_dagster_yaml_is_named_and_not_shown(settings: Settings) -> None:
    path = settings.dagster_home / "dagster.yaml"
    path.write_text(
        "storage:\n  postgres:\n    postgres_db:\n      password: hunter2\n"
        "      username: {env: DAGSTER_PG_USER}\n",
        encoding="utf-8",
    )

    ((subject, problem, remedy),) = told(secrets_in_settings(path))

    assert (subject, problem) == ("dagster.yaml", "holds a secret in plain words: password")
    assert "hunter2" not in problem + remedy


def test_an_old_mlflow_database_is_named_with_the_command(settings: Settings) -> None:
    with closing(sqlite3.connect(settings.home / "mlflow.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        database.commit()

    ((subject, _, remedy),) = told(examine(settings, repair=False))

    assert subject == "MLflow"
    assert remedy.startswith('mlflow db upgrade "$MLFLOW_TRACKING_URI"')


def test_an_old_dagster_database_is_named_with_the_command(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    instance.get_runs(limit=1)
    path = settings.dagster_home / "history" / "runs.db"
    with closing(sqlite3.connect(path)) as database:
        database.execute("UPDATE alembic_version SET version_num = '224640159acf'")
        database.commit()

    ((subject, problem, remedy),) = told(examine(settings, repair=False))

    assert subject == "Dagster's runs"
    assert problem.startswith("schema is 224640159acf, this Dagster needs ")
    assert remedy.startswith(f"DAGSTER_HOME={settings.dagster_home} dagster instance migrate")


def test_tables_that_cannot_be_reached_are_named(settings: Settings) -> None:
    notes = Path(settings.storage) / "corpora" / "_delta_log"
    notes.mkdir(parents=True)
    (notes / f"{0:020}.json").write_text("nonsense", encoding="utf-8")

    (found,) = examine(settings, repair=False)

    assert found.subject == "tables"


def test_a_catalogue_of_absent_models_is_named(settings: Settings) -> None:
    settings.catalogue.write_text(
        "models:\n  - {name: a, version: '1', loader: spacy, source: {path: nowhere}}\n", "utf-8"
    )

    (found,) = examine(settings, repair=False)

    assert (found.subject, found.remedy) == (str(settings.catalogue), "hc models install KEY")


def test_a_running_location_that_is_behind_the_catalogue_is_named() -> None:
    found = partition_findings([TERMS, RULER], lambda: [TERMS, ABSENT])

    assert [f.problem for f in found] == [f"does not know {RULER} and still knows {ABSENT}"]
    assert partition_findings([TERMS], lambda: [TERMS]) == []
    assert partition_findings([TERMS], lambda: None) == []


class _Page(BaseHTTPRequestHandler):
    """Answers as Dagster's page does."""

    def do_POST(self) -> None:
        body = json.dumps({"data": {"assetNodeOrError": {"partitionKeys": [TERMS]}}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def page() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_the_page_is_asked_for_its_partitions(page: str) -> None:
    assert partitions_of(page) == [TERMS]
    assert partitions_of("http://127.0.0.1:9") is None


def test_what_hc_writes_is_for_its_account_only(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from hc_orchestration.cli.app import main

    monkeypatch.setattr(sys, "argv", ["hc", "doctor", "--json"])
    with pytest.raises(SystemExit) as ended:
        main()

    assert (ended.value.code or 0, json.loads(capsys.readouterr().out)) == (0, [])
    made = settings.home / "made"
    made.touch()
    assert made.stat().st_mode & 0o077 == 0
