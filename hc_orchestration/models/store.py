"""Finding the files of a catalogue entry on this machine, and their fingerprint."""

import hashlib
import importlib.metadata
import importlib.util
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hc_orchestration.errors import ModelError, ModelNotInstalledError
from hc_orchestration.models.catalogue import SCISPACY_PARTS, Catalogue, ModelEntry

ARCHIVES = (".tar.gz", ".tgz", ".tar", ".zip", ".whl")

_SETTLED = 2_000_000_000
"""Nanoseconds: a file changed more recently might change again without a new time of change."""

_digests: dict[tuple[str, int, int, int], str] = {}
"""sha256 of the files that this process read, by path, size and times of change."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model: path relative to the model's folder, size in bytes, sha256 (hex)."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class InstalledModel:
    """The files of a model on this machine and what identifies its output.

    Attributes:
        location: The model's folder, or its only file.
        fingerprint: sha256 over the files, the settings that change the output, the loader, the
            minor version of spaCy, and what a team's own model says that it is: equal fingerprints
            give equal entities for the same text.
    """

    entry: ModelEntry
    location: Path
    files: tuple[ModelFile, ...]
    fingerprint: str

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def locate(entry: ModelEntry, store: Path) -> Path:
    """Where the files of `entry` are: its path, the model store, or an installed package.

    Raises:
        ModelNotInstalledError: They are not on this machine; the message says how to install them.
    """
    source = entry.origin
    if source.path is not None and not is_archive(Path(source.path)):
        if Path(source.path).exists():
            return Path(source.path)
        message = (
            f"model {entry.key}: there is nothing at {source.path}. "
            "Put the files there or mend `source.path` in the catalogue."
        )
        raise ModelNotInstalledError(message)
    if (store / entry.key).is_dir():
        return store / entry.key
    package = source.package or entry.name
    location = _module_files(package) if entry.team_model else _package_data(package, entry.version)
    if location is not None:
        return location
    message = f"model {entry.key} is not installed. {_how_to_install(entry, store)}"
    raise ModelNotInstalledError(message)


def is_archive(path: Path) -> bool:
    """Whether a path names an archive, which is read from the store once it is installed."""
    return path.name.endswith(ARCHIVES)


def absence(entry: ModelEntry, store: Path) -> str | None:
    """Why a model cannot be evaluated here, or None when its files are here."""
    try:
        locate(entry, store)
    except ModelNotInstalledError as error:
        return str(error)
    return None


def chosen_models(
    catalogue: Catalogue, store: Path, asked: Sequence[str], *, everything: bool
) -> list[str]:
    """The keys of the models to run: those asked for, else those whose files are here.

    Args:
        catalogue: All models.
        store: The folder of models.
        asked: Keys; a repeated one counts once.
        everything: Absent models too, if no key is asked for.

    Raises:
        UnknownModelError: A key is not in the catalogue.
    """
    if asked:
        return [catalogue.entry(key).key for key in dict.fromkeys(asked)]
    return [entry.key for entry in catalogue.models if everything or absence(entry, store) is None]


def bytes_of(entry: ModelEntry, store: Path) -> int:
    """Size of the model's files, or of its package as far as `locate` knows it; 0 if absent."""
    try:
        location = locate(entry, store)
    except ModelNotInstalledError:
        return 0
    files = (location,) if location.is_file() else location.rglob("*")
    return sum(path.stat().st_size for path in files if path.is_file())


def installed_model(entry: ModelEntry, store: Path, *, remembered: bool = False) -> InstalledModel:
    """Read and digest the files of a model.

    Args:
        entry: The model.
        store: The folder of models.
        remembered: Do not read a file again that this process has read and whose path, size and
            times of change are the same.

    Raises:
        ModelNotInstalledError: See `locate`.
        ModelError: The files cannot be read, or there are none; or a team's own model, which is
            made to learn its fingerprint, cannot be made.
    """
    location = locate(entry, store)
    try:
        files = tuple(_files(location, remembered=remembered))
    except OSError as error:
        message = f"model {entry.key}: {location} cannot be read ({type(error).__name__})."
        raise ModelError(message) from None
    if not files:
        message = f"model {entry.key}: the folder {location} is empty. Install the model again."
        raise ModelError(message)
    identity = _identity(entry, files, remembered=remembered)
    model = InstalledModel(entry, location, files, _digest(identity))
    if not entry.team_model:
        return model
    from hc_orchestration.models.loaders.team import own_fingerprint

    own = own_fingerprint(model, remembered=remembered)
    return model if own is None else replace(model, fingerprint=_digest([model.fingerprint, own]))


