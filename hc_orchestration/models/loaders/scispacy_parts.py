"""scispaCy's components beside a model: abbreviations and sentences (extra `scispacy`).

Its linker is not added to a pipeline: it asks the network at every start and unpickles what it
fetched. Concept ids that a pipeline's own linker sets are read all the same.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from hc_orchestration.errors import ModelError

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

ABBREVIATIONS = "abbreviation_detector"
SENTENCES = "pysbd_sentencizer"
_MODULES = {
    ABBREVIATIONS: "scispacy.abbreviation",
    SENTENCES: "scispacy.custom_sentence_segmenter",
}
"""The component → the module of scispaCy that registers it with spaCy when it is imported."""


def is_scispacy_part(name: str) -> bool:
    """Whether a component is one of scispaCy's, which a model may name without holding it."""
    return name in _MODULES


def add_part(nlp: "Language", name: str, key: str) -> None:
    """Add one of scispaCy's components to the end of a pipeline.

    Raises:
        ModelError: Nobody knows the component, or scispaCy is not installed.
    """
    import importlib

    if name not in _MODULES:
        message = (
            f"model {key}: there is no component {name} to add. Mend `components`; scispaCy's are: "
            f"{', '.join(_MODULES)}."
        )
        raise ModelError(message)
    try:
        importlib.import_module(_MODULES[name])
        nlp.add_pipe(name)
    except ImportError:
        message = (
            f"model {key}: the component {name} is scispaCy's, which is not installed. "
            "Install this project with the extra `scispacy`."
        )
        raise ModelError(message) from None


def labelled_abbreviations(doc: "Doc") -> "Iterator[Span]":
    """The abbreviations whose long form is or ends with a mention, with that mention's label.

    "chronic kidney disease (CKD)" labels CKD also when the list has "kidney disease" only.
    """
    from spacy.tokens import Span as SpacySpan

    labels = {entity.end: entity for entity in doc.ents}
    for short in doc._.abbreviations:
        long = short._.long_form
        mention = labels.get(long.end)
        if mention is not None and mention.start >= long.start:
            yield SpacySpan(doc, short.start, short.end, label=mention.label)


def concept_of(span: "Span") -> str | None:
    """The best concept id that the linker gave a mention, if it ran and found one."""
    if not span.has_extension("kb_ents"):
        return None
    candidates = span._.kb_ents
    return str(candidates[0][0]) if candidates else None
