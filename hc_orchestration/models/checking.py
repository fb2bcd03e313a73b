"""Trying a model out before it is evaluated: does it load and run, what labels, how fast."""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import UNTYPED, ModelEntry
from hc_orchestration.models.loaders import load_model
from hc_orchestration.models.loaders.protocol import ModelSpan, NerModel
from hc_orchestration.models.store import InstalledModel

SENTENCES = (
    "The patient is a 67-year-old woman with type 2 diabetes mellitus and hypertension.",
    "She takes metformin 500 mg twice daily, lisinopril and low-dose aspirin.",
    "Chest radiograph shows right lower lobe pneumonia; no pleural effusion.",
    "Denies chest pain, nausea or vomiting. Allergic to penicillin (rash).",
    "Chronic kidney disease (CKD) stage 3; CKD is stable on furosemide.",
    "Developed cisplatin-induced nephrotoxicity after the second cycle of chemotherapy.",
    "Labs: K+ 5.6 mmol/L, creatinine 1.9 mg/dL, TNF-alpha and p53 mutation pending.",
    "Temp 38.5 °C \N{EN DASH} started on vancomycin for suspected sepsis.",
)
"""Made up for this purpose; about nobody."""

_MOST_TIMED_S = 2.0
_MOST_ROUNDS = 50


@dataclass(frozen=True, slots=True)
class ModelCheck:
    """What trying a model out has shown.

    Attributes:
        device: Where it computes.
        components: The parts that run; None where the loader has none.
        labels: The labels that the model can give; None: it does not tell.
        found: Model label → mentions in the sample.
        unmapped: Labels of the model that the study does not map: left out and counted.
        never_given: Labels that the catalogue maps although the model does not have them.
        warnings: What was said while it loaded, such as another version of spaCy.
        problems: Why an evaluation would fail or tell nothing; empty: none was seen.
        words: Words of the sample, divided at white space.
        words_per_second: None when the sample has no words or could not be run.
    """

    key: str
    device: str | None = None
    components: tuple[str, ...] | None = None
    labels: tuple[str, ...] | None = None
    found: dict[str, int] | None = None
    unmapped: tuple[str, ...] = ()
    never_given: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    words: int = 0
    words_per_second: float | None = None


def check_model(
    installed: InstalledModel, study_labels: tuple[str, ...], texts: Sequence[str]
) -> ModelCheck:
    """Load a model and run it on a sample.

    Args:
        installed: The model.
        study_labels: The labels that the study scores.
        texts: The sample; nothing of it is in the result but the number of its words.
    """
    entry = installed.entry
    words = sum(len(text.split()) for text in texts)
    with _heard() as warnings:
        try:
            model = load_model(installed)
        except ModelError as error:
            return ModelCheck(
                entry.key, warnings=tuple(warnings), problems=(str(error),), words=words
            )
    problems: list[str] = []
    found: Counter[str] | None = None
    speed: float | None = None
    try:
        found = _labels_found(texts, model.extract(texts))
        speed = _speed(model, texts, words)
    except ModelError as error:
        problems.append(str(error))
    except Exception as error:  # noqa: BLE001 - a model may raise anything, and quote the text
        problems.append(f"model {entry.key} raised {type(error).__name__} on the sample.")
    told = set(model.labels or ()) | set(found or ())
    mapping = entry.label_mapping(study_labels)
    return ModelCheck(
        entry.key,
        device=model.device,
        components=getattr(model, "components", None),
        labels=model.labels,
        found=None if found is None else dict(sorted(found.items())),
        unmapped=tuple(sorted(told - set(mapping))),
        never_given=tuple(sorted(set(mapping) - told)) if model.labels is not None else (),
        warnings=tuple(warnings),
        problems=(*problems, *_label_problems(entry, study_labels, told)),
        words=words,
        words_per_second=speed,
    )


def _label_problems(
    entry: ModelEntry, study_labels: tuple[str, ...], told: set[str]
) -> Iterator[str]:
    mapping = entry.label_mapping(study_labels)
    foreign = sorted(set(mapping.values()) - {*study_labels, UNTYPED})
    if foreign:
        yield (
            f"`labels` leads to {', '.join(foreign)}, but the study's labels are "
            f"{', '.join(study_labels)}. Mend `labels` of the model in the catalogue."
        )
    if told and not told & set(mapping):
        yield (
            f"the study maps none of the model's labels ({', '.join(sorted(told))}), so that "
            "nothing it finds would count. Give `labels` in the catalogue."
        )


def _labels_found(texts: Sequence[str], results: list[list[ModelSpan]]) -> Counter[str]:
    if len(results) != len(texts):
        message = f"the model gave {len(results)} results for {len(texts)} texts."
        raise ModelError(message)
    found: Counter[str] = Counter()
    for text, spans in zip(texts, results, strict=True):
        for span in spans:
            if not 0 <= span[0] < span[1] <= len(text):
                message = f"the model gave a span outside its text ({span[0]}, {span[1]})."
                raise ModelError(message)
            found[span[2]] += 1
    return found


def _speed(model: NerModel, texts: Sequence[str], words: int) -> float | None:
    """Words a second: the best of some rounds, as any other work of the machine only slows."""
    if not words:
        return None
    best = float("inf")
    begun = time.perf_counter()
    for _ in range(_MOST_ROUNDS):
        before = time.perf_counter()
        model.extract(texts)
        now = time.perf_counter()
        best = min(best, now - before)
        if now - begun > _MOST_TIMED_S:
            break
    return words / best


@contextmanager
def _heard() -> Iterator[list[str]]:
    """What our loaders log as warnings meanwhile."""
    lines: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    logger = logging.getLogger("hc_orchestration.models")
    listener = Listener(level=logging.WARNING)
    logger.addHandler(listener)
    try:
        yield lines
    finally:
        logger.removeHandler(listener)
