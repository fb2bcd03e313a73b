"""The identifier guard: refuses contexts and redacts errors that look as if they name a person.

A net, not a de-identifier. The rules know the written forms below, in English and mostly as in the
United States; they know no personal names, no addresses, no day and month without a year, and
nothing that is spelled out, misspelt or encoded. What passes here is not thereby anonymous.
"""

import re
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hc_orchestration.errors import HcError
from hc_orchestration.healthcare.contexts import StudyContext

SSN = "SSN"
MRN = "MRN"
PHONE = "phone"
EMAIL = "e-mail"
BIRTH = "date of birth"
DATE = "exact date"
SMALL_CELL = "small cell"

_FRAMES = 3
_NOT_SCREENED = frozenset({"model_id", "version", "recorded"})

# Parts. A space is never a line break: the number in the next line is another number. Office
# programs write hyphens of their own, so a hyphen is any of them.
_SPACE = r"[^\S\r\n]"
_HYPHEN = r"[-\u2010-\u2013]"
_GAP = rf"(?:{_SPACE}|{_HYPHEN}|\.)"
_JOIN = r"[\s_-]"
_TO_VALUE = rf"(?:{_SPACE}|[:=#.,'\"(-]){{0,5}}+(?:(?:is|was|on){_SPACE}++)?+"
_NUMBER_WORD = r"(?:numbers?+|nos?\b\.?|nr\b\.?|num\b\.?|identifiers?+|ids?\b|\#)"

_YEAR = r"(?:1[89]|2[01])\d\d"
_YEARS = rf"{_YEAR}{_SPACE}*(?:{_HYPHEN}|to){_SPACE}*{_YEAR}(?!\d)"
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_DAY_PADDED = r"(?:0[1-9]|[12]\d|3[01])"
_NTH_DAY = rf"{_DAY}(?!\d)(?:st|nd|rd|th)?"
_MONTH = r"(?:0?[1-9]|1[0-2])"
_MONTH_PADDED = r"(?:0[1-9]|1[0-2])"
_MONTH_NAME = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?"
    r"|sept?(?:ember)?|oct(?:ober)?|nov(?:ember)?|dec(?:ember)?)(?![a-z])"
)
_DATE_GAP = rf"(?:{_GAP}|,)"

# Dates. With dots, two digits must be padded: 2024.3.1 and 1.13.27 are versions. Before the name of
# a month there is no letter or digit: digests hold "12dec24".
_YMD = (
    rf"(?<!\d){_YEAR}(?:-{_MONTH}-{_DAY}|/{_MONTH}/{_DAY})(?!\d)"
    rf"|(?<!\d){_YEAR}\.{_MONTH_PADDED}\.{_DAY_PADDED}(?!\d|\.\d)"
)
_DMY_OR_MDY = (
    rf"(?<![\d/.-])(?:{_DAY}/{_MONTH}|{_MONTH}/{_DAY})/(?:\d{{4}}|\d\d)(?!\d|/\d)"
    rf"|(?<![\d/.-])(?:{_DAY}-{_MONTH}|{_MONTH}-{_DAY})-(?:\d{{4}}|\d\d)(?!\d|-\d)"
    rf"|(?<![\d/.-])(?:{_DAY}\.{_MONTH}|{_MONTH}\.{_DAY})\.{_YEAR}(?!\d)"
    rf"|(?<![\d/.-]){_DAY_PADDED}\.{_MONTH_PADDED}\.\d\d(?!\d|\.\d)"
)
_DAY_MONTH_NAME = (
    rf"(?<![a-z\d]){_DAY}(?:st|nd|rd|th)?{_DATE_GAP}*(?:of{_SPACE}+)?{_MONTH_NAME}"
    rf"(?:{_DATE_GAP}*{_YEAR}|(?:{_HYPHEN}|{_SPACE}*['\u2019])?\d\d)(?![a-z\d])"
)
_MONTH_NAME_DAY = (
    rf"(?<![a-z\d]){_MONTH_NAME}{_GAP}*{_NTH_DAY}"
    rf"(?:{_SPACE}*{_HYPHEN}{_SPACE}*{_NTH_DAY})?{_DATE_GAP}+{_YEAR}(?!\d)"
)
_YEAR_MONTH_NAME_DAY = rf"(?<!\d){_YEAR}{_DATE_GAP}+{_MONTH_NAME}{_GAP}+{_NTH_DAY}"
_ANY_DATE = f"(?:{_YMD}|{_DMY_OR_MDY}|{_DAY_MONTH_NAME}|{_MONTH_NAME_DAY}|{_YEAR_MONTH_NAME_DAY})"

