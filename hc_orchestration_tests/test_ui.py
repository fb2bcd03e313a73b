"""`hc ui`: which processes it starts, what it refuses, and that it stops all of them."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest

from hc_orchestration import ui
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.settings import Settings
from hc_orchestration.ui import (
    HOST,
    Service,
    UiError,
    reload_definitions,
    running_page,
    serve,
    services,
)
from hc_orchestration_tests.conftest import ABSENT, RULER, TERMS

STUBBORN = """
import pathlib, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path("stubborn.pid").write_text(str(__import__("os").getpid()))
time.sleep(120)
"""
ENDS = """
import pathlib, time
while not pathlib.Path("stubborn.pid").exists():
    time.sleep(0.05)
print("could not go on")
"""


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    probes = [socket.socket() for _ in range(number)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def test_a_local_deployment_needs_both_pages_and_the_daemon(settings: Settings) -> None:
    wanted = services(settings, 3001, 5001)

    assert [(service.name, service.port) for service in wanted] == [
        ("dagster-webserver", 3001),
        ("dagster-daemon", None),
        ("mlflow", 5001),
    ]
    for service in wanted:
        if service.port is not None:
            assert HOST in service.arguments
            assert str(service.port) in service.arguments
    assert settings.tracking_uri in wanted[2].arguments


def test_a_remote_mlflow_server_is_left_alone_and_its_uri_is_no_argument(
    settings: Settings,
) -> None:
    """Anybody on the machine can read the arguments of a process."""
    remote = replace(settings, tracking_uri="https://somebody:hunter2@mlflow.example")

    wanted = services(remote, 3001, 5001)

    assert [service.name for service in wanted] == ["dagster-webserver", "dagster-daemon"]
    assert "hunter2" not in str(wanted)


@pytest.mark.parametrize(
    ("taken", "option"), [("dagster", "--dagster-port"), ("mlflow", "--mlflow-port")]
)
def test_a_taken_port_is_refused_naming_the_option(
    settings: Settings, taken: str, option: str
) -> None:
    (free,) = free_ports(1)
    with socket.create_server((HOST, 0)) as other:
        port = other.getsockname()[1]
        ports = (port, free) if taken == "dagster" else (free, port)

        with pytest.raises(UiError, match=rf"port {port} is taken. Give another: hc ui {option}"):
            serve(settings, *ports)


@pytest.fixture
def two_services(settings: Settings, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """In the place of the real ones: a service that ends, and one that will not."""
    (tmp_path / "stubborn.py").write_text(STUBBORN, encoding="utf-8")
    (tmp_path / "ends.py").write_text(ENDS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    wanted = [Service("stubborn", ("stubborn",), None), Service("ends", ("ends",), None)]
    monkeypatch.setattr(ui, "services", lambda *_: wanted)
    monkeypatch.setattr(ui, "_GRACE_S", 0.3)
    assert settings.home.is_dir()
    return tmp_path


def test_a_service_that_ends_by_itself_is_named_with_its_log_and_ends_all(
    settings: Settings, two_services: Path
) -> None:
    handler = signal.getsignal(signal.SIGTERM)

    with pytest.raises(UiError, match=r"ends stopped by itself; see .*/logs/ends\.log"):
        serve(settings, 0, 0)

    log = (settings.home / "logs" / "ends.log").read_text(encoding="utf-8")
    assert log == "could not go on\n"
    assert not _alive(int((two_services / "stubborn.pid").read_text(encoding="utf-8")))
    assert signal.getsignal(signal.SIGTERM) == handler


def _alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be collected does not."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def _descendants(pid: int) -> set[int]:
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text(encoding="utf-8")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - our own page
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _wait_for_pages(process: subprocess.Popen[str], ports: list[int], logs: Path) -> None:
    deadline = time.monotonic() + 120
    waiting = [f"http://{HOST}:{port}/" for port in ports]
    while waiting:
        told = [path.read_text(encoding="utf-8")[-2_000:] for path in logs.glob("*.log")]
        assert process.poll() is None, told
        assert time.monotonic() < deadline, (waiting, told)
        waiting = [url for url in waiting if not _answers(url)]
        time.sleep(0.2)


def _partitions(port: int) -> list[str]:
    """The models that the page knows."""
    query = "{assetNodes {assetKey {path} partitionKeys}}"
    request = urllib.request.Request(
        f"http://{HOST}:{port}/graphql",
        data=json.dumps({"query": query}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        nodes = json.load(answer)["data"]["assetNodes"]
    return next(n["partitionKeys"] for n in nodes if n["assetKey"]["path"] == ["model_files"])


def test_without_a_page_it_is_said_what_is_to_be_reloaded(settings: Settings) -> None:
    assert "Deployment > Reload" in reload_definitions(settings)


def test_the_word_of_a_page_that_was_killed_is_not_believed(settings: Settings) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    gone = replace(ProcessIdentity.current(), pid=ended.pid)
    said = {**gone.as_tags(), "dagster_port": "3000"}
    (settings.home / "ui.json").write_text(json.dumps(said), encoding="utf-8")
    assert running_page(settings) is None


def test_a_page_that_does_not_answer_is_named(settings: Settings) -> None:
    (port,) = free_ports(1)
    said = {**ProcessIdentity.current().as_tags(), "dagster_port": str(port)}
    (settings.home / "ui.json").write_text(json.dumps(said), encoding="utf-8")
    told = reload_definitions(settings)
    assert told.startswith(f"not reloaded at http://{HOST}:{port} (")
    assert "Press Reload" in told


@pytest.mark.integration
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are found in /proc")
def test_both_pages_answer_show_a_new_model_at_once_and_stop_with_hc(settings: Settings) -> None:
    ports = free_ports(2)
    code = "from hc_orchestration.cli.app import main; main()"
    options = ["--dagster-port", str(ports[0]), "--mlflow-port", str(ports[1])]
    with subprocess.Popen(
        [sys.executable, "-c", code, "ui", *options],
        env=dict(os.environ),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        started: set[int] = set()
        try:
            _wait_for_pages(process, ports, settings.home / "logs")
            started = _descendants(process.pid)
            before = _partitions(ports[0])
            catalogue = settings.catalogue.read_text(encoding="utf-8")
            new = '  - {name: later, version: "1", loader: lexicon, source: {path: terms.tsv}}\n'
            settings.catalogue.write_text(catalogue + new, encoding="utf-8")
            told = reload_definitions(settings)
            after = _partitions(ports[0])
            process.send_signal(signal.SIGTERM)
            _, err = process.communicate(timeout=15)
        finally:
            process.kill()
            left = {pid for pid in started if _alive(pid)}
            for pid in left:
                os.kill(pid, signal.SIGKILL)

    assert (before, after) == ([TERMS, RULER, ABSENT], [TERMS, RULER, ABSENT, "later-1"])
    assert told.startswith(f"reloaded at http://{HOST}:{ports[0]}. Its daemon follows")
    assert running_page(settings) is None
    assert process.returncode == 130
    assert f"http://{HOST}:{ports[0]}" in err
    assert "Traceback" not in err
    assert len(started) >= 3
    assert left == set()
