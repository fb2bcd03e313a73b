"""strict on all of BC5CDR Test by us, by set arithmetic, by spaCy and by seqeval.

    .venv/bin/python benchmarks/scoring_oracles.py

Needs BC5CDR beside the project; the tests do the same on a part of it.
"""

import sys

from hc_orchestration_tests.scoring.frames import LABELS, evaluated
from hc_orchestration_tests.scoring.oracles import (
    BC5CDR_TEST,
    MODELS,
    Predicted,
    Scores,
    bc5cdr_predictions,
    by_seqeval,
    by_sets,
    by_spacy,
    without_overlap,
)


def ours(notes: list[Predicted]) -> Scores:
    """Our strict scores of the micro average and of the labels."""
    values = evaluated(
        {n.note_id: n.gold for n in notes}, {n.note_id: n.found for n in notes}
    ).values
    return {
        name: value
        for name, value in values.items()
        if name.startswith("strict") and "macro" not in name and ".ci_" not in name
    }


def furthest(scores: Scores, theirs: Scores) -> float:
    """The largest difference of any score."""
    return max(abs(value - theirs[name]) for name, value in scores.items())


def main() -> int:
    """Print the largest difference from each oracle."""
    if not BC5CDR_TEST.is_file():
        print("BC5CDR is not beside the project")
        return 1
    for key in MODELS:
        notes = bc5cdr_predictions(key, 500)
        scores = ours(notes)
        flat = without_overlap(notes)
        print(
            f"{key}: strict F1 {scores['strict.f1']:.4f} on {len(notes)} abstracts, "
            f"{sum(len(note.gold) for note in notes)} mentions; largest difference from sets "
            f"{furthest(scores, by_sets(notes, LABELS)):.1e}, from spaCy "
            f"{furthest(scores, by_spacy(notes, LABELS)):.1e}, from seqeval on the {len(flat)} "
            f"abstracts without overlapping mentions "
            f"{furthest(ours(flat), by_seqeval(flat, LABELS)):.1e}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