# Numbers that their label makes an identifier, also where the number alone would pass.
_SSN_LABELLED = (
    rf"(?<![a-z])(?:ssn|social{_JOIN}security){_JOIN}*{_NUMBER_WORD}?{_TO_VALUE}"
    rf"(?:ending{_SPACE}+(?:in|with){_SPACE}+)?\d(?:{_GAP}?[\dx*]){{3,10}}(?!\d)"
)
_BIRTH_LABELLED = (
    rf"(?<![a-z])(?:d\.?o\.?b\b\.?|date{_JOIN}of{_JOIN}birth|birth{_JOIN}?(?:date|day)){_TO_VALUE}"
    rf"(?!{_YEARS})(?:{_ANY_DATE}|{_MONTH_NAME}{_GAP}*{_YEAR}|{_MONTH}/\d{{2,4}}|{_YEAR})(?!\d)"
)
_BORN = rf"(?<![a-z])born{_TO_VALUE}{_ANY_DATE}"
_RECORD_VALUE = (
    rf"{_TO_VALUE}(?!{_YEARS})(?:[a-z]{{1,4}}[-./]?)?\d(?:(?:{_GAP}|/)?[a-z]?\d){{%d,}}[\w-]*"
)
_MRN_LABELLED = (
    rf"(?<![a-z])(?:mrns?|medical{_JOIN}records?(?={_SPACE}*[:=#])"
    rf"|medical{_JOIN}records?{_JOIN}*{_NUMBER_WORD}){_JOIN}*+{_NUMBER_WORD}?{_RECORD_VALUE % 2}"
)
_ACCOUNT_LABELLED = (
    r"(?<![a-z])(?:patient|chart|hospital|account|acct\.?|encounter|visit|admission|member"
    rf"|beneficiary|subscriber|policy|health{_JOIN}plan){_JOIN}*{_NUMBER_WORD}{_RECORD_VALUE % 3}"
)
_PHONE_LABELLED = (
    rf"(?<![a-z])(?:phone|tel(?:ephone)?|cell|mobile|fax|pager|call){_JOIN}*{_NUMBER_WORD}?"
    rf"{_TO_VALUE}(?!{_YEARS})\d(?:(?:{_GAP}|[()]){{0,2}}\d){{6,14}}(?!\d)"
)

# What the written form alone gives away.
_SSN_FORM = rf"(?<!\d)\d{{3}}(?P<gap>{_GAP})\d\d(?P=gap)\d{{4}}(?!\d)"
_EMAIL_FORM = r"(?<![\w.%+-])[\w.%+-]++@[\w-]++(?:\.[\w-]++)+"
_PHONE_US = (
    rf"(?<![\d.])(?:\+?1{_GAP}?)?(?:\([2-9]\d\d\){_GAP}?|[2-9]\d\d{_GAP})\d{{3}}{_GAP}\d{{4}}(?!\d)"
)
_PHONE_ABROAD = rf"\+\d(?:(?:{_GAP}|[()]){{0,2}}\d){{7,14}}(?!\d)"
_BARE_RUN = r"(?<![a-z\d])(?<!\d\.)(?<![\s<>=(]\.)(?<!^\.)\d{6,12}(?![a-z\d]|\.\d)"

# Long numbers that name a thing and not a person: URL, DOI, UUID, digest, terminology code.
_NOT_A_PERSON = (
    r"\b[a-z][a-z0-9+.-]{1,15}://\S+|\bwww\.\S+|\b10\.\d{4,9}/\S+"
    r"|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"
    r"|\b(?:sha-?256|digest|fingerprint)\W{1,2}[0-9a-f]+\b"
    r"|\b(?:snomed(?:[\s-]ct)?|sctid|rxnorm|rxcui|omim|mondo|chebi|hp|doid|pmid|eudract)"
    r"\W{1,2}[\d-]+\b"
)


_Rule = tuple[str, re.Pattern[str]]


def _rule(name: str, found: str, passed_over: str = "(?!)") -> _Rule:
    """A rule: what it finds, outside of what it passes over (by default nothing)."""
    return name, re.compile(f"{passed_over}|(?P<found>{found})", re.IGNORECASE)


