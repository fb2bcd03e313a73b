"""How long importing the code location takes beside a bare `import dagster`: the ratio of medians.

A daemon imports the location anew every minute, so this is paid again and again. Both imports run
in fresh processes, in turns, so that a slow moment of the machine hits both.
"""

import statistics
import subprocess
import sys
import time

REPETITIONS = 11
PROGRAMS = {
    "import dagster": "import dagster",
    "import hc_orchestration.definitions": "import hc_orchestration.definitions",
}


def seconds(program: str) -> float:
    """Wall time in seconds of one fresh interpreter that runs `program`."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - begun


def main() -> None:
    """Print the medians and their ratio."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(REPETITIONS):
        for name, program in PROGRAMS.items():
            times[name].append(seconds(program))
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:40} {median:.3f} s (median of {REPETITIONS})")
    bare, ours = medians.values()
    print(f"{'ratio':40} {ours / bare:.2f}")


if __name__ == "__main__":
    main()
