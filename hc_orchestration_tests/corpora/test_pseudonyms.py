"""Pseudonyms: stable per salt, and the id itself is nowhere in what ingestion gives."""

import hashlib
import hmac
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hc_orchestration.corpora.ingest import CorpusNote, Ingestion, corpus_digest
from hc_orchestration.corpora.notes import Reject, RejectReason
from hc_orchestration.corpora.pseudonyms import Pseudonyms
from hc_orchestration.corpora.sources import CorpusSource

SALT = bytes(range(32))
OWN = Pseudonyms(SALT)
IDS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def source(folder: Path, *records: dict[str, Any]) -> CorpusSource:
    path = folder / "notes.jsonl"
    path.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return CorpusSource(name="notes", path=str(path), format="jsonl")


def ingested(
    source: CorpusSource, pseudonyms: Pseudonyms | None
) -> tuple[Ingestion, list[CorpusNote], list[Reject]]:
    ingestion = Ingestion([source], ["DISEASE"], pseudonyms)
    items = list(ingestion)
    stored = [item for item in items if isinstance(item, CorpusNote)]
    return ingestion, stored, [item for item in items if isinstance(item, Reject)]


def test_pseudonym_is_the_keyed_digest_of_the_id() -> None:
    expected = hmac.new(SALT, "MRN 4471".encode(), hashlib.sha256).hexdigest()[:20]  # noqa: UP012
    assert OWN.of("MRN 4471") == f"p{expected}"
    assert OWN.of("MRN 4471") != Pseudonyms(SALT[::-1]).of("MRN 4471")


@given(IDS, IDS)
def test_pseudonyms_differ_exactly_when_ids_do(one: str, other: str) -> None:
    assert re.fullmatch("p[0-9a-f]{20}", OWN.of(one))
    assert (OWN.of(one) == OWN.of(other)) == (one == other)


def test_salt_is_not_shown_and_not_guessable() -> None:
    assert "salt" not in repr(OWN)
    with pytest.raises(ValueError, match="16 bytes or more"):
        Pseudonyms(b"short")


def test_notes_are_stored_and_digested_under_their_pseudonyms(tmp_path: Path) -> None:
    notes = [{"note_id": f"4471{n}", "text": f"Note {n}."} for n in range(3)]
    ingestion, stored, rejects = ingested(source(tmp_path, *notes), OWN)
    assert rejects == []
    assert [note.note_id for note in stored] == [OWN.of(note["note_id"]) for note in notes]
    assert ingestion.digest == corpus_digest(bytes.fromhex(note.digest) for note in stored)
    assert "4471" not in repr(stored)

    renamed = [{**note, "note_id": OWN.of(note["note_id"])} for note in notes]
    plain, same, _ = ingested(source(tmp_path, *renamed), None)
    assert (plain.digest, same) == (ingestion.digest, stored)


def test_without_pseudonyms_ids_are_stored_as_given(tmp_path: Path) -> None:
    _, (note,), _ = ingested(source(tmp_path, {"note_id": "n1", "text": "Well."}), None)
    assert note.note_id == "n1"


def test_repeated_ids_are_still_seen_and_quarantine_names_the_pseudonym(tmp_path: Path) -> None:
    note = {"note_id": "4471123", "text": "Flu."}
    records = [note, note, {**note, "text": "No flu."}]
    ingestion, stored, (reject,) = ingested(source(tmp_path, *records), OWN)
    assert (len(stored), ingestion.counts.duplicates) == (1, 1)
    assert reject.reason is RejectReason.DUPLICATE_ID
    assert reject.position == f"note_id {OWN.of('4471123')}"
    assert "4471123" not in repr(reject)
