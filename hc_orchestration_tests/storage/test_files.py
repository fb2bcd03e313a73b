"""Files by digest: stored once, and never returned other than they were stored."""

import hashlib
from pathlib import Path

import pytest

from hc_orchestration.errors import StorageError
from hc_orchestration.storage.files import FileStore, StoredFile

CONTENT = b'{"a": 1}'


@pytest.fixture
def files(tmp_path: Path) -> FileStore:
    return FileStore(str(tmp_path / "tables"))


def test_a_file_is_named_by_the_digest_of_its_bytes(files: FileStore) -> None:
    stored = files.put("report.json", CONTENT)

    assert stored == StoredFile("report.json", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
    assert files.get(stored) == CONTENT
    assert Path(files.location(stored)).read_bytes() == CONTENT
    assert files.location(stored).endswith(f"/{stored.sha256}.json")


def test_the_same_bytes_are_kept_once(files: FileStore, tmp_path: Path) -> None:
    first, second = files.put("report.json", CONTENT), files.put("again.json", CONTENT)

    kept = [path for path in (tmp_path / "tables").rglob("*") if path.is_file()]
    assert len(kept) == 1
    assert files.get(first) == files.get(second) == CONTENT


def test_no_partial_file_is_left_behind(files: FileStore, tmp_path: Path) -> None:
    files.put("a.bin", b"a")
    files.put("b.bin", b"b")

    names = {path.suffix for path in (tmp_path / "tables").rglob("*") if path.is_file()}
    assert names == {".bin"}


def test_changed_bytes_are_not_returned(files: FileStore) -> None:
    stored = files.put("report.json", CONTENT)
    Path(files.location(stored)).write_bytes(b'{"a": 2}')

    with pytest.raises(StorageError, match=r"report.json \(\w{12}\) was changed after"):
        files.get(stored)


def test_a_file_that_is_gone_is_named(files: FileStore) -> None:
    stored = files.put("report.json", CONTENT)
    Path(files.location(stored)).unlink()

    with pytest.raises(StorageError, match=r"report.json \(\w{12}\) is no longer"):
        files.get(stored)


def test_a_store_on_another_filesystem_works_alike() -> None:
    files = FileStore("memory://hc-test-files")

    stored = files.put("report.json", CONTENT)

    assert files.get(stored) == CONTENT
    assert files.location(stored).startswith("memory://hc-test-files/files/")
