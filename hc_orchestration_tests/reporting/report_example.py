"""A report's data with something of everything: five models, two labels, slices, gates, errors."""

from datetime import UTC, datetime

from hc_orchestration.reporting.excerpts import MarkedSpan, mark_in_context
from hc_orchestration.reporting.report_data import (
    NOT_APPLICABLE,
    UNDEFINED,
    Confusion,
    CorpusFacts,
    ErrorAnalysis,
    Excerpt,
    Fact,
    Gate,
    Interval,
    LabelScores,
    LabelSupport,
    Link,
    MissingModel,
    ModeScores,
    NoteErrors,
    PairDifference,
    ReportData,
    ReportedModel,
    Score,
    SliceScores,
)
from hc_orchestration.scoring.errors import LengthErrors
from hc_orchestration.scoring.gates import Verdict

DIGEST = "9f2c" * 16
KEYS = ("ner_bc5cdr_trained-1.2.0", "clinical_rules-2.0", "terms-1.0.0", "en_core_sci_sm-0.5.4")
NOTE = "Pt denies asthma attacks. On metformin 500 mg; gout flare treated with colchicine."


def score(value: float, width: float = 0.02) -> Score:
    return Score(value, Interval(max(0.0, value - width), min(1.0, value + width)))


def mode_scores(mode: str, f1: float) -> ModeScores:
    return ModeScores(mode, "micro", score(f1 + 0.015), score(f1 - 0.014), score(f1), 9809, 9702)


def label_scores(label: str, f1: float, gold: int) -> LabelScores:
    return LabelScores(
        label, "strict", score(f1 + 0.01), score(f1 - 0.01), score(f1, 0.03), gold, gold + 12
    )


def slices(f1: float) -> tuple[SliceScores, ...]:
    return (
        SliceScores("note_type", "ed_note", "strict", score(f1 + 0.01, 0.04), 210, 4120),
        SliceScores("note_type", "consult", "strict", score(f1 - 0.03, 0.05), 180, 3010),
        SliceScores("note_type", "discharge", "strict", UNDEFINED, None, None, withheld=True),
        SliceScores("length", "short", "strict", UNDEFINED, 90, 0),
    )


def error_analysis() -> ErrorAnalysis:
    gold = [MarkedSpan(10, 16, "DISEASE"), MarkedSpan(29, 38, "CHEMICAL")]
    gold += [MarkedSpan(47, 51, "DISEASE"), MarkedSpan(71, 81, "CHEMICAL")]
    predicted = [MarkedSpan(10, 24, "DISEASE"), MarkedSpan(29, 38, "CHEMICAL")]
    predicted += [MarkedSpan(52, 57, "DISEASE"), MarkedSpan(71, 81, "DISEASE")]
    return ErrorAnalysis(
        longer=41,
        shorter=63,
        shifted=5,
        confusion=(
            Confusion("DISEASE", "CHEMICAL", 17),
            Confusion("CHEMICAL", "DISEASE", 9),
            Confusion("DISEASE", None, 204),
        ),
        by_length=(
            LengthErrors("1\N{EN DASH}5 characters", 900, 40),
            LengthErrors("6\N{EN DASH}15 characters", 6100, 420),
            LengthErrors("16 and more", 2809, 460),
        ),
        worst_notes=(NoteErrors("bc5cdr-1083", 14), NoteErrors("bc5cdr-0031", 11)),
        excerpts=(Excerpt("bc5cdr-1083", mark_in_context(NOTE, gold, predicted)),),
    )


def model(rank: int, key: str, f1: float, speed: float | None) -> ReportedModel:
    modes = (("strict", 0.0), ("exact", 0.012), ("partial", 0.03), ("type", 0.035))
    return ReportedModel(
        rank=rank,
        key=key,
        evaluation_id=f"20261125T0700{rank:02}-ab12cd",
        evaluation_digest=DIGEST,
        model_fingerprint=DIGEST[::-1],
        scores=tuple(mode_scores(mode, f1 + more) for mode, more in modes),
        labels=(
            label_scores("DISEASE", f1 - 0.03, 4424),
            label_scores("CHEMICAL", f1 + 0.03, 5385),
            LabelScores("PROCEDURE", "strict", UNDEFINED, UNDEFINED, UNDEFINED, 0, 0),
        ),
        slices=slices(f1),
        gates=(
            Gate(
                "minimum strict.f1",
                Verdict.PASS if f1 > 0.8 else Verdict.FAIL,
                f"strict.f1 {f1:.3f} (95 % interval {f1 - 0.02:.3f} to {f1 + 0.02:.3f}), "
                "minimum 0.800, 9,809 gold mentions.",
            ),
        ),
        facts=(Fact("Loader", "spacy"), Fact("Licence", "Apache-2.0")),
        links=(
            Link("MLflow run", f"http://127.0.0.1:5000/#/experiments/1/runs/{rank}"),
            Link("Dagster run", f"http://127.0.0.1:3000/runs/{rank}"),
        ),
        provenance_digest=DIGEST,
        notes_per_second=speed,
        errors=error_analysis(),
    )


def untyped(rank: int) -> ReportedModel:
    exact = ModeScores("exact", "micro", score(0.6), score(0.7), score(0.65), 9809, 11000)
    strict = ModeScores(
        "strict", "micro", NOT_APPLICABLE, NOT_APPLICABLE, NOT_APPLICABLE, 9809, 11000
    )
    gate = Gate("minimum strict.f1", Verdict.INCONCLUSIVE, "strict.f1 is not applicable.")
    return ReportedModel(
        rank=rank,
        key=KEYS[3],
        evaluation_id="20261125T070004-ab12cd",
        evaluation_digest=DIGEST,
        model_fingerprint=DIGEST,
        scores=(strict, exact),
        gates=(gate,),
        notes_per_second=11.0,
    )


def full_report(*, note_text_allowed: bool = True) -> ReportData:
    first, second, third, fourth = KEYS
    strict, exact = "strict.f1", "exact.f1"
    return ReportData(
        study="bc5cdr-clinical-ner",
        corpus=CorpusFacts(
            digest=DIGEST,
            version="v7",
            notes=512,
            annotated=500,
            quarantined=3,
            gold=(
                LabelSupport("DISEASE", 4424),
                LabelSupport("CHEMICAL", 5385),
                LabelSupport("PROCEDURE", 0),
            ),
        ),
        generated_at=datetime(2026, 11, 25, 7, 58, tzinfo=UTC),
        models=(
            model(1, first, 0.894, 38.2),
            model(2, second, 0.861, 410.0),
            model(3, third, 0.742, 5200.0),
            untyped(4),
        ),
        differences=(
            PairDifference(first, second, strict, 0.033, Interval(0.019, 0.047), 0.0001, 0.0003),
            PairDifference(first, third, strict, 0.152, Interval(0.13, 0.171), 0.0001, 0.0003),
            PairDifference(second, third, strict, 0.119, Interval(-0.002, 0.141), 0.041, 0.062),
            PairDifference(first, fourth, exact, 0.25, Interval(0.22, 0.28), 0.0001, 0.0006),
        ),
        missing=(
            MissingModel("med7-3.0", "not installed: run hc models install med7-3.0"),
            MissingModel("broken-0.1", "its last evaluation failed: ModelError in load_model"),
            MissingModel("away-1.0", "model away-1.0 is not installed", here=False),
        ),
        withheld_slices=1,
        method=(
            Fact("Bootstrap", "2,000 resamples over clusters, seed 20261125"),
            Fact("Permutation test", "10,000 permutations, seed 20261126"),
        ),
        note_text_allowed=note_text_allowed,
    )
