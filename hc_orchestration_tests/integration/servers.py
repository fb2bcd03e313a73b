"""A real MLflow server with login on a real PostgreSQL, which tests may kill and bring back."""

import base64
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

USER, PASSWORD = "admin", "a-long-enough-password"


def free_port() -> int:
    """A port of loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens on a port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class ObjectStore:
    """An S3 store (moto) in a process of its own, with one bucket; tells what it was asked for."""

    def __init__(self, folder: Path, bucket: str) -> None:
        self._log = folder / "requests"
        self._bucket = bucket
        port = free_port()
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        until = time.monotonic() + 60
        while not answers(port):
            assert time.monotonic() < until, "moto did not start"
            time.sleep(0.1)
        self._bucket_of_ours.create()

    def requests(self) -> list[str]:
        """A line for each request so far."""
        lines = self._log.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if " HTTP/1.1" in line]

    def empty(self) -> None:
        """Delete all objects."""
        self._bucket_of_ours.objects.all().delete()

    @contextlib.contextmanager
    def in_environment(self) -> Iterator[Self]:
        """Its address and keys in the environment; killed at the end."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield self
        self._process.kill()
        self._process.wait()

    @property
    def _bucket_of_ours(self) -> Any:
        import boto3

        key, secret = (
            self.environment[name] for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
        )
        return boto3.resource(
            "s3",
            endpoint_url=self.environment["AWS_ENDPOINT_URL"],
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            region_name=self.environment["AWS_REGION"],
        ).Bucket(self._bucket)


class MlflowServer:
    """`mlflow server` with basic-auth on PostgreSQL; artifacts go through the server."""

    def __init__(self, folder: Path, database: str, artifacts: str | None = None) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.folder = folder
        self.database = database
        self._artifacts = artifacts or str(folder / "artifacts")
        self._process: subprocess.Popen[bytes] | None = None
        auth = Path(folder / "auth.ini")
        auth.write_text(
            f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{folder}/auth.db\n"
            f"admin_username = {USER}\nauth_cache_ttl_seconds = 60\n"
            "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\n",
            encoding="utf-8",
        )

    def start(self) -> None:
        """Start it and wait until it answers."""
        self.launch()
        self.await_health()

    def launch(self) -> None:
        """Start it; it answers a while later."""
        environment = {
            **os.environ,
            "MLFLOW_AUTH_CONFIG_PATH": str(self.folder / "auth.ini"),
            "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": "only-for-tests",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        arguments = ["--app-name", "basic-auth", "--host", "127.0.0.1", "--port", str(self.port)]
        arguments += ["--workers", "1", "--backend-store-uri", self.database]
        arguments += ["--artifacts-destination", self._artifacts]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *arguments],
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def await_health(self) -> None:
        """Wait until it answers; kill it when it does not."""
        assert self._process, "it was not launched"
        try:
            self._wait(self._process, time.monotonic() + 240)
        except BaseException:
            self.kill()
            raise

    def _wait(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while not self._healthy():
            assert process.poll() is None, (self.folder / "server.log").read_text()[-2000:]
            assert time.monotonic() < deadline, "the MLflow server did not answer in time"
            time.sleep(0.2)

    def kill(self) -> None:
        """Kill the server and its workers at once, as a power cut would."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _healthy(self) -> bool:
        """Whether it answers to somebody who is logged in, so that its databases are there too."""
        login = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(  # noqa: S310 - our own loopback address
            f"{self.uri}/api/2.0/mlflow/experiments/get?experiment_id=0",
            headers={"Authorization": f"Basic {login}"},
        )
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:  # noqa: S310
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False
