"""Installing models: what is refused, and that nothing of it stays behind."""

import hashlib
import io
import tarfile
from pathlib import Path

import pytest

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.install import install_model

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
