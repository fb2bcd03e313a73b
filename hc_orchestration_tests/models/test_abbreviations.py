"""Abbreviations that a text defines."""

import pytest
from spacy.lang.en import English

from hc_orchestration.models.abbreviations import defined_abbreviations
from hc_orchestration.models.spacy_parts import make_clinical_tokenizer


def definitions(text: str) -> list[tuple[str, str]]:
    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    doc = nlp(text)
    return [
        (doc[slice(*long)].text, doc[slice(*short)].text)
        for long, short in defined_abbreviations(doc)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("with acute renal failure (ARF) now", ("acute renal failure", "ARF")),
        ("took levodopa (L-DOPA) daily", ("levodopa", "L-DOPA")),
        ("had myocardial infarction (MI; n=3) then", ("myocardial infarction", "MI")),
        ("of 5-fluorouracil (5-FU).", ("5-fluorouracil", "5-FU")),
        ("the end-stage renal disease (ESRD)", ("end-stage renal disease", "ESRD")),
        ("Cyclosporin A (CsA) was given", ("Cyclosporin A", "CsA")),
    ],
)
def test_definition_gives_long_and_short_form(text: str, expected: tuple[str, str]) -> None:
    assert definitions(text) == [expected]


@pytest.mark.parametrize(
    "text",
    [
        "nausea in some (12%) of them",
        "seen by us (Dr. X) today",
        "sodium was high (see table below)",
        "no first letter here (XYZ)",
        "He fell. (MI)",
        "(ARF)",
        "unclosed acute renal failure (ARF",
        "in two (the later) visits",
    ],
)
def test_other_brackets_define_nothing(text: str) -> None:
    assert definitions(text) == []
