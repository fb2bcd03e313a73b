"""What running a model over a corpus costs, beside the usual ways to do it; ratios in one run.

`extraction_speed.py [MTSAMPLES.csv.gz] [--notes N] [--repeat N] [--sizes 1000,10000]
[--output FILE]`. The notes are the distinct texts of the given CSV, else the shipped ones over and
over, each with a number. Every figure is taken in a process of its own; the ways to be compared
take turns, and a ratio is the median of the ratios of the turns. Without a calm machine they mean
nothing: the load is printed with them.
"""

import argparse
import csv
import gzip
import io
import json
import os
import platform
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Self

PROJECT = Path(__file__).resolve().parent.parent
LEXICON, CNN = "bc5cdr_terms", "bc5cdr_cnn_sm"
SOFTWARE = ("spacy", "polars", "deltalake", "mlflow-skinny")


def main() -> None:
    """Store the corpora, take the figures in turns, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--notes", type=int, default=2_357)
    parser.add_argument("--loop-notes", type=int, default=200, help="of the tutorial's loop")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--sizes", default="1000,10000")
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    texts = distinct_texts(asked.source)
    figures: dict[str, Any] = {"machine": machine(), "source_texts": len(texts)}
    with tempfile.TemporaryDirectory() as folder:
        figures["ratios"] = ratios(Path(folder), texts, asked)
        sizes = [int(size) for size in asked.sizes.split(",") if size]
        workers = [int(number) for number in asked.workers.split(",") if number]
        figures["rates"] = rates(Path(folder), texts, sizes, workers)
        figures["nightly"] = nightly(Path(folder), texts, asked.notes)
    figures["memory"] = memory(figures["rates"])
    figures["load_after"] = os.getloadavg()
    show(figures)
    if asked.output:
        asked.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def ratios(folder: Path, texts: list[str], asked: argparse.Namespace) -> dict[str, Any]:
    """Entities stored per second beside entities counted in memory; the whole beside the loop.

    The loop, whose pace does not depend on their number, is given fewer notes. Loading the model is
    left out on both sides; ours uses two processes.
    """
    corpus = stored(folder, texts, asked.notes)
    few = stored(folder, texts, asked.loop_notes)
    found: dict[str, Any] = {}
    for model in (LEXICON, CNN):
        turns: list[dict[str, float]] = []
        for _ in range(asked.repeat):
            one = run("--extract", corpus, model, 1)
            two = run("--extract", corpus, model, 2)
            turn = {
                "stored_1": one["entities_per_second"],
                "stored_2": two["entities_per_second"],
                "end_to_end": two["notes_per_second"],
                "loop": run("--loop", few, model)["notes_per_second"],
            }
            if model == CNN:
                turn["pipe_1"] = run("--pipe", corpus, model, 1)["entities_per_second"]
                turn["pipe_2"] = run("--pipe", corpus, model, 2)["entities_per_second"]
            turns.append(turn)
        found[model] = {"turns": turns, "end_to_end/loop": ratio(turns, "end_to_end", "loop")}
        if model == CNN:
            found[model]["stored_1/pipe_1"] = ratio(turns, "stored_1", "pipe_1")
            found[model]["stored_2/pipe_2"] = ratio(turns, "stored_2", "pipe_2")
    return found


def ratio(turns: list[dict[str, float]], above: str, below: str) -> float:
    """The median of the ratios of the turns."""
    return round(statistics.median(turn[above] / turn[below] for turn in turns), 2)


def rates(
    folder: Path, texts: list[str], sizes: list[int], workers: list[int]
) -> list[dict[str, Any]]:
    """Notes per second of the lexicon for each size of corpus and number of workers."""
    return [
        {"notes": size, "workers": number, **run("--extract", corpus, LEXICON, number)}
        for size in sizes
        for corpus in [stored(folder, texts, size)]
        for number in workers
    ]


def nightly(folder: Path, texts: list[str], notes: int) -> dict[str, Any]:
    """Seconds of extracting all, then nothing, then one note in a hundred."""
    corpus = stored(folder, texts, notes)
    return {model: run("--nightly", corpus, model) for model in (LEXICON, CNN)}


def memory(rates: list[dict[str, Any]]) -> dict[str, Any]:
    """Peak memory of all processes with two workers: of most notes beside 10,000."""
    peaks = {rate["notes"]: rate["peak_mb"] for rate in rates if rate["workers"] == 2}
    few = peaks.get(10_000)
    return {"peak_mb": peaks, "ratio": round(peaks[max(peaks)] / few, 3) if few else None}


def run(way: str, *arguments: object) -> dict[str, float]:
    """The figures that a new process takes."""
    done = subprocess.run(
        [sys.executable, __file__, way, *map(str, arguments)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    figures: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return figures


def distinct_texts(source: Path | None) -> list[str]:
    """The distinct texts of a CSV with a column `transcription`, or the shipped notes."""
    if source is None:
        shipped = PROJECT / "data" / "corpora" / "synthetic_notes" / "notes.jsonl"
        return [json.loads(line)["text"] for line in shipped.read_text("utf-8").splitlines()]
    content = gzip.decompress(source.read_bytes()).decode("utf-8")
    rows = csv.DictReader(io.StringIO(content, newline=""))
    return list(dict.fromkeys(row["transcription"] for row in rows if row["transcription"].strip()))


def stored(folder: Path, texts: list[str], notes: int) -> Path:
    """A folder with a notes table of so many notes, made when first asked for."""
    corpus = folder / f"corpus-{notes}"
    if not corpus.exists():
        corpus.mkdir()
        with (corpus / "notes.jsonl").open("w", encoding="utf-8") as stream:
            for number, text in enumerate(islice(cycle(texts), notes)):
                numbered = text if number < len(texts) else f"{text} {number}"
                note = {"note_id": f"note-{number:07}", "text": numbered}
                stream.write(json.dumps(note) + "\n")
        Tables(corpus).ingest()
    return corpus


class Tables:
    """The tables of a folder."""

    def __init__(self, folder: Path, entities: Path | None = None) -> None:
        """Use the notes in `folder`; the entities elsewhere, if told so."""
        from hc_orchestration.storage.corpus import CorpusTables
        from hc_orchestration.storage.delta import DeltaStore
        from hc_orchestration.storage.entities import EntityTables

        self.folder = folder
        self.locks = (entities or folder) / "locks"
        self.corpus = CorpusTables(DeltaStore(str(folder / "tables"), folder / "locks"))
        store = DeltaStore(str((entities or folder) / "tables"), self.locks)
        self.entities = EntityTables(store, self.corpus)

    def ingest(self) -> int:
        """Store the notes of the folder's file; returns the version."""
        from hc_orchestration.corpora.ingest import Ingestion
        from hc_orchestration.corpora.sources import CorpusSource

        source = CorpusSource.model_validate(
            {"name": "notes", "path": str(self.folder / "notes.jsonl"), "format": "jsonl"}
        )
        return self.corpus.ingest(lambda: Ingestion([source], ["DISEASE"])).version

    def extract(self, model: Any, processes: str) -> Any:  # noqa: ANN401 - imported where it runs
        """Extract what is missing, as the asset does."""
        from hc_orchestration.extraction.corpus import extract_corpus
        from hc_orchestration.study import ExtractionSettings

        number = processes if processes == "auto" else int(processes)
        settings = ExtractionSettings.model_validate({"processes": number})
        version = self.corpus.required().version
        return extract_corpus(model, version, self.entities, self.locks, settings)


