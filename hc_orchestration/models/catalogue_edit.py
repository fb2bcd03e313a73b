"""Adding an entry to the catalogue's file and taking one out; comments and order stay as they are.

Only the lines of the entry are written or removed. A file is replaced at once, after the new text
was read back and holds the entries that it should.
"""

import io
import os
import tempfile
from pathlib import Path
from typing import Any

from filelock import FileLock
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.models.catalogue import Catalogue, ModelEntry
from hc_orchestration.yaml_model import load_yaml_model, yaml_model

_UNBROKEN = 10_000
_DEFAULT_INDENT = 2


def add_entry(path: Path, fields: dict[str, Any], lock: Path) -> ModelEntry:
    """Write an entry to the end of the catalogue.

    Args:
        path: The catalogue.
        fields: The entry as it stands in YAML.
        lock: A lock file that all who edit the catalogue take.

    Raises:
        ConfigurationError: The entry is not valid, its key is there already, or the file is not one
            that can be added to; it is as it was.
    """
    with FileLock(lock):
        before = load_yaml_model(path, Catalogue)
        text = _read(path)
        added = _appended(text, _as_block(fields, _indent(text)), path)
        try:
            after = yaml_model(added, path, Catalogue)
        except ConfigurationError as error:
            message = f"nothing was added. With the new entry, {error}"
            raise ConfigurationError(message) from None
        _replace(path, added, after, (*before.models, after.models[-1]))
    return after.models[-1]


def remove_entry(path: Path, key: str, lock: Path) -> None:
    """Take the lines of an entry out of the catalogue.

    Raises:
        UnknownModelError: No such entry.
        ConfigurationError: The file cannot be edited; it is as it was.
    """
    with FileLock(lock):
        before = load_yaml_model(path, Catalogue)
        entry = before.entry(key)
        position = before.models.index(entry)
        text = _without(_read(path), position, path)
        rest = (*before.models[:position], *before.models[position + 1 :])
        _replace(path, text, yaml_model(text, path, Catalogue), rest)


def _read(path: Path) -> str:
    with path.open(encoding="utf-8", newline="") as stream:
        return stream.read()


def _models(text: str) -> CommentedSeq:
    found: CommentedSeq = YAML().load(text)["models"]
    return found


def _indent(text: str) -> int:
    """Column of the dashes."""
    models = _models(text)
    return int(models.lc.col) if len(models) and not models.fa.flow_style() else _DEFAULT_INDENT


def _as_block(fields: dict[str, Any], indent: int) -> str:
    writer = YAML()
    writer.default_flow_style = None  # what holds no other mapping stands on one line
    writer.width = _UNBROKEN
    entry = CommentedMap(fields)
    if "card" in fields:
        entry["card"] = CommentedMap(fields["card"])
        entry["card"].fa.set_block_style()
    block = io.StringIO()
    writer.dump([entry], block)
    return "".join(f"{' ' * indent}{line}\n" for line in block.getvalue().splitlines())


def _appended(text: str, block: str, path: Path) -> str:
    newline = "\r\n" if "\r\n" in text else "\n"
    block = block.replace("\n", newline)
    models = _models(text)
    if len(models) == 0:
        lines = text.splitlines(keepends=True)
        at = next(i for i, line in enumerate(lines) if line.startswith("models:"))
        return "".join([*lines[:at], f"models:{newline}", block, *lines[at + 1 :]])
    if models.fa.flow_style():
        raise _not_editable(path)
    body = text if text.endswith("\n") else text + newline
    between = newline if _has_blank_lines(body, models) else ""
    return body + between + block


def _has_blank_lines(text: str, models: CommentedSeq) -> bool:
    """Whether the entries are set apart by blank lines, as the new one then is."""
    if len(models) < 2:  # noqa: PLR2004 - two can be apart
        return False
    first, second = models.lc.item(0)[0], models.lc.item(1)[0]
    return any(not line.strip() for line in text.splitlines()[first:second])


def _without(text: str, position: int, path: Path) -> str:
    """The text without an entry; comments right above the next one stay with that."""
    models = _models(text)
    if models.fa.flow_style():
        raise _not_editable(path)
    lines = text.splitlines(keepends=True)
    starts = [_dash(lines, models.lc.item(number)[0]) for number in range(len(models))]
    begin = starts[position]
    end = starts[position + 1] if position + 1 < len(starts) else len(lines)
    while end > begin + 1 and _is_aside(lines[end - 1]):
        end -= 1
    if len(models) == 1:
        top = next(i for i, line in enumerate(lines) if line.startswith("models:"))
        lines[top] = lines[top].replace("models:", "models: []", 1)
    rest = lines[end:]
    while rest and not rest[0].strip() and (position == 0 or not lines[begin - 1].strip()):
        rest = rest[1:]  # one blank line is left where two would meet
    kept = lines[:begin]
    while not rest and not kept[-1].strip():
        kept = kept[:-1]
    return "".join([*kept, *rest])


def _dash(lines: list[str], line: int) -> int:
    while not lines[line].lstrip().startswith("-"):
        line -= 1
    return line


def _is_aside(line: str) -> bool:
    return not line.strip() or line.lstrip().startswith("#")


def _not_editable(path: Path) -> ConfigurationError:
    message = (
        f"{path}: `models` is written as [ … ] on a line. Write one `- name:` below the other."
    )
    return ConfigurationError(message)


def _replace(path: Path, text: str, after: Catalogue, expected: tuple[ModelEntry, ...]) -> None:
    if after.models != expected:  # such as a block of text that holds lines like comments
        message = f"{path} cannot be edited without changing other entries. Edit it by hand."
        raise ConfigurationError(message)
    target = path.resolve()
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        partial = Path(name)
        partial.chmod(target.stat().st_mode & 0o777)
        partial.replace(target)
    except OSError as error:
        message = f"{path} cannot be written ({type(error).__name__}). Point HC_MODELS at a file."
        raise ConfigurationError(message) from None
