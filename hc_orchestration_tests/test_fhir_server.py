"""The FHIR server of the tests is a real one: conditional creation, search, refusals."""

import time
from typing import Any

import httpx
import pytest

from hc_orchestration_tests.fhir_server import fhir_server, running_fhir_server

__all__ = ["fhir_server"]
pytestmark = pytest.mark.integration

TAG = {"system": "https://hc.example/record", "code": "r1"}
ORGANIZATION = "urn:uuid:6a3a2f0e-2f0c-5a37-9d0a-0d4c3d3f7c01"
PROVENANCE = {
    "resourceType": "Provenance",
    "meta": {"tag": [TAG]},
    "target": [{"reference": ORGANIZATION}],
    "recorded": "2025-01-19T10:30:00Z",
    "agent": [{"who": {"reference": ORGANIZATION}}],
}


def creation(
    resource: dict[str, Any], known_by: str, full_url: str | None = None
) -> dict[str, Any]:
    request = {"method": "POST", "url": resource["resourceType"], "ifNoneExist": known_by}
    entry = {"resource": resource, "request": request}
    return entry | ({"fullUrl": full_url} if full_url else {})


def transaction(**changes: object) -> dict[str, Any]:
    name = {"resourceType": "Organization", "identifier": [{"system": "urn:x", "value": "lab"}]}
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [
            creation(name | {"name": "Lab"}, "identifier=urn%3Ax%7Clab", ORGANIZATION),
            creation(PROVENANCE | changes, "_tag=https%3A%2F%2Fhc.example%2Frecord%7Cr1"),
        ],
    }


def statuses(answer: httpx.Response) -> list[str]:
    return [entry["response"]["status"] for entry in answer.json()["entry"]]


def test_transaction_creates_once_and_is_found_by_target_and_tag(fhir_server: str) -> None:
    first = httpx.post(fhir_server, json=transaction(), timeout=30)
    again = httpx.post(fhir_server, json=transaction(), timeout=30)
    assert (first.status_code, statuses(first)) == (200, ["201", "201"])
    assert (again.status_code, statuses(again)) == (200, ["200", "200"])
    (created,) = httpx.get(f"{fhir_server}/Organization").json()["entry"]
    target = f"Organization/{created['resource']['id']}"
    by_target = httpx.get(f"{fhir_server}/Provenance", params={"target": target}).json()
    assert [entry["resource"]["target"] for entry in by_target["entry"]] == [
        [{"reference": target}]
    ]
    for code, count in (("r1", 1), ("r2", 0)):
        tag = {"_tag": f"{TAG['system']}|{code}"}
        found = httpx.get(f"{fhir_server}/Provenance", params=tag).json()
        assert len(found.get("entry", [])) == count


def test_entry_that_is_not_valid_fails_a_transaction_and_only_itself_in_a_batch() -> None:
    invalid = transaction(target=[])
    with running_fhir_server() as strict:
        assert httpx.post(strict, json=invalid).status_code == 400
    with running_fhir_server("--batch") as lenient:
        answer = httpx.post(lenient, json=invalid)
    assert (answer.status_code, statuses(answer)) == (200, ["201", "400"])


def test_server_may_be_slow_and_want_a_token() -> None:
    with running_fhir_server("--delay", "0.5", "--token", "secret") as url:
        began = time.monotonic()
        assert httpx.get(f"{url}/Device").status_code == 401
        assert time.monotonic() - began >= 0.5
        bearer = {"Authorization": "Bearer secret"}
        assert httpx.get(f"{url}/Device", headers=bearer).status_code == 200
