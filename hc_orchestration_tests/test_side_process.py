"""`hc evaluate` in several processes: real ones, and what is left when one of them is stopped."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
import psutil
import pytest

from hc_orchestration.errors import EvaluationError
from hc_orchestration.extraction.sizing import Machine
from hc_orchestration.settings import Settings
from hc_orchestration.side_process import SideProcess, Task, worthwhile
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.tracking.client import MlflowStore, open_client
from hc_orchestration_tests.calling import started

GIB = 2**30
PATIENT = """
import os, time
from pathlib import Path

HERE = Path(__file__).parent

class Patient:
    \"\"\"Says which process has it, and waits until it may go on.\"\"\"

    def __init__(self, options):
        self.name = options["name"]

    def extract(self, texts):
        begun = HERE / f"begun-{self.name}"
        new = HERE / f"new-{self.name}"
        new.write_text(str(os.getpid()))
        new.replace(begun)
        while not (HERE / f"go-{self.name}").exists():
            time.sleep(0.05)
        return [[(0, 1, "DISEASE")] for _ in texts]
"""
FIRST, SECOND = "first-1", "second-1"
OPEN = [
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.CANCELING,
]


class Patients:
    """A deployment with two models that wait, and `hc evaluate` on it."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.folder = settings.catalogue.parent
        (self.folder / "patient.py").write_text(PATIENT, encoding="utf-8")
        models = [
            {"name": name, "version": "1", "loader": "patient:Patient", "options": {"name": name}}
            for name in ("first", "second")
        ]
        settings.catalogue.write_text(json.dumps({"models": models}), encoding="utf-8")

    @contextmanager
    def evaluated(self) -> Iterator["subprocess.Popen[str]"]:
        """`hc evaluate --json`, once both models have begun."""
        with started("evaluate", "--json") as process:
            try:
                deadline = time.monotonic() + 90
                while len(self.processes()) < 2:
                    assert process.poll() is None, process.communicate()
                    assert time.monotonic() < deadline, "the models never began"
                    time.sleep(0.1)
                yield process
            finally:
                for pid in self.processes().values():
                    if psutil.pid_exists(pid):
                        os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[str, int]:
        """The pid that each model began in."""
        begun = self.folder.glob("begun-*")
        return {f"{file.name.removeprefix('begun-')}-1": int(file.read_text()) for file in begun}

    def may_go_on(self, *keys: str) -> None:
        for key in keys:
            (self.folder / f"go-{key.removesuffix('-1')}").touch()

    def state(self, key: str) -> Status:
        (record,) = Workspace(self.settings).records.of_model(key)
        return record.state


def mlflow_process(process: "subprocess.Popen[str]") -> psutil.Process:
    """The process of `hc evaluate` that writes into MLflow."""
    children = psutil.Process(process.pid).children()
    (found,) = (child for child in children if "tracking.beside" in " ".join(child.cmdline()))
    return found


@pytest.fixture
def patients(settings: Settings) -> Patients:
    return Patients(settings)


@pytest.mark.integration
def test_two_models_are_evaluated_at_once_and_each_run_names_its_process(
    patients: Patients, instance: dg.DagsterInstance
) -> None:
    with patients.evaluated() as process:
        began_in = patients.processes()
        patients.may_go_on(FIRST, SECOND)
        out, err = process.communicate(timeout=90)

    assert process.returncode == 0, err
    assert len(set(began_in.values())) == 2
    document = json.loads(out)
    assert [model["key"] for model in document["models"]] == [FIRST, SECOND]
    assert {model["status"] for model in document["models"]} == {"evaluated"}
    assert sorted(row["key"] for row in document["comparison"]) == [FIRST, SECOND]
    assert all(f"evaluating {key}" in err for key in (FIRST, SECOND))
    for model in document["models"]:
        run = instance.get_run_by_id(model["dagster_run_id"])
        assert run is not None
        assert run.tags["hc.pid"] == str(began_in[model["key"]])
        assert patients.state(model["key"]) is Status.FINISHED


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_hc_stops_both_and_closes_what_they_began(
    patients: Patients, instance: dg.DagsterInstance, number: signal.Signals
) -> None:
    with patients.evaluated() as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)

    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert {model["status"] for model in json.loads(out)["models"]} == {"failed"}
    assert {patients.state(key) for key in (FIRST, SECOND)} == {Status.KILLED}
    assert instance.get_runs(filters=dg.RunsFilter(statuses=OPEN)) == []