def shipped_model(name: str) -> Any:  # noqa: ANN401 - imported where it runs
    """The shipped model of this name."""
    from hc_orchestration.models.catalogue import load_catalogue
    from hc_orchestration.models.store import installed_model

    catalogue = load_catalogue(PROJECT / "data" / "models.yaml")
    entry = next(entry for entry in catalogue.models if entry.name == name)
    return installed_model(entry, PROJECT / "data" / "models")


def extract(corpus: Path, name: str, processes: str) -> dict[str, float]:
    """Extract all notes into a new table; loading the model is told apart."""
    import polars as pl

    with tempfile.TemporaryDirectory() as folder:
        tables, model = Tables(corpus, Path(folder)), shipped_model(name)
        with PeakMemory() as peak:
            began = time.perf_counter()
            outcome = tables.extract(model, processes)
            wall = time.perf_counter() - began
        version_ = tables.corpus.required().version
        rows = tables.entities.of_corpus(model.entry.key, model.fingerprint, version_, None)
        entities = int(rows.select(pl.col("spans").list.len().sum()).collect().item())
    return {
        "notes": outcome.extracted,
        "entities": entities,
        "entities_per_second": entities / outcome.seconds,
        "notes_per_second": outcome.extracted / outcome.seconds,
        "notes_per_wall_second": outcome.extracted / wall,
        "peak_mb": round(peak.bytes / 1e6, 1),
        "processes": outcome.processes,
    }


def pipe(corpus: Path, name: str, processes: str) -> dict[str, float]:
    """Count entities with `nlp.pipe` as its documentation says, loading left out."""
    import spacy

    from hc_orchestration.models import spacy_parts  # noqa: F401 - registers our tokenizer

    nlp = spacy.load(shipped_model(name).location)
    texts = notes_of(corpus)
    began = time.perf_counter()
    entities = sum(len(doc.ents) for doc in nlp.pipe(texts, n_process=int(processes)))
    seconds = time.perf_counter() - began
    return {"entities": entities, "entities_per_second": entities / seconds}


