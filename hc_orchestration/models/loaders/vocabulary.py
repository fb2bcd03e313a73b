"""Keeping what spaCy remembers of words within bounds, however many notes there are."""

from collections.abc import Callable, Sequence
from typing import Protocol

from hc_orchestration.models.loaders.protocol import ModelSpan, NerModel

MOST_STRINGS = 50_000
"""Strings that may be added, at about 450 bytes each."""


class WithVocabulary(NerModel, Protocol):
    """A model that counts the strings it remembers, and names its components."""

    @property
    def components(self) -> tuple[str, ...]: ...  # noqa: D102 - see above

    @property
    def strings(self) -> int: ...  # noqa: D102 - see above


class BoundedVocabulary:
    """A model that is loaded again when it remembers too many strings, which changes no result.

    spaCy keeps every word that it ever saw; numbers, dates and misspellings never come to an end.
    Its `memory_zone` would forget them as well, but in one the tokenizer's cache does not learn,
    and a term list took 2.5 times as long; loading takes half a second, rarely.
    """

    def __init__(self, load: Callable[[], WithVocabulary]) -> None:
        """Load the model; `load` gives it anew each time.

        Raises:
            ModelError: It cannot be loaded.
        """
        self._load = load
        self._model: WithVocabulary | None = None
        self._ready()

    @property
    def device(self) -> str:
        """Where the model computes."""
        return self._ready().device

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels that it can give; None: it does not tell."""
        return self._ready().labels

    @property
    def components(self) -> tuple[str, ...]:
        """The components that run."""
        return self._ready().components

    def _ready(self) -> WithVocabulary:
        if self._model is None:
            self._model = self._load()
            self._most = self._model.strings + MOST_STRINGS
        return self._model

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`.

        Raises:
            ModelError: The model can no longer be loaded.
        """
        if self._ready().strings > self._most:
            self._model = None  # before another is loaded: two may not fit
        return self._ready().extract(texts)
