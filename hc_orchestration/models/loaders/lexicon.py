"""Term lists: lines `LABEL<TAB>term`, matched token by token."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ABBREVIATIONS
from hc_orchestration.models.loaders.protocol import CPU, ModelSpan
from hc_orchestration.models.loaders.scispacy_parts import (
    add_part,
    concept_of,
    labelled_abbreviations,
)
from hc_orchestration.models.loaders.vocabulary import BoundedVocabulary
from hc_orchestration.models.store import InstalledModel

if TYPE_CHECKING:
    from spacy.language import Language
    from spacy.matcher import PhraseMatcher
    from spacy.tokens import Doc, Span


class LexiconModel:
    """A term list matched token by token, without regard to case; the longest match wins.

    The components of the pipeline run after the terms are found. With scispaCy's abbreviation
    detector among them, an abbreviation that the text itself defines beside a long form gets the
    label of the long form, wherever it stands.
    """

    device = CPU

    def __init__(
        self, nlp: "Language", matcher: "PhraseMatcher", labels: tuple[str, ...] | None = None
    ) -> None:
        """Wrap a tokenizer and a matcher whose rule names are the labels."""
        self._nlp = nlp
        self._matcher = matcher
        self.labels = labels

    @property
    def components(self) -> tuple[str, ...]:
        """The components that run after the terms are found."""
        return tuple(self._nlp.pipe_names)

    @property
    def strings(self) -> int:
        """How many strings the vocabulary remembers."""
        return len(self._nlp.vocab.strings)

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`; a term list has no scores."""
        return [self._spans(self._nlp.make_doc(text)) for text in texts]

    def _spans(self, doc: "Doc") -> list[ModelSpan]:
        from spacy.util import filter_spans

        found = filter_spans(self._matcher(doc, as_spans=True))
        if not self._nlp.pipe_names:
            return [(span.start_char, span.end_char, span.label_) for span in found]
        doc.set_ents(found)
        for name, component in self._nlp.pipeline:
            doc = component(doc)
            if name == ABBREVIATIONS:  # at once: a linker after it sees them too
                doc.set_ents(filter_spans([*doc.ents, *labelled_abbreviations(doc)]))
        return [_described(span) for span in doc.ents]


def _described(span: "Span") -> ModelSpan:
    concept = concept_of(span)
    if concept is None:
        return span.start_char, span.end_char, span.label_
    return span.start_char, span.end_char, span.label_, None, concept


def load_lexicon(model: InstalledModel) -> BoundedVocabulary:
    """A model of `terms.tsv` in the model's folder, or of its only file.

    Raises:
        ModelError: The list cannot be read, is empty, or a named component is unknown.
    """
    return BoundedVocabulary(lambda: _load(model))


def _load(model: InstalledModel) -> LexiconModel:
    from spacy.lang.en import English
    from spacy.matcher import PhraseMatcher

    from hc_orchestration.models.spacy_parts import make_clinical_tokenizer

    nlp = English()
    nlp.tokenizer = make_clinical_tokenizer()(nlp)
    terms = _read_terms(model)
    matcher = PhraseMatcher(nlp.vocab, attr="LOWER")
    for label, words in terms.items():
        matcher.add(label, list(nlp.tokenizer.pipe(words)))
    for name in model.entry.components or ():
        add_part(nlp, name, model.entry)
    return LexiconModel(nlp, matcher, tuple(sorted(terms)))


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
