"""Names as MLflow takes them: every name gets one, and no two names the same."""

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from hc_orchestration.tracking.names import LONGEST_NAME, metric_name, shortened

NAMES = st.text(min_size=1, max_size=400) | st.text(alphabet=":3afx/. (é", min_size=1, max_size=300)


@settings(deadline=None)  # the first example imports mlflow
@given(NAMES)
@example("strict.f1.label.N//V")
@example("strict.f1.label.a/../b")
@example("..")
@example("(" * 90)
def test_every_name_becomes_one_that_mlflow_takes(name: str) -> None:
    from mlflow.utils.validation import _validate_metric_name

    slug = metric_name(name)

    _validate_metric_name(slug)
    assert len(slug) <= LONGEST_NAME


@given(NAMES, NAMES)
@example("(", ":28:")
@example("a" * 300 + "b", "a" * 300 + "c")
@example("a b", "a  b")
def test_different_names_stay_different(one: str, other: str) -> None:
    assume(one != other)

    assert metric_name(one) != metric_name(other)


def test_a_shortened_name_is_none_that_a_short_name_becomes() -> None:
    """Cut inside the code of a colon, its rest would read as the code of another character."""
    long = "a" * 231 + ":" * 30
    kept, _, digest = metric_name(long).rpartition(":x")

    assert metric_name(kept) == kept
    assert metric_name(long) != metric_name(f"{kept}\x03{digest}")


@pytest.mark.parametrize("name", ["strict.f1", "strict.f1.label.DISEASE", "total_documents"])
def test_ordinary_names_stay_as_they_are(name: str) -> None:
    assert metric_name(name) == name


def test_a_refused_character_can_be_read_back_from_its_code() -> None:
    assert metric_name("f1.label.Age (>65)") == "f1.label.Age :28::3e:65:29:"


def test_a_cut_value_says_that_it_was_cut() -> None:
    assert shortened("a" * 20, 20) == "a" * 20
    assert shortened("a" * 21, 20) == "aaaaaa … (shortened)"
