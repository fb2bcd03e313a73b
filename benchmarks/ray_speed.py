"""How much faster two actors of the Ray engine are than one; ratios in one run.

`ray_speed.py [MTSAMPLES.csv.gz] [--notes N] [--model NAME] [--repeat N] [--local] [--output FILE]`.
The notes are those of extraction_speed.py. Each figure is taken in a process of its own that starts
a Ray of its own; one and two actors take turns, and the ratio is the median of the ratios of the
turns. Starting Ray and loading the model are left out, as they are for the local engine, whose
figures `--local` adds. Without a calm machine they mean nothing: the load is printed with them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

from extraction_speed import CNN, Tables, distinct_texts, machine, ratio, shipped_model, stored


def main() -> None:
    """Store the corpus, take the figures in turns, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--notes", type=int, default=2_357)
    parser.add_argument("--model", default=CNN)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--local", action="store_true", help="the local engine too")
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    texts = distinct_texts(asked.source)
    found: dict[str, Any] = {**machine(), "ray": version("ray"), "model": asked.model}
    engines = ("ray", "local") if asked.local else ("ray",)
    turns: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        corpus = stored(Path(folder), texts, asked.notes)
        for _ in range(asked.repeat):
            turn: dict[str, float] = {"load": round(os.getloadavg()[0], 2)}
            for engine in engines:
                for workers in (1, 2):
                    turn[f"{engine}_{workers}"] = run(corpus, asked.model, engine, workers)
            turns.append(turn)
            print(turn, flush=True)
    found |= {"notes": asked.notes, "turns": turns, "load_after": os.getloadavg()}
    for engine in engines:
        found[f"{engine}_2/{engine}_1"] = ratio(turns, f"{engine}_2", f"{engine}_1")
    if asked.local:
        found["ray_2/local_2"] = ratio(turns, "ray_2", "local_2")
    for name, value in found.items():
        print(f"{name:18} {value}")
    if asked.output:
        asked.output.write_text(json.dumps(found, indent=1), encoding="utf-8")


def run(corpus: Path, model: str, engine: str, workers: int) -> float:
    """Notes per second of a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--extract", corpus, model, engine, str(workers)],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    return round(float(done.stdout.splitlines()[-1]), 2)


def extract(corpus: Path, name: str, engine: str, workers: str) -> float:
    """Notes per second of extracting all notes into a new table."""
    from hc_orchestration.extraction.corpus import extract_corpus
    from hc_orchestration.study import ExtractionSettings

    settings = ExtractionSettings.model_validate({"engine": engine, "processes": int(workers)})
    with tempfile.TemporaryDirectory() as folder:
        tables, model = Tables(corpus, Path(folder)), shipped_model(name)
        version_ = tables.corpus.required().version
        outcome = extract_corpus(model, version_, tables.entities, tables.locks, settings)
    if outcome.processes != int(workers) or outcome.extracted != tables.corpus.required().notes:
        message = f"{outcome.extracted} notes were extracted by {outcome.processes} processes"
        raise SystemExit(message)
    return outcome.extracted / outcome.seconds


if __name__ == "__main__":
    if sys.argv[1:2] == ["--extract"]:
        print(extract(Path(sys.argv[2]), *sys.argv[3:]))
    else:
        main()
