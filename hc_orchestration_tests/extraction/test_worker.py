"""The program of a worker process, at the end of a real connection."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from multiprocessing.connection import Connection, Pipe
from pathlib import Path

import pytest

from hc_orchestration.corpora.notes import text_digest
from hc_orchestration.extraction.results import Extracted, Failed
from hc_orchestration.extraction.worker import Ready, serve
from hc_orchestration.models.predictions import NoteText
from hc_orchestration.models.store import InstalledModel, ModelFile
from hc_orchestration_tests.extraction.deployment import LONG_WORDS, Deployment

NOTE = NoteText("n1", "Essential hypertension", "digest")


class Served:
    """A worker's program in a thread, and our end of the connection."""

    def __init__(self) -> None:
        self.ours, theirs = Pipe()
        self.abandoned = threading.Event()
        self._thread = threading.Thread(target=serve, args=(theirs, self.abandoned.set))
        self._thread.start()

    def ended(self) -> bool:
        self.ours.close()
        self._thread.join(timeout=10)
        return not self._thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    yield made
    assert made.ended()


def changed(deployed: Deployment, module: str) -> InstalledModel:
    """The model, its module replaced after it was looked at, as its files then tell."""
    model = deployed.model()
    (deployed.folder / "words.py").write_text(module, encoding="utf-8")
    file = ModelFile("words.py", len(module.encode()), text_digest(module))
    return replace(model, files=(file,))


def answer(connection: Connection) -> object:
    assert connection.poll(timeout=30)
    return connection.recv()


def test_worker_loads_then_answers_each_batch(served: Served, tmp_path: Path) -> None:
    served.ours.send(Deployment(tmp_path).model())
    assert answer(served.ours) == Ready("cpu", ())
    served.ours.send([NOTE])
    result = answer(served.ours)
    assert isinstance(result, Extracted)
    assert result.entities.labels == ("E", "H")
    assert result.entities.ends.tolist() == [9, 22]
    assert result.characters == 22


def test_worker_hears_when_it_is_abandoned(served: Served, tmp_path: Path) -> None:
    served.ours.send(Deployment(tmp_path).model())
    answer(served.ours)
    served.ours.close()
    assert served.abandoned.wait(timeout=10)


def test_model_that_cannot_be_loaded_is_told(served: Served, tmp_path: Path) -> None:
    served.ours.send(changed(Deployment(tmp_path), "LongWords = None"))
    failed = answer(served.ours)
    assert isinstance(failed, Failed)
    assert "words:LongWords failed: TypeError" in failed.message


def test_unforeseen_error_is_told_by_its_class_only(served: Served, tmp_path: Path) -> None:
    served.ours.send(Deployment(tmp_path).model())
    answer(served.ours)
    served.ours.send([NOTE, "Mrs Abernathy is no note"])
    assert answer(served.ours) == Failed("the worker process failed (AttributeError).")


def test_what_the_loader_warned_of_is_told(served: Served, tmp_path: Path) -> None:
    warning = 'import logging\nlogging.getLogger("hc_orchestration.x").warning("old weights")\n'
    served.ours.send(changed(Deployment(tmp_path), warning + LONG_WORDS))
    assert answer(served.ours) == Ready("cpu", ("old weights",))
