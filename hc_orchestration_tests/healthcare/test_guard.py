"""The identifier guard: what it finds, what it leaves alone, and that no value ever leaves it."""

import hashlib
import time
import uuid

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from hc_orchestration.errors import HcError, ModelError
from hc_orchestration.healthcare.contexts import (
    HealthcareRunContext,
    PatientContext,
    StudyContext,
)
from hc_orchestration.healthcare.guard import (
    Finding,
    IdentifierError,
    identifier_rule,
    redact,
    redacted_error,
    screen_context,
)

HITS = {
    "SSN": [
        "123-45-6789",
        "SSN 123-45-6789",
        "123 45 6789",
        "123\u201145\u20116789",  # non-breaking hyphens, as an office program writes them
        "ssn: 123456789",
        "last four of SSN 6789",
        "social security number 123456789",
    ],
    "MRN": [
        "MRN 12345",
        "MRN: A-12345",
        "mrn#00123",
        "MRN is 4 471 123",
        "Medical record number 123-456",
        "medical_record_number=4711",
        "medical record: 445566",
        "account no. 99812",
        "Acct # 4455667",
        "patient ID 4711",
        "patient 1234567 of ward 3",
        "pt_1234567.txt",
        "seen as 123456.",
        "123456789012",
    ],
    "phone": [
        "555-123-4567",
        "(555) 123-4567",
        "555.123.4567",
        "1-800-555-0199",
        "+1 555 123 4567",
        "+44 20 7946 0958",
        "+49301234567",
        "call 555-0123",
        "fax no. 555 0123",
    ],
    "e-mail": ["jane.doe@example.org", "mail to <j+d@mail.example.co.uk>.", "jürgen@beispiel.de"],
    "date of birth": [
        "DOB 3/12/56",
        "dob: 1956",
        "D.O.B. 03/1956",
        "date of birth 12 March 1956",
        "date_of_birth: March 1956",
        "born 1956-03-12",
        "born on March 12, 1956",
    ],
    "exact date": [
        "2024-03-12",
        "seen 2024-03-12T10:00:00Z",
        "2024/3/12",
        "2024.03.12",
        "31/12/2024",
        "12/31/2024",
        "3/12/24",
        "31-12-1999",
        "12.3.2024",
        "12.03.24",
        "12 March 2024",
        "12th of March, 2024",
        "12-Mar-24",
        "12 Mar '24",
        "12Mar2024",
        "March 12, 2024",
        "Mar. 12 2024",
        "Sept 3rd, 2019",
        "March 12-14, 2024",
        "2024 March 12",
        "admitted 1/1/2020 to 2/2/2020",
    ],
}
NO_HITS = [
    "",
    "General Medicine Inpatients",
    "ages 18-90",
    "18\u201390 years",
    "24 months",
    "2019\u20132024",
    "2019-2024",
    "2019 to 2024",
    "March 2024",
    "May 2019 to June 2024",
    "May 18-90 year olds enter",
    "infants born 2019\u20132024",
    "date of birth 1930\u20131950",
    "medical records 2019-2024",
    "medical records: 2019-2024",
    "patient numbers 2019-2024",
    "mobile 2019-2024",
    "patient IDs from 2019",
    "45 CFR 46.104",
    "45 CFR 164.514(b)(2)",
    "21 CFR Part 11",
    "IRB-2024-017",
    "1.2.0",
    "version 1.13.27",
    "2025.3.12",
    "10.0.0.1",
    "p < 0.001",
    "p = 0.0000001",
    "p=.0000001",
    "500 patients",
    "150,000 notes",
    "1,234,567 notes",
    "visit number 3",
    "ICD-10 E11.9",
    "ICD-10-CM E11.65",
    "LOINC 4548-4",
    "SNOMED CT 38341003",
    "MONDO:0005148",
    "PMID: 31234567",
    "NCT01234567",
    "ISRCTN12345678",
    "0 2 * * *",
    "*/5 0-6 1,15 * *",
    "24/7",
    "1/2 tab",
    "120/80 mmHg",
    "eGFR < 30 mL/min/1.73 m2",
    "COVID-19, T2DM stage 3b",
    "https://example.org/data/1234567",
    "10.1000/1234567",
    "https://doi.org/10.5281/zenodo.1234567",
    "sha256:123456789012",
    "model a12dec24f and b03feb1999",
    "12345678-1234-4123-8123-123456789012",
    "en_core_sci_sm-0.5.4",
    "guard.py:1234",
]

