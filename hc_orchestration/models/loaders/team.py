"""A team's own model: `module:callable`, called with the options of its entry."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from typing import Any

from hc_orchestration.errors import ModelError
from hc_orchestration.models.catalogue import ModelEntry
from hc_orchestration.models.loaders.protocol import CPU, ModelSpan
from hc_orchestration.models.store import InstalledModel, ModelFile

_loaded: dict[str, tuple[ModelFile, ...]] = {}
"""Module name → the files that it was loaded from, for those beside a catalogue."""

_own: dict[str, str | None] = {}
"""Fingerprint without its own part → the own part that an object gave last."""


class TeamModel:
    """What a team's callable returned."""

    def __init__(self, made: Any) -> None:  # noqa: ANN401 - the team's own class
        """Wrap an object with a method `extract`."""
        self._made = made
        self.device = str(getattr(made, "device", CPU))

    @property
    def labels(self) -> tuple[str, ...] | None:
        """The object's own `labels`, if it has any."""
        told = getattr(self._made, "labels", None)
        return tuple(sorted(map(str, told))) if told else None

    def extract(self, texts: Sequence[str]) -> list[list[ModelSpan]]:
        """See `NerModel.extract`."""
        found: list[list[ModelSpan]] = self._made.extract(list(texts))
        return found


def own_fingerprint(model: InstalledModel, *, remembered: bool) -> str | None:
    """What the object that the team's callable returns says that it is; None: it does not say.

    The object is made for it and then let go, as its weights may lie where no catalogue can see
    them: a callable that reads large ones does so best at the first `extract`.

    Args:
        model: The model, its fingerprint without this part.
        remembered: Take what an object of the same code and options said last in this process.

    Raises:
        ModelError: It cannot be made, or its fingerprint is no text.
    """
    if remembered and model.fingerprint in _own:
        return _own[model.fingerprint]
    own = getattr(_make(model), "fingerprint", None)
    if own is not None and (not isinstance(own, str) or not own):
        message = (
            f"model {model.entry.key}: the `fingerprint` of what {model.entry.loader} returned is "
            f"of type {type(own).__name__}. Make it a text that is not empty, or leave it out."
        )
        raise ModelError(message)
    _own[model.fingerprint] = own
    return own


def load_team_model(model: InstalledModel) -> TeamModel:
    """Call the team's callable.

    Raises:
        ModelError: Its module or name is not there, it raised, or it returned no model.
    """
    return TeamModel(_make(model))


def _make(model: InstalledModel) -> Any:  # noqa: ANN401 - the team's own class
    entry = model.entry
    module_name, _, name = entry.loader.partition(":")
    try:
        module = _module(module_name, model)
        made = getattr(module, name)(dict(entry.options or {}))
    except Exception as error:  # noqa: BLE001 - the team's code; no note was read yet
        reason = " ".join(str(error).split())[:200]
        message = f"model {entry.key}: {entry.loader} failed: {type(error).__name__}: {reason}"
        raise ModelError(message) from None
    if not callable(getattr(made, "extract", None)):
        message = f"model {entry.key}: {entry.loader} returned an object without `extract`."
        raise ModelError(message)
    return made


def _module(name: str, model: InstalledModel) -> Any:  # noqa: ANN401 - a module
    """The module, read anew when its files beside the catalogue have changed."""
    top = name.partition(".")[0]
    if _beside_catalogue(model.entry) and _loaded.get(top) != model.files:
        for loaded in [n for n in sys.modules if n == top or n.startswith(f"{top}.")]:
            del sys.modules[loaded]
        is_package = model.location.is_dir()
        file = model.location / "__init__.py" if is_package else model.location
        spec = importlib.util.spec_from_file_location(
            top, file, submodule_search_locations=[str(model.location)] if is_package else None
        )
        if spec is None or spec.loader is None:
            message = f"{file} is no Python module"
            raise ImportError(message)
        sys.modules[top] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[top])
        _loaded[top] = model.files
    return importlib.import_module(name)


def _beside_catalogue(entry: ModelEntry) -> bool:
    """Whether the module lies beside the catalogue, and not on the Python path."""
    return entry.source is not None and entry.source.path is not None
