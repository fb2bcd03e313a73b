"""The Ray engine on real Rays: the rows of the local engine, whatever is killed on the way."""

import contextlib
import csv
import gzip
import io
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import dagster as dg
import polars as pl
import psutil
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.models.catalogue import load_catalogue
from hc_orchestration.models.store import InstalledModel, installed_model
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import NOTES as SMALL_CORPUS
from hc_orchestration_tests.conftest import TERMS
from hc_orchestration_tests.extraction import deployment as deployment_module
from hc_orchestration_tests.extraction.deployment import LONG_WORDS, Deployment

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.integration, pytest.mark.xdist_group("ray")]

PROJECT = Path(__file__).resolve().parents[2]
MTSAMPLES = PROJECT.parent / "shared" / "corpora" / "mtsamples.csv.gz"
LEXICON = "bc5cdr_terms-1.0.0"
NOTES = {
    f"n{number:04}": f"Note {number}: " + "hypertension, " * (number % 100) for number in range(800)
}
ACTOR = "MapWorker(MapBatches(_Extracting))"
AGENT = "Agent"  # two idle processes of a node, which end a minute after it
NOTICED_SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
PATIENCE_S = 60.0

TELLS = """
class LongWords(LongWords):
    def words(self, text):
        with open(__file__ + ".told", "a") as told:
            told.write(text.partition(":")[0].removeprefix("Note ") + "\\n")
        return super().words(text)
"""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """The rows of `NOTES` by the local engine."""
    alone = Deployment(tmp_path_factory.mktemp("alone"))
    alone.store(NOTES)
    model = alone.model()
    alone.extract(model, 1)
    return alone.rows(model)


@pytest.fixture
def deployed(tmp_path: Path) -> Deployment:
    deployed = Deployment(tmp_path)
    deployed.store(NOTES)
    return deployed


class Killer:
    """Kills, while something else runs, the process that `victim` gives as soon as it gives one."""

    def __init__(self, victim: Callable[[], psutil.Process | None]) -> None:
        self.killed: psutil.Process | None = None
        self._victim = victim
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            victim = self._victim()
            if victim is not None:
                victim.kill()
                self.killed = victim
                return


def actor_at_work(of: psutil.Process) -> psutil.Process | None:
    """An actor among the descendants that has loaded the model; its title says what it does."""
    titles = ((process, title(process)) for process in descendants(of))
    return next((p for p, does in titles if ACTOR in does and "__init__" not in does), None)


