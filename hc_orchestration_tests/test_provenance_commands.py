"""`hc provenance verify` and `upload` as people and programs call them; what a record may hold."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.signing import canonical_bytes
from hc_orchestration.resources import recording
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.calling import call
from hc_orchestration_tests.conftest import NOTES, STUDY, TERMS, write_notes
from hc_orchestration_tests.healthcare.test_upload import Server, failing, running
from hc_orchestration_tests.recorded import evaluated

TOKEN = "s3cr3t-t0ken"  # noqa: S105 - of a server in this test


@pytest.fixture
def workspace(settings: Settings) -> Workspace:
    """A deployment with one record."""
    made = Workspace(settings)
    evaluated(made, TERMS, "run-1")
    return made


def record_file(workspace: Workspace) -> Path:
    (entry,) = workspace.records.listed(TERMS)
    return Path(workspace.files.location(entry.part.file))


def test_verify_says_clean_and_ends_with_0(workspace: Workspace) -> None:
    told = call("provenance", "verify", "--model", TERMS)
    document = call("provenance", "verify", "--json").json

    assert told.code == 0
    assert "clean: 1 records, 1 chains, 0 mismatch" in told.squeezed
    assert document["clean"]
    assert document["records"][0]["signature"] == "unsigned"
    assert document["records"][0]["findings"] == []
    assert document["chains"][0]["head"] == document["records"][0]["record"]
    assert call("provenance", "verify", str(record_file(workspace))).code == 0


def test_verify_names_each_finding_and_ends_with_1(workspace: Workspace) -> None:
    for file in (Path(workspace.settings.storage) / "files").glob("*/*.parquet"):
        file.write_bytes(b"changed")

    told = call("provenance", "verify")
    document = call("provenance", "verify", "--json")

    assert (told.code, document.code) == (1, 1)
    assert "NOT CLEAN" in told.squeezed
    assert document.json["counts"]["mismatch"] == 2
    assert [f["subject"] for f in document.json["records"][0]["findings"]] == [
        "metrics.parquet",
        "per_note.parquet",
    ]


def test_verify_ends_with_1_where_something_could_not_be_looked_at(workspace: Workspace) -> None:
    (Path(workspace.settings.storage) / "notes").rename(workspace.settings.home / "elsewhere")
    document = call("provenance", "verify", "--json")
    assert document.code == 1
    assert (document.json["counts"]["mismatch"], document.json["counts"]["unreachable"]) == (0, 2)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        ([], 1, "no model has a record"),
        (["--model", TERMS], 1, f"{TERMS} has no record"),
        (["--model", "nobody-1"], 2, "nobody-1"),
        (["nowhere.json"], 2, "cannot be read"),
        (["--key", "nowhere.jwk"], 2, "cannot be read"),
        (["record.json", "--model", TERMS], 2, "not both"),
    ],
)
def test_verify_without_records_or_badly_used(
    settings: Settings, arguments: list[str], code: int, words: str
) -> None:
    assert settings.home
    outcome = call("provenance", "verify", *arguments)
    assert (outcome.code, outcome.out) == (code, "")
    assert words in outcome.err


def test_upload_sends_the_newest_record_and_tells_what_became_of_it(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HC_FHIR_TOKEN", TOKEN)
    with running(Server()) as server:
        first = call("provenance", "upload", "--server", server.url, "--model", TERMS, "--json")
        again = call("provenance", "upload", str(record_file(workspace)), "--server", server.url)

    (sent,) = first.json
    assert first.code == again.code == 0
    assert sent["record"] == record_file(workspace).stem
    assert (sent["created"], sent["found"]) == (16, 0)
    assert {headers["Authorization"] for headers in server.headers} == {f"Bearer {TOKEN}"}


def test_upload_that_fails_ends_with_1_and_shows_no_token(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert workspace.records.listed()
    monkeypatch.setenv("HC_FHIR_TOKEN", TOKEN)
    with running(Server(failing(403, f"{TOKEN} may not"))) as server:
        refused = call("provenance", "upload", "--server", server.url)
    bad = call("provenance", "upload", "--server", "http://fhir.example")

    assert (refused.code, bad.code) == (1, 2)
    assert "HTTP 403 (… may not)" in refused.err
    assert TOKEN not in refused.err + refused.out + bad.err


def test_same_evaluation_built_again_with_the_same_clock_gives_the_same_bytes(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Any] = []

    def kept(facts: Any) -> Any:
        built.append(facts)
        return build_bundle(facts)

    monkeypatch.setattr(recording, "build_bundle", kept)
    workspace = Workspace(settings)
    part = evaluated(workspace, TERMS, "run-1")

    (facts,) = built
    assert canonical_bytes(build_bundle(facts)) == workspace.files.get(part.file)


def test_a_record_tells_how_many_sampling_units_were_read(settings: Settings) -> None:
    notes = [{**note, "patient": name} for note, name in zip(NOTES, "aabbcc", strict=True)]
    write_notes(settings.study.parent, notes)
    settings.study.write_text(STUDY + "cluster: patient\n", encoding="utf-8")
    workspace = Workspace(settings)

    record = json.loads(workspace.files.get(evaluated(workspace, TERMS, "run-1").file))

    group = next(e["resource"] for e in record["entry"] if e["resource"]["resourceType"] == "Group")
    assert group["extension"][0]["valueString"] == (
        "The study gives a sample size of 6; 3 were read (unit: patient)."
    )


def words_of(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for inner in value.values():
            yield from words_of(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from words_of(inner)
    else:
        yield str(value)


def test_a_record_holds_no_note_no_mention_and_no_small_cell(settings: Settings) -> None:
    """One note of a rare type, twelve of another, 47 of a third: the first two are withheld."""
    notes = [
        {
            "note_id": f"note-{at:03}",
            "text": f"Zebrafever{at} seen. Pt denies asthma. On metformin {at}.",
            "note_type": "rare" if at == 0 else ("few" if at < 13 else "many"),
        }
        for at in range(60)
    ]
    lines = []
    for note in notes:
        at = str(note["text"]).index("asthma")
        spans = [{"start": at, "end": at + 6, "label": "DISEASE"}]
        lines.append(json.dumps({**note, "spans": spans}))
    (settings.study.parent / "notes.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    study = STUDY.replace("{smallest_cell: 1}", "{smallest_cell: 11}\nslices: [note_type]")
    study = study.replace("sample_size: 6", "sample_size: 60")
    settings.study.write_text(study, encoding="utf-8")
    workspace = Workspace(settings)

    part = evaluated(workspace, TERMS, "run-1")
    content = workspace.files.get(part.file)
    record = json.loads(content)

    text = "\n".join(words_of(record)).lower()
    for word in ("zebrafever", "denies", "asthma", "metformin", "note-0"):
        assert word not in text, word
    counts = [
        (population["code"]["coding"][0]["code"], population["count"])
        for population in _populations(record)
    ]
    mentions = [count for code, count in counts if code != "half-credits"]
    assert len(mentions) > 20
    assert [count for count in mentions if 0 < count < 11] == []
    groups = [e["resource"] for e in record["entry"] if e["resource"]["resourceType"] == "Group"]
    assert [group["quantity"] for group in groups] == [60]
    withheld = re.findall(rb'"valueCode":"masked"', content)
    scores = workspace.metrics.scores(TERMS, part.evaluation_digest)
    assert len(withheld) == scores.filter(pl.col("withheld")).height > 0


def _populations(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name == "population":
                yield from inner
            else:
                yield from _populations(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _populations(inner)
