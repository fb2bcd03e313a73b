"""Several processes at once: partitions do not disturb each other, rows and runs stay single."""

import os
import subprocess
import sys
import textwrap

import pytest

from hc_orchestration.settings import Settings
from hc_orchestration.storage.records import Status
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration_tests.conftest import RULER, TERMS
from hc_orchestration_tests.test_evaluation_chain import mlflow_runs

EVALUATE = textwrap.dedent("""
    import sys
    import dagster as dg
    from hc_orchestration.definitions import defs
    from hc_orchestration.home import prepare_home
    from hc_orchestration.runs import InProcessRuns
    from hc_orchestration.settings import Settings

    prepare_home(Settings.from_environment())
    with dg.DagsterInstance.get() as instance:
        outcome = InProcessRuns(defs, instance).run(*sys.argv[1:])
    sys.exit(0 if outcome.success else outcome.error)
""")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", EVALUATE, *arguments],
        env={**os.environ},
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(*processes: subprocess.Popen[str]) -> None:
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]


@pytest.mark.integration
def test_two_partitions_and_one_of_them_twice_at_once(settings: Settings) -> None:
    """On a store that nobody has used yet, so that creating it is part of the race."""
    (settings.home / "mlflow.db").unlink()
    finish(start("refresh_corpus"))

    finish(*(start("evaluate_model", key) for key in (TERMS, TERMS, RULER)))

    workspace = Workspace(settings)
    for key, evaluations in ((TERMS, 2), (RULER, 1)):
        records = workspace.records.of_model(key)
        assert [record.state for record in records] == [Status.FINISHED] * evaluations
        inputs = records[0].inputs
        assert inputs
        rows = workspace.entities.of_corpus(
            key, inputs.model_fingerprint, inputs.corpus_version, None
        ).collect()
        assert sorted(rows["note_id"]) == ["n1", "n2", "n3", "n4", "n5", "n6"]
        metrics = {str(record.metrics.values) for record in records if record.metrics}
        assert len(metrics) == 1
    runs = mlflow_runs(settings)
    assert sorted(run.info.run_name for run in runs) == [RULER, TERMS, TERMS]
    assert {run.info.status for run in runs} == {"FINISHED"}
