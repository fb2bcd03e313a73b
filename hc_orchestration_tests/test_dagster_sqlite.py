"""Dagster's SQLite storage kept open: the same files, and what Dagster's own reads in them."""

from pathlib import Path

import dagster as dg
import pytest
from dagster._core.instance.ref import InstanceRef

from hc_orchestration.dagster_sqlite import KeptOpenStorage, kept_open
from hc_orchestration.runs import dagster_instance
from hc_orchestration.settings import Settings


@dg.op
def noticed(context: dg.OpExecutionContext) -> None:
    """Say something."""
    context.log.info("noticed")


@dg.job
def noticing() -> None:
    """One step."""
    noticed()


def events(instance: dg.DagsterInstance, run_id: str) -> list[tuple[str | None, str]]:
    return [
        (
            entry.dagster_event.event_type_value if entry.dagster_event else None,
            entry.user_message,
        )
        for entry in instance.all_logs(run_id)
    ]


def open_files(folder: Path) -> set[str]:
    """The databases below a folder that this process has open."""
    links = Path("/proc/self/fd").iterdir()
    targets = [str(link.readlink()) for link in links if link.is_symlink()]
    return {target for target in targets if target.startswith(str(folder)) and ".db" in target}


def test_both_storages_read_what_the_other_wrote(settings: Settings) -> None:
    del settings  # a home, in the environment
    with dagster_instance() as kept, dg.DagsterInstance.get() as theirs:
        for instance, other in ((kept, theirs), (theirs, kept)):
            runs = [noticing.execute_in_process(instance=instance).run_id for _ in range(6)]
            for run_id in runs:
                run = other.get_run_by_id(run_id)
                assert run is not None
                assert run.status is dg.DagsterRunStatus.SUCCESS
                assert events(other, run_id) == events(instance, run_id)
                assert (None, "noticed") in events(other, run_id)
        assert kept.get_runs_count() == theirs.get_runs_count() == 12


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_few_databases_are_open_and_none_afterwards(settings: Settings) -> None:
    with dagster_instance() as kept:
        for _ in range(8):
            noticing.execute_in_process(instance=kept)
        databases = {name for name in open_files(settings.dagster_home) if name.endswith(".db")}
        assert 2 <= len(databases) <= 5

    assert open_files(settings.dagster_home) == set()


def test_a_run_that_fails_in_a_transaction_leaves_the_database_usable(settings: Settings) -> None:
    storage = KeptOpenStorage.from_local(str(settings.dagster_home))
    log = storage.event_log_storage
    with pytest.raises(ZeroDivisionError), log.index_connection():  # type: ignore[attr-defined]
        _ = 1 / 0

    assert log.all_asset_keys() == []
    log.wipe()
    assert log.all_asset_keys() == []
    storage.dispose()


def test_only_sqlite_is_kept_open(settings: Settings) -> None:
    home = settings.dagster_home
    ours = kept_open(InstanceRef.from_dir(str(home))).storage_data
    (home / "dagster.yaml").write_text(
        "storage: {postgres: {postgres_url: postgresql://nobody@127.0.0.1:9/no}}\n"
    )
    postgres = InstanceRef.from_dir(str(home))

    assert ours is not None
    assert ours.class_name == "KeptOpenStorage"
    assert kept_open(postgres) == postgres
