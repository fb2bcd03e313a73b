"""Loading a model: files become something that turns texts into spans; one module a loader."""

from collections.abc import Callable

from hc_orchestration.models.loaders.lexicon import LexiconModel, load_lexicon
from hc_orchestration.models.loaders.protocol import ModelSpan, NerModel
from hc_orchestration.models.loaders.spacy_pipeline import SpacyModel, load_spacy
from hc_orchestration.models.loaders.team import load_team_model
from hc_orchestration.models.loaders.transformer import load_transformer
from hc_orchestration.models.store import InstalledModel
from hc_orchestration.processes import keep_freed_memory

__all__ = ["LexiconModel", "ModelSpan", "NerModel", "SpacyModel", "load_model"]


def load_model(model: InstalledModel) -> NerModel:
    """Load a model with the loader that its catalogue entry names.

    Raises:
        ModelError: The files are damaged or incomplete, or a part that they need is not installed.
    """
    keep_freed_memory()
    return _LOADERS.get(model.entry.loader, load_team_model)(model)


_LOADERS: dict[str, Callable[[InstalledModel], NerModel]] = {
    "lexicon": load_lexicon,
    "spacy": load_spacy,
    "transformers": load_transformer,
}
