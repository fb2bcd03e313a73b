"""spaCy pipelines, from a folder that spaCy wrote."""

import json
import logging
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import SCISPACY_PARTS
from hc_orchestration.models.loaders.protocol import CPU, ModelSpan
from hc_orchestration.models.loaders.scispacy_parts import add_part
from hc_orchestration.models.loaders.vocabulary import BoundedVocabulary
from hc_orchestration.models.store import InstalledModel

if TYPE_CHECKING:
    from spacy.language import Language

_MISSING_FACTORY = re.compile(r"\[E002\] Can't find factory for '([^']+)'")
_ON_CPU, _ON_GPU = 16, 128
"""Texts that go through the layers together: a CPU's cache holds few, a GPU wants many."""

_log = logging.getLogger(__name__)


class SpacyModel:
    """A spaCy pipeline, reduced to the components that entities need."""

    def __init__(self, nlp: "Language", device: str = CPU) -> None:
        """Wrap a loaded pipeline that computes on `device`."""
        from threadpoolctl import ThreadpoolController

        self._nlp = nlp
        self.device = device
        self._threads = ThreadpoolController()

    @property
    def components(self) -> tuple[str, ...]:
        """The components that run."""
        return tuple(self._nlp.pipe_names)

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The labels that the components tell of; None when none does."""
        pipes = (component for _, component in self._nlp.pipeline)
        told = [label for pipe in pipes for label in getattr(pipe, "labels", ())]
        return tuple(sorted(set(told))) or None

    @property
    def strings(self) -> int:
        """How many strings the vocabulary remembers."""
        return len(self._nlp.vocab.strings)

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`; spaCy gives no scores.

        One thread multiplies matrices: a second one gains a tenth here, and a process a core more.
        """
        from hc_orchestration.models.loaders.scispacy_parts import concept_of

        batch_size = _ON_CPU if self.device == CPU else _ON_GPU
        with self._threads.limit(limits=1, user_api="blas"):
            return [
                [
                    (entity.start_char, entity.end_char, entity.label_)
                    if (concept := concept_of(entity)) is None
                    else (entity.start_char, entity.end_char, entity.label_, None, concept)
                    for entity in doc.ents
                ]
                for doc in self._nlp.pipe(texts, batch_size=batch_size)
            ]


def load_spacy(model: InstalledModel) -> BoundedVocabulary:
    """The pipeline in the model's folder, on the GPU when there is one.

    Raises:
        ModelError: It does not load, or has no such component.
    """
    return BoundedVocabulary(lambda: _load(model))


def _load(model: InstalledModel) -> SpacyModel:
    import spacy
    from thinc.api import prefer_gpu

    from hc_orchestration.models import spacy_parts  # noqa: F401 - registers our parts with spaCy

    key = model.entry.key
    device = "cuda:0" if prefer_gpu() else CPU
    try:
        with warnings.catch_warnings(record=True) as heard, _fast_products():
            nlp = spacy.load(model.location)
    except Exception as error:  # noqa: BLE001 - spaCy raises whatever its parts raise
        message = (
            f"model {key} cannot be loaded from {model.location}: {_why_not_loaded(error, model)}"
        )
        raise ModelError(message) from None
    for warning in heard:
        _log.warning("%s: %s", key, str(warning.message).split(". ", maxsplit=1)[0])
    components = model.entry.components or _entity_components(nlp)
    if not components:
        message = (
            f"model {key}: no component of {model.location} writes entities. Name `components`."
        )
        raise ModelError(message)
    for name in components:
        if name not in nlp.pipe_names and name in SCISPACY_PARTS:
            add_part(nlp, name, model.entry)
    unknown = [name for name in components if name not in nlp.pipe_names]
    if unknown:  # spaCy would run without them, and find nothing
        message = (
            f"model {key}: {model.location} has no component {', '.join(unknown)}. "
            f"Mend `components`; it has: {', '.join(nlp.pipe_names)}."
        )
        raise ModelError(message)
    nlp.select_pipes(enable=list(components))
    return SpacyModel(nlp, device)


@contextmanager
def _fast_products() -> Iterator[None]:
    """Have the layers made in it multiply matrices with numpy instead of the BLIS of Thinc.

    The BLIS of Thinc's wheels has no AVX-512 kernels; numpy's OpenBLAS chooses for the processor
    that it finds. Products make up half of a small CNN's time. A GPU's or Apple's stay as they are.
    """
    from thinc.api import NumpyOps, get_current_ops, use_ops

    if type(get_current_ops()) is NumpyOps:
        with use_ops("numpy", use_blis=False):
            yield
    else:
        yield


def _why_not_loaded(error: Exception, model: InstalledModel) -> str:
    """What to do about a spaCy pipeline that does not load; no note was read yet."""
    missing = _MISSING_FACTORY.search(str(error))
    if missing:
        asked = ", ".join(_requirements(model))
        named = f"; its meta.json asks for {asked}" if asked else ""
        return (
            f"it needs the component '{missing[1]}', which no installed package gives spaCy{named}"
            ". Get the package that registers it from the model's developer and install it into "
            "this environment from its folder or archive (`python -m pip install FOLDER`, never "
            "by a bare name), then run again."
        )
    reason = " ".join(str(error).split())[:200]
    return f"{type(error).__name__}: {reason} Install the model again; its files are damaged."


def _requirements(model: InstalledModel) -> list[str]:
    """The packages that a pipeline's own description asks for."""
    try:
        meta = json.loads((model.location / "meta.json").read_text(encoding="utf-8"))
        return [str(package) for package in meta.get("requirements") or ()]
    except (OSError, ValueError, AttributeError, TypeError):
        return []


def _entity_components(nlp: "Language") -> list[str]:
    """Components that assign `doc.ents`, what they require, and the layers they listen to."""
    about = {name: nlp.get_pipe_meta(name) for name in nlp.pipe_names}
    needed = {name for name, meta in about.items() if "doc.ents" in meta.assigns}
    for name, component in reversed(nlp.pipeline):
        required = {attribute for kept in needed for attribute in about[kept].requires}
        heard = needed & set(getattr(component, "listening_components", ()))
        if heard or required & set(about[name].assigns):
            needed.add(name)
    return [name for name in nlp.pipe_names if name in needed]
