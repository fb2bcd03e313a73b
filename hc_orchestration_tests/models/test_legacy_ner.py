"""A real pipeline that needs a spaCy plugin: refused without it, run once it is installed."""

import json
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

MODELS = Path(__file__).parents[2] / ".." / "shared" / "models"
PIPELINE = MODELS / "en_core_sci_sm-0.2.4-spacy3"
pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not PIPELINE.is_dir(), reason="../shared/models is not there"),
    pytest.mark.skipif(
        find_spec("legacy_ner") is not None, reason="the plugin is installed here already"
    ),
    pytest.mark.skipif(
        find_spec("pip") is None or find_spec("setuptools") is None,
        reason="the plugin is built with pip and setuptools, which are not installed",
    ),
]
CALL = "from hc_orchestration.cli.app import main; main()"


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    path = tmp_path / "models.yaml"
    path.write_text(
        "models:\n  - {name: en_core_sci_sm, version: 0.2.4, loader: spacy, "
        f'source: {{path: "{PIPELINE.resolve()}"}}, labels: {{ENTITY: "*"}}}}\n',
        encoding="utf-8",
    )
    return path


def check(catalogue: Path, *python_path: Path) -> Any:
    environment = {
        **os.environ,
        "HC_HOME": str(catalogue.parent / "home"),
        "HC_MODELS": str(catalogue),
        "PYTHONPATH": os.pathsep.join(map(str, python_path)),
    }
    done = subprocess.run(
        [sys.executable, "-c", CALL, "models", "check", "en_core_sci_sm-0.2.4", "--json"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stderr
    assert "Traceback" not in done.stderr
    return json.loads(done.stdout)


def test_the_missing_factory_is_named_and_once_its_package_is_installed_the_model_runs(
    catalogue: Path, tmp_path: Path
) -> None:
    without = check(catalogue)

    (problem,) = without["problems"]
    assert problem.startswith("model en_core_sci_sm-0.2.4 cannot be loaded from ")
    assert "it needs the component 'legacy_ner'" in problem
    assert "`python -m pip install FOLDER`, never by a bare name" in problem

    source = tmp_path / "source"  # building writes beside the sources
    shutil.copytree(MODELS / "legacy_ner", source, copy_function=shutil.copyfile)
    for folder in (source, *filter(Path.is_dir, source.rglob("*"))):
        folder.chmod(0o700)
    installed = tmp_path / "installed"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, "--target", installed, source],
        check=True,
    )
    found = check(catalogue, installed)

    assert found["problems"] == []
    assert found["components"] == ["ner"]
    assert found["found"]["ENTITY"] >= 15
    assert found["words_per_second"] > 0
    (warning,) = found["warnings"]
    assert "[W095]" in warning
