"""Installing models: what is refused, and that nothing of it stays behind."""

import hashlib
import io
import os
import signal
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.install import install_model
from hc_orchestration.models.store import absence

TERMS = b"DISEASE\tasthma\n"


def entry(version: str = "1.0", sha256: str | None = None) -> ModelEntry:
    source = ModelSource(url="https://models.example/demo.tar.gz", sha256=sha256)
    return ModelEntry(name="demo", version=version, loader="lexicon", source=source)


def packed(folder: Path, *more: tuple[str, bytes, bytes], terms: bytes = TERMS) -> Path:
    file = folder / "demo.tar.gz"
    with tarfile.open(file, "w:gz") as archive:
        for name, content, kind in (("demo/terms.tsv", terms, tarfile.REGTYPE), *more):
            member = tarfile.TarInfo(name)
            member.size, member.type, member.linkname = len(content), kind, "/etc/hosts"
            archive.addfile(member, io.BytesIO(content))
    return file


def put(tmp_path: Path, archive: Path, model: ModelEntry) -> Path:
    return install_model(model, str(archive), tmp_path / "store", tmp_path / "models.lock.json")


@pytest.mark.parametrize(
    ("member", "named"),
    [
        (("../x", b"1", tarfile.REGTYPE), "'../x', which leads out"),
        (("/x", b"1", tarfile.REGTYPE), "'/x', an absolute path"),
        (("demo/l", b"", tarfile.SYMTYPE), "'demo/l', a link"),
        (("demo/h", b"", tarfile.LNKTYPE), "'demo/h', a link"),
        (("demo/d", b"", tarfile.CHRTYPE), "'demo/d', a link or a device"),
        (("demo/w.bin", b"\x80\x04N.", tarfile.REGTYPE), "'w.bin' is a pickle"),
        (("demo/w.pkl", b"0", tarfile.REGTYPE), "'w.pkl' is a pickle"),
    ],
)
def test_unsafe_member_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, member: tuple[str, bytes, bytes], named: str
) -> None:
    with pytest.raises(ModelError) as caught:
        put(tmp_path, packed(tmp_path, member), entry())
    assert named in str(caught.value)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".install.lock"]
    assert not (tmp_path / "x").exists()
    assert not (tmp_path / "models.lock.json").exists()


def test_wrong_digest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"the catalogue says 0a0a"):
        put(tmp_path, packed(tmp_path), entry(sha256="0a" * 32))
    assert not (tmp_path / "store" / "demo-1.0").exists()


def test_right_digest_is_installed_and_two_versions_live_side_by_side(tmp_path: Path) -> None:
    archive = packed(tmp_path)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    first = put(tmp_path, archive, entry("1.0", digest))
    second = put(tmp_path, packed(tmp_path, terms=b"DISEASE\tgout\n"), entry("2.0"))
    assert (first / "terms.tsv").read_bytes() == TERMS
    assert (second / "terms.tsv").read_bytes() == b"DISEASE\tgout\n"


def test_digest_of_the_first_install_is_kept_and_compared(tmp_path: Path) -> None:
    put(tmp_path, packed(tmp_path), entry())
    with pytest.raises(ModelError, match=r"models\.lock\.json says"):
        put(tmp_path, packed(tmp_path, terms=b"DISEASE\tgout\n"), entry())
    assert (tmp_path / "store" / "demo-1.0" / "terms.tsv").read_bytes() == TERMS


def test_archive_that_unpacks_to_too_much_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hc_orchestration.models.install.MOST_BYTES", 10)
    with pytest.raises(ModelError, match="unpacks to more"):
        put(tmp_path, packed(tmp_path), entry())


def test_partial_folder_of_a_killed_install_is_cleared_by_the_next(tmp_path: Path) -> None:
    left = tmp_path / "store" / ".partial-killed"
    left.mkdir(parents=True)
    put(tmp_path, packed(tmp_path), entry())
    assert not left.exists()


