"""Words per second of every model of the catalogue whose files are here, loaded side by side.

    .venv/bin/python benchmarks/model_speed.py [--repetitions 7] [--notes FILE.jsonl]

One process, pinned to one processor core, one thread. In each repetition every model reads all the
notes once, so that whatever else the machine does meets all of them; the medians are shown, with
the slowest and the fastest repetition. Time is processor time: other programs have no part in it.
A word is what white space divides. A table is printed, then one JSON document.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.loaders import NerModel, load_model
from hc_orchestration.models.store import InstalledModel, absence, installed_model
from hc_orchestration.settings import Settings, project_root

NOTES = project_root() / "data" / "corpora" / "synthetic_notes" / "notes.jsonl"


def pin() -> None:
    """Keep this process on one of the cores that it may use, before anything heavy is imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def read_texts(file: Path) -> list[str]:
    """The texts of a JSON Lines file of notes."""
    with file.open(encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in lines]


def seconds(model: NerModel, texts: Sequence[str]) -> float:
    """Processor time that a model takes for the texts."""
    began = time.process_time()
    model.extract(texts)
    return time.process_time() - began


def measured(
    models: Sequence[tuple[InstalledModel, NerModel]], texts: Sequence[str], repetitions: int
) -> list[dict[str, Any]]:
    """One row a model, fastest first."""
    for _, model in models:
        model.extract(texts[:10])  # what is done at the first call only
    taken: dict[str, list[float]] = {installed.entry.key: [] for installed, _ in models}
    for _ in range(repetitions):
        for installed, model in models:
            taken[installed.entry.key].append(seconds(model, texts))
    words = sum(len(text.split()) for text in texts)
    rows = [
        {
            "key": installed.entry.key,
            "words_per_second": round(words / statistics.median(taken[installed.entry.key])),
            "slowest": round(words / max(taken[installed.entry.key])),
            "fastest": round(words / min(taken[installed.entry.key])),
            "megabytes": round(installed.size / 1e6, 2),
            "device": model.device,
            "fingerprint": installed.fingerprint,
        }
        for installed, model in models
    ]
    return sorted(rows, key=lambda row: -row["words_per_second"])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--notes", type=Path, default=NOTES)
    chosen = parser.parse_args()
    pin()
    settings = Settings.from_environment()
    entries = load_catalogue(settings.catalogue).models
    here = [entry for entry in entries if absence(entry, settings.model_store) is None]
    installed = [installed_model(entry, settings.model_store) for entry in here]
    models = [(model, load_model(model)) for model in installed]
    texts = read_texts(chosen.notes)
    rows = measured(models, texts, chosen.repetitions)
    print(f"{'model':32}{'words/s':>10}{'slowest':>10}{'fastest':>10}{'MB':>8}  device")
    for row in rows:
        print(
            f"{row['key']:32}{row['words_per_second']:>10,}{row['slowest']:>10,}"
            f"{row['fastest']:>10,}{row['megabytes']:>8.1f}  {row['device']}"
        )
    document = {
        "models": rows,
        "absent": [entry.key for entry in entries if entry not in here],
        "notes": len(texts),
        "words": sum(len(text.split()) for text in texts),
        "repetitions": chosen.repetitions,
        "python": platform.python_version(),
        "spacy": importlib.metadata.version("spacy"),
        "machine": platform.machine(),
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
