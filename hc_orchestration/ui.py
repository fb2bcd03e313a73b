"""`hc ui`: the Dagster and MLflow pages and the Dagster daemon on loopback, as one command."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hc_orchestration.errors import HcError
from hc_orchestration.home import prepare_home
from hc_orchestration.processes import ProcessIdentity
from hc_orchestration.runs import make_dagster_stores
from hc_orchestration.settings import Settings
from hc_orchestration.tracking.client import MlflowStore, open_client

HOST = "127.0.0.1"
_MODULE = "hc_orchestration.definitions"
_LOCATION = ("-m", _MODULE)
_RELOAD_S = 120
_GRACE_S = 10.0


class UiError(HcError):
    """A page could not be started, or stopped by itself."""


@dataclass(frozen=True, slots=True)
class Service:
    """A process to run: its name (also of its log file), arguments, and the port it must answer."""

    name: str
    arguments: tuple[str, ...]
    port: int | None


def services(settings: Settings, dagster_port: int, mlflow_port: int) -> list[Service]:
    """The processes that this deployment needs; a remote MLflow server is left alone."""
    needed = [
        Service(
            "dagster-webserver",
            ("dagster_webserver", "-h", HOST, "-p", str(dagster_port), *_LOCATION),
            dagster_port,
        ),
        Service("dagster-daemon", ("hc_orchestration.daemon", "run", *_LOCATION), None),
    ]
    if settings.tracking_uri.startswith("sqlite:"):
        mlflow = ("mlflow", "server", "--host", HOST, "--port", str(mlflow_port), "--workers", "1")
        store = ("--backend-store-uri", settings.tracking_uri)
        needed.append(Service("mlflow", (*mlflow, *store), mlflow_port))
    return needed


def serve(settings: Settings, dagster_port: int, mlflow_port: int) -> None:
    """Run all services until Ctrl-C or until one of them stops.

    Raises:
        UiError: A port is taken, or a service stopped by itself; the message names its log.
    """
    prepare_home(settings)
    make_dagster_stores()
    open_client(MlflowStore(settings.tracking_uri, settings.home, settings.mlflow_url))
    wanted = services(settings, dagster_port, mlflow_port)
    for service in wanted:
        _refuse_taken_port(service)
    logs = settings.home / "logs"
    logs.mkdir(exist_ok=True)
    environment = {
        **os.environ,
        "HC_DAGSTER_URL": f"http://{HOST}:{dagster_port}",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    if settings.tracking_uri.startswith("sqlite:"):
        environment["HC_MLFLOW_URL"] = f"http://{HOST}:{mlflow_port}"
    with (
        _running(wanted, logs, environment) as processes,
        _announced(settings, dagster_port),
    ):
        sys.stderr.write(f"Dagster  http://{HOST}:{dagster_port}\n")
        sys.stderr.write(f"MLflow   {_mlflow_page(settings, environment)}\n")
        sys.stderr.write(f"Logs     {logs}\nCtrl-C stops all.\n")
        while True:
            for name, process in processes.items():
                if process.poll() is not None:
                    message = f"{name} stopped by itself; see {logs / name}.log"
                    raise UiError(message)
            time.sleep(0.5)


@contextmanager
def _announced(settings: Settings, dagster_port: int) -> Iterator[None]:
    """Leave word in HC_HOME who serves the Dagster page at which port."""
    note = _announcement(settings)
    said = {**ProcessIdentity.current().as_tags(), "dagster_port": str(dagster_port)}
    note.write_text(json.dumps(said), encoding="utf-8")
    try:
        yield
    finally:
        note.unlink(missing_ok=True)


def _announcement(settings: Settings) -> Path:
    return settings.home / "ui.json"


def running_page(settings: Settings) -> int | None:
    """Port of the Dagster page that `hc ui` serves for this HC_HOME on this machine, if it runs."""
    try:
        said = json.loads(_announcement(settings).read_text(encoding="utf-8"))
        port = int(said["dagster_port"])
        server = ProcessIdentity.from_tags(said)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    here = server is not None and server.host == socket.gethostname() and not server.gone
    return port if here else None


def reload_definitions(settings: Settings) -> str:
    """Have a running page read the catalogue anew; says what was done, or what is to do."""
    port = running_page(settings)
    if port is None:
        return (
            "no `hc ui` of this HC_HOME runs here. Whatever else serves these definitions reads "
            "the catalogue when it is started, or at Deployment > Reload in its page"
        )
    from dagster_graphql import DagsterGraphQLClient, DagsterGraphQLClientError
    from dagster_graphql import ReloadRepositoryLocationStatus as Status

    try:
        client = DagsterGraphQLClient(HOST, port_number=port, timeout=_RELOAD_S)
        told = client.reload_repository_location(_MODULE)
    except (DagsterGraphQLClientError, OSError) as error:
        why = type(error).__name__
    else:
        if told.status is Status.SUCCESS:
            return (
                f"reloaded at http://{HOST}:{port}. Its daemon follows within a minute; a backfill "
                "of a new model that is begun before that fails"
            )
        why = told.failure_type or "unknown reason"
    return f"not reloaded at http://{HOST}:{port} ({why}). Press Reload in Deployment there"


def _mlflow_page(settings: Settings, environment: Mapping[str, str]) -> str:
    """Where MLflow's page is; a database alone has none, and its URI is not shown."""
    if settings.tracking_uri.startswith("http") or "HC_MLFLOW_URL" in environment:
        return environment.get("HC_MLFLOW_URL", settings.mlflow_url)
    return "no page: the tracking store is a database; start `mlflow server` on it"


def _refuse_taken_port(service: Service) -> None:
    if service.port is None:
        return
    with socket.socket() as probe:
        if probe.connect_ex((HOST, service.port)) == 0:
            page = "dagster" if service.name.startswith("dagster") else "mlflow"
            message = f"port {service.port} is taken. Give another: hc ui --{page}-port NUMBER"
            raise UiError(message)


@contextmanager
def _running(
    wanted: list[Service], logs: Path, environment: Mapping[str, str]
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Start the services, each in a process group of its own; stop all of them in the end."""
    processes: dict[str, subprocess.Popen[bytes]] = {}
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        for service in wanted:
            with (logs / f"{service.name}.log").open("ab") as log:
                processes[service.name] = subprocess.Popen(  # noqa: S603 - our own arguments
                    [sys.executable, "-m", *service.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=dict(environment),
                    start_new_session=True,
                )
        yield processes
    finally:
        signal.signal(signal.SIGTERM, before)
        _stop(list(processes.values()))


def _stop(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        _signal_group(process, signal.SIGTERM)
    deadline = time.monotonic() + _GRACE_S
    for process in processes:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            _signal_group(process, signal.SIGKILL)
            process.wait()


def _signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return
