"""The canonical form: what rfc8785 writes, by whichever way it is written."""

import json
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.signing import (
    _report_in,
    _without_signature,
    canonical_bytes,
    generate_key,
    signature_problems,
    signed,
    targets_bytes,
)
from hc_orchestration_tests.healthcare.test_provenance import facts

LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)


@settings(max_examples=300, deadline=None)
@given(VALUES)
def test_the_quick_way_writes_what_rfc8785_writes(value: Any) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        -0.0,
        1e-7,
        1e16,
        1e22,
        [0.00001, 1.0],
        {"\ue000": 1, "\U0001f600": 2},
        {"a": "\u0007\u007f\u2028 é"},
        ["a,1.0,b", ":3e5,"],
    ],
)
def test_where_json_and_rfc8785_differ_rfc8785_is_right(value: Any) -> None:
    assert canonical_bytes(value) == rfc8785.dumps(value)
    assert json.loads(canonical_bytes(value)) == value


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**60, [2**60], [object()], ["\ud800"]]
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises((rfc8785.CanonicalizationError, ValueError)):
        canonical_bytes(value)


def test_what_is_signed_is_the_same_whether_it_is_made_or_cut_from_the_record(
    tmp_path: Path,
) -> None:
    key = generate_key(tmp_path / "key.pem")
    record = json.loads(canonical_bytes(signed(build_bundle(facts()), key)))
    content = canonical_bytes(record)
    unsigned = {name: value for name, value in record.items() if name != "signature"}

    assert targets_bytes(record, content) == targets_bytes(record)
    assert _report_in(content, record) is not None
    assert _without_signature(record, content) == rfc8785.dumps(unsigned)
    assert _without_signature(record, b"") == rfc8785.dumps(unsigned)
    keys = {key.key_id: key.key}
    assert signature_problems(record, keys, content) == signature_problems(record, keys) == ([], [])
