"""All of MTSamples, 4,999 rows of transcribed notes of which some have no text."""

from collections import Counter
from pathlib import Path

import pytest

from hc_orchestration_tests.corpora.formats import Reading

MTSAMPLES = Path(__file__).parents[2] / ".." / "shared" / "corpora" / "mtsamples.csv.gz"
COLUMNS = {"note_id": "note_id", "text": "transcription", "specialty": "medical_specialty"}


@pytest.mark.skipif(not MTSAMPLES.is_file(), reason="MTSamples is not beside the project")
@pytest.mark.parametrize("repeated_texts", ["keep", "once"])
def test_all_of_mtsamples_is_read(repeated_texts: str) -> None:
    reading = Reading(MTSAMPLES, "csv", columns=COLUMNS, repeated_texts=repeated_texts)
    counts = reading.counts
    assert (counts.read, counts.quarantined) == (4999, 33)
    assert counts.reasons == Counter({"empty_text": 33})
    assert counts.stored - counts.duplicate_texts == 2357
    assert counts.stored == (4966 if repeated_texts == "keep" else 2357)
    assert reading.adds_up
    assert counts.annotated == 0
    assert {name for note in reading.notes for name, _ in note.attributes} == {"specialty"}