def title(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return ""


def descendants(of: psutil.Process) -> list[psutil.Process]:
    try:
        return of.children(recursive=True)
    except psutil.Error:
        return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run; one that only waits to be buried by its parent does not."""
    left = []
    for process in processes:
        with contextlib.suppress(psutil.Error):
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                left.append(process)
    return left


def wait_until(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until, f"not in time: {what}"
        time.sleep(0.05)


@pytest.mark.skipif(not MTSAMPLES.is_file(), reason="MTSamples is not on this machine")
def test_rows_are_those_of_the_local_engine_on_mtsamples(tmp_path: Path) -> None:
    content = gzip.decompress(MTSAMPLES.read_bytes()).decode("utf-8")
    rows = csv.DictReader(io.StringIO(content, newline=""))
    texts = dict.fromkeys(row["transcription"] for row in rows if row["transcription"].strip())
    notes = {f"note-{number:04}": text for number, text in enumerate(texts)}
    model = shipped(LEXICON)
    found = []
    for engine in ("local", "ray"):
        folder = tmp_path / engine
        folder.mkdir()
        one = Deployment(folder)
        one.key = LEXICON
        one.store(notes)
        assert one.extract(model, 2, engine=engine).extracted == 2_357
        found.append(one.rows(model))

    assert found[0].height == 2_357
    assert found[0]["spans"].list.len().sum() > 10_000
    assert found[1].equals(found[0])


def shipped(key: str) -> InstalledModel:
    catalogue = load_catalogue(PROJECT / "data" / "models.yaml")
    return installed_model(catalogue.entry(key), PROJECT / "data" / "models")


@pytest.mark.parametrize("cpus", [1, 2, 4])
def test_an_actor_a_cpu_starves_nothing_and_a_killed_one_costs_no_row(
    deployed: Deployment, undisturbed: pl.DataFrame, cpus: int
) -> None:
    import ray

    model = deployed.model(pause=0.005)
    ray.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False)
    try:
        with Killer(lambda: actor_at_work(psutil.Process())) as killer:
            outcome = deployed.extract(model, "auto", engine="ray")
        assert ray.is_initialized()
    finally:
        ray.shutdown()

    assert killer.killed
    assert (outcome.engine, outcome.processes, outcome.extracted) == ("ray", cpus, 800)
    assert outcome.device == "cpu"
    assert deployed.rows(model).equals(undisturbed)


def test_a_killed_driver_leaves_nothing_running_and_its_rows_are_not_extracted_again(
    deployed: Deployment, undisturbed: pl.DataFrame, tmp_path: Path
) -> None:
    model = deployed.model(LONG_WORDS + TELLS, pause=0.01)
    told = tmp_path / "words.py.told"
    program = [sys.executable, "-m", deployment_module.__name__, str(tmp_path), "2", "ray"]
    with (tmp_path / "stderr").open("w") as stderr:
        driver = subprocess.Popen(program, stderr=stderr)
    try:
        wait_until(lambda: deployed.rows(model).height > 0, "a first commit")
        family = [p for p in descendants(psutil.Process(driver.pid)) if AGENT not in title(p)]
    finally:
        driver.kill()
        driver.wait()
    assert len(family) > 4
    wait_until(lambda: not alive(family), "the end of the driver's Ray")
    committed = set(deployed.rows(model)["note_id"])
    before = told.read_text().splitlines()

    outcome = deployed.extract(model, 2, engine="ray")

    again = [f"n{int(number):04}" for number in told.read_text().splitlines()[len(before) :]]
    assert 0 < len(committed) < 800
    assert (outcome.reused, outcome.extracted) == (len(committed), 800 - len(committed))
    assert sorted(again) == sorted(set(NOTES) - committed)
    assert deployed.rows(model).equals(undisturbed)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head of one CPU on this machine, for Ray Client too; nodes can be added."""
    from ray.cluster_utils import Cluster

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    head = {"num_cpus": 1, "include_dashboard": False, "ray_client_server_port": port}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S", "150")  # 30 on a busy machine
        patch.setenv("GRPC_ENABLE_FORK_SUPPORT", "false")  # as in deploy/raycluster.yaml
        running = Cluster(
            initialize_head=True, head_node_args={**head, "_system_config": NOTICED_SOON}
        )
    try:
        yield running
    finally:
        running.shutdown()


def test_a_killed_node_costs_no_row(
    deployed: Deployment, undisturbed: pl.DataFrame, cluster: Any
) -> None:
    node = cluster.add_node(num_cpus=1)
    (raylet,) = node.all_processes["raylet"]
    second = psutil.Process(raylet.process.pid)
    model = deployed.model(pause=0.01)
    with Killer(lambda: second if actor_at_work(second) else None) as killer:
        outcome = deployed.extract(model, "auto", engine="ray", ray_address=cluster.address)

    assert killer.killed == second
    assert [one["Alive"] for one in cluster.global_state.node_table()].count(True) == 1
    assert (outcome.processes, outcome.extracted) == (2, 800)
    assert deployed.rows(model).equals(undisturbed)


def test_a_cluster_of_dagster_ray_is_the_one_that_extracts(
    settings: Settings, instance: dg.DagsterInstance, cluster: Any
) -> None:
    """It connects as its KubeRay resources do: Ray Client, from the start of the run to its end."""
    import ray
    from dagster_ray import RayResource

    class Running(RayResource):
        host: ClassVar[str] = "127.0.0.1"
        name: ClassVar[str] = "running"
        created: ClassVar[bool] = True
        ready: ClassVar[bool] = True

    study = settings.study.read_text(encoding="utf-8")
    settings.study.write_text(study + "extraction: {engine: ray, processes: 2}\n", encoding="utf-8")
    resource = Running(
        redis_port=cluster.head_node._ray_params.ray_client_server_port,
        ray_init_options={"log_to_driver": False},
    )
    definitions = build_definitions(settings, {"ray_cluster": resource})
    before = set(cluster.global_state.actor_table(None, None, None))

    for job, key in (("refresh_corpus", None), ("evaluate_model", TERMS)):
        made = definitions.resolve_job_def(job)
        assert made.execute_in_process(instance=instance, partition_key=key).success

    (record,) = Workspace(settings).records.of_model(TERMS)
    assert record.extraction
    assert (record.extraction.engine, record.extraction.processes) == ("ray", 2)
    assert record.extraction.extracted == len(SMALL_CORPUS)
    assert not ray.is_initialized()
    assert len(set(cluster.global_state.actor_table(None, None, None)) - before) >= 2
