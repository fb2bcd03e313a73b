"""Strict YAML: a file becomes a pydantic model, or one error naming file, key and remedy."""

import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from hc_orchestration.errors import ConfigurationError


class StrictModel(BaseModel):
    """Base of everything read from YAML: unknown keys refused, no silent type changes, frozen."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


_DUPLICATE = re.compile(r'found duplicate key "([^"]*)"')

Model = TypeVar("Model", bound=BaseModel)


def load_yaml_model(path: Path, model: type[Model]) -> Model:
    """Read `path` as `model`.

    Raises:
        ConfigurationError: The file is missing, is not YAML, repeats a key, or does not fit; the
            message lists every misfit with its key and a remedy.
    """
    return yaml_model(_text(path), path, model)


def yaml_model(text: str, path: Path, model: type[Model]) -> Model:
    """Read `text`, which is or shall be in the file `path`, as `model`.

    Raises:
        ConfigurationError: See `load_yaml_model`.
    """
    try:
        return model.model_validate_json(_json(text, path), strict=True)
    except ValidationError as error:
        lines = [f"  {_explain(item, model)}" for item in error.errors(include_url=False)]
        message = "\n".join([f"{path}: {len(lines)} problem(s)", *lines])
        raise ConfigurationError(message) from None


@lru_cache(maxsize=16)
def _json(text: str, path: Path) -> str:
    """The YAML as JSON; a run asks for the catalogue and the study a dozen times."""
    return _as_json(_document(text, path), path)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        message = f"{path}: no such file. Create it, or point the setting at another one."
        raise ConfigurationError(message) from None
    except OSError as error:
        message = f"{path}: cannot be read ({type(error).__name__}). Point the setting at a file."
        raise ConfigurationError(message) from None
    except UnicodeDecodeError:
        message = f"{path}: not UTF-8. Save the file as UTF-8."
        raise ConfigurationError(message) from None


def _document(text: str, path: Path) -> Any:  # noqa: ANN401 - whatever YAML holds
    try:
        return YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else "?"
        named = _DUPLICATE.search(error.problem or "")
        key = f"the key '{named[1]}'" if named else "a key"
        message = f"{path}, line {line}: {key} stands twice in one mapping. Keep one of them."
        raise ConfigurationError(message) from None
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else "?"
        problem = getattr(error, "problem", None) or type(error).__name__
        message = f"{path}, line {line}: not valid YAML ({problem}). Mend the line."
        raise ConfigurationError(message) from None
    except (ValueError, LookupError, RecursionError) as error:  # from ruamel's own constructors
        message = (
            f"{path}: holds a value that YAML cannot build ({type(error).__name__}): a date that "
            "does not exist, a number of thousands of digits, or very deep nesting. Mend it."
        )
        raise ConfigurationError(message) from None


def _as_json(document: Any, path: Path) -> str:  # noqa: ANN401 - whatever YAML holds
    """Validate through JSON, so that strict mode still takes a list where a tuple is declared."""
    import json

    try:
        return json.dumps(document)
    except TypeError:
        message = f"{path}: holds a value that is neither text, number, list nor mapping. Quote it."
        raise ConfigurationError(message) from None
    except (ValueError, RecursionError):
        message = f"{path}: a value contains itself, or nests too deep. Write it out."
        raise ConfigurationError(message) from None


def _explain(item: Any, model: type[BaseModel]) -> str:  # noqa: ANN401 - pydantic's ErrorDetails
    location = item["loc"]
    key = ".".join(str(part) for part in location) or "(top level)"
    if item["type"] == "extra_forbidden":
        known = _known_keys(model, location[:-1])
        near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'?" if near else f"known keys: {', '.join(known)}."
        return f"{key}: unknown key; {hint}"
    if item["type"] == "missing":
        return f"{key}: required, but not given. Add it."
    if item["type"] == "string_type" and isinstance(item["input"], bool | int | float):
        return f"{key}: {item['msg']}; YAML reads it as another type. Put it in quotes."
    return f"{key}: {item['msg']}. Mend the value."


def _known_keys(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """The field names of the nested model at `location`, as far as annotations lead there."""
    current: Any = model
    for part in location:
        if isinstance(part, int):
            continue
        field = current.model_fields.get(part) or next(
            (f for f in current.model_fields.values() if f.alias == part), None
        )
        nested = _model_in(field.annotation) if field else None
        if nested is None:
            return []
        current = nested
    return sorted(field.alias or name for name, field in current.model_fields.items())


def _model_in(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 - a type expression
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for argument in getattr(annotation, "__args__", ()):
        if (found := _model_in(argument)) is not None:
            return found
    return None
