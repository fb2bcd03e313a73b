"""Worker processes: the same rows as one process, and what happens when they die."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from filelock import FileLock

from hc_orchestration.errors import ModelError
from hc_orchestration.extraction import corpus
from hc_orchestration.extraction.results import Extracted
from hc_orchestration.extraction.workers import WorkerPool
from hc_orchestration.models.predictions import NoteText
from hc_orchestration_tests.extraction import deployment as deployment_module
from hc_orchestration_tests.extraction.deployment import LONG_WORDS, Deployment

pytestmark = pytest.mark.integration

NOTES = {
    f"n{number:03}": f"Note {number}: " + "hypertension, " * (number % 7) for number in range(90)
}
KILLED_BY_ABERNATHY = LONG_WORDS.replace(
    "time.sleep(self.pause)",
    "import os; 'Abernathy' in text and os.kill(os.getpid(), 9)",
)
DIES_AT_LOAD = LONG_WORDS.replace(
    'self.pause = options.get("pause", 0.0)', "import os; os.kill(os.getpid(), 9)"
)


@pytest.fixture
def deployed(tmp_path: Path) -> Deployment:
    return Deployment(tmp_path)


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [child for child in process.children() if "extraction.worker" in command(child)]


def command(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def test_two_processes_store_the_rows_that_one_does(deployed: Deployment, tmp_path: Path) -> None:
    deployed.store(NOTES)
    model = deployed.model()
    outcome = deployed.extract(model, 2)

    alone = Deployment(tmp_path / "alone")
    alone.folder.mkdir()
    alone.store(NOTES)
    assert alone.extract(alone.model(), 1).processes == 1
    assert (outcome.extracted, outcome.processes, outcome.lost) == (90, 2, 0)
    assert outcome.device == "cpu"
    assert deployed.rows(model).equals(alone.rows(alone.installed()))
    assert workers_of(psutil.Process()) == []


def test_extraction_over_all_cores_waits_for_another_and_says_so(
    deployed: Deployment, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    deployed.store(NOTES)
    model = deployed.model()
    monkeypatch.setattr(corpus, "processes_for", lambda *_: 2)
    caplog.set_level("INFO", "hc_orchestration")
    (deployed.folder / "locks").mkdir(exist_ok=True)
    with ThreadPoolExecutor() as pool:
        with FileLock(deployed.folder / "locks" / "extract.lock"):
            outcome = pool.submit(deployed.extract, model, "auto")
            with pytest.raises(TimeoutError):
                outcome.result(timeout=2)
            assert "words-1: waits for the cores; another" in caplog.text
            assert deployed.rows(model).is_empty()
        assert outcome.result(timeout=60).processes == 2
    assert deployed.rows(model).height == len(NOTES)


def test_note_that_kills_its_process_is_set_aside_and_only_that_one_is_run_again(
    deployed: Deployment,
) -> None:
    deployed.store({**NOTES, "n045x": "Mrs Abernathy takes metformin"})
    model = deployed.model(KILLED_BY_ABERNATHY)
    with pytest.raises(ModelError) as caught:
        deployed.extract(model, 2)

    said = str(caught.value)
    assert "could not process 1 of 91 notes: it ended its process (signal 9) on note n045x" in said
    assert "90 notes are stored" in said
    assert "Abernathy" not in said
    assert deployed.rows(model)["note_id"].to_list() == sorted(NOTES)

    deployed.store({**NOTES, "n045x": "Mrs A takes metformin"})
    mended = deployed.extract(model, 2)
    assert (mended.reused, mended.extracted) == (90, 1)


def test_process_that_died_with_the_model_in_it_leaves_it_to_a_process_of_its_own(
    deployed: Deployment, tmp_path: Path
) -> None:
    """Else the note that killed it would kill every later run, unnamed."""
    deployed.store({"n1": "hypertension", "n2": "Mrs Abernathy"})
    deployed.model(KILLED_BY_ABERNATHY)
    program = [sys.executable, "-m", deployment_module.__name__, str(tmp_path), "1"]
    first = subprocess.run(program, check=False, capture_output=True)
    second = subprocess.run(program, check=False, capture_output=True, text=True)

    assert first.returncode == -signal.SIGKILL
    assert "it ended its process (signal 9) on note n2" in second.stderr
    assert "Abernathy" not in second.stderr


def test_model_whose_process_dies_while_loading_is_an_error_and_no_endless_loop(
    deployed: Deployment,
) -> None:
    deployed.store(NOTES)
    model = deployed.model()
    (deployed.folder / "words.py").write_text(DIES_AT_LOAD, encoding="utf-8")
    with pytest.raises(ModelError, match=r"3 processes died loading it \(signal 9\)"):
        deployed.extract(model, 2)


def test_broken_contract_is_told_as_in_one_process(deployed: Deployment) -> None:
    deployed.store({"n1": "hypertension"})
    beyond = LONG_WORDS.replace("m.end(), m[0]", "m.end() + 99, m[0]")
    with pytest.raises(ModelError, match="outside note n1"):
        deployed.extract(deployed.model(beyond), 2)


def test_model_that_prints_shows_nothing(
    deployed: Deployment, capfd: pytest.CaptureFixture[str]
) -> None:
    deployed.store({"n1": "Mrs Abernathy"})
    deployed.extract(deployed.model(LONG_WORDS.replace("time.sleep(", "print(text, ")), 2)
    assert "Abernathy" not in "".join(capfd.readouterr())


def test_stopping_early_leaves_no_process(deployed: Deployment) -> None:
    notes = [[NoteText(f"n{number}", "hypertension", "digest")] for number in range(50)]
    with WorkerPool(deployed.model(pause=0.05), 2, notes) as pool:
        first = next(pool.extract())
        assert isinstance(first, Extracted)
        assert len(workers_of(psutil.Process())) == 2
    assert workers_of(psutil.Process()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_extraction_leaves_no_worker_and_goes_on_later(
    deployed: Deployment, tmp_path: Path, number: signal.Signals
) -> None:
    deployed.store(NOTES)
    model = deployed.model(pause=0.05)
    program = [sys.executable, "-m", deployment_module.__name__, str(tmp_path), "2"]
    process = subprocess.Popen(program, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    watched = psutil.Process(process.pid)
    deadline = time.monotonic() + 60
    while deployed.rows(model).is_empty() and time.monotonic() < deadline:
        time.sleep(0.05)
    workers = workers_of(watched)
    process.send_signal(number)
    process.wait(timeout=20)
    _, alive = psutil.wait_procs(workers, timeout=10)

    done = deployed.rows(model).height
    assert len(workers) == 2
    assert alive == []
    assert 0 < done < 90
    outcome = deployed.extract(deployed.installed(), 2)
    assert (outcome.reused, outcome.extracted) == (done, 90 - done)