def loop(corpus: Path, name: str) -> dict[str, float]:
    """The tutorial's way, its two logs a document to MLflow on SQLite included.

    One document after the other through the pipeline as spaCy loads it; its tracking component logs
    the entities, tokens and time of each document, then the loop its length and entities.
    """
    import mlflow

    documents = one_by_one(name)
    texts = notes_of(corpus)
    with tempfile.TemporaryDirectory() as folder:
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        mlflow.set_experiment("loop")
        with mlflow.start_run():
            began = time.perf_counter()
            for step, text in enumerate(texts):
                started = time.perf_counter()
                entities, tokens = documents(text)
                took = time.perf_counter() - started
                told = {"ner.entities": entities, "ner.tokens": tokens, "ner.seconds": took}
                mlflow.log_metrics(told, step=step)
                counts = {"doc_entity_count": entities, "doc_text_length": len(text)}
                mlflow.log_metrics(counts, step=step)
            seconds = time.perf_counter() - began
        with sqlite3.connect(f"{folder}/mlflow.db") as database:
            (logged,) = database.execute("select count(*) from metrics").fetchone()
    if logged != 5 * len(texts):
        message = f"the loop logged {logged} metrics"
        raise SystemExit(message)
    return {"notes_per_second": len(texts) / seconds}


def one_by_one(name: str) -> Callable[[str], tuple[int, int]]:
    """What gives the numbers of entities and tokens of a document."""
    model = shipped_model(name)
    if name == LEXICON:  # no pipeline of spaCy's
        from hc_orchestration.models.loaders import load_model

        lexicon = load_model(model)
        return lambda text: (len(lexicon.extract([text])[0]), len(text.split()))
    import spacy

    from hc_orchestration.models import spacy_parts  # noqa: F401 - registers our tokenizer

    nlp = spacy.load(model.location)

    def document(text: str) -> tuple[int, int]:
        doc = nlp(text)
        return len(doc.ents), len(doc)

    return document


def changed_night(corpus: Path, name: str) -> dict[str, float]:
    """Extract all, then nothing, then after one note in a hundred has changed."""
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder)
        (own / "notes.jsonl").write_bytes((corpus / "notes.jsonl").read_bytes())
        tables, model = Tables(own), shipped_model(name)
        tables.ingest()
        seconds = {"full": timed(tables, model), "unchanged": timed(tables, model)}
        notes = [json.loads(line) for line in (own / "notes.jsonl").read_text("utf-8").splitlines()]
        for note in notes[::100]:
            note["text"] += " Seen again."
        lines = [json.dumps(note) for note in notes]
        (own / "notes.jsonl").write_text("\n".join(lines), encoding="utf-8")
        tables.ingest()
        seconds["one_percent"] = timed(tables, model)
    over = seconds["one_percent"] - 0.03 * seconds["full"]
    return {**seconds, "one_percent_over_share": round(over, 3)}


def timed(tables: Tables, model: Any) -> float:  # noqa: ANN401 - imported where it runs
    """Seconds of extracting what is missing, loading the model included."""
    began = time.perf_counter()
    tables.extract(model, "auto")
    return round(time.perf_counter() - began, 3)


def notes_of(corpus: Path) -> list[str]:
    """The texts of a corpus."""
    lines = (corpus / "notes.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["text"] for line in lines]


class PeakMemory:
    """The most memory that this process and its children had together, in bytes (PSS or RSS)."""

    def __enter__(self) -> Self:
        """Begin to look every fifth of a second."""
        self.bytes = 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        """Look no more."""
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        import psutil

        own = psutil.Process()
        while not self._over.wait(0.2):
            total = 0
            for process in [own, *own.children(recursive=True)]:
                try:
                    info = process.memory_full_info()
                except psutil.Error:  # it has just ended
                    continue
                total += getattr(info, "pss", info.rss)
            self.bytes = max(self.bytes, total)


def machine() -> dict[str, Any]:
    """Where and with what the figures were taken."""
    versions = {name: version(name) for name in SOFTWARE}
    return {
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "load_before": os.getloadavg(),
        **versions,
    }


def show(figures: dict[str, Any]) -> None:
    """Print the figures as tables."""
    print(f"{figures['machine']}")
    for model, found in figures["ratios"].items():
        for name, value in found.items():
            if name != "turns":
                print(f"{model:22} {name:18} {value:6.2f} x")
    print(f"{'notes':>9} {'workers':>8} {'notes/s':>9} {'peak MB':>9}")
    for rate in figures["rates"]:
        of = (rate["notes"], rate["workers"], rate["notes_per_second"], rate["peak_mb"])
        print("{:>9,} {:>8} {:>9.0f} {:>9.0f}".format(*of))
    for model, seconds in figures["nightly"].items():
        print(f"{model:22} {seconds}")
    print(f"memory {figures['memory']}")
    print(f"load average: {figures['machine']['load_before']} to {figures['load_after']}")


WAYS = {"--extract": extract, "--pipe": pipe, "--loop": loop, "--nightly": changed_night}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in WAYS:
        print(json.dumps(WAYS[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])))
    else:
        main()