def _files(location: Path, *, remembered: bool) -> list[ModelFile]:
    if location.is_file():
        return [_digested(location, location.name, remembered=remembered)]
    paths = sorted(path for path in location.rglob("*") if path.is_file())
    return [
        _digested(path, path.relative_to(location).as_posix(), remembered=remembered)
        for path in paths
        if "__pycache__" not in path.parts
    ]


def _digested(path: Path, name: str, *, remembered: bool) -> ModelFile:
    found = path.stat()
    known = (str(path.absolute()), found.st_size, found.st_mtime_ns, found.st_ctime_ns)
    digest = _digests.get(known) if remembered else None
    if digest is None:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if time.time_ns() - found.st_mtime_ns > _SETTLED:
            _digests[known] = digest
    return ModelFile(name, found.st_size, digest)


def _identity(
    entry: ModelEntry, files: tuple[ModelFile, ...], *, remembered: bool
) -> dict[str, object]:
    spacy_minor = _minor("spacy")
    identity: dict[str, object] = {
        "files": [[file.path, file.sha256] for file in files],
        "loader": entry.loader,
        "components": entry.components,
        "spacy": spacy_minor,
    }
    if entry.options is not None:
        identity["options"] = entry.options
    if entry.loader == "transformers":
        identity["transformers"] = _minor("transformers")
    if set(entry.components or ()) & set(SCISPACY_PARTS):
        identity["scispacy"] = _minor("scispacy")
    if entry.knowledge_base is not None:
        concepts = Path(entry.knowledge_base)
        there = concepts.is_file()  # the loader says what to do where it is not
        file = _digested(concepts, concepts.name, remembered=remembered) if there else None
        identity["knowledge_base"] = file.sha256 if file else None
    return identity


def _digest(identity: object) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()


def _minor(package: str) -> str | None:
    try:
        return ".".join(importlib.metadata.version(package).split(".")[:2])
    except importlib.metadata.PackageNotFoundError:
        return None


def _module_files(module: str) -> Path | None:
    """The folder or file of a module on the Python path, without importing it."""
    try:
        spec = importlib.util.find_spec(module)
    except ValueError:
        return None
    if spec is None or spec.origin is None:
        return None
    origin = Path(spec.origin)
    return origin.parent if spec.submodule_search_locations else origin


def _package_data(package: str, version: str) -> Path | None:
    """The data folder of an installed spaCy package, if its version is the one asked for."""
    if not package.isidentifier():
        return None
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # a module of that name runs and has no spec, such as __main__
        return None
    if spec is None or not spec.submodule_search_locations:
        return None
    folder = Path(next(iter(spec.submodule_search_locations)))
    for candidate in (folder, *sorted(folder.glob(f"*-{version}"))):
        meta = candidate / "meta.json"
        if meta.is_file() and _meta_version(meta) == version:
            return candidate if (candidate / "config.cfg").is_file() else _inner(candidate, version)
    return None


def _inner(folder: Path, version: str) -> Path | None:
    return next((path.parent for path in sorted(folder.glob(f"*-{version}/config.cfg"))), None)


def _meta_version(meta: Path) -> str | None:
    try:
        version = json.loads(meta.read_text(encoding="utf-8")).get("version")
    except (OSError, ValueError, AttributeError):
        return None
    return version if isinstance(version, str) else None


def _how_to_install(entry: ModelEntry, store: Path) -> str:
    source = entry.origin
    if source.url is not None:
        return (
            f"Run `hc models install {entry.key}`, which fetches {source.url}; without network, "
            f"`hc models install FILE --model {entry.key}` with that file. It then stands in "
            f"{store / entry.key}. "
            f"Never `pip install {entry.name}`: the public index has other things by such names."
        )
    if source.path is not None:
        return f"Run `hc models install {entry.key}`, which unpacks {source.path}."
    if entry.team_model:
        return f"Put the module {source.package} beside the catalogue or on the Python path."
    return (
        f"Install version {entry.version} of the package {source.package} from its "
        f"developer's own archive, or put its files into {store / entry.key}."
    )
