"""Facts and records that the tests of provenance share: one for each thing a record may say."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from joserfc.jwk import OKPKey

from hc_orchestration.healthcare.bundle import build_bundle
from hc_orchestration.healthcare.contexts import HealthcareRunContext, PatientContext
from hc_orchestration.healthcare.facts import (
    Artifact,
    EvaluationFacts,
    ForcedPromotion,
    ProvenanceProfile,
    SampleSize,
    Score,
    TableRows,
)
from hc_orchestration.healthcare.signing import SigningKey, signed

AT = datetime(2025, 1, 19, 10, 30, 5, 999_999, tzinfo=UTC)
PREVIOUS = "33" * 32
MINIMAL = HealthcareRunContext(model_id="clinical-ner", version="1.0.0")
FULL = HealthcareRunContext(
    model_id="clinical-ner",
    version="1.0.0",
    organization="Klinik Zürich",
    purpose="Extract diagnoses",
    data_sources=["internal-ehr"],
    regulatory_tags=["HIPAA", "IRB-approved"],
    patient_context=PatientContext(
        cohort="Inpatients",
        age_range="18-90",
        sample_size=500,
        inclusion_criteria=["Has discharge summary"],
        exclusion_criteria=["Psychiatric admission"],
    ),
)
UNICODE = HealthcareRunContext(
    model_id="nér-模型",
    version="1.0.0",
    organization="Клиника №1 — “Ost”",
    purpose="Diagnosen & Medikamente <ärztlich> 🩺",
    data_sources=["عيادة", "e\u0301chantillon"],
    regulatory_tags=["Ethik Votum Ä"],
    patient_context=PatientContext(cohort="内科の患者", age_range="ab 65 Jahren"),
)


def facts(context: HealthcareRunContext = FULL, previous: str | None = None) -> EvaluationFacts:
    """An evaluation with a score, an undefined one and a withheld one."""
    return EvaluationFacts(
        evaluation_id="3f0c1a52-0000-5000-8000-000000000001",
        evaluation_digest="e" * 64,
        model_key="clinical-ner-1.0.0",
        study="study",
        context=context,
        model_fingerprint="00" * 32,
        model_card=b"{}",
        corpus_digest="ff" * 32,
        corpus_version=3,
        notes=36,
        artifacts=(Artifact("metrics.parquet", "11" * 32, 3),),
        tables=(TableRows("entities/clinical-ner-1.0.0", 2, "22" * 32, 36),),
        scores=(
            Score("strict", "micro", "", "all", "f1", 0.5, 4, 4, 2.0),
            Score("strict", "label", "DISEASE", "all", "f1", None, 0, 0, 0.0),
            Score("strict", "micro", "", "rare", "f1", 0.25, 777, 778, 1.0, withheld=True),
        ),
        software={"hc-orchestration": "0.1.0", "spacy": "3.8.18"},
        dagster_run_id="run-1",
        started=AT,
        ended=AT + timedelta(seconds=3),
        recorded=AT + timedelta(seconds=4),
        sample=SampleSize(36, "note"),
        previous=previous,
    )


UNDEFINED = (
    Score("strict", "micro", "", "all", "precision", None, 4, 0, 0.0),
    Score("strict", "macro", "", "all", "f1", None, None, None, None),
    Score("strict", "label", "DISEASE", "all", "recall", None, 0, 0, 0.0),
)
UNTYPED = (
    Score("exact", "micro", "", "all", "f1", 0.5, 4, 4, 2.0),
    Score("partial", "micro", "", "all", "f1", 0.625, 4, 4, 2.5),
    Score("exact", "micro", "", "ed_note", "recall", 1.0, 2, 4, 2.0),
    Score("exact", "label", "DISEASE", "all", "recall", 0.5, 4, None, None),
)
WITHHELD = (
    Score("strict", "micro", "", "rare", "f1", 0.25, 777, 778, 1.0, withheld=True),
    Score("strict", "label", "DISEASE", "rare", "f1", None, 3, 0, 0.0, withheld=True),
    Score("strict", "micro", "", "all", "f1", 0.25, 8, 8, 2.0, withheld=True),
)
CASES: dict[str, EvaluationFacts] = {
    "full context": facts(),
    "minimal context": facts(MINIMAL),
    "no scores": replace(facts(), scores=()),
    "undefined scores": replace(facts(), scores=UNDEFINED),
    "untyped model": replace(facts(), scores=UNTYPED),
    "withheld slices": replace(facts(), scores=WITHHELD, sample=None),
    "Unicode names": facts(UNICODE),
    "previous record": facts(previous=PREVIOUS),
    "forced promotion": replace(
        facts(), forced=(ForcedPromotion("p-1", "e-1", "pilot ward, 40 notes, “only”", AT),)
    ),
    "canonical base of the study": replace(
        facts(),
        profile=ProvenanceProfile(
            canonical_base="https://klinik.example/nlp/", reason="HQUALIMP", policies={}
        ),
    ),
}


def new_key() -> SigningKey:
    """A key that lies in no file."""
    key = OKPKey.generate_key("Ed25519")
    return SigningKey(key, key.thumbprint())


def record(case: str) -> dict[str, Any]:
    """The record of a case, not signed."""
    return build_bundle(CASES[case])


def signed_record(case: str) -> dict[str, Any]:
    """The record of a case, signed with a key of its own."""
    return signed(record(case), new_key())
