"""First-time set-up of HC_HOME."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.home import prepare_home
from hc_orchestration.settings import Settings


@pytest.fixture
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Settings of a deployment that was never set up."""
    monkeypatch.setenv("DAGSTER_HOME", "")  # prepare_home sets it; undone after the test
    return Settings.from_environment({"HC_HOME": str(tmp_path / "deep" / "home")})


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_the_home_is_made_for_its_owner_only(fresh: Settings) -> None:
    prepare_home(fresh)

    assert fresh.home.stat().st_mode & 0o777 == 0o700
    assert os.environ["DAGSTER_HOME"] == str(fresh.dagster_home)


def test_setting_up_again_changes_nothing(fresh: Settings) -> None:
    prepare_home(fresh)
    before = listing(fresh.home)

    prepare_home(fresh)

    assert listing(fresh.home) == before
    assert str(fresh.dagster_home / "dagster.yaml") in before


def test_an_edited_dagster_yaml_is_kept(fresh: Settings) -> None:
    prepare_home(fresh)
    (fresh.dagster_home / "dagster.yaml").write_text("telemetry: {enabled: false}\n", "utf-8")

    prepare_home(fresh)

    edited = (fresh.dagster_home / "dagster.yaml").read_text(encoding="utf-8")
    assert edited == "telemetry: {enabled: false}\n"


def test_dagster_takes_the_settings_written_and_sends_no_telemetry(fresh: Settings) -> None:
    import dagster as dg

    prepare_home(fresh)

    with dg.DagsterInstance.get() as instance:
        assert instance.get_settings("telemetry") == {"enabled": False}
        assert type(instance.run_coordinator).__name__ == "QueuedRunCoordinator"
        assert Path(instance.root_directory) == fresh.dagster_home
        concurrency = instance.get_concurrency_config()
        assert concurrency.run_queue_config
        assert concurrency.run_queue_config.max_concurrent_runs == 2
        assert [limit["key"] for limit in concurrency.run_queue_config.tag_concurrency_limits] == [
            "dagster/partition"
        ]
        assert concurrency.pool_config.default_pool_limit == 2
        assert instance.run_monitoring_enabled
        assert (instance.run_retries_enabled, instance.run_retries_max_retries) == (True, 1)
        assert not instance.run_retries_retry_on_asset_or_op_failure


def test_a_home_that_cannot_be_a_folder_is_refused_with_what_to_do(
    fresh: Settings, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("not a folder", encoding="utf-8")
    below = replace(fresh, home=tmp_path / "file" / "home")

    with pytest.raises(ConfigurationError, match=r"HC_HOME .*file/home cannot be used.*Point"):
        prepare_home(below)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_home_without_permission_is_refused(fresh: Settings, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(ConfigurationError, match="PermissionError"):
            prepare_home(fresh)
    finally:
        tmp_path.chmod(0o700)