def test_weights_of_pytorch_inside_another_file_are_a_pickle_that_may_be_named(
    tmp_path: Path,
) -> None:
    """SpaCy's wrapper of a PyTorch network keeps them as bytes in the middle of its own."""
    torch = pytest.importorskip("torch", reason="torch is not installed (extra transformers)")
    saved = io.BytesIO()
    torch.save({"weight": torch.zeros(2)}, saved)
    archive = packed(tmp_path, ("demo/part/model", b"\x81\xa5state" + saved.getvalue(), b"0"))
    with pytest.raises(ModelError, match="'part/model' is a pickle"):
        put(tmp_path, archive, entry())
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".install.lock"]
    allowed = entry().model_copy(update={"allow_pickle": ("part/model",)})
    assert (put(tmp_path, archive, allowed) / "part" / "model").is_file()


BOMB = """
import sys
from pathlib import Path
from hc_orchestration.models import install
from hc_orchestration_tests.models.test_install import entry

written = install._Room.write

def slowly(room, stream, target, name):
    written(room, stream, target, name)
    print(name, flush=True)
    if name.endswith("1.bin"):
        sys.stdin.read()  # for ever: nobody writes

install._Room.write = slowly
folder = Path(sys.argv[1])
install.install_model(entry(), sys.argv[2], folder / "store", folder / "models.lock.json")
"""


@pytest.mark.integration
def test_an_install_killed_while_it_unpacks_leaves_no_half_model(tmp_path: Path) -> None:
    parts = [(f"demo/{number}.bin", b"x" * 100_000, tarfile.REGTYPE) for number in range(4)]
    archive = packed(tmp_path, *parts)
    store = tmp_path / "store"
    with subprocess.Popen(
        [sys.executable, "-c", BOMB, str(tmp_path), str(archive)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        seen = [process.stdout.readline().strip() for _ in range(3)]
        process.kill()
        process.wait()
    assert process.returncode == -signal.SIGKILL
    assert seen == ["demo/terms.tsv", "demo/0.bin", "demo/1.bin"]
    assert list(store.glob(".partial-*/files/demo/1.bin"))  # it was in the midst of it
    assert not (store / "demo-1.0").exists()
    assert absence(entry(), store) is not None
    assert not (tmp_path / "models.lock.json").exists()

    place = put(tmp_path, archive, entry())

    assert len(list(place.iterdir())) == 5
    assert not list(store.glob(".partial-*"))


@pytest.mark.parametrize(
    ("name", "mode", "named"),
    [
        ("../x", 0, "'../x', which leads out"),
        ("/x", 0, "'/x', an absolute path"),
        ("C:/x", 0, "'C:/x', an absolute path"),
        ("demo/l", stat.S_IFLNK | 0o777, "'demo/l', a link"),
        ("demo/w.pkl", 0, "'w.pkl' is a pickle"),
    ],
)
def test_unsafe_member_of_a_zip_file_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, name: str, mode: int, named: str
) -> None:
    file = tmp_path / "demo.zip"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("demo/terms.tsv", TERMS)
        member = zipfile.ZipInfo(name)
        member.external_attr = mode << 16
        archive.writestr(member, b"/etc/hosts")
    with pytest.raises(ModelError) as caught:
        put(tmp_path, file, entry())
    assert named in str(caught.value)
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".install.lock"]


@pytest.mark.parametrize("kind", ["symlink", "hard link", "fifo", "pickle"])
def test_unsafe_file_of_a_folder_is_refused_by_name_and_leaves_nothing(
    tmp_path: Path, kind: str
) -> None:
    """A hard link in a folder is a file like any other: what it leads to is copied."""
    folder = tmp_path / "demo"
    folder.mkdir()
    (folder / "terms.tsv").write_bytes(TERMS)
    odd = folder / "odd"
    if kind == "symlink":
        odd.symlink_to("/etc/hosts")
    elif kind == "hard link":
        odd.hardlink_to(folder / "terms.tsv")
    elif kind == "fifo":
        os.mkfifo(odd)
    else:
        odd.write_bytes(b"\x80\x04N.")
    if kind == "hard link":
        assert (put(tmp_path, folder, entry()) / "odd").stat().st_nlink == 1
        return
    with pytest.raises(ModelError, match="'odd'"):
        put(tmp_path, folder, entry())
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".install.lock"]


def test_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="its sha256 is"):
        put(tmp_path, packed(tmp_path), entry(sha256="0a" * 32))
    assert [path.name for path in (tmp_path / "store").iterdir()] == [".install.lock"]
    assert not (tmp_path / "models.lock.json").exists()
