"""Loading a model: files become something that turns texts into spans."""

import logging
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from hc_orchestration.errors import ModelError
from hc_orchestration.models.store import InstalledModel

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.matcher import PhraseMatcher

_MISSING_FACTORY = re.compile(r"\[E002\] Can't find factory for '([^']+)'")
_log = logging.getLogger(__name__)

ModelSpan = tuple[int, int, str] | tuple[int, int, str, float]


class NerModel(Protocol):
    """Anything that finds mentions in texts."""

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """One inner list a text, of `(start, end, label)` or `(start, end, label, score)`.

        Offsets are half-open and count code points of the text as given.
        """
        ...


def load_model(model: InstalledModel) -> NerModel:
    """Load a model with the loader that its catalogue entry names.

    Raises:
        ModelError: The files are damaged or incomplete, or a part that they need is not installed.
    """
    return _LOADERS[model.entry.loader](model)


class SpacyModel:
    """A spaCy pipeline, reduced to the components that entities need."""

    def __init__(self, nlp: "Language") -> None:
        """Wrap a loaded pipeline."""
        self._nlp = nlp

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`; spaCy gives no scores."""
        return [
            [(entity.start_char, entity.end_char, entity.label_) for entity in doc.ents]
            for doc in self._nlp.pipe(texts, batch_size=64)
        ]


def _load_spacy(model: InstalledModel) -> SpacyModel:
    import spacy

    from hc_orchestration.models import spacy_parts  # noqa: F401 - registers our parts with spaCy

    key = model.entry.key
    try:
        with warnings.catch_warnings(record=True) as heard:
            nlp = spacy.load(model.location)
    except Exception as error:  # noqa: BLE001 - spaCy raises whatever its parts raise
        message = f"model {key} cannot be loaded from {model.location}: {_why_not_loaded(error)}"
        raise ModelError(message) from None
    for warning in heard:
        _log.warning("%s: %s", key, str(warning.message).split(". ", maxsplit=1)[0])
    components = model.entry.components or _entity_components(nlp)
    if not components:
        message = (
            f"model {key}: no component of {model.location} writes entities. Name `components`."
        )
        raise ModelError(message)
    unknown = [name for name in components if name not in nlp.pipe_names]
    if unknown:  # spaCy would run without them, and find nothing
        message = (
            f"model {key}: {model.location} has no component {', '.join(unknown)}. "
            f"Mend `components`; it has: {', '.join(nlp.pipe_names)}."
        )
        raise ModelError(message)
    nlp.select_pipes(enable=list(components))
    return SpacyModel(nlp)


def _why_not_loaded(error: Exception) -> str:
    """What to do about a spaCy pipeline that does not load; no note was read yet."""
    missing = _MISSING_FACTORY.search(str(error))
    if missing:
        return (
            f"it needs the component '{missing[1]}', which no installed package gives spaCy. "
            "Install the package that registers it (its developer says which), then run again."
        )
    reason = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {reason} Install the model again; its files are damaged."


def _entity_components(nlp: "Language") -> list[str]:
    """Components that assign `doc.ents`, and the shared layers that they listen to."""
    writers = {name for name in nlp.pipe_names if "doc.ents" in nlp.get_pipe_meta(name).assigns}
    needed = set(writers)
    for name, component in nlp.pipeline:
        if writers & set(getattr(component, "listening_components", ())):
            needed.add(name)
    return [name for name in nlp.pipe_names if name in needed]


class LexiconModel:
    """A term list matched token by token, without regard to case; the longest match wins."""

    def __init__(self, nlp: "Language", matcher: "PhraseMatcher") -> None:
        """Wrap a tokenizer and a matcher whose rule names are the labels."""
        self._nlp = nlp
        self._matcher = matcher

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`; a term list has no scores."""
        from spacy.util import filter_spans

        return [
            [
                (span.start_char, span.end_char, span.label_)
                for span in filter_spans(self._matcher(doc, as_spans=True))
            ]
            for doc in map(self._nlp.make_doc, texts)
        ]


def _load_lexicon(model: InstalledModel) -> LexiconModel:
    from spacy.lang.en import English
    from spacy.matcher import PhraseMatcher

    from hc_orchestration.models.spacy_parts import make_clinical_tokenizer

    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    for label, terms in _read_terms(model).items():
        matcher.add(label, list(nlp.tokenizer.pipe(terms)))
    return LexiconModel(nlp, matcher)


def _read_terms(model: InstalledModel) -> dict[str, list[str]]:
    """The terms of a lexicon by label: lines `LABEL<TAB>term` of its `terms.tsv`."""
    location = model.location
    file = location / "terms.tsv" if location.is_dir() else location
    terms: dict[str, list[str]] = {}
    for number, line in enumerate(_lines(file, model.entry.key), start=1):
        label, tab, term = line.partition("\t")
        if not tab or not label or not term.strip():
            message = f"model {model.entry.key}: {file.name} line {number} is not LABEL<TAB>term."
            raise ModelError(message)
        terms.setdefault(label, []).append(term)
    if not terms:
        message = f"model {model.entry.key}: {file} holds no terms."
        raise ModelError(message)
    return terms


def _lines(file: Path, key: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        message = f"model {key}: {file} cannot be read ({type(error).__name__})."
        raise ModelError(message) from None


_LOADERS: dict[str, Callable[[InstalledModel], NerModel]] = {
    "lexicon": _load_lexicon,
    "spacy": _load_spacy,
}
