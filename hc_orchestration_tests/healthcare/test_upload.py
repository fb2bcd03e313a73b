"""Uploading a record: nothing twice, every entry looked at, patience, and no token in any word."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread
from typing import Any
from urllib.parse import parse_qs, unquote

import pytest

from hc_orchestration.errors import ConfigurationError, UploadError
from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.fhir_server import ATTEMPTS, FhirServer
from hc_orchestration.healthcare.signing import canonical_bytes, generate_key, signed
from hc_orchestration.healthcare.upload import record_tag, token_query, transaction
from hc_orchestration.storage.uploads import sent
from hc_orchestration_tests.healthcare.test_provenance import facts

TOKEN = "s3cr3t-t0ken"  # noqa: S105 - of a server in this test
RECORD = build_bundle(facts())
CONTENT = canonical_bytes(RECORD)
Answer = tuple[int, dict[str, Any]]


class Server:
    """Keeps what it is sent, by the search that would find it; may be told to answer otherwise."""

    def __init__(self, *instead: Callable[[dict[str, Any]], Answer]) -> None:
        self.instead = list(instead)
        self.kept: dict[str, dict[str, Any]] = {}
        self.headers: list[dict[str, str]] = []
        self.url = ""

    def answer(self, body: dict[str, Any]) -> Answer:
        if self.instead:
            return self.instead.pop(0)(body)
        return 200, {"resourceType": "Bundle", "entry": [self._created(e) for e in body["entry"]]}

    def _created(self, entry: dict[str, Any]) -> dict[str, Any]:
        kind = entry["request"]["url"]
        search = f"{kind}?{entry['request']['ifNoneExist']}"
        status = "200 OK" if search in self.kept else "201 Created"
        self.kept.setdefault(search, entry["resource"])
        place = list(self.kept).index(search)
        return {"response": {"status": status, "location": f"{kind}/{place}/_history/1"}}


@contextmanager
def running(server: Server) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            server.headers.append(dict(self.headers))
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            status, answer = server.answer(body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            if status == 503:
                self.send_header("Retry-After", "7")
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.daemon_threads = True
    Thread(target=listening.serve_forever, daemon=True).start()
    server.url = f"http://127.0.0.1:{listening.server_port}/fhir"
    try:
        yield server
    finally:
        listening.shutdown()
        listening.server_close()


def failing(status: int, text: str = "out of order") -> Callable[[dict[str, Any]], Answer]:
    outcome = {"resourceType": "OperationOutcome", "issue": [{"diagnostics": text}]}
    return lambda _: (status, outcome)


def test_a_second_upload_finds_everything_and_makes_nothing() -> None:
    with running(Server()) as server:
        first = sent(CONTENT, FhirServer(server.url, TOKEN))
        again = sent(CONTENT, FhirServer(server.url, TOKEN))

    assert (first.created, first.found) == (len(RECORD["entry"]), 0)
    assert (again.created, again.found) == (0, len(RECORD["entry"]))
    assert again.provenance == first.provenance
    assert server.headers[0]["Authorization"] == f"Bearer {TOKEN}"


def test_two_records_share_organization_model_and_measure_and_nothing_else() -> None:
    later = build_bundle(replace(facts(), evaluation_id="3f0c1a52-0000-5000-8000-000000000002"))
    with running(Server()) as server:
        sent(CONTENT, FhirServer(server.url))
        second = sent(canonical_bytes(later), FhirServer(server.url))

    assert second.found == 3
    kept = [search.partition("?")[0] for search in server.kept]
    assert (kept.count("Organization"), kept.count("Measure"), kept.count("Provenance")) == (
        1,
        1,
        2,
    )
    assert kept.count("Device") == 3  # one model, and the software of each record


def test_each_search_is_percent_encoded_and_names_one_entry() -> None:
    entries = transaction(RECORD, "ab" * 32)["entry"]
    searches = [f"{e['request']['url']}?{e['request']['ifNoneExist']}" for e in entries]

    assert len(set(searches)) == len(entries)
    for search in searches:
        query = search.partition("?")[2]
        assert not set(query) & set("|#:/ "), query
    tag = "|".join(record_tag(RECORD))
    assert parse_qs(searches[-1].partition("?")[2]) == {"_tag": [tag]}
    assert unquote(token_query("identifier", "urn:x", r"a|b,c$d\e")) == (
        r"identifier=urn:x|a\|b\,c\$d\\e"
    )


def test_the_copy_names_the_record_that_it_is_of_and_bears_no_signature(tmp_path: Path) -> None:
    record = signed(RECORD, generate_key(tmp_path / "key.pem"))
    copy = transaction(record, "ab" * 32)
    provenance = copy["entry"][-1]["resource"]

    assert "signature" not in copy
    assert "signature" not in provenance
    assert "ab" * 32 in [tag["code"] for tag in provenance["meta"]["tag"]]
    assert "signature" in record  # and the record itself is untouched
    assert "signature" in record["entry"][-1]["resource"]


def test_a_failed_entry_inside_an_answer_of_200_is_a_failure_that_names_it() -> None:
    def one_refused(body: dict[str, Any]) -> Answer:
        answers: list[dict[str, Any]] = [{"response": {"status": "201"}} for _ in body["entry"]]
        issue = {"code": "invalid", "diagnostics": f"no such code {TOKEN}"}
        outcome = {"resourceType": "OperationOutcome", "issue": [issue]}
        answers[3]["response"] = {"status": "400 Bad Request", "outcome": outcome}
        return 200, {"resourceType": "Bundle", "entry": answers}

    with running(Server(one_refused)) as server, pytest.raises(UploadError) as caught:
        sent(CONTENT, FhirServer(server.url, TOKEN))

    kind = RECORD["entry"][3]["resource"]["resourceType"]
    assert f"entry[3] {kind}: 400 Bad Request (no such code …)" in str(caught.value)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        {"resourceType": "Bundle"},
        {"entry": [{"response": {}}]},
        {"entry": [{"response": {"status": "201"}}]},
        ["entry"],
    ],
)
def test_an_answer_that_tells_not_of_every_entry_is_a_failure(answer: Any) -> None:
    with (
        running(Server(lambda _: (200, answer))) as server,
        pytest.raises(UploadError, match=r"no transaction-response|1 of 11 entries"),
    ):
        sent(CONTENT, FhirServer(server.url))


def test_a_server_that_is_busy_is_asked_again_after_the_pause_that_it_asks_for() -> None:
    pauses: list[float] = []
    with running(Server(failing(503), failing(500), failing(429))) as server:
        done = sent(CONTENT, FhirServer(server.url, pause=pauses.append))

    assert done.created == len(RECORD["entry"])
    assert 7 <= pauses[0] <= 8.75  # Retry-After
    assert 1 <= pauses[1] <= 1.25
    assert 2 <= pauses[2] <= 2.5


@pytest.mark.parametrize("status", [400, 401, 403, 412, 302])
def test_a_refusal_is_told_at_once(status: int) -> None:
    with running(Server(failing(status, f"bad {TOKEN}"))) as server:
        with pytest.raises(UploadError, match=f"HTTP {status}") as caught:
            sent(CONTENT, FhirServer(server.url, TOKEN))
        assert len(server.headers) == 1
    assert TOKEN not in str(caught.value)


def test_a_server_that_is_away_is_told_after_all_attempts() -> None:
    pauses: list[float] = []
    with running(Server()) as server:
        url = server.url
    with pytest.raises(UploadError, match="in 5 attempts: ConnectError"):
        sent(CONTENT, FhirServer(url, TOKEN, pause=pauses.append))
    assert len(pauses) == ATTEMPTS - 1


def test_a_server_that_is_slow_is_given_up_and_asked_again() -> None:
    over = Event()

    def slow(_: dict[str, Any]) -> Answer:
        over.wait(5)
        return 200, {}

    with running(Server(slow)) as server:
        try:
            done = sent(CONTENT, FhirServer(server.url, timeout_s=0.3, pause=lambda _: None))
        finally:
            over.set()
    assert done.created == len(RECORD["entry"])


@pytest.mark.parametrize(
    ("url", "token", "why"),
    [
        ("fhir.example", None, "base URL"),
        ("ftp://fhir.example", None, "base URL"),
        ("https://u:p@fhir.example", None, "no credentials"),
        ("http://fhir.example/r4", TOKEN, "https only"),
        ("https://fhir.example/r4", "two words", "no bearer token"),
    ],
)
def test_an_address_that_would_not_do_is_refused(url: str, token: str | None, why: str) -> None:
    with pytest.raises(ConfigurationError, match=why) as caught:
        FhirServer(url, token)
    assert token is None or token not in str(caught.value)
    assert ":p@" not in str(caught.value)


def test_what_is_no_record_is_not_sent() -> None:
    server = FhirServer("http://127.0.0.1:9/fhir", pause=lambda _: None)
    with pytest.raises(ConfigurationError, match="holds no FHIR record"):
        sent(b"no json", server)
