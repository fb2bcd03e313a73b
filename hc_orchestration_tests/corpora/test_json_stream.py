"""A JSON document read piece by piece gives what reading it whole gives, wherever pieces end."""

import io
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hc_orchestration.corpora import json_stream
from hc_orchestration.corpora.json_stream import array_elements
from hc_orchestration.corpora.raw import UnreadableError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


def elements(content: bytes) -> list[Any]:
    return list(array_elements(io.BytesIO(content), "entry"))


DOCUMENTS = st.builds(
    lambda before, entries, after: {**before, "entry": entries, **after},
    st.dictionaries(st.sampled_from("abc"), VALUES),
    st.lists(VALUES, max_size=5),
    st.dictionaries(st.sampled_from("xyz"), VALUES),
)


@given(document=DOCUMENTS, indent=st.sampled_from([None, 1]), chunk=st.integers(1, 9))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_elements_are_those_of_the_whole_document(
    monkeypatch: pytest.MonkeyPatch, document: dict[str, Any], indent: int | None, chunk: int
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", chunk)
    content = json.dumps(document, indent=indent, ensure_ascii=False).encode()
    assert elements(content) == document["entry"]


def test_document_without_the_array_is_its_one_element() -> None:
    assert elements(b' {"id": 1, "entry": "x"} ') == [{"id": 1, "entry": "x"}]
    assert elements(b"{}") == [{}]


@pytest.mark.parametrize(
    "content",
    [b"", b"[1]", b"{", b'{"entry": [1', b'{"entry": [1]', b'{"entry": [1]} x', b"{1: 2}"],
)
def test_document_that_is_broken_is_refused(content: bytes) -> None:
    with pytest.raises(UnreadableError):
        elements(content)


def test_elements_before_the_damage_are_given() -> None:
    stream = array_elements(io.BytesIO(b'{"entry": [1, 2, nonsense'), "entry")
    assert [next(stream), next(stream)] == [1, 2]
