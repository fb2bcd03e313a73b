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