_LABELLED = (
    _rule(SSN, _SSN_LABELLED),
    _rule(BIRTH, _BIRTH_LABELLED),
    _rule(BIRTH, _BORN),
    _rule(MRN, _MRN_LABELLED),
    _rule(MRN, _ACCOUNT_LABELLED),
    _rule(PHONE, _PHONE_LABELLED),
)
_RULES = (
    *_LABELLED,
    _rule(SSN, _SSN_FORM),
    _rule(DATE, _ANY_DATE),
    _rule(EMAIL, _EMAIL_FORM),
    _rule(PHONE, _PHONE_US),
    _rule(PHONE, _PHONE_ABROAD),
    _rule(MRN, _BARE_RUN, passed_over=_NOT_A_PERSON),
)


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that a field breaks. The value is not here, so that it cannot travel on."""

    field: str
    rule: str


class IdentifierError(HcError):
    """A context that looks as if it named a person or a very small group.

    Attributes:
        findings: Every field and the rule that it breaks, never a value.
    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        """Name the fields and rules of `findings`."""
        self.findings = findings
        listed = "; ".join(f"{finding.field}: {finding.rule}" for finding in findings)
        super().__init__(
            f"the healthcare context looks like an identifier in {listed}. "
            "Describe the cohort in aggregate, without numbers or dates of a person "
            "(write a large count as 150,000)"
        )


def identifier_rule(text: str) -> str | None:
    """The name of the first rule that `text` breaks, or None.

    Rules: SSN; MRN (labelled record and account numbers, and bare runs of 6 to 12 digits that are
    not part of a decimal, version, URL, DOI, digest or terminology code); phone (US forms, or with
    a country code); e-mail; labelled date of birth; exact dates. They follow the identifiers of 45
    CFR 164.514(b)(2) as far as a written form gives them away. Years, months with a year, and ages
    are no identifiers here.
    """
    return _first_broken(_RULES, text)


def screen_context(context: StudyContext, smallest_cell: int = 11) -> None:
    """Refuse a context whose free text breaks a rule, or whose cohort is too small.

    Args:
        context: Of a study or a run; all of it is screened but the model's name and version, and
            the time at which the context was recorded, which is a date of no patient.
        smallest_cell: The least number of patients that may be told; 11 is the limit of the US
            Centers for Medicare & Medicaid Services.

    Raises:
        IdentifierError: Names every field and rule at once.
    """
    given = context.model_dump(exclude_none=True)
    findings = [
        Finding(field, rule)
        for key, value in given.items()
        if key not in _NOT_SCREENED
        for field, rule in _broken(key, key, value)
    ]
    patients = context.patient_context
    size = None if patients is None else patients.sample_size
    if size is not None and size < smallest_cell:
        limit = f"{SMALL_CELL} (fewer than {smallest_cell} patients)"
        findings.append(Finding("patient_context.sample_size", limit))
    if findings:
        raise IdentifierError(tuple(findings))


def redact(text: str) -> str:
    """`text` with every match replaced by its rule in brackets, until no rule is broken.

    A replacement can bare what its neighbour hid, hence the loop. It ends because every match
    holds a digit or an @ and no replacement does.
    """
    while identifier_rule(text) is not None:
        for rule, pattern in _RULES:
            text = pattern.sub(partial(_replaced, rule), text)
    return text


def redacted_error(error: BaseException) -> str:
    """What may be shown, logged and stored of an error.

    An error of ours gives its words, redacted: they never quote a note, but may name a file or a
    note id. Of any other error the class and the place are told and its words withheld, as they may
    quote a note; no rule could find a name or a diagnosis in them. Redaction is a net, not a
    de-identifier: see the limits at the top of this module.
    """
    if isinstance(error, HcError):
        return redact(str(error))
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    places = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames))
    named = f"{type(error).__name__} at {places}" if places else type(error).__name__
    return f"{named}; its words are withheld: they may quote a note."


def _first_broken(rules: tuple[_Rule, ...], text: str) -> str | None:
    for name, pattern in rules:
        if any(match["found"] is not None for match in pattern.finditer(text)):
            return name
    return None


def _replaced(rule: str, match: re.Match[str]) -> str:
    return match[0] if match["found"] is None else f"[{rule}]"


def _broken(field: str, key: str, value: object) -> Iterator[tuple[str, str]]:
    """Each field below `field` and the first rule that it breaks; `key` may label the value."""
    if isinstance(value, Mapping):
        for name, below in value.items():
            shown = redact(str(name))
            if (rule := identifier_rule(str(name))) is not None:
                yield f"{field}.{shown}", rule
            yield from _broken(f"{field}.{shown}", shown, below)
        return
    if isinstance(value, list | tuple | set | frozenset):
        for index, below in enumerate(value):
            yield from _broken(f"{field}[{index}]", key, below)
        return
    # A plain number is an amount unless its key labels it.
    rules = _LABELLED if isinstance(value, int | float) else _RULES
    label = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", key)  # patientId
    found = _first_broken(rules, f"{label}: {value}")
    if found is not None:
        yield field, found