SNIPPETS = [text for texts in HITS.values() for text in texts] + NO_HITS
AMBIGUOUS = st.sampled_from([*"0123456789-./:@+()[] \n", "MRN", "DOB", "SSN", "call", "Mar", "dec"])
TEXTS = st.one_of(
    st.text(),
    st.lists(AMBIGUOUS, max_size=30).map("".join),
    st.lists(st.sampled_from(SNIPPETS) | AMBIGUOUS, max_size=6).map("".join),
    st.lists(st.sampled_from(SNIPPETS), max_size=4).map(" ".join),
)


@pytest.mark.parametrize(
    ("rule", "text"), [(rule, text) for rule, texts in HITS.items() for text in texts]
)
def test_identifier_is_found_by_its_rule_and_redacted(rule: str, text: str) -> None:
    assert identifier_rule(text) == rule
    assert identifier_rule(f"Cohort of the unit ({text}), all adults") == rule
    assert f"[{rule}]" in redact(text)


@pytest.mark.parametrize("text", NO_HITS)
def test_what_names_no_person_stays(text: str) -> None:
    assert identifier_rule(text) is None
    assert redact(text) == text


@given(TEXTS)
@example("a@b.c+a@b.c")  # the first address hides the second
def test_redacted_text_breaks_no_rule_and_is_not_redacted_again(text: str) -> None:
    redacted = redact(text)
    assert identifier_rule(redacted) is None
    assert redact(redacted) == redacted
    assert (redacted == text) == (identifier_rule(text) is None)


def test_every_identifier_of_a_text_is_replaced_and_the_rest_kept() -> None:
    text = "Jo (MRN 4\u2010471), seen 2024-03-12 and 3/13/24; call 555-123-4567 or jo@example.org."
    assert redact(text) == ("Jo ([MRN]), seen [exact date] and [exact date]; [phone] or [e-mail].")


@given(st.binary(max_size=8), st.uuids())
def test_digests_and_ids_of_ours_are_no_identifiers(content: bytes, run_id: uuid.UUID) -> None:
    digest = hashlib.sha256(content).hexdigest()
    assert redact(f"digest {digest[:12]}, file {digest}, run {run_id}") == (
        f"digest {digest[:12]}, file {digest}, run {run_id}"
    )


