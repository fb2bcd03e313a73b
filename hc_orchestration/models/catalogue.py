"""The model catalogue: which models exist, under which key, and what their labels mean."""

import re
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from hc_orchestration.errors import ModelError
from hc_orchestration.yaml_model import StrictModel, load_yaml_model

LOADERS = ("lexicon", "spacy")
UNTYPED = "*"

_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$")]
_Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+]{0,49}$")]


class UnknownModelError(ModelError):
    """A key that is not in the catalogue."""


class ModelSource(StrictModel):
    """Where the files of a model come from: exactly one of `url`, `path` and `package`."""

    url: str | None = None
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    path: str | None = None
    package: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(value is not None for value in (self.url, self.path, self.package)) != 1:
            message = "give exactly one of url, path and package"
            raise ValueError(message)
        return self


class ModelCard(StrictModel):
    """What its developers say of a model; shown beside its scores and logged with them."""

    developer: str | None = None
    license: str | None = None
    intended_use: str | None = None
    training_data: str | None = None
    limits: str | None = None
    homepage: str | None = None


class ModelEntry(StrictModel):
    """One model of the catalogue.

    Attributes:
        labels: Model label → study label, `"*"` for a mention of no particular type; labels not
            listed are left out and counted. None: the study's own labels, unchanged.
        components: The spaCy components to run; None: those that entities need.
    """

    name: _Name
    version: _Version
    loader: str
    source: ModelSource
    labels: dict[str, str] | None = None
    components: tuple[str, ...] | None = None
    card: ModelCard = ModelCard()

    @property
    def key(self) -> str:
        """The partition key, `<name>-<version>`; unique, and safe as the name of a folder."""
        return f"{self.name}-{self.version}"

    @property
    def untyped(self) -> bool:
        """Whether the model says only where a mention is, not of what type."""
        return UNTYPED in (self.labels or {}).values()

    def label_mapping(self, study_labels: tuple[str, ...]) -> dict[str, str]:
        """Model label → study label (or `"*"`)."""
        if self.labels is None:
            return {label: label for label in study_labels}
        return dict(self.labels)

    @field_validator("loader")
    @classmethod
    def _known_loader(cls, loader: str) -> str:
        if loader not in LOADERS:
            message = f"unknown loader; known loaders: {', '.join(LOADERS)}"
            raise ValueError(message)
        return loader


class Catalogue(StrictModel):
    """All models, in the order of the file."""

    models: tuple[ModelEntry, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Every partition key, in order."""
        return tuple(entry.key for entry in self.models)

    def entry(self, key: str) -> ModelEntry:
        """The entry with this key.

        Raises:
            UnknownModelError: No such entry.
        """
        for entry in self.models:
            if entry.key == key:
                return entry
        known = ", ".join(self.keys) or "none"
        message = f"model '{key}' is not in the catalogue. It holds: {known}."
        raise UnknownModelError(message)

    @model_validator(mode="after")
    def _unique_keys(self) -> Self:
        seen: set[str] = set()
        for key in self.keys:
            if key.casefold() in seen:
                message = f"the key {key} stands twice (upper and lower case count as the same)"
                raise ValueError(message)
            seen.add(key.casefold())
        return self


def load_catalogue(path: Path) -> Catalogue:
    """Read the catalogue; relative model paths are made absolute against its folder.

    Raises:
        ConfigurationError: See `load_yaml_model`.
    """
    catalogue = load_yaml_model(path, Catalogue)
    return catalogue.model_copy(
        update={"models": tuple(_resolved(entry, path.parent) for entry in catalogue.models)}
    )


def _resolved(entry: ModelEntry, base: Path) -> ModelEntry:
    if entry.source.path is None or re.match(r"^[a-z0-9]+://", entry.source.path):
        return entry
    path = str((base / Path(entry.source.path).expanduser()).absolute())
    source = entry.source.model_copy(update={"path": path})
    return entry.model_copy(update={"source": source})
