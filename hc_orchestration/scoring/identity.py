"""What an evaluation's numbers depend on, as one digest: same digest, same numbers."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

SCORING_VERSION = "3"


@dataclass(frozen=True, slots=True)
class ScoringPlan:
    """The part of a study that scores depend on; its gates are not part of it.

    Attributes:
        labels: The label set.
        slices: Attributes to score separately by.
        cluster: The attribute that is the sampling unit; None: notes of identical text are one.
        smallest_cell: Slices of fewer notes are withheld.
    """

    labels: tuple[str, ...]
    slices: tuple[str, ...] = ()
    cluster: str | None = None
    smallest_cell: int = 11


def evaluation_digest(
    corpus_digest: str, model_fingerprint: str, plan: ScoringPlan, label_mapping: Mapping[str, str]
) -> str:
    """sha256 (hex) over everything that a score depends on.

    Args:
        corpus_digest: Notes, attributes and mapped gold.
        model_fingerprint: Files, settings, loader and spaCy version.
        plan: The scoring part of the study; the order of its labels and slices is no part.
        label_mapping: Model label → study label.
    """
    identity = {
        "corpus": corpus_digest,
        "model": model_fingerprint,
        "labels": sorted(plan.labels),
        "slices": sorted(plan.slices),
        "cluster": plan.cluster,
        "smallest_cell": plan.smallest_cell,
        "mapping": dict(label_mapping),
        "scoring": SCORING_VERSION,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def seed_of(purpose: str, *digests: str) -> int:
    """The seed of a random draw: 32 bits that follow from what it is for and of, in any order."""
    named = "\n".join([purpose, *sorted(digests)])
    return int(hashlib.sha256(named.encode()).hexdigest()[:8], 16)


def entities_digest(corpus_digest: str, model_fingerprint: str) -> str:
    """sha256 (hex) over what the entities of a corpus depend on."""
    return hashlib.sha256(f"{corpus_digest}\n{model_fingerprint}".encode()).hexdigest()
