"""Editing the catalogue's file: what is written, what stays as it was, and what is refused."""

import threading
from pathlib import Path
from typing import Any

import pytest

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.models.catalogue import UnknownModelError, load_catalogue
from hc_orchestration.models.catalogue_edit import add_entry, remove_entry

CATALOGUE = """\
# Ours.
models:
  - name: zeta   # the oldest one
    version: "1"
    loader: lexicon
    source: {path: zeta.tsv}

  # Two of a kind:
  - {name: beta, version: '1.0', loader: spacy, source: {path: beta}}
  - name: beta
    version: "2.0"
    loader: spacy
    source:
        path: beta2      # odd, but theirs
# The end.
"""
FIELDS: dict[str, Any] = {
    "name": "new",
    "version": "3.0",
    "loader": "spacy",
    "source": {"url": "https://models.example/new.tar.gz", "sha256": "0a" * 32},
    "labels": {"ENTITY": "*", "NO": "DISEASE"},
    "components": ["tok2vec", "ner"],
    "card": {"license": "MIT", "limits": "Long: " + "words and words " * 20},
}


def written(folder: Path, text: str = CATALOGUE) -> Path:
    path = folder / "models.yaml"
    path.write_bytes(text.encode())
    return path


def add(path: Path, **changed: Any) -> None:
    add_entry(path, FIELDS | changed, path.with_suffix(".lock"))


def remove(path: Path, key: str) -> None:
    remove_entry(path, key, path.with_suffix(".lock"))


def test_the_entry_is_written_to_the_end_and_the_rest_stays_as_it_was(tmp_path: Path) -> None:
    path = written(tmp_path)
    add(path)
    assert path.read_text(encoding="utf-8").startswith(CATALOGUE + "\n  - name: new\n")
    read = load_catalogue(path).models[-1]
    assert read.model_dump(exclude_none=True, exclude_defaults=True) == FIELDS | {
        "components": ("tok2vec", "ner")
    }


def test_what_is_added_and_removed_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    shipped = (Path(__file__).parents[2] / "data" / "models.yaml").read_text(encoding="utf-8")
    path = written(tmp_path, shipped)
    add(path)
    assert path.read_text(encoding="utf-8") != shipped
    remove(path, "new-3.0")
    assert path.read_text(encoding="utf-8") == shipped


def test_first_entry_of_an_empty_catalogue_can_be_added_and_removed(tmp_path: Path) -> None:
    path = written(tmp_path, "# Nothing yet.\nmodels: []\n")
    add(path)
    assert load_catalogue(path).keys == ("new-3.0",)
    remove(path, "new-3.0")
    assert path.read_text(encoding="utf-8") == "# Nothing yet.\nmodels: []\n"


def test_lines_of_the_removed_entry_go_and_comments_of_others_stay(tmp_path: Path) -> None:
    path = written(tmp_path)
    remove(path, "beta-1.0")
    rest = CATALOGUE.replace(
        "  - {name: beta, version: '1.0', loader: spacy, source: {path: beta}}\n", ""
    )
    assert path.read_text(encoding="utf-8") == rest
    remove(path, "zeta-1")
    assert path.read_text(encoding="utf-8").startswith("# Ours.\nmodels:\n  # Two of a kind:\n")
    remove(path, "beta-2.0")
    assert load_catalogue(path).keys == ()
    assert "# The end." in path.read_text(encoding="utf-8")


def test_line_ends_of_windows_and_a_missing_last_one_are_kept(tmp_path: Path) -> None:
    path = written(tmp_path, CATALOGUE.replace("\n", "\r\n").removesuffix("\r\n"))
    add(path)
    raw = path.read_bytes()
    assert raw.count(b"\n") == raw.count(b"\r\n")
    assert load_catalogue(path).keys[-1] == "new-3.0"


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"name": "BETA", "version": "1.0"}, "the key BETA-1.0 stands twice"),
        ({"version": "1-0"}, "version"),
        ({"loader": "spcy"}, "unknown loader"),
        ({"source": {}}, "give exactly one of url, path and package"),
        ({"source": {"path": "x", "sha256": "abc"}}, "sha256"),
        ({"knowledge_base": "kb.jsonl"}, "knowledge_base is for the component scispacy_linker"),
    ],
)
def test_an_entry_that_is_not_valid_is_refused_and_the_file_is_untouched(
    tmp_path: Path, changed: dict[str, Any], expected: str
) -> None:
    path = written(tmp_path)
    with pytest.raises(ConfigurationError) as caught:
        add(path, **changed)
    assert str(caught.value).startswith("nothing was added. With the new entry, ")
    assert expected in str(caught.value)
    assert path.read_text(encoding="utf-8") == CATALOGUE
    assert {file.name for file in tmp_path.iterdir()} <= {"models.yaml", "models.lock"}


@pytest.mark.parametrize(
    "text",
    ["models: [{name: a, version: '1', loader: lexicon, source: {path: a}}]\n"],
)
def test_a_list_on_one_line_is_refused_saying_how_to_write_it(tmp_path: Path, text: str) -> None:
    path = written(tmp_path, text)
    for edit in (lambda: add(path), lambda: remove(path, "a-1")):
        with pytest.raises(ConfigurationError, match="Write one `- name:` below the other"):
            edit()
    assert path.read_text(encoding="utf-8") == text


def test_a_text_that_looks_like_a_comment_is_not_torn_apart(tmp_path: Path) -> None:
    """The lines after the last word of a block of text look like asides to the next entry."""
    text = (
        "models:\n"
        "  - {name: a, version: '1', loader: lexicon, source: {path: a}}\n"
        "  - name: b\n    version: '1'\n    loader: lexicon\n    source: {path: b}\n"
        "    card:\n      limits: |\n        See\n        # 1\n"
        "  - {name: c, version: '1', loader: lexicon, source: {path: c}}\n"
    )
    path = written(tmp_path, text)
    remove(path, "b-1")
    assert load_catalogue(path).keys == ("a-1", "c-1")
    path = written(tmp_path, text)
    remove(path, "a-1")
    assert load_catalogue(path).entry("b-1").card.limits == "See\n# 1\n"


def test_an_unknown_key_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path)
    with pytest.raises(UnknownModelError, match="holds: zeta-1, beta-1"):
        remove(path, "gamma-1")


def test_a_catalogue_behind_a_link_stays_behind_it(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    real = written(tmp_path / "real")
    real.chmod(0o640)
    link = tmp_path / "models.yaml"
    link.symlink_to(real)
    add(link)
    assert link.is_symlink()
    assert load_catalogue(real).keys[-1] == "new-3.0"
    assert real.stat().st_mode & 0o777 == 0o640


def test_of_many_who_add_at_once_none_is_lost(tmp_path: Path) -> None:
    path = written(tmp_path)
    threads = [
        threading.Thread(target=add, args=(path,), kwargs={"name": f"m{n}"}) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    keys = load_catalogue(path).keys
    assert sorted(keys[3:]) == [f"m{n}-3.0" for n in range(8)]
