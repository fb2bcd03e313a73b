"""The figures of a model card: strict scores with their interval, size and speed."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import numpy as np

from hc_orchestration.corpora.notes import Note, Span
from hc_orchestration.models.loaders import NerModel

_RESAMPLES = 2000
_INTERVAL = (2.5, 97.5)
_SEED = 20


@dataclass(frozen=True, slots=True)
class StrictCounts:
    """Distinct mentions: in the gold, predicted, and both with the same boundary and label."""

    gold: int
    predicted: int
    correct: int

    @property
    def precision(self) -> float | None:
        """The share of the predictions that are right; None without predictions."""
        return self.correct / self.predicted if self.predicted else None

    @property
    def recall(self) -> float | None:
        """The share of the gold that was found; None without gold."""
        return self.correct / self.gold if self.gold else None

    @property
    def f1(self) -> float | None:
        """The harmonic mean of both; None without gold and predictions."""
        either = self.gold + self.predicted
        return 2 * self.correct / either if either else None


@dataclass(frozen=True, slots=True)
class Figures:
    """What a model did on some notes.

    Attributes:
        counts: By label, and `micro` for all labels.
        interval: 95 % of the micro F1, from resampled notes; None where F1 is.
        words_per_second: Words between white space, in one process.
    """

    counts: dict[str, StrictCounts]
    interval: tuple[float, float] | None
    words_per_second: float


def measure(model: NerModel, notes: Sequence[Note]) -> Figures:
    """Run the model over the notes and score it with the strict match on raw text.

    The interval is the percentile bootstrap over notes: mentions of one note are not independent.
    """
    texts = [note.text for note in notes]
    started = perf_counter()
    predictions = model.extract(texts)
    seconds = perf_counter() - started
    gold = [set(note.spans or ()) for note in notes]
    predicted = [{Span(*span[:3]) for span in found} for found in predictions]
    labels = {span.label for spans in [*gold, *predicted] for span in spans}
    per_note = [_counts(*pair) for pair in zip(gold, predicted, strict=True)]
    counts = {"micro": _total(per_note)}
    for label in sorted(labels):
        pairs = zip(_only(label, gold), _only(label, predicted), strict=True)
        counts[label] = _total([_counts(*pair) for pair in pairs])
    words = sum(len(text.split()) for text in texts)
    return Figures(counts, _interval(per_note), words / seconds)


def strict_counts(model: NerModel, notes: Sequence[Note]) -> dict[str, StrictCounts]:
    """Counts of the strict match on raw text, a label each and `micro` for all of them."""
    return measure(model, notes).counts


def _only(label: str, notes: Sequence[set[Span]]) -> list[set[Span]]:
    return [{span for span in spans if span.label == label} for spans in notes]


def _counts(gold: set[Span], predicted: set[Span]) -> tuple[int, int, int]:
    return len(gold), len(predicted), len(gold & predicted)


def _total(counts: Sequence[tuple[int, int, int]]) -> StrictCounts:
    return StrictCounts(*(sum(column) for column in zip(*counts, strict=True)))


def _interval(counts: Sequence[tuple[int, int, int]]) -> tuple[float, float] | None:
    values = np.array(counts, dtype=np.int64).reshape(-1, 3)
    chosen = np.random.default_rng(_SEED).integers(len(values), size=(_RESAMPLES, len(values)))
    sums = values[chosen].sum(axis=1)
    either = sums[:, 0] + sums[:, 1]
    if not either.all():
        return None
    low, high = np.percentile(2 * sums[:, 2] / either, _INTERVAL)
    return float(low), float(high)


def folder_bytes(folder: Path) -> int:
    """The size of all files below `folder`."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def figures_table(rows: Sequence[tuple[str, Figures]]) -> str:
    """The figures as Markdown, one line for each name of notes and label."""
    lines = [
        "| | label | gold | precision | recall | F1 | 95 % interval |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, figures in rows:
        for label, counts in figures.counts.items():
            is_micro = label == "micro"
            cells = [
                name if is_micro else "",
                "all" if is_micro else label,
                f"{counts.gold:,}",
                *map(_ratio, (counts.precision, counts.recall, counts.f1)),
                _range(figures.interval) if is_micro else "",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _ratio(value: float | None) -> str:
    return "\u2013" if value is None else f"{value:.3f}"


def _range(interval: tuple[float, float] | None) -> str:
    return "\u2013" if interval is None else f"{interval[0]:.3f} to {interval[1]:.3f}"
