"""What an evaluation's numbers depend on, as one digest: same digest, same numbers."""

import hashlib
import json
from collections.abc import Mapping, Sequence

SCORING_VERSION = "1"


def evaluation_digest(
    corpus_digest: str,
    model_fingerprint: str,
    study_labels: Sequence[str],
    label_mapping: Mapping[str, str],
) -> str:
    """sha256 (hex) over everything that a score depends on.

    Args:
        corpus_digest: Notes, attributes and mapped gold.
        model_fingerprint: Files, settings, loader and spaCy version.
        study_labels: The label set.
        label_mapping: Model label → study label.
    """
    identity = {
        "corpus": corpus_digest,
        "model": model_fingerprint,
        "labels": sorted(study_labels),
        "mapping": dict(label_mapping),
        "scoring": SCORING_VERSION,
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def entities_digest(corpus_digest: str, model_fingerprint: str) -> str:
    """sha256 (hex) over what the entities of a corpus depend on."""
    return hashlib.sha256(f"{corpus_digest}\n{model_fingerprint}".encode()).hexdigest()
