"""An extraction whose processes are killed, twenty times at random, ends as an undisturbed one."""

import csv
import gzip
import io
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hc_orchestration_tests.extraction import deployment as deployment_module
from hc_orchestration_tests.extraction.deployment import Deployment
from hc_orchestration_tests.extraction.test_workers import workers_of

pytestmark = pytest.mark.integration

PROJECT = Path(__file__).resolve().parents[2]
MTSAMPLES = PROJECT.parent / "shared" / "corpora" / "mtsamples.csv.gz"
SHIPPED = PROJECT / "data" / "corpora" / "synthetic_notes" / "notes.jsonl"
NOTES = 2_357
KILLS = 20
PAUSE_S = 0.003
PARENTS = 0.3


def corpus() -> dict[str, str]:
    """The 2,357 distinct texts of MTSamples, or as many of the shipped ones with a number."""
    if MTSAMPLES.is_file():
        content = gzip.decompress(MTSAMPLES.read_bytes()).decode("utf-8")
        rows = csv.DictReader(io.StringIO(content, newline=""))
        found = [row["transcription"] for row in rows if row["transcription"].strip()]
        texts = list(dict.fromkeys(found))
    else:
        lines = SHIPPED.read_text(encoding="utf-8").splitlines()
        shipped = [json.loads(line)["text"] for line in lines]
        texts = [f"{shipped[i % len(shipped)]} {i}" for i in range(NOTES)]
    return {f"note-{number:04}": text for number, text in enumerate(texts)}


def start(folder: Path) -> subprocess.Popen[bytes]:
    program = [sys.executable, "-m", deployment_module.__name__, str(folder), "2"]
    with (folder / "stderr").open("w") as stderr:
        return subprocess.Popen(program, stderr=stderr)


def workers_once_there(running: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """The workers as soon as there are two; none when the extraction has ended."""
    parent = psutil.Process(running.pid)
    while running.poll() is None:
        workers = workers_of(parent)
        if len(workers) == 2:
            return workers
        time.sleep(0.02)
    return []


def kill_one(running: subprocess.Popen[bytes], chance: random.Random) -> str | None:
    """Kill the extraction or one of its workers at some moment of its work; which it was."""
    workers = workers_once_there(running)
    time.sleep(chance.uniform(0.0, 0.6))
    if running.poll() is not None:
        return None
    if chance.random() < PARENTS:
        running.kill()
        running.wait()
        return "parent"
    try:
        chance.choice(workers).kill()
    except psutil.NoSuchProcess:  # the extraction ended meanwhile
        return None
    return "worker"


def test_twenty_kills_lose_nothing_and_repeat_nothing(tmp_path: Path) -> None:
    deployed = Deployment(tmp_path)
    notes = corpus()
    deployed.store(notes)
    undisturbed = deployed.model()
    deployed.extract(undisturbed, 1)
    expected = deployed.rows(undisturbed)

    model = deployed.model(pause=PAUSE_S)
    chance = random.Random(9)  # noqa: S311 - moments, not secrets
    killed: list[str | None] = []
    running = start(tmp_path)
    while len(killed) < KILLS:
        if victim := kill_one(running, chance):
            killed.append(victim)
        if running.poll() is not None:
            told = (tmp_path / "stderr").read_text(encoding="utf-8")
            assert running.returncode in (0, -9) or "processes died loading it" in told
            running = start(tmp_path)
    assert running.wait(timeout=120) == 0

    assert len(notes) == NOTES
    assert {"parent", "worker"} <= set(killed)
    assert deployed.rows(model).equals(expected)
    assert not (tmp_path / "locks" / f"extract-{deployed.key}.here").exists()
