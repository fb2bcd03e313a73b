"""Verifying in itself: what is kept outside of a record, chains, one finding each."""

import copy
import json
from typing import Any

import pytest

from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.signing import canonical_bytes, sha256
from hc_orchestration.healthcare.verification import (
    Link,
    Listing,
    chain_findings,
    examine,
)
from hc_orchestration_tests.healthcare.test_provenance import facts

RECORD = build_bundle(facts())


def listing(content: bytes, **changes: Any) -> Listing:
    told: dict[str, Any] = {
        "record": sha256(content),
        "resource": None,
        "evaluation_id": facts().evaluation_id,
        "evaluation_digest": facts().evaluation_digest,
        "model_key": facts().model_key,
        "previous": None,
        "key_id": None,
    }
    return Listing(**{**told, **changes})


@pytest.mark.parametrize(
    ("changes", "subject"),
    [
        ({"record": "ab" * 32}, "record"),
        ({"resource": "ab" * 32}, "resource"),
        ({"evaluation_id": "other"}, "listing"),
        ({"evaluation_digest": "other"}, "listing"),
        ({"model_key": "other"}, "listing"),
        ({"previous": "ab" * 32}, "listing"),
        ({"key_id": "a key"}, "signature"),
    ],
)
def test_what_is_kept_outside_of_a_record_must_agree(changes: dict[str, Any], subject: str) -> None:
    content = canonical_bytes(RECORD)
    assert examine(content, listing(content), {}, signer_required=False).findings == ()

    found = examine(content, listing(content, **changes), {}, signer_required=False).findings

    assert [finding.subject for finding in found] == [subject]


def test_bytes_that_are_not_canonical_and_an_invalid_record_are_told_together() -> None:
    record = copy.deepcopy(RECORD)
    record["entry"][0]["resource"]["name"] = ""
    content = json.dumps(record, indent=1).encode()

    said = [f.says for f in examine(content, None, {}, signer_required=False).findings]

    assert said[0] == "its bytes are not the canonical form (RFC 8785)"
    assert said[1].startswith("not a valid R4 Bundle")


def test_a_model_card_that_is_not_the_one_named_is_found() -> None:
    content = canonical_bytes(RECORD).replace(b'"data":"e30="', b'"data":"e30K"')
    said = [f.subject for f in examine(content, None, {}, signer_required=False).findings]
    assert "model card" in said


A, B, C, D = ("aa" * 32, "bb" * 32, "cc" * 32, "dd" * 32)


@pytest.mark.parametrize(
    ("links", "kept", "says"),
    [
        ([(A, None), (B, A)], [A, B], []),
        ([(B, A)], [A, B], ["follows aaaaaaaaaaaa, which is not here", "was recorded"]),
        ([(A, None), (C, B)], [A, B, C], ["which is not here", "2 heads", "kept head", "bbbb"]),
        ([(A, None)], [A, B], ["the kept head is bbbbbbbbbbbb", "bbbbbbbbbbbb was recorded"]),
        ([(A, None), (B, A), (C, A)], [A, B, C], ["2 records follow", "2 heads", "kept head"]),
        ([(A, None), (B, None)], [A, B], ["claim to be the first", "2 heads", "kept head"]),
        ([(A, None), (B, A)], [A], ["the kept head is aaaaaaaaaaaa", "never kept as a head"]),
        ([], [A], ["aaaaaaaaaaaa was recorded"]),
    ],
    ids=["whole", "first", "middle", "last", "fork", "two roots", "added", "all"],
)
def test_what_is_wrong_with_a_chain_is_told(
    links: list[tuple[str, str | None]], kept: list[str], says: list[str]
) -> None:
    found = [f.says for f in chain_findings([Link(*link) for link in links], kept)]
    assert len(found) == len(says), found
    for words, said in zip(says, found, strict=True):
        assert words in said
