"""Scoring a million spans in four modes beside nervaluate, and the cost of the intervals.

    .venv/bin/python benchmarks/scoring_speed.py

nervaluate walks every pair of spans of a note in Python, so it is run on a part of the notes; its
time for all of them is extrapolated in proportion to the notes, which have equally many spans.
Each figure is in seconds of processor time, the best of ten runs, of nervaluate's of three.
"""

import resource
import time
from collections.abc import Callable

import numpy as np
import polars as pl

from hc_orchestration.scoring.bootstrap import RESAMPLES, Resampling, score_intervals
from hc_orchestration.scoring.counts import MODES, SpanIndex, note_counts
from hc_orchestration.scoring.scores import Layout

SPANS = 1_000_000
NOTES = 50_000
NOTES_FOR_NERVALUATE = 5_000
NOTES_FOR_INTERVALS = 10_000
LABELS = ("CHEMICAL", "DISEASE", "GENE")


def draw_spans(notes: int, spans: int, seed: int) -> pl.DataFrame:
    """Distinct spans in notes of about 3,000 characters."""
    draw = np.random.default_rng(seed)
    start = draw.integers(0, 3_000, spans)
    frame = pl.DataFrame(
        {
            "note": draw.integers(0, notes, spans),
            "start": start,
            "end": start + draw.integers(3, 30, spans),
            "label": pl.Series(LABELS).gather(draw.integers(0, len(LABELS), spans)),
        }
    )
    named = frame.with_columns(note_id=pl.format("note-{}", pl.col("note")))
    return named.select("note_id", "start", "end", "label").unique()


def predictions(gold: pl.DataFrame, notes: int) -> pl.DataFrame:
    """Seven in ten as they are, one shifted, one of another label, and inventions for the rest."""
    below_is_right, is_shifted, is_relabelled = 7, 7, 8
    fate = pl.Series(np.random.default_rng(5).integers(0, 10, gold.height))
    kept = gold.filter(fate < below_is_right)
    shifted = gold.filter(fate == is_shifted).with_columns(pl.col("end") + 2)
    relabelled = gold.filter(fate == is_relabelled).with_columns(label=pl.lit(LABELS[0]))
    rest = gold.height - kept.height - shifted.height - relabelled.height
    return pl.concat([kept, shifted, relabelled, draw_spans(notes, rest, 9)]).unique()


def as_stored(gold: pl.DataFrame, predicted: pl.DataFrame) -> pl.DataFrame:
    """One row a note with its spans as lists in the order of the text, as the tables hold them."""
    gold_lists, predicted_lists = (
        side.sort(pl.all())
        .group_by("note_id", maintain_order=True)
        .agg(pl.struct("start", "end", "label").alias(name))
        for side, name in ((gold, "gold"), (predicted, "spans"))
    )
    return gold_lists.join(predicted_lists, on="note_id", how="left").sort("note_id")


def ours(notes: pl.DataFrame) -> pl.DataFrame:
    """From the stored lists to the counts of all notes in all modes."""
    return note_counts(SpanIndex(notes, LABELS, {label: label for label in LABELS}), untyped=False)


def best_of(runs: int, call: Callable[[], object]) -> float:
    """Seconds of processor time of the best run: what other programs of the machine leave it."""
    taken = []
    for _ in range(runs):
        began = time.process_time()
        call()
        taken.append(time.process_time() - began)
    return min(taken)


def nervaluate_seconds(gold: pl.DataFrame, predicted: pl.DataFrame) -> float:
    """Seconds that nervaluate takes for the same spans, loading of its lists left out."""
    from nervaluate import Evaluator

    ids = gold["note_id"].unique().sort().to_list()
    sides = []
    for frame in (gold, predicted):
        by_note: dict[str, list[dict[str, object]]] = {note_id: [] for note_id in ids}
        for note_id, start, end, label in frame.sort(pl.all()).iter_rows():
            by_note[note_id].append({"start": start, "end": end, "label": label})
        sides.append(list(by_note.values()))
    evaluator = Evaluator(*sides, tags=list(LABELS), loader="dict")
    return best_of(3, evaluator.evaluate)


def main() -> None:
    """Print seconds, ratio and peak memory."""
    gold = draw_spans(NOTES, SPANS, 1)
    predicted = predictions(gold, NOTES)
    notes = as_stored(gold, predicted)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    seconds = best_of(10, lambda: ours(notes))
    counts = ours(notes)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"{gold.height:,} gold and {predicted.height:,} predicted spans in {NOTES:,} notes, "
        f"{len(MODES)} modes: {seconds:.2f} s, peak memory of the process {peak:.2f} GB "
        f"({before:.2f} GB before)"
    )
    some = pl.Series("note_id", [f"note-{number}" for number in range(NOTES_FOR_NERVALUATE)])
    part = [frame.filter(pl.col("note_id").is_in(some.implode())) for frame in (gold, predicted)]
    part[1] = part[1].join(part[0].select("note_id").unique(), on="note_id", how="semi")
    some_notes = as_stored(part[0], part[1])
    ours_part = best_of(10, lambda: ours(some_notes))
    theirs_part = nervaluate_seconds(part[0], part[1])
    theirs = theirs_part * NOTES / NOTES_FOR_NERVALUATE
    print(
        f"side by side on {NOTES_FOR_NERVALUATE} of the notes: {ours_part:.3f} s, nervaluate "
        f"{theirs_part:.2f} s ({theirs_part / ours_part:.0f} times)"
    )
    print(f"nervaluate on all, extrapolated: {theirs:.0f} s ({theirs / seconds:.0f} times)")
    few = counts.filter(pl.col("note") < NOTES_FOR_INTERVALS)
    clustered = few.with_columns(cluster=pl.col("note").rank("dense").cast(pl.Int64) - 1)
    clusters = clustered["cluster"].n_unique()
    layout = Layout(MODES, LABELS)

    def intervals() -> None:
        table = layout.counts(clustered, clusters)
        score_intervals(layout, [(np.arange(clusters), table)], clusters, Resampling(1))

    print(
        f"{RESAMPLES:,} resamples x {clusters:,} notes x {len(LABELS)} labels, all modes: "
        f"{best_of(3, intervals):.2f} s"
    )


if __name__ == "__main__":
    main()
