"""Plain data comes out of a pickle file as it was; anything else is refused unexecuted."""

import contextlib
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hc_orchestration.errors import ModelError
from hc_orchestration.models.plain_pickle import read_plain_pickle

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2**31 - 1) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(PLAIN, st.sampled_from([4, 5]))
def test_plain_data_is_read_as_it_was_written(value: Any, protocol: int) -> None:
    assert read_plain_pickle(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("value", [os.getcwd, {1, 2}, (1,), ValueError("x"), b"bytes"])
def test_anything_else_is_refused_and_the_opcode_named(value: object) -> None:
    with pytest.raises(ModelError, match="more than plain data"):
        read_plain_pickle(pickle.dumps([value]))


@given(st.binary(max_size=60), st.integers(0, 40))
def test_damaged_bytes_are_an_error_of_ours_or_plain_data(noise: bytes, at: int) -> None:
    content = pickle.dumps({"name": ["value", 1.5, None]})
    with contextlib.suppress(ModelError):
        read_plain_pickle(content[:at] + noise + content[at + len(noise) :])
