"""What the comparison report shows: frozen records, filled from the stored evidence."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from hc_orchestration.scoring.errors import LengthErrors
from hc_orchestration.scoring.gates import Verdict


class Outcome(StrEnum):
    """What became of one gold or predicted mention of an excerpt."""

    CORRECT = "correct"
    MISSED = "missed"
    SPURIOUS = "spurious"
    BOUNDARY = "boundary"
    LABEL = "label"


@dataclass(frozen=True, slots=True)
class Interval:
    """The ends of a confidence interval."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Score:
    """A score: undefined when the value is None, without interval when that is None.

    Attributes:
        applicable: False for a strict or type score of a model that has no labels.
    """

    value: float | None
    interval: Interval | None = None
    applicable: bool = True


UNDEFINED = Score(None)
NOT_APPLICABLE = Score(None, applicable=False)


@dataclass(frozen=True, slots=True)
class ModeScores:
    """Scores over all labels in one mode.

    Attributes:
        mode: strict, exact, partial or type.
        average: micro or macro.
        gold: Gold mentions; predicted likewise.
    """

    mode: str
    average: str
    precision: Score
    recall: Score
    f1: Score
    gold: int
    predicted: int


@dataclass(frozen=True, slots=True)
class LabelScores:
    """Scores of one label in one mode."""

    label: str
    mode: str
    precision: Score
    recall: Score
    f1: Score
    gold: int
    predicted: int


@dataclass(frozen=True, slots=True)
class SliceScores:
    """Micro F1 of the notes that share a value of an attribute; a withheld one carries no number.

    Attributes:
        notes: Annotated notes of the slice; None exactly when withheld, gold likewise.
    """

    attribute: str
    value: str
    mode: str
    f1: Score
    notes: int | None
    gold: int | None
    withheld: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers of a withheld slice.

        Raises:
            ValueError: A withheld slice carries a number.
        """
        if self.withheld and (self.notes, self.gold, self.f1.value) != (None, None, None):
            message = f"slice {self.attribute} is withheld, but carries numbers: leave them out"
            raise ValueError(message)


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate's verdict, with the sentence that says metric, value, interval, threshold, support."""

    name: str
    verdict: Verdict
    sentence: str


@dataclass(frozen=True, slots=True)
class Link:
    """Where to read on; becomes an anchor only when it is an http or https address."""

    text: str
    url: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of a model card or of the method: a name and its value."""

    name: str
    value: str


@dataclass(frozen=True, slots=True)
class Confusion:
    """How many gold mentions of one label were given another label, or none (None)."""

    gold_label: str
    predicted_label: str | None
    count: int


@dataclass(frozen=True, slots=True)
class NoteErrors:
    """How many errors (missed and spurious mentions) a note has."""

    note_id: str
    errors: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A mention that covers a segment of an excerpt.

    Attributes:
        gold_label: None for a mention that only the model found.
        predicted_label: None for a mention that the model did not find.
    """

    outcome: Outcome
    gold_label: str | None
    predicted_label: str | None


@dataclass(frozen=True, slots=True)
class Segment:
    """A stretch of note text and the mentions that cover all of it; as ingested, not escaped."""

    text: str
    marks: tuple[Mark, ...] = ()


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Errors of one note, marked in context."""

    note_id: str
    segments: tuple[Segment, ...]


@dataclass(frozen=True, slots=True)
class ErrorAnalysis:
    """What a model gets wrong, in numbers; excerpts only where the study allows note text."""

    longer: int
    shorter: int
    shifted: int
    confusion: tuple[Confusion, ...] = ()
    by_length: tuple[LengthErrors, ...] = ()
    worst_notes: tuple[NoteErrors, ...] = ()
    excerpts: tuple[Excerpt, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportedModel:
    """An evaluated model, with all that is shown of it.

    Attributes:
        rank: 1 is best.
        facts: Lines of the model's card.
        links: MLflow run, Dagster run and the like.
        provenance_digest: Of the Provenance record; None when there is none.
        notes_per_second: None when no extraction ran on enough notes to tell it.
    """

    rank: int
    key: str
    evaluation_id: str
    evaluation_digest: str
    model_fingerprint: str
    scores: tuple[ModeScores, ...]
    labels: tuple[LabelScores, ...] = ()
    slices: tuple[SliceScores, ...] = ()
    gates: tuple[Gate, ...] = ()
    facts: tuple[Fact, ...] = ()
    links: tuple[Link, ...] = ()
    provenance_digest: str | None = None
    notes_per_second: float | None = None
    errors: ErrorAnalysis | None = None


@dataclass(frozen=True, slots=True)
class PairDifference:
    """First minus second in a metric such as `strict.f1`, in points of the score.

    Attributes:
        p: Of the two-sided paired permutation test; p_holm is adjusted over all pairs.
    """

    first: str
    second: str
    metric: str
    difference: float | None
    interval: Interval | None
    p: float | None
    p_holm: float | None


@dataclass(frozen=True, slots=True)
class MissingModel:
    """A model that is not compared, and why.

    Attributes:
        here: Its files are; without them only its name is shown.
    """

    key: str
    reason: str
    here: bool = True


@dataclass(frozen=True, slots=True)
class LabelSupport:
    """How many gold mentions a label has."""

    label: str
    gold: int


@dataclass(frozen=True, slots=True)
class CorpusFacts:
    """The corpus that all compared models were evaluated on."""

    digest: str
    version: str
    notes: int
    annotated: int
    quarantined: int
    gold: tuple[LabelSupport, ...]


@dataclass(frozen=True, slots=True)
class ReportData:
    """Everything the report shows.

    Attributes:
        models: By rank.
        withheld_slices: How many slices were withheld for having too few notes.
        method: Seeds, resample and permutation counts, study digest, software.
        note_text_allowed: The study's `note_text_in_reports`; excerpts are left out without it.
    """

    study: str
    corpus: CorpusFacts
    generated_at: datetime
    models: tuple[ReportedModel, ...] = ()
    differences: tuple[PairDifference, ...] = ()
    missing: tuple[MissingModel, ...] = ()
    withheld_slices: int = 0
    method: tuple[Fact, ...] = ()
    note_text_allowed: bool = False
