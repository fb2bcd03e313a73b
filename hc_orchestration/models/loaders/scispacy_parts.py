"""scispaCy's components beside a model: abbreviations, sentences, concepts (extra `scispacy`).

Concepts come from a file of a knowledge base that the catalogue names, and from nowhere else:
scispaCy's own set-up of its linker asks the network at every start and unpickles what it fetched.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ABBREVIATIONS, LINKER, SENTENCES, ModelEntry

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.tokens import Doc, Span

_MODULES = {
    ABBREVIATIONS: "scispacy.abbreviation",
    SENTENCES: "scispacy.custom_sentence_segmenter",
    LINKER: "hc_orchestration.models.loaders.concepts",
}
"""The component → the module that registers it with spaCy when it is imported."""


def add_part(nlp: "Language", name: str, entry: ModelEntry) -> None:
    """Add one of scispaCy's components to the end of a pipeline.

    Raises:
        ModelError: Nobody knows the component, scispaCy is not installed, or the linker has no
            knowledge base.
    """
    import importlib

    key = entry.key
    if name not in _MODULES:
        message = (
            f"model {key}: there is no component {name} to add. Mend `components`; scispaCy's are: "
            f"{', '.join(_MODULES)}."
        )
        raise ModelError(message)
    config: dict[str, Any] = {"knowledge_base": _concepts(entry)} if name == LINKER else {}
    try:
        module = importlib.import_module(_MODULES[name])
        nlp.add_pipe(getattr(module, "FACTORY", name), name=name, config=config)
    except ImportError:
        message = (
            f"model {key}: the component {name} is scispaCy's, which is not installed. "
            "Install this project with the extra `scispacy`."
        )
        raise ModelError(message) from None


def _concepts(entry: ModelEntry) -> str:
    """The file of the knowledge base.

    Raises:
        ModelError: None is named, or it is not there.
    """
    how = (
        "Fetch one of scispaCy's, such as "
        "https://ai2-s2-scispacy.s3-us-west-2.amazonaws.com/data/kbs/2023-04-23/umls_mesh_2022.jsonl"
        ", or write your own (a line a concept: concept_id, canonical_name, aliases, types, "
        "definition), and name the file as `knowledge_base` in the catalogue."
    )
    if entry.knowledge_base is None:
        message = f"model {entry.key}: {LINKER} has no knowledge base. {how}"
        raise ModelError(message)
    if not Path(entry.knowledge_base).is_file():
        message = f"model {entry.key}: there is no knowledge base {entry.knowledge_base}. {how}"
        raise ModelError(message)
    return entry.knowledge_base


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
