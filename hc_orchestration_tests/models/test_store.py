"""Finding a model's files, what is said when they are not there, and what changes a fingerprint."""

import hashlib
import importlib.metadata
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hc_orchestration.errors import ModelError, ModelNotInstalledError
from hc_orchestration.models.catalogue import ModelEntry, ModelSource
from hc_orchestration.models.store import ModelFile, absence, installed_model, locate

URL = "https://models.example/demo_model-1.0.tar.gz"


def entry(
    source: ModelSource,
    *,
    name: str = "demo_model",
    loader: str = "spacy",
    components: tuple[str, ...] | None = None,
) -> ModelEntry:
    return ModelEntry(name=name, version="1.0", loader=loader, source=source, components=components)


def at(path: Path) -> ModelEntry:
    return entry(ModelSource(path=str(path)))


FROM_URL = entry(ModelSource(url=URL))
FROM_PACKAGE = entry(ModelSource(package="hc_test_package"))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Installs a spaCy package, with its data folder inside, in a folder on the Python path."""
    root = tmp_path / "site-packages"
    root.mkdir()
    monkeypatch.syspath_prepend(str(root))

    def install(package: str, version: str) -> Path:
        data = root / package / f"{package}-{version}"
        data.mkdir(parents=True)
        (root / package / "__init__.py").write_text("raise ImportError", encoding="utf-8")
        meta = json.dumps({"name": package, "version": version})
        (root / package / "meta.json").write_text(meta, encoding="utf-8")
        (data / "meta.json").write_text(meta, encoding="utf-8")
        (data / "config.cfg").write_text("[nlp]\n", encoding="utf-8")
        importlib.invalidate_caches()
        return data

    return install


def test_path_of_the_entry_is_where_its_files_are(tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_text("DISEASE\tflu\n", encoding="utf-8")
    assert locate(at(tmp_path), tmp_path / "store") == tmp_path
    assert locate(at(tmp_path / "terms.tsv"), tmp_path / "store") == tmp_path / "terms.tsv"


def test_path_with_nothing_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotInstalledError) as caught:
        locate(at(tmp_path / "gone"), tmp_path)
    message = str(caught.value)
    assert message.startswith("model demo_model-1.0: ")
    assert f"nothing at {tmp_path / 'gone'}. " in message
    assert "mend `source.path` in the catalogue" in message


def test_store_holds_a_model_in_the_folder_of_its_key(tmp_path: Path) -> None:
    (tmp_path / "demo_model-1.0").mkdir()
    assert locate(FROM_URL, tmp_path) == tmp_path / "demo_model-1.0"


def test_installed_package_is_found_without_importing_it(
    tmp_path: Path, packages: Callable[[str, str], Path]
) -> None:
    data = packages("hc_test_package", "1.0")
    assert locate(FROM_PACKAGE, tmp_path) == data


def test_package_that_is_named_like_the_model_serves_an_entry_with_a_url(
    tmp_path: Path, packages: Callable[[str, str], Path]
) -> None:
    data = packages("demo_model", "1.0")
    assert locate(FROM_URL, tmp_path) == data


def test_store_comes_before_an_installed_package(
    tmp_path: Path, packages: Callable[[str, str], Path]
) -> None:
    packages("hc_test_package", "1.0")
    (tmp_path / "demo_model-1.0").mkdir()
    assert locate(FROM_PACKAGE, tmp_path) == tmp_path / "demo_model-1.0"


def test_package_whose_own_folder_holds_the_pipeline_is_found(
    tmp_path: Path, packages: Callable[[str, str], Path]
) -> None:
    package = packages("hc_test_package", "1.0").parent
    (package / "config.cfg").write_text("[nlp]\n", encoding="utf-8")
    assert locate(FROM_PACKAGE, tmp_path) == package


def test_package_of_another_version_is_not_the_model(
    tmp_path: Path, packages: Callable[[str, str], Path]
) -> None:
    packages("hc_test_package", "1.0.1")
    with pytest.raises(ModelNotInstalledError):
        locate(FROM_PACKAGE, tmp_path)


@pytest.mark.parametrize("meta", ["not JSON", "[]", '{"version": 1.0}', "{}"])
def test_package_that_does_not_tell_its_version_is_not_the_model(
    tmp_path: Path, packages: Callable[[str, str], Path], meta: str
) -> None:
    data = packages("hc_test_package", "1.0")
    (data / "meta.json").write_text(meta, encoding="utf-8")
    (data.parent / "meta.json").write_text(meta, encoding="utf-8")
    with pytest.raises(ModelNotInstalledError):
        locate(FROM_PACKAGE, tmp_path)


def test_package_without_a_pipeline_is_not_the_model(
    tmp_path: Path, packages: Callable[[str, str], Path]
) -> None:
    (packages("hc_test_package", "1.0") / "config.cfg").unlink()
    with pytest.raises(ModelNotInstalledError):
        locate(FROM_PACKAGE, tmp_path)


def test_absent_model_with_a_url_is_explained_with_a_warning_about_the_public_index(
    tmp_path: Path,
) -> None:
    reason = absence(FROM_URL, tmp_path)
    assert reason is not None
    assert reason.startswith("model demo_model-1.0 is not installed.")
    assert URL in reason
    assert str(tmp_path / "demo_model-1.0") in reason
    assert "Never `pip install demo_model`" in reason


def test_absent_package_is_explained(tmp_path: Path) -> None:
    reason = absence(FROM_PACKAGE, tmp_path)
    assert reason is not None
    assert reason.startswith("model demo_model-1.0 is not installed.")
    assert "version 1.0 of the package hc_test_package" in reason
    assert str(tmp_path / "demo_model-1.0") in reason


@pytest.mark.parametrize("name", ["no.such.parent", "demo.", "demo..model", "my-model", "json.x"])
def test_name_that_is_no_module_is_absent_and_imports_nothing(tmp_path: Path, name: str) -> None:
    reason = absence(entry(ModelSource(url=URL), name=name), tmp_path)
    assert reason is not None
    assert reason.startswith(f"model {name}-1.0 is not installed.")


def test_package_that_is_a_running_module_is_absent(tmp_path: Path) -> None:
    assert absence(entry(ModelSource(package="__main__")), tmp_path) is not None


def test_model_that_is_there_has_no_absence(tmp_path: Path) -> None:
    assert absence(at(tmp_path), tmp_path) is None


def test_files_are_listed_with_size_and_digest(tmp_path: Path) -> None:
    (tmp_path / "ner").mkdir()
    (tmp_path / "ner" / "model").write_bytes(b"weights")
    (tmp_path / "meta.json").write_bytes(b"{}")
    model = installed_model(at(tmp_path), tmp_path)
    assert model.location == tmp_path
    assert model.files == (
        ModelFile("meta.json", 2, hashlib.sha256(b"{}").hexdigest()),
        ModelFile("ner/model", 7, hashlib.sha256(b"weights").hexdigest()),
    )
    assert model.size == 9


def test_model_of_one_file_lists_that_file(tmp_path: Path) -> None:
    (tmp_path / "terms.tsv").write_bytes(b"DISEASE\tflu\n")
    (tmp_path / "other.tsv").write_bytes(b"DISEASE\tgout\n")
    model = installed_model(at(tmp_path / "terms.tsv"), tmp_path)
    assert [file.path for file in model.files] == ["terms.tsv"]


def test_empty_folder_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "x.pyc").write_bytes(b"")
    with pytest.raises(ModelError, match=r"the folder .* is empty. Install the model again"):
        installed_model(at(tmp_path), tmp_path)


class TestFingerprint:
    """What the fingerprint stands for: the entities that a model gives."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        folder = tmp_path / "model"
        folder.mkdir()
        (folder / "a").write_bytes(b"1")
        (folder / "b").write_bytes(b"2")
        return folder

    def fingerprint(self, folder: Path, **changed: tuple[str, ...] | str) -> str:
        source = ModelSource(path=str(folder))
        return installed_model(entry(source, **changed), folder).fingerprint  # type: ignore[arg-type]

    def test_same_files_elsewhere_under_another_model_name_have_the_same(
        self, folder: Path, tmp_path: Path
    ) -> None:
        copy = tmp_path / "copy"
        copy.mkdir()
        (copy / "b").write_bytes(b"2")
        (copy / "a").write_bytes(b"1")
        assert self.fingerprint(copy, name="renamed") == self.fingerprint(folder)

    def test_modification_time_has_no_part(self, folder: Path) -> None:
        before = self.fingerprint(folder)
        os.utime(folder / "a", (1, 1))
        assert self.fingerprint(folder) == before

    def test_compiled_python_has_no_part(self, folder: Path) -> None:
        before = self.fingerprint(folder)
        (folder / "sub" / "__pycache__").mkdir(parents=True)
        (folder / "sub" / "__pycache__" / "x.pyc").write_bytes(b"3")
        assert self.fingerprint(folder) == before

    def test_each_change_of_the_files_changes_it(self, folder: Path) -> None:
        seen = [self.fingerprint(folder)]
        (folder / "a").write_bytes(b"3")
        seen.append(self.fingerprint(folder))
        (folder / "a").rename(folder / "c")
        seen.append(self.fingerprint(folder))
        (folder / "d").write_bytes(b"")
        seen.append(self.fingerprint(folder))
        (folder / "b").unlink()
        seen.append(self.fingerprint(folder))
        assert len(set(seen)) == 5

    def test_files_that_swap_their_content_change_it(self, folder: Path) -> None:
        before = self.fingerprint(folder)
        (folder / "a").write_bytes(b"2")
        (folder / "b").write_bytes(b"1")
        assert self.fingerprint(folder) != before

    def test_components_and_loader_change_it(self, folder: Path) -> None:
        seen = {
            self.fingerprint(folder),
            self.fingerprint(folder, components=("ner",)),
            self.fingerprint(folder, components=("tok2vec", "ner")),
            self.fingerprint(folder, loader="lexicon"),
        }
        assert len(seen) == 4

    def test_minor_version_of_spacy_changes_it_and_its_patches_do_not(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def with_spacy(version: str) -> str:
            monkeypatch.setattr(importlib.metadata, "version", {"spacy": version}.__getitem__)
            return self.fingerprint(folder)

        assert with_spacy("3.8.7") == with_spacy("3.8.18")
        assert with_spacy("3.8.7") != with_spacy("3.9.0")
        assert with_spacy("3.8.7") != with_spacy("4.8.7")
