"""The model catalogue: which models exist, under which key, and what their labels mean."""

import re
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from hc_orchestration.errors import ModelError
from hc_orchestration.yaml_model import StrictModel, load_yaml_model

LOADERS = ("lexicon", "spacy", "transformers")
_TEAM = re.compile(r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")
UNTYPED = "*"
ABBREVIATIONS = "abbreviation_detector"
SENTENCES = "pysbd_sentencizer"
LINKER = "scispacy_linker"
SCISPACY_PARTS = (ABBREVIATIONS, SENTENCES, LINKER)
"""scispaCy's components, which a model may name without holding them."""

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
    """What its developers say of a model; shown beside its scores and logged with them.

    Attributes:
        labels: All labels that the model gives, whether a study maps them or not.
        figures: A score by its name, best with its interval: "0.843 (0.835-0.851) on BC5CDR Test".
    """

    developer: str | None = None
    license: str | None = None
    intended_use: str | None = None
    training_data: str | None = None
    limits: str | None = None
    homepage: str | None = None
    labels: tuple[str, ...] | None = None
    figures: dict[str, str] | None = None


class ModelEntry(StrictModel):
    """One model of the catalogue.

    Attributes:
        labels: Model label → study label, `"*"` for a mention of no particular type; labels not
            listed are left out and counted. None: the study's own labels, unchanged.
        components: The spaCy components to run; None: those that entities need. scispaCy's own
            may be named although the pipeline does not hold them.
        source: None for a team's own model (`module:callable`), whose source is the module.
        options: What a team's own model is made with.
        allow_pickle: Names of pickled files that may be installed, or their paths in the model.
        knowledge_base: scispaCy's concepts as JSON Lines, for the component `scispacy_linker`.
    """

    name: _Name
    version: _Version
    loader: str
    source: ModelSource | None = None
    options: dict[str, Any] | None = None
    allow_pickle: tuple[str, ...] = ()
    labels: dict[str, str] | None = None
    components: tuple[str, ...] | None = None
    knowledge_base: str | None = None
    card: ModelCard = ModelCard()

    @property
    def key(self) -> str:
        """The partition key, `<name>-<version>`; unique, and safe as the name of a folder."""
        return f"{self.name}-{self.version}"

    @property
    def team_model(self) -> bool:
        """Whether a team's own callable makes the model."""
        return ":" in self.loader

    @property
    def origin(self) -> ModelSource:
        """Where its files come from, once the catalogue is loaded."""
        if self.source is None:
            message = f"model {self.key} has no source"
            raise ModelError(message)
        return self.source

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
        if loader not in LOADERS and not _TEAM.match(loader):
            message = f"unknown loader; known loaders: {', '.join(LOADERS)}, or module:callable"
            raise ValueError(message)
        return loader

    @model_validator(mode="after")
    def _linker_has_concepts(self) -> Self:
        if self.knowledge_base is not None and LINKER not in (self.components or ()):
            message = f"knowledge_base is for the component {LINKER}; name it in components"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _source_or_module(self) -> Self:
        if self.team_model and self.source is not None:
            message = "module:callable has no source; put paths into options"
            raise ValueError(message)
        if not self.team_model and (self.source is None or self.options is not None):
            message = f"the loader {self.loader} needs a source, and takes no options"
            raise ValueError(message)
        return self


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
    if entry.knowledge_base is not None:
        concepts = str((base / Path(entry.knowledge_base).expanduser()).absolute())
        entry = entry.model_copy(update={"knowledge_base": concepts})
    if entry.source is None:
        return entry.model_copy(update={"source": _module_source(entry, base)})
    if entry.source.path is None or re.match(r"^[a-z0-9]+://", entry.source.path):
        return entry
    path = str((base / Path(entry.source.path).expanduser()).absolute())
    source = entry.source.model_copy(update={"path": path})
    return entry.model_copy(update={"source": source})


def _module_source(entry: ModelEntry, base: Path) -> ModelSource:
    """The module of a team's own model: beside the catalogue, else on the Python path."""
    top = entry.loader.partition(":")[0].partition(".")[0]
    for beside in (base / f"{top}.py", base / top):
        if beside.exists():
            return ModelSource(path=str(beside.absolute()))
    return ModelSource(package=top)
