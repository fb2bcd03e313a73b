"""A backup restored into another HC_HOME tells the same; what is no backup is refused."""

import io
import os
import tarfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from hc_orchestration.backup import back_up, restore
from hc_orchestration.errors import ConfigurationError, StorageError
from hc_orchestration.home import salt
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration_tests.calling import call_json
from hc_orchestration_tests.conftest import TERMS
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs

Run = Callable[..., dg.ExecuteInProcessResult]
AT = datetime(2026, 1, 2, tzinfo=UTC)


def elsewhere(monkeypatch: pytest.MonkeyPatch, home: Path) -> Settings:
    """The settings of another deployment with the same study and catalogue."""
    monkeypatch.setenv("HC_HOME", str(home))
    return Settings.from_environment()


def test_a_restored_deployment_tells_the_same(
    settings: Settings,
    run_job: Run,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success
    before = call_json("metrics")
    runs = [(run.info.run_id, run.data.metrics) for run in mlflow_runs(settings)]
    file = tmp_path / "backup.tar.gz"

    code, told = call_json("backup", str(file))
    assert (code, told["secrets"]) == (0, False)
    assert file.stat().st_mode & 0o777 == 0o600
    restored = elsewhere(monkeypatch, tmp_path / "other")
    settings.home.rename(tmp_path / "gone")  # nothing may lead back to the first one
    assert call_json("restore", str(file))[0] == 0

    assert call_json("metrics") == before
    code, verified = call_json("provenance", "verify")
    assert (code, verified["clean"], len(verified["records"])) == (0, True, 1)
    assert call_json("doctor") == (0, [])
    assert [(run.info.run_id, run.data.metrics) for run in mlflow_runs(restored)] == runs
    client = open_client(MlflowStore(restored.tracking_uri, restored.home, restored.mlflow_url))
    artifacts = {item.path for item in client.list_artifacts(runs[0][0])}
    assert {"per_note.parquet", "fhir_provenance.json"} <= artifacts
    assert restored.home.stat().st_mode & 0o777 == 0o700
    monkeypatch.setenv("DAGSTER_HOME", str(restored.dagster_home))
    with dg.DagsterInstance.get() as instance:
        assert [run.status for run in instance.get_runs()] == [dg.DagsterRunStatus.SUCCESS] * 2
    (record,) = Workspace(restored).records.of_model(TERMS)
    assert record.provenance
    assert Workspace(restored).files.get(record.provenance.file)
    saved = (restored.home / "restored" / "study.yaml").read_bytes()
    assert saved == settings.study.read_bytes()


@pytest.mark.parametrize("secrets", [True, False])
def test_secrets_are_in_it_only_when_asked_for(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, secrets: bool
) -> None:
    own = salt(settings)
    back_up(settings, tmp_path / "b", secrets=secrets, at=AT)

    restored = elsewhere(monkeypatch, tmp_path / "other")
    restore(restored, tmp_path / "b")

    kept = restored.home / "secrets" / "salt"
    assert kept.exists() is secrets
    if secrets:
        assert kept.read_bytes() == own
        assert kept.stat().st_mode & 0o777 == 0o600


def test_tables_that_lie_elsewhere_are_in_it(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not Path(settings.storage).exists()
    monkeypatch.setenv("HC_STORAGE", str(tmp_path / "tables"))
    apart = Settings.from_environment()
    workspace = Workspace(apart)
    stored = workspace.corpus.ingest(workspace.new_ingestion)
    back_up(apart, tmp_path / "b", secrets=False, at=AT)

    monkeypatch.setenv("HC_STORAGE", str(tmp_path / "other-tables"))
    restored = elsewhere(monkeypatch, tmp_path / "other")
    restore(restored, tmp_path / "b")

    assert Workspace(restored).corpus.required().digest == stored.digest


def test_nothing_is_written_over(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "b"
    back_up(settings, file, secrets=False, at=AT)
    content = file.read_bytes()

    with pytest.raises(StorageError, match="exists already"):
        back_up(settings, file, secrets=False, at=AT)
    with pytest.raises(ConfigurationError, match="is not empty"):
        restore(settings, file)

    assert file.read_bytes() == content


def archive_of(path: Path, **files: bytes) -> Path:
    """A tar.gz of these files, in this order."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


ABOUT = b'{"format": 1, "at": "", "home": "/a", "secrets": false, "software": "0", "files": 1}'


@pytest.mark.parametrize("name", ["home/../../escaped", "elsewhere/file", "home/", "tables//etc/x"])
def test_a_name_that_leads_elsewhere_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert settings.home.exists()
    file = archive_of(tmp_path / "b", **{"hc-backup.json": ABOUT, name: b"x"})

    with pytest.raises(StorageError, match="no place here"):
        restore(elsewhere(monkeypatch, tmp_path / "other"), file)

    assert not (tmp_path / "escaped").exists()


@pytest.mark.parametrize("content", [b"", b"not a tar"], ids=["empty", "other"])
def test_what_is_no_backup_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    file = tmp_path / "b"
    file.write_bytes(content)

    with pytest.raises(StorageError, match="is not a whole backup"):
        restore(elsewhere(monkeypatch, tmp_path / "other"), file)


def test_a_backup_that_was_cut_off_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "b"
    (settings.home / "large").write_bytes(os.urandom(200_000))
    back_up(settings, file, secrets=False, at=AT)
    file.write_bytes(file.read_bytes()[:100_000])

    with pytest.raises(StorageError, match="is not a whole backup"):
        restore(elsewhere(monkeypatch, tmp_path / "other"), file)


def test_another_archive_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = archive_of(tmp_path / "b", readme=b"x")

    with pytest.raises(StorageError, match="no backup that this version"):
        restore(elsewhere(monkeypatch, tmp_path / "other"), file)
