"""Peak memory of reading 100,000 notes beside that of 10,000, each in a process of its own.

`corpus_memory.py [mtsamples.csv.gz]`: the notes are the texts of the given CSV over and
over with new ids, or made-up ones of 3,000 characters. Prints megabytes, seconds and the ratio.
"""

import csv
import gzip
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

SIZES = (10_000, 100_000)
FORMATS = ("jsonl", "csv")
ALLOWED = 1.10
MARK = "BT 36.6, stable, no acute distress. "


def main(source: Path | None) -> int:
    """Write both corpora, read each in a new process, print the figures."""
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        for form in FORMATS:
            peaks = []
            for size in SIZES:
                path = Path(folder) / f"notes.{form}"
                write(path, islice(cycle(texts(source)), size))
                figures = measured(form, path)
                peaks.append(figures["peak_mb"])
                print(f"{form} {size:>7,} notes: {json.dumps(figures)}")
            ratio = peaks[1] / peaks[0]
            failed |= ratio > ALLOWED
            print(f"{form} peak at {SIZES[1]:,} / {SIZES[0]:,}: {ratio:.3f} (allowed {ALLOWED})")
    return int(failed)


def texts(source: Path | None) -> list[str]:
    """The distinct texts of a CSV with a column `transcription`, or made-up ones."""
    if source is None:
        return [f"Note {i}. {MARK * 80}" for i in range(2000)]
    content = gzip.decompress(source.read_bytes()).decode("utf-8")
    rows = csv.DictReader(io.StringIO(content, newline=""))
    return [row["transcription"] for row in rows if row["transcription"].strip()]


def write(path: Path, notes: Iterator[str]) -> None:
    """Notes with ids of their own, as JSON Lines or CSV."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        if path.suffix == ".jsonl":
            for number, text in enumerate(notes):
                stream.write(json.dumps({"note_id": f"note-{number:07}", "text": text}) + "\n")
        else:
            writer = csv.writer(stream)
            writer.writerow(("note_id", "text"))
            writer.writerows((f"note-{number:07}", text) for number, text in enumerate(notes))


def measured(form: str, path: Path) -> dict[str, float]:
    """What a new process needs to read the corpus once."""
    done = subprocess.run(
        [sys.executable, __file__, "--read", form, str(path)],
        capture_output=True,
        check=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def read(form: str, path: str) -> None:
    """Read a corpus as `notes_corpus` does and print what it took."""
    from hc_orchestration.corpora.ingest import Ingestion
    from hc_orchestration.corpora.sources import CorpusSource

    source = CorpusSource.model_validate({"name": "notes", "path": path, "format": form})
    began = time.perf_counter()
    ingestion = Ingestion([source], ["DISEASE"])
    stored = sum(1 for _ in ingestion)
    digest = ingestion.digest
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures = {
        "notes": stored,
        "peak_mb": round(peak, 1),
        "seconds": round(seconds, 1),
        "distinct_texts": stored - ingestion.counts.duplicate_texts,
    }
    assert len(digest) == 64  # noqa: S101 - the digest was computed too
    print(json.dumps(figures))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(*sys.argv[2:])
    else:
        sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else None))
