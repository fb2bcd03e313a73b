"""What the quick commands do not wait for: packages that they have no use for."""

import subprocess
import sys

import pytest

HEAVY = ("dagster", "mlflow", "spacy", "scipy", "fhir", "pandas", "matplotlib")


@pytest.mark.parametrize(
    ("modules", "unused"),
    [
        ("hc_orchestration.cli.app", (*HEAVY, "polars", "deltalake", "pydantic", "rich.console")),
        (
            "hc_orchestration.reporting.scores, hc_orchestration.reporting.metadata",
            (*HEAVY, "numpy", "pyarrow"),
        ),
        ("hc_orchestration.extraction.worker", (*HEAVY, "polars", "deltalake")),
    ],
)
def test_importing_a_command_loads_no_package_that_it_does_not_use(
    modules: str, unused: tuple[str, ...]
) -> None:
    program = f"import sys, {modules}; print(*sorted(set({unused!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == []
