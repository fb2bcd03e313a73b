"""A real FHIR R4 server in memory (Medplum's router on Node), for tests of what is sent to one."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from hc_orchestration_tests.node import node_command


@contextmanager
def running_fhir_server(*options: str) -> Iterator[str]:
    """A server of its own, empty; gives its base URL.

    Transactions, `ifNoneExist` and search by reference, token and `_tag` work. A resource that is
    not valid R4 is refused; what a failed transaction wrote before that is not undone: there is no
    database.

    Args:
        options: `--batch` takes a transaction as a batch, so that an entry may fail inside an
            answer of 200; `--delay SECONDS` before each answer; `--token TOKEN` that requests must
            bear.
    """
    command = [*node_command("server.mjs"), *options]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        assert port, "the FHIR server did not start"
        try:
            yield f"http://127.0.0.1:{port}/fhir"
        finally:
            process.kill()


@pytest.fixture(scope="module")
def fhir_server() -> Iterator[str]:
    """The base URL of a server that the tests of a module share."""
    with running_fhir_server() as url:
        yield url
