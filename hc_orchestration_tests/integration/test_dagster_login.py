"""Dagster's database on a real PostgreSQL that asks for a password, and a wrong one."""

import logging
from pathlib import Path

import pytest

from hc_orchestration.settings import Settings
from hc_orchestration_tests.calling import call, call_json

pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("mlflow_server")]

RIGHT, WRONG = "the-right-password", "not-the-password"
STORAGE = "storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}\n"


@pytest.fixture(autouse=True)
def _on_postgres(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dagster keeps its runs there, and its attempts to connect follow each other at once."""
    (settings.dagster_home / "dagster.yaml").write_text(STORAGE, encoding="utf-8")
    monkeypatch.setattr("dagster_postgres.utils.calculate_delay", lambda **_: 0.0)


@pytest.fixture
def guarded(postgres: str, postgres_folder: Path) -> str:
    """The URL of Dagster's database, `PASSWORD` in the place of the password."""
    del postgres  # started with it
    import pgserver

    server = pgserver.get_server(postgres_folder)
    server.psql(f"create role guarded superuser login password '{RIGHT}';")
    rules = postgres_folder / "pg_hba.conf"
    rules.write_text("local all guarded scram-sha-256\n" + rules.read_text("utf-8"), "utf-8")
    server.psql("select pg_reload_conf();")
    server.psql("create database dagster;")  # MLflow's tables have the same names
    uri = str(server.get_uri("dagster"))
    return uri.replace("postgresql://postgres:@", "postgresql+psycopg2://guarded:PASSWORD@", 1)


def test_a_wrong_password_is_named_and_never_shown(
    guarded: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", guarded.replace("PASSWORD", RIGHT))
    assert call_json("doctor") == (0, [])
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", guarded.replace("PASSWORD", WRONG))

    with caplog.at_level(logging.DEBUG):
        code, findings = call_json("doctor")
        evaluated = call("evaluate")
    shown = call("doctor")

    assert code == 1
    assert [(f["subject"], f["problem"], f["remedy"]) for f in findings] == [
        (
            "Dagster's database",
            "refuses the login",
            "mend user and password where dagster.yaml takes them from",
        )
    ]
    assert (evaluated.code, shown.code) == (1, 1)
    assert evaluated.err.startswith("hc: Dagster's database refuses the login")
    assert "refuses the login" in shown.squeezed
    said = (str(findings), evaluated.out, evaluated.err, shown.out, shown.err, caplog.text)
    assert WRONG not in "".join(said)


def test_a_database_that_is_away_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(
        "DAGSTER_POSTGRES_URL", f"postgresql+psycopg2://guarded@/dagster?host={tmp_path}"
    )

    code, findings = call_json("doctor")

    assert code == 1
    assert [(f["subject"], f["problem"]) for f in findings] == [
        ("Dagster's database", "cannot be reached")
    ]
