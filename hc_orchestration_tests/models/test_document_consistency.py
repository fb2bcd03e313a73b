"""Entities carried to the other places of their name in one document."""

import pytest
from spacy.lang.en import English
from spacy.tokens import Doc

from hc_orchestration.models.document_consistency import ConsistencyRule, DocumentConsistency
from hc_orchestration.models.spacy_parts import make_clinical_tokenizer

EAGER = ConsistencyRule(least_share=0.0, least_length=2, abbreviations=True)


def annotated(text: str, *found: tuple[str, str]) -> Doc:
    """The document with the first occurrence of each name as an entity."""
    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    doc = nlp(text)
    spans = [
        doc.char_span(text.index(name), text.index(name) + len(name), label=label)
        for name, label in found
    ]
    doc.set_ents(spans)
    return doc


def entities(doc: Doc) -> list[tuple[int, str, str]]:
    return [(entity.start_char, entity.text, entity.label_) for entity in doc.ents]


def test_name_found_once_is_marked_at_its_other_places_in_any_case() -> None:
    doc = annotated("Nausea came. No nausea since.", ("Nausea", "DISEASE"))
    assert entities(DocumentConsistency(EAGER)(doc)) == [
        (0, "Nausea", "DISEASE"),
        (16, "nausea", "DISEASE"),
    ]


def test_short_capitals_are_not_the_small_word() -> None:
    doc = annotated("AIDS is known. He wears hearing aids. AIDS again.", ("AIDS", "DISEASE"))
    starts = [start for start, _, _ in entities(DocumentConsistency(EAGER)(doc))]
    assert starts == [0, 38]


def test_longest_name_wins_and_what_is_there_stays() -> None:
    text = "renal failure or failure; later renal failure, and heart failure"
    doc = annotated(text, ("renal failure", "DISEASE"), ("heart failure", "DISEASE"))
    assert [name for _, name, _ in entities(DocumentConsistency(EAGER)(doc))] == [
        "renal failure",
        "renal failure",
        "heart failure",
    ]


def test_label_is_the_most_frequent_one() -> None:
    doc = annotated("iron, iron, iron and iron", ("iron", "CHEMICAL"))
    doc.set_ents(
        [
            doc.char_span(0, 4, label="CHEMICAL"),
            doc.char_span(6, 10, label="DISEASE"),
            doc.char_span(12, 16, label="CHEMICAL"),
        ]
    )
    assert entities(DocumentConsistency(EAGER)(doc))[-1] == (21, "iron", "CHEMICAL")


@pytest.mark.parametrize(("share", "places"), [(0.25, 4), (0.26, 1)])
def test_name_found_too_seldom_is_left_alone(share: float, places: int) -> None:
    doc = annotated("Lead was high. They lead, we lead, all lead.", ("Lead", "CHEMICAL"))
    rule = ConsistencyRule(least_share=share, least_length=2, abbreviations=True)
    assert len(entities(DocumentConsistency(rule)(doc))) == places


def test_name_that_is_too_short_is_left_alone() -> None:
    doc = annotated("K is low; K again", ("K", "CHEMICAL"))
    assert entities(DocumentConsistency(EAGER)(doc)) == [(0, "K", "CHEMICAL")]


@pytest.mark.parametrize("found", ["acute renal failure", "ARF"])
def test_abbreviation_and_long_form_share_their_label(found: str) -> None:
    text = "He had acute renal failure (ARF). The ARF resolved."
    doc = annotated(text, (found, "DISEASE"))
    assert [name for _, name, _ in entities(DocumentConsistency(EAGER)(doc))] == [
        "acute renal failure",
        "ARF",
        "ARF",
    ]


def test_abbreviations_can_be_left_alone() -> None:
    text = "He had acute renal failure (ARF). The ARF resolved."
    rule = ConsistencyRule(least_share=0.0, least_length=2, abbreviations=False)
    doc = annotated(text, ("acute renal failure", "DISEASE"))
    assert len(entities(DocumentConsistency(rule)(doc))) == 1


def test_document_without_entities_stays_empty() -> None:
    assert entities(DocumentConsistency(EAGER)(annotated("acute renal failure (ARF)"))) == []
