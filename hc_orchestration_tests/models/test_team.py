"""A team's own model: a module beside the catalogue, called with the options of its entry."""

from pathlib import Path

import pytest

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.store import InstalledModel, installed_model

MODEL = """\
class Finder:
    def __init__(self, word):
        self.word = word

    def extract(self, texts):
        found = [text.find(self.word) for text in texts]
        return [[] if at < 0 else [(at, at + len(self.word), "DRUG")] for at in found]


def make(options):
    return Finder(options["word"])
"""


def installed(folder: Path, word: str, loader: str = "{module}:make") -> InstalledModel:
    """The entry of the module in `folder`, named after it so that tests share no module."""
    module = f"team_{folder.name.replace('-', '_')}"
    file = folder / f"{module}.py"
    if not file.exists():
        file.write_text(MODEL, encoding="utf-8")
    (folder / "models.yaml").write_text(
        "models:\n"
        f'  - {{name: ours, version: "1", loader: "{loader.format(module=module)}", '
        f"options: {{word: {word}}}}}\n",
        encoding="utf-8",
    )
    (entry,) = load_catalogue(folder / "models.yaml").models
    return installed_model(entry, folder / "store")


def test_callable_is_given_its_options_and_finds_mentions(tmp_path: Path) -> None:
    model = load_model(installed(tmp_path, "statin"))
    assert model.extract(["On statin.", "None."]) == [[(3, 9, "DRUG")], []]


def test_fingerprint_changes_with_the_options_and_with_the_code(tmp_path: Path) -> None:
    first = installed(tmp_path, "statin")
    assert installed(tmp_path, "statin").fingerprint == first.fingerprint
    assert installed(tmp_path, "insulin").fingerprint != first.fingerprint
    (file,) = tmp_path.glob("*.py")
    file.write_text(MODEL.replace("DRUG", "MEDICATION"), encoding="utf-8")
    changed = installed(tmp_path, "statin")
    assert changed.fingerprint != first.fingerprint
    assert load_model(changed).extract(["statin"]) == [[(0, 6, "MEDICATION")]]


def test_a_callable_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"model ours-1: team_\w+:build failed: AttributeError"):
        load_model(installed(tmp_path, "statin", loader="{module}:build"))


NAMED = """\
class Remote:
    def __init__(self, file):
        self.fingerprint = open(file, encoding="utf-8").read()

    def extract(self, texts):
        return [[(0, 1, "DRUG")] for _ in texts]


def make(options):
    return Remote(options["word"])
"""


def test_what_the_object_says_that_it_is_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    """Weights behind a service or in a folder elsewhere change without the module's file."""
    weights = tmp_path / "weights.version"
    weights.write_text("2026-01", encoding="utf-8")
    file = tmp_path / f"team_{tmp_path.name.replace('-', '_')}.py"
    file.write_text(NAMED, encoding="utf-8")
    first = installed(tmp_path, str(weights)).fingerprint
    assert installed(tmp_path, str(weights)).fingerprint == first
    weights.write_text("2026-02", encoding="utf-8")
    assert installed(tmp_path, str(weights)).fingerprint != first
    weights.write_text("2026-01", encoding="utf-8")
    file.write_text(NAMED.replace("(0, 1,", "(0, 2,"), encoding="utf-8")
    assert installed(tmp_path, str(weights)).fingerprint != first


def test_a_remembered_fingerprint_makes_no_object(tmp_path: Path) -> None:
    weights = tmp_path / "weights.version"
    weights.write_text("2026-01", encoding="utf-8")
    file = tmp_path / f"team_{tmp_path.name.replace('-', '_')}.py"
    file.write_text(NAMED, encoding="utf-8")
    model = installed(tmp_path, str(weights))
    weights.unlink()
    again = installed_model(model.entry, tmp_path / "store", remembered=True)
    assert again.fingerprint == model.fingerprint


@pytest.mark.parametrize("value", ["5", "''", "b'x'"])
def test_a_fingerprint_that_is_no_text_is_refused(tmp_path: Path, value: str) -> None:
    file = tmp_path / f"team_{tmp_path.name.replace('-', '_').replace('[', '').replace(']', '')}.py"
    file.write_text(
        f"class M:\n    fingerprint = {value}\n\n    def extract(self, texts):\n"
        "        return [[] for _ in texts]\n\n\ndef make(options):\n    return M()\n",
        encoding="utf-8",
    )
    with pytest.raises(ModelError, match=r"the `fingerprint` of what team_\w+:make returned is"):
        installed(tmp_path, "statin")