@pytest.mark.parametrize(
    "part",
    ["1", "a", "a.b-", "1 ", "1-", "+1 ", "mrn ", "1.2.", "12 mar ", "MRN 1", "@a.", "a:/", " "],
)
def test_a_long_text_costs_no_more_than_its_length(part: str) -> None:
    began = time.perf_counter()
    redact("DOB " + part * (60_000 // len(part)))
    assert time.perf_counter() - began < 2  # a quadratic rule takes a minute


def context(**changes: object) -> HealthcareRunContext:
    given: dict[str, object] = {
        "model_id": "ner",
        "version": "20240312",
        "organization": "Research Hospital AI Lab",
        "purpose": "Extract diagnoses, 2019-2024",
        "data_sources": ["internal-ehr"],
        "regulatory_tags": ["HIPAA", "IRB-2024-017"],
        "patient_context": PatientContext(
            cohort="General Medicine Inpatients",
            age_range="18-90",
            sample_size=500,
            inclusion_criteria=["Has discharge summary"],
            exclusion_criteria=["Pediatric patients"],
        ),
    }
    return HealthcareRunContext.model_validate(given | changes)


def findings(screened: StudyContext, smallest_cell: int = 11) -> list[tuple[str, str]]:
    with pytest.raises(IdentifierError) as caught:
        screen_context(screened, smallest_cell)
    return [(finding.field, finding.rule) for finding in caught.value.findings]


def test_aggregate_context_passes() -> None:
    screen_context(context())
    screen_context(StudyContext())


def test_all_fields_are_named_at_once_and_no_value_is() -> None:
    guilty = context(
        organization="Ward 3, call 555-123-4567",
        purpose="Follow-up of MRN 4471123",
        data_sources=["ehr", "jane.doe@example.org"],
        regulatory_tags=["approved 2024-03-12"],
        patient_context=PatientContext(
            cohort="Jane, DOB 3/12/1956",
            age_range="born 1956-03-12",
            sample_size=7,
            inclusion_criteria=["adult", "SSN 123-45-6789"],
            exclusion_criteria=["seen after March 12, 2024"],
        ),
    )
    with pytest.raises(IdentifierError) as caught:
        screen_context(guilty)
    assert caught.value.findings == (
        Finding("organization", "phone"),
        Finding("purpose", "MRN"),
        Finding("data_sources[1]", "e-mail"),
        Finding("regulatory_tags[0]", "exact date"),
        Finding("patient_context.cohort", "date of birth"),
        Finding("patient_context.age_range", "date of birth"),
        Finding("patient_context.inclusion_criteria[1]", "SSN"),
        Finding("patient_context.exclusion_criteria[0]", "exact date"),
        Finding("patient_context.sample_size", "small cell (fewer than 11 patients)"),
    )
    words = str(caught.value)
    assert isinstance(caught.value, HcError)
    assert "patient_context.inclusion_criteria[1]: SSN" in words
    for value in ("4567", "4471123", "jane", "2024-03", "1956", "6789", "March", "7", "Jane"):
        assert value not in words


@given(st.sampled_from([text for texts in HITS.values() for text in texts]))
def test_no_value_is_in_the_message(value: str) -> None:
    with pytest.raises(IdentifierError) as caught:
        screen_context(StudyContext(purpose=value))
    assert value not in str(caught.value)
    assert value not in repr(caught.value)


@pytest.mark.parametrize(("size", "smallest", "refused"), [(10, 11, 1), (11, 11, 0), (1, 1, 0)])
def test_cohort_below_the_smallest_cell_is_refused(size: int, smallest: int, refused: int) -> None:
    small = StudyContext(patient_context=PatientContext(sample_size=size))
    if refused:
        rule = f"small cell (fewer than {smallest} patients)"
        assert findings(small, smallest) == [("patient_context.sample_size", rule)]
    else:
        screen_context(small, smallest)


class TeamContext(StudyContext):
    """A context with fields of a team's own, however nested."""

    custom: dict[str, object]


@pytest.mark.parametrize(
    ("custom", "expected"),
    [
        ({"site": {"contact": ["x", "a@b.org"]}}, ("custom.site.contact[1]", "e-mail")),
        ({"mrn": 4471}, ("custom.mrn", "MRN")),
        ({"medicalRecordNumber": 4471}, ("custom.medicalRecordNumber", "MRN")),
        ({"date_of_birth": 1956}, ("custom.date_of_birth", "date of birth")),
        ({"phone": "555-0123"}, ("custom.phone", "phone")),
        ({"version": "seen 2024-03-12"}, ("custom.version", "exact date")),
        ({"patient 1234567": "x"}, ("custom.patient [MRN]", "MRN")),
    ],
)
def test_custom_fields_are_screened_with_their_names(
    custom: dict[str, object], expected: tuple[str, str]
) -> None:
    assert findings(TeamContext(custom=custom)) == [expected]


def test_plain_number_of_a_custom_field_is_an_amount() -> None:
    screen_context(TeamContext(custom={"notes": 1500000, "seed": 20240312, "rate": 0.1234567}))


def test_error_of_ours_keeps_its_words_without_identifiers() -> None:
    error = ModelError("the model raised ValueError on note 4471123.")
    assert redacted_error(error) == "the model raised ValueError on note [MRN]."


def test_words_of_any_other_error_are_withheld_and_its_place_is_told() -> None:
    def read_note() -> None:
        message = "Jane has HIV"
        raise ValueError(message)

    with pytest.raises(ValueError, match="HIV") as caught:
        read_note()
    told = redacted_error(caught.value)
    assert told.startswith("ValueError at test_guard.py:")
    assert told.endswith("; its words are withheld: they may quote a note.")
    assert "HIV" not in told


def test_error_that_was_never_raised_has_no_place() -> None:
    told = redacted_error(KeyError("Jane"))
    assert told == "KeyError; its words are withheld: they may quote a note."
