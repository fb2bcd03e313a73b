"""The performance table of the README: every goal beside what was measured here, as Markdown.

`table.py [MTSAMPLES.csv.gz] [--output FILE] [--quick]`. Runs startup.py, extraction_speed.py and
ray_speed.py, which say how each figure is taken, and writes all of theirs into the file. It takes
most of an hour and a calm machine; `--quick` takes few notes and one turn, to try it out.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from extraction_speed import CNN, LEXICON, PROJECT, SOFTWARE

TO_PIPE_2, TO_PIPE_1, TO_LOOP = "stored_2/pipe_2", "stored_1/pipe_1", "end_to_end/loop"
OVER_SHARE = "one_percent_over_share"
HERE = Path(__file__).resolve().parent
QUICK = {
    "startup": ["--repeat=1", "--evaluations=1"],
    "extraction_speed": ["--notes=200", "--loop-notes=50", "--repeat=1", "--sizes=200"],
    "ray_speed": ["--notes=200", "--repeat=1"],
}
FULL = {
    "startup": [],
    "extraction_speed": ["--sizes=1000,10000,100000"],
    "ray_speed": [],
}


@dataclass(frozen=True, slots=True)
class Goal:
    """A line of the table; `path` leads to its number in the figures."""

    what: str
    path: tuple[str, ...]
    lowest: float | None = None
    highest: float | None = None
    unit: str = "times"

    def line(self, figures: dict[str, Any]) -> str:
        """The line as Markdown."""
        asked = f"at least {self.lowest:g}" if self.highest is None else f"at most {self.highest:g}"
        value: Any = figures
        for name in self.path:
            value = value[name]
        if value is None:
            return f"| {self.what} | {asked} {self.unit} | not measured | |"
        low = self.lowest is not None and value < self.lowest
        high = self.highest is not None and value > self.highest
        met = "no" if low or high else "yes"
        return f"| {self.what} | {asked} {self.unit} | {value:.3g} | {met} |"


RATIOS = ("extraction_speed", "ratios")
NIGHTLY = ("extraction_speed", "nightly")
SECONDS = ("startup", "seconds")
GOALS = (
    Goal(
        "CNN, two processes, beside `nlp.pipe(n_process=2)`", (*RATIOS, CNN, TO_PIPE_2), lowest=1.2
    ),
    Goal("CNN, one process, beside `nlp.pipe`", (*RATIOS, CNN, TO_PIPE_1), lowest=0.95),
    Goal("term list beside the tutorial's loop", (*RATIOS, LEXICON, TO_LOOP), lowest=10),
    Goal("CNN beside the tutorial's loop", (*RATIOS, CNN, TO_LOOP), lowest=3),
    Goal("term list, nothing changed", (*NIGHTLY, LEXICON, "unchanged"), highest=0.5, unit="s"),
    Goal("CNN, nothing changed", (*NIGHTLY, CNN, "unchanged"), highest=0.5, unit="s"),
    Goal(
        "term list, 1 % changed, less 3 % of all",
        (*NIGHTLY, LEXICON, OVER_SHARE),
        highest=2,
        unit="s",
    ),
    Goal("CNN, 1 % changed, less 3 % of all", (*NIGHTLY, CNN, OVER_SHARE), highest=2, unit="s"),
    Goal(
        "peak memory, 100,000 notes beside 10,000",
        ("extraction_speed", "memory", "ratio"),
        lowest=0.9,
        highest=1.1,
    ),
    Goal("`hc --help`", (*SECONDS, "hc_help"), highest=0.4, unit="s"),
    Goal(
        "`hc metrics` beside `import polars, deltalake`",
        ("startup", "ratios", "hc_metrics/bare_import"),
        highest=1.5,
    ),
    Goal("`make evaluate` after set-up", (*SECONDS, "evaluate"), highest=20, unit="s"),
    Goal("CNN on Ray, two actors beside one", ("ray_speed", "ray_2/ray_1"), lowest=1.7),
)


def main() -> None:
    """Run the benchmarks one after the other, print the table, write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, nargs="?")
    parser.add_argument("--output", type=Path, default=HERE / "figures.json")
    parser.add_argument("--quick", action="store_true")
    asked = parser.parse_args()
    figures: dict[str, Any] = {}
    for name, options in (QUICK if asked.quick else FULL).items():
        source = [] if asked.source is None or name == "startup" else [asked.source]
        figures[name] = run(name, [*source, *options])
        asked.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(table(figures))


def run(name: str, arguments: list[Any]) -> dict[str, Any]:
    """The figures of one benchmark."""
    print(f"{name}.py", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "figures.json"
        command = [sys.executable, HERE / f"{name}.py", *arguments, f"--output={output}"]
        subprocess.run(command, check=True, cwd=PROJECT)
        found: dict[str, Any] = json.loads(output.read_text(encoding="utf-8"))
    return found


def table(figures: dict[str, Any]) -> str:
    """The goals, then notes per second and peak memory by notes and processes, as Markdown."""
    rates = figures["extraction_speed"]["rates"]
    workers = sorted({rate["workers"] for rate in rates})
    sizes = sorted({rate["notes"] for rate in rates})
    by = {(rate["notes"], rate["workers"]): rate for rate in rates}
    lines = ["| | goal | measured | met |", "|---|---|---|---|"]
    lines += [goal.line(figures) for goal in GOALS]
    heads = [f"{number} process{'es' if number > 1 else ''}" for number in workers]
    lines += ["", f"| term list, notes/s (peak MB) | {' | '.join(heads)} |"]
    lines += ["|---" * (len(workers) + 1) + "|"]
    for size in sizes:
        cells = [by[size, number] for number in workers]
        told = [f"{cell['notes_per_second']:,.0f} ({cell['peak_mb']:,.0f})" for cell in cells]
        lines.append(f"| {size:,} notes | {' | '.join(told)} |")
    where = figures["extraction_speed"]["machine"]
    software = [f"{name} {where[name]}" for name in ("python", *SOFTWARE)]
    lines += ["", f"{where['cores']} cores; {', '.join(software)}"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
