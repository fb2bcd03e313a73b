"""How long commands take that compute little, beside a bare import of what they read tables with.

`startup.py [--repeat N] [--evaluations N] [--output FILE]`. `hc evaluate` in a new HC_HOME, then in
the same, is what `make evaluate` does after set-up. The others take turns in an HC_HOME with one
evaluation of the shipped corpus; `hc metrics` also where it cannot use what it found last time.
Each is a process of its own, and the figures are medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from extraction_speed import PROJECT, machine

HC = Path(sys.executable).parent / "hc"
COMMANDS = {
    "bare_import": [sys.executable, "-c", "import polars, deltalake"],
    "hc_help": [HC, "--help"],
    "hc_metrics_anew": [HC, "metrics"],
    "hc_metrics": [HC, "metrics"],
    "code_location": [sys.executable, "-c", "import hc_orchestration.definitions"],
    "import_dagster": [sys.executable, "-c", "import dagster"],
}


def main() -> None:
    """Take the figures in turns, print and write them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=11)
    parser.add_argument("--evaluations", type=int, default=3)
    parser.add_argument("--output", type=Path)
    asked = parser.parse_args()
    figures: dict[str, Any] = {"machine": machine()}
    turns: dict[str, list[float]] = {name: [] for name in ("evaluate", "evaluate_again", *COMMANDS)}
    for _ in range(asked.evaluations):
        with tempfile.TemporaryDirectory() as home:
            for name in ("evaluate", "evaluate_again"):
                turns[name].append(seconds([HC, "evaluate"], home))
    with tempfile.TemporaryDirectory() as home:
        seconds([HC, "evaluate"], home)
        for _ in range(asked.repeat):
            for name, command in COMMANDS.items():
                if name == "hc_metrics_anew":
                    (Path(home) / "cache" / "scores.json").unlink(missing_ok=True)
                turns[name].append(seconds(command, home))
    medians = {name: round(statistics.median(values), 3) for name, values in turns.items()}
    ratios = {
        "hc_metrics/bare_import": round(medians["hc_metrics"] / medians["bare_import"], 2),
        "hc_metrics_anew/bare_import": round(
            medians["hc_metrics_anew"] / medians["bare_import"], 2
        ),
        "code_location/import_dagster": round(
            medians["code_location"] / medians["import_dagster"], 2
        ),
    }
    figures |= {"turns": turns, "seconds": medians, "ratios": ratios, "load_after": os.getloadavg()}
    for name, value in {**medians, **ratios}.items():
        print(f"{name:30} {value}")
    print(f"load average: {figures['machine']['load_before']} to {figures['load_after']}")
    if asked.output:
        asked.output.write_text(json.dumps(figures, indent=1), encoding="utf-8")


def seconds(command: list[Any], home: str) -> float:
    """Wall time of one process that succeeds."""
    environment = {**os.environ, "HC_HOME": home}
    begun = time.perf_counter()
    subprocess.run(command, check=True, cwd=PROJECT, env=environment, capture_output=True)
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
