"""One model's partition backfilled through the webserver's GraphQL, with a running daemon."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import CATALOGUE, RULER, TERMS
from hc_orchestration_tests.integration.servers import answers, free_port

NEW = "added-1.0"
CHAIN = ("model_files", "extracted_entities", "evaluation_metrics", "provenance")
BACKFILL = """
mutation($params: LaunchBackfillParams!) {
  launchPartitionBackfill(backfillParams: $params) {
    __typename
    ... on LaunchBackfillSuccess { backfillId }
    ... on PythonError { message }
  }
}
"""
STATUS = """
query($id: String!) {
  partitionBackfillOrError(backfillId: $id) {
    __typename
    ... on PartitionBackfill { status }
  }
}
"""


def graphql(port: int, query: str, variables: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({"query": query, "variables": variables}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/graphql", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        data: dict[str, Any] = json.load(answer)["data"]
    return data


def wait_until(what: Callable[[], bool], seconds: float, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert process.poll() is None, "hc ui stopped by itself"
        assert time.monotonic() < deadline, f"nothing came within {seconds} s"
        time.sleep(0.5)


@pytest.fixture
def ui(settings: Settings) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`hc ui` of a deployment whose catalogue just got one more model."""
    added = "  - {name: added, version: '1.0', loader: lexicon, source: {path: added.tsv}}\n"
    settings.catalogue.write_text(CATALOGUE + added, encoding="utf-8")
    (settings.catalogue.parent / "added.tsv").write_text("DISEASE\tgout\n", encoding="utf-8")
    port = free_port()
    hc = Path(sys.executable).with_name("hc")
    process = subprocess.Popen(
        [str(hc), "ui", "--dagster-port", str(port), "--mlflow-port", str(free_port())],
        env={**os.environ},
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        wait_until(lambda: answers(port), 90, process)
        yield port, process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


@pytest.mark.integration
def test_a_new_model_is_backfilled_alone(
    settings: Settings,
    run_job: Callable[..., dg.ExecuteInProcessResult],
    ui: tuple[int, subprocess.Popen[bytes]],
) -> None:
    port, process = ui
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success
    before = Workspace(settings).records.of_model(TERMS)

    launched = graphql(
        port,
        BACKFILL,
        {
            "params": {
                "assetSelection": [{"path": [name]} for name in CHAIN],
                "partitionNames": [NEW],
            }
        },
    )["launchPartitionBackfill"]
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def over() -> bool:
        found = graphql(port, STATUS, {"id": launched["backfillId"]})["partitionBackfillOrError"]
        assert found["status"] not in {"COMPLETED_FAILED", "CANCELED", "FAILED"}, found
        return bool(found["status"] == "COMPLETED_SUCCESS")

    wait_until(over, 150, process)

    workspace = Workspace(settings)
    (record,) = workspace.records.of_model(NEW)
    assert record.state is Status.FINISHED
    assert record.run
    assert record.run.backfill_id == launched["backfillId"]
    assert record.metrics
    assert record.metrics.values["strict.recall"] == pytest.approx(2 / 7)  # gout, in n2 and n4
    assert workspace.records.of_model(TERMS) == before
    assert workspace.records.of_model(RULER) == []
