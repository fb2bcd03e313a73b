"""The salt: made once, whole, and readable by its owner only."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.home import salt
from hc_orchestration.settings import Settings


def settings_in(home: Path) -> Settings:
    return Settings.from_environment({"HC_HOME": str(home)})


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_salt_is_made_once_and_then_read(tmp_path: Path) -> None:
    settings = settings_in(tmp_path / "home")
    made = salt(settings)
    assert len(made) == 32
    assert salt(settings) == made
    assert (tmp_path / "home" / "secrets" / "salt").read_bytes() == made
    assert salt(settings_in(tmp_path / "other")) != made


def test_only_the_owner_reads_it_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        salt(settings_in(tmp_path))
    finally:
        os.umask(before)
    assert mode(tmp_path / "secrets" / "salt") == 0o600
    assert mode(tmp_path / "secrets") == 0o700


def test_folder_that_was_open_is_closed(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir(mode=0o755)
    salt(settings_in(tmp_path))
    assert mode(tmp_path / "secrets") == 0o700


def test_processes_that_begin_together_get_one_salt(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        salts = set(pool.map(lambda _: salt(settings_in(tmp_path)), range(32)))
    assert len(salts) == 1
    assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["salt"]


def test_damaged_salt_is_refused_and_not_replaced(tmp_path: Path) -> None:
    settings = settings_in(tmp_path)
    salt(settings)
    path = tmp_path / "secrets" / "salt"
    path.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match=r"not a salt of 32 bytes\. Restore it") as caught:
        salt(settings)
    assert path.read_bytes() == b"short"
    assert "'short'" not in str(caught.value)


def test_home_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "home").write_text("a file", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="Point HC_HOME at a folder"):
        salt(settings_in(tmp_path / "home"))
