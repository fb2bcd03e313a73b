"""The Ray engine on a real Ray: the rows of the local engine, also when an actor is killed."""

import threading
import time
from pathlib import Path
from typing import Self

import psutil
import pytest

from hc_orchestration.extraction.corpus import ExtractionOutcome, extract_corpus
from hc_orchestration.models.store import InstalledModel
from hc_orchestration.study import ExtractionSettings
from hc_orchestration_tests.extraction.deployment import Deployment

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = pytest.mark.integration

NOTES = {
    f"n{number:04}": f"Note {number}: " + "hypertension, " * (number % 9) for number in range(800)
}
ACTOR = "MapWorker(MapBatches(_Extracting))"


def extract_on_ray(deployed: Deployment, model: InstalledModel) -> ExtractionOutcome:
    settings = ExtractionSettings(engine="ray", processes=2)
    version = deployed.corpus.required().version
    return extract_corpus(model, version, deployed.entities, deployed.folder / "locks", settings)


class ActorKiller:
    """Kills the first actor process that it sees at work."""

    def __init__(self) -> None:
        self.killed = False
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.is_set() and not self.killed:
            time.sleep(0.05)
            for process in psutil.Process().children(recursive=True):
                if at_work(process):
                    process.kill()
                    self.killed = True
                    return


def at_work(process: psutil.Process) -> bool:
    """Whether this is an actor that has loaded the model; Ray writes what it does in its title."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    return ACTOR in title and "__init__" not in title


def test_rows_are_those_of_the_local_engine_although_an_actor_is_killed(tmp_path: Path) -> None:
    alone = Deployment(tmp_path / "alone")
    alone.folder.mkdir()
    alone.store(NOTES)
    expected = alone.model()
    alone.extract(expected, 1)

    deployed = Deployment(tmp_path)
    deployed.store(NOTES)
    model = deployed.model(pause=0.005)
    with ActorKiller() as killer:
        outcome = extract_on_ray(deployed, model)

    assert killer.killed
    assert (outcome.engine, outcome.processes, outcome.extracted) == ("ray", 2, 800)
    assert outcome.device == "cpu"
    assert deployed.rows(model).equals(alone.rows(expected))

    deployed.store({**NOTES, "n0003": "Another hypertension"})
    again = extract_on_ray(deployed, model)
    assert (again.reused, again.extracted) == (799, 1)
