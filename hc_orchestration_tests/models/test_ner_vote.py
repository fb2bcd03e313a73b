"""The vote of several NERs, and how their weights are stored."""

from pathlib import Path

import numpy as np
import pytest
from spacy.lang.en import English
from spacy.tokens import Doc, Span, SpanGroup
from spacy.training import Example

from hc_orchestration.models.ner_vote import NerVote

Place = tuple[int, int, str]


def voted(*members: list[Place], least: int) -> list[Place]:
    doc = English()("acute renal failure after lithium")
    names = [f"ner_{number}" for number in range(len(members))]
    for name, places in zip(names, members, strict=True):
        spans = [Span(doc, start, end, label=label) for start, end, label in places]
        doc.spans[name] = SpanGroup(doc, spans=spans)
    NerVote(names, least)(doc)
    assert not doc.spans
    return [(entity.start, entity.end, entity.label_) for entity in doc.ents]


LONG, SHORT, DRUG = (0, 3, "DISEASE"), (1, 3, "DISEASE"), (4, 5, "CHEMICAL")


def test_span_needs_enough_votes_for_place_and_label() -> None:
    assert voted([LONG, DRUG], [SHORT, DRUG], [SHORT, (4, 5, "DISEASE")], least=2) == [SHORT, DRUG]
    assert voted([LONG, DRUG], [SHORT, DRUG], [SHORT, DRUG], least=3) == [DRUG]
    assert voted([LONG], least=1) == [LONG]


@pytest.mark.parametrize(("members", "least"), [(2, 1), (3, 1), (3, 4), (4, 2), (0, 0)])
def test_vote_that_could_overlap_or_never_win_is_refused(members: int, least: int) -> None:
    with pytest.raises(ValueError, match=f"more than half of {members} members"):
        NerVote([str(number) for number in range(members)], least)


def trained() -> English:
    """A pipeline of one member that learned one sentence."""
    nlp = English()
    member = nlp.add_pipe("hc_ner_member", "ner_1")
    nlp.add_pipe("hc_ner_vote", config={"members": ["ner_1"], "least": 1})
    gold = {"entities": [(14, 21, "CHEMICAL")]}
    examples = [Example.from_dict(nlp.make_doc("Nausea due to lithium today"), gold)]
    optimizer = nlp.initialize(lambda: examples)
    for _ in range(40):
        nlp.update(examples, sgd=optimizer)
    assert member.labels == ("CHEMICAL",)
    return nlp


def entities(doc: Doc) -> list[tuple[str, str]]:
    return [(entity.text, entity.label_) for entity in doc.ents]


def test_member_is_stored_with_half_the_bytes_and_finds_the_same(tmp_path: Path) -> None:
    nlp = trained()
    text = "Nausea due to lithium today"
    assert entities(nlp(text)) == [("lithium", "CHEMICAL")]
    nlp.to_disk(tmp_path, exclude=["vocab"])
    member = nlp.get_pipe("ner_1")
    assert (tmp_path / "ner_1" / "model").stat().st_size < 0.55 * len(member.model.to_bytes())
    fresh = English.from_config(nlp.config).from_disk(tmp_path, exclude=["vocab"])
    assert entities(fresh(text)) == [("lithium", "CHEMICAL")]
    weights = fresh.get_pipe("ner_1").model.to_dict()["params"]
    values = [value for node in weights for value in node.values() if value is not None]
    assert {value.dtype for value in values} == {np.dtype(np.float32)}


def test_batches_and_single_texts_give_the_same() -> None:
    nlp = trained()
    texts = ["Nausea due to lithium today", "", "lithium"]
    assert [entities(doc) for doc in nlp.pipe(texts)] == [entities(nlp(text)) for text in texts]