@pytest.mark.integration
def test_a_side_process_that_dies_fails_its_model_and_no_other(
    patients: Patients, instance: dg.DagsterInstance
) -> None:
    with patients.evaluated() as process:
        began_in = patients.processes()
        (died,) = (key for key, pid in began_in.items() if pid != process.pid)
        os.kill(began_in[died], signal.SIGKILL)
        patients.may_go_on(FIRST, SECOND)
        out, err = process.communicate(timeout=90)

    assert process.returncode == 1, err
    document = json.loads(out)
    by_key = {model["key"]: model for model in document["models"]}
    other = by_key[FIRST if died == SECOND else SECOND]
    assert (other["status"], by_key[died]["status"]) == ("evaluated", "failed")
    assert by_key[died]["error"] == "the process that ran it died (signal 9)"
    assert patients.state(died) is Status.FAILED
    run = instance.get_run_by_id(by_key[died]["dagster_run_id"])
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE


@pytest.mark.integration
def test_a_killed_mlflow_process_is_missed_by_nobody(patients: Patients) -> None:
    with patients.evaluated() as process:
        mlflow_process(process).kill()
        patients.may_go_on(FIRST, SECOND)
        out, err = process.communicate(timeout=90)

    assert process.returncode == 0, err
    models = json.loads(out)["models"]
    assert {model["status"] for model in models} == {"evaluated"}
    client = open_client(
        MlflowStore(patients.settings.tracking_uri, patients.settings.home, "http://mlflow")
    )
    for model in models:
        assert client.get_run(model["mlflow_run_id"]).info.status == "FINISHED"
        assert patients.state(model["key"]) is Status.FINISHED


@pytest.mark.integration
def test_processes_whose_first_one_is_killed_close_its_run_and_end(
    patients: Patients, instance: dg.DagsterInstance
) -> None:
    with patients.evaluated() as process:
        began_in = patients.processes()
        (key,) = (key for key, pid in began_in.items() if pid != process.pid)
        side = psutil.Process(began_in[key])
        mlflow = mlflow_process(process)
        process.kill()
        process.wait()
        for left in (side, mlflow):
            assert left.wait(timeout=60) is None  # somebody else's child: how it ended is not told

    assert patients.state(key) is Status.KILLED
    (run,) = instance.get_runs(filters=dg.RunsFilter(tags={"hc.pid": str(side.pid)}))
    assert run.status is dg.DagsterRunStatus.FAILURE


@pytest.mark.integration
def test_a_run_that_cannot_begin_in_the_side_process_is_told_in_safe_words(
    patients: Patients, instance: dg.DagsterInstance
) -> None:
    del instance  # its stores are made
    broken = patients.settings.study.read_text(encoding="utf-8").replace("labels:", "lables:")
    tasks = iter([Task(FIRST, "0" * 36)])
    with SideProcess(patients.settings, lambda _: None) as beside:
        patients.settings.study.write_text(broken, encoding="utf-8")
        beside.open_home()
        beside.begin(lambda: next(tasks, None))
        with pytest.raises(EvaluationError, match="lables"):
            beside.finish()

    assert beside.outcomes == {}
    assert beside.died is None


@pytest.mark.parametrize(
    ("models", "machine", "useful"),
    [
        (2, Machine(2, 8 * GIB), True),
        (1, Machine(2, 8 * GIB), False),
        (0, Machine(2, 8 * GIB), False),
        (3, Machine(1, 8 * GIB), False),
        (3, Machine(8, GIB), False),
    ],
)
def test_a_second_process_is_for_several_models_and_a_machine_with_room(
    models: int, machine: Machine, *, useful: bool
) -> None:
    assert worthwhile(models, machine) is useful
