"""All of BC5CDR, a public corpus of 1,500 abstracts, reads without a reject."""

from collections import Counter
from pathlib import Path

import pytest

from hc_orchestration.corpora.ingest import CorpusNote, Ingestion
from hc_orchestration.corpora.sources import CorpusSource

BC5CDR = Path(__file__).parents[2] / ".." / "shared" / "corpora" / "bc5cdr"


@pytest.mark.skipif(not BC5CDR.is_dir(), reason="BC5CDR is not beside the project")
def test_all_of_bc5cdr_is_read() -> None:
    labels = {"Disease": "DISEASE", "Chemical": "CHEMICAL"}
    source = CorpusSource(name="bc5cdr", path=str(BC5CDR), format="pubtator", labels=labels)
    ingestion = Ingestion([source], ["DISEASE", "CHEMICAL"])
    notes = [item for item in ingestion if isinstance(item, CorpusNote)]
    counts = ingestion.counts
    assert (counts.read, counts.stored, counts.quarantined) == (1500, 1500, 0)
    assert (counts.annotated, counts.duplicate_texts) == (1500, 0)
    assert counts.gold.total() == 28_785
    assert counts.gold_unmapped == Counter()
    first = next(note for note in notes if note.note_id == "8701013")
    assert first.text.startswith(
        "Famotidine-associated delirium. A series of six cases.\nFamotidine"
    )
    assert [first.text[span.start : span.end] for span in (first.gold or ())[:3]] == [
        "Famotidine",
        "delirium",
        "Famotidine",
    ]
