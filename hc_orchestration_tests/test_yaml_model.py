"""Strict YAML: what is refused, and that the message names the file, the key and the remedy."""

import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.yaml_model import StrictModel, load_yaml_model


class Ward(StrictModel):
    name: str
    beds: int = 0


class Hospital(StrictModel):
    name: str
    wards: tuple[Ward, ...] = ()
    main_ward: Ward | None = None


def refusal(folder: Path, content: str | bytes) -> str:
    """What is said when `content` is read as a Hospital; the file's path is cut off."""
    path = folder / "hospital.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    with pytest.raises(ConfigurationError) as caught:
        load_yaml_model(path, Hospital)
    message = str(caught.value)
    assert message.startswith(str(path))
    return message.removeprefix(str(path))


def test_file_becomes_the_model(tmp_path: Path) -> None:
    path = tmp_path / "hospital.yaml"
    path.write_text("name: Saint Luke\nwards: [{name: ICU, beds: 8}]\n", encoding="utf-8")
    expected = Hospital(name="Saint Luke", wards=(Ward(name="ICU", beds=8),))
    assert load_yaml_model(path, Hospital) == expected


def test_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "hospital.yaml"
    path.write_bytes(b"\xef\xbb\xbfname: Saint Luke\n")
    assert load_yaml_model(path, Hospital) == Hospital(name="Saint Luke")


def test_unknown_key_names_the_nearest_known_one(tmp_path: Path) -> None:
    message = refusal(tmp_path, "nam: Saint Luke\nname: Saint Luke\n")
    assert "nam: unknown key; did you mean 'name'?" in message


def test_unknown_key_that_is_near_to_none_names_all(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: Saint Luke\nzzzz: 1\n")
    assert "zzzz: unknown key; known keys: main_ward, name, wards." in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("wards: [{name: ICU, bedz: 8}]", "wards.0.bedz: unknown key; did you mean 'beds'?"),
        ("main_ward: {nane: ICU}", "main_ward.nane: unknown key; did you mean 'name'?"),
    ],
)
def test_nested_unknown_key_is_compared_with_the_keys_of_its_own_level(
    tmp_path: Path, content: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, f"name: Saint Luke\n{content}\n")


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    message = refusal(tmp_path, "wards: [{beds: many}]\ncity: Ulm\n")
    assert message.startswith(": 4 problem(s)\n")
    for key in ("name", "wards.0.name", "wards.0.beds", "city"):
        assert re.search(rf"^  {re.escape(key)}: ", message, re.MULTILINE)


def test_missing_key_is_asked_for(tmp_path: Path) -> None:
    assert "name: required, but not given. Add it." in refusal(tmp_path, "wards: []\n")


@pytest.mark.parametrize("value", ["1.0", "7", "true"])
def test_unquoted_number_in_place_of_text_is_refused_with_the_advice_to_quote_it(
    tmp_path: Path, value: str
) -> None:
    message = refusal(tmp_path, f"name: {value}\n")
    assert "name: Input should be a valid string" in message
    assert "Put it in quotes." in message


@pytest.mark.parametrize("beds", ["'8'", "8.5", "true", "[8]", "{a: 8}", "null"])
def test_no_value_changes_its_type_silently(tmp_path: Path, beds: str) -> None:
    assert "wards.0.beds: " in refusal(
        tmp_path, f"name: Saint Luke\nwards: [{{name: ICU, beds: {beds}}}]\n"
    )


@pytest.mark.parametrize(
    ("content", "line"),
    [("name: a\nwards: []\nname: b\n", 3), ("name: a\nmain_ward:\n  name: b\n  name: c\n", 4)],
)
def test_duplicate_key_names_its_line(tmp_path: Path, content: str, line: int) -> None:
    message = refusal(tmp_path, content)
    assert (
        message == f", line {line}: the key 'name' stands twice in one mapping. Keep one of them."
    )


def test_missing_file_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    with pytest.raises(ConfigurationError, match=re.escape(f"{path}: no such file.")):
        load_yaml_model(path, Hospital)


def test_folder_in_place_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"cannot be read \(IsADirectoryError\)"):
        load_yaml_model(tmp_path, Hospital)


def test_text_that_is_not_yaml_names_its_line(tmp_path: Path) -> None:
    message = refusal(tmp_path, "name: a\nwards: [\n")
    assert message.startswith(", line 3: not valid YAML (")


def test_file_that_is_not_utf_8_is_refused(tmp_path: Path) -> None:
    latin_1 = "name: Charité\n".encode("latin-1")
    assert refusal(tmp_path, latin_1) == ": not UTF-8. Save the file as UTF-8."


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("", "(top level): Input should be an object", id="empty"),
        pytest.param("- a\n", "(top level): Input should be an object", id="a list"),
        pytest.param("name: 2024-01-31\n", "Quote it.", id="date"),
        pytest.param("name: 2024-13-45\n", "cannot build (ValueError)", id="no such date"),
        pytest.param("name: !!int x\n", "cannot build (ValueError)", id="no number"),
        pytest.param("name: !!bool x\n", "cannot build (KeyError)", id="no boolean"),
        pytest.param("name: " + "1" * 5000, "cannot build (ValueError)", id="huge number"),
        pytest.param("name: " + "[" * 5000, "cannot build (RecursionError)", id="deep nesting"),
        pytest.param("name: &loop [*loop]\n", "contains itself", id="a list in itself"),
        pytest.param("name: !ward x\n", "not valid YAML", id="foreign tag"),
        pytest.param("name: a\n---\nname: b\n", "not valid YAML", id="two documents"),
        pytest.param('name: "\\ud800"\n', "(top level): Invalid JSON", id="lone surrogate"),
    ],
)
def test_strange_yaml_is_refused_in_plain_words(
    tmp_path: Path, content: str, expected: str
) -> None:
    assert expected in refusal(tmp_path, content)


@given(st.text("name: wards-[]{}!&*'\"#|>%@\n\t0159é", max_size=60))
@settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_whatever_stands_in_the_file_is_read_or_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "hospital.yaml"
    path.write_text(content, encoding="utf-8")
    try:
        read = load_yaml_model(path, Hospital)
    except ConfigurationError as error:
        assert str(path) in str(error)  # noqa: PT017 - both outcomes are right
    else:
        assert isinstance(read, Hospital)
