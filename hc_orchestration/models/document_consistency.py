"""A spaCy component that carries an entity to the other places where its document names it."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from spacy.language import Language
from spacy.tokens import Doc, Span, Token

from hc_orchestration.models.abbreviations import TokenRange, defined_abbreviations

_Key = tuple[int, ...]
_SHORT_CAPITALS = 5


@dataclass(frozen=True, slots=True)
class ConsistencyRule:
    """When a name counts as an entity wherever its document has it.

    Attributes:
        least_share: The least share of its places, outside other entities, at which it was found.
        least_length: The least number of characters.
        abbreviations: Whether a long form and the abbreviation defined for it share their label.
    """

    least_share: float
    least_length: int
    abbreviations: bool


class DocumentConsistency:
    """Marks what was found once at its other places in the document, if these are free.

    Words compare without regard to case, but for short ones in capitals: "AIDS" is not "aids". The
    label is the one that the name has most often. Entities that are there stay as they are.
    """

    def __init__(self, rule: ConsistencyRule) -> None:
        """Take the rule."""
        self._rule = rule

    def __call__(self, doc: Doc) -> Doc:
        """Complete the entities of one document."""
        if not doc.ents:
            return doc
        if self._rule.abbreviations:
            _add(doc, _from_definitions(doc))
        _add(doc, self._repetitions(doc))
        return doc

    def _repetitions(self, doc: Doc) -> list[Span]:
        keys = [_key(token) for token in doc]
        labels: defaultdict[_Key, Counter[int]] = defaultdict(Counter)
        for entity in doc.ents:
            if len(entity.text) >= self._rule.least_length:
                labels[tuple(keys[entity.start : entity.end])][entity.label] += 1
        places = _free_places(doc, keys, labels)
        return [
            Span(doc, start, start + len(key), label=labels[key].most_common(1)[0][0])
            for key, starts in places.items()
            if labels[key].total() >= self._rule.least_share * (labels[key].total() + len(starts))
            for start in starts
        ]


def _free_places(doc: Doc, keys: list[int], names: Mapping[_Key, object]) -> dict[_Key, list[int]]:
    """Where each name starts outside entities, the longest name first, without overlap."""
    by_first: defaultdict[int, list[_Key]] = defaultdict(list)
    for name in sorted(names, key=len, reverse=True):
        by_first[name[0]].append(name)
    taken = [token.ent_type != 0 for token in doc]
    places: defaultdict[_Key, list[int]] = defaultdict(list)
    for start, first in enumerate(keys):
        for name in by_first.get(first, ()):
            end = start + len(name)
            if tuple(keys[start:end]) == name and not any(taken[start:end]):
                places[name].append(start)
                taken[start:end] = [True] * len(name)
                break
    return places


def _key(token: Token) -> int:
    is_acronym = token.is_upper and len(token) <= _SHORT_CAPITALS
    return int(token.orth if is_acronym else token.lower)


def _from_definitions(doc: Doc) -> list[Span]:
    labels = {(entity.start, entity.end): entity.label for entity in doc.ents}
    return [
        Span(doc, *target, label=labels[source])
        for pair in defined_abbreviations(doc)
        for source, target in (pair, pair[::-1])
        if source in labels and _is_free(doc, target)
    ]


def _is_free(doc: Doc, place: TokenRange) -> bool:
    return not any(token.ent_type for token in doc[slice(*place)])


def _add(doc: Doc, spans: Iterable[Span]) -> None:
    """Add spans to `doc.ents`, but those that meet one added before them."""
    taken: set[int] = set()
    added = []
    for span in spans:
        places = range(span.start, span.end)
        if taken.isdisjoint(places):
            taken.update(places)
            added.append(span)
    doc.set_ents([*doc.ents, *added])


@Language.factory(
    "hc_document_consistency",
    requires=["doc.ents"],
    assigns=["doc.ents"],
    default_config={"least_share": 0.0, "least_length": 2, "abbreviations": True},
)
def make_document_consistency(
    nlp: Language,  # noqa: ARG001 - spaCy passes it
    name: str,  # noqa: ARG001 - spaCy passes it
    least_share: float,
    least_length: int,
    abbreviations: bool,  # noqa: FBT001 - a factory's signature is its configuration
) -> DocumentConsistency:
    """The component with this rule."""
    return DocumentConsistency(ConsistencyRule(least_share, least_length, abbreviations))
