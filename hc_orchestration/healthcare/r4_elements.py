"""What R4 says of each element: read from the models of fhir.resources, which enforce little."""

import decimal
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

ANY_RESOURCE = "Resource"
_JSON_TYPES: dict[object, tuple[type, ...]] = {
    bool: (bool,),
    int: (int,),
    decimal.Decimal: (int, float),
}


@dataclass(frozen=True, slots=True)
class ElementDefinition:
    """An element of an R4 type.

    Attributes:
        kind: Its own type, in the names of fhir.resources: `Period`, `ProvenanceAgent`, `Instant`;
            `Resource` stands for whatever its `resourceType` says.
        json_types: What a primitive is in JSON; empty for an object.
        many: Whether it is a list.
        required: Whether there must be one.
        codes: The codes of its required binding; empty when there is none, or no list of it.
        targets: The resources that it may refer to; empty when it may refer to any.
    """

    kind: str
    json_types: tuple[type, ...] = ()
    many: bool = False
    required: bool = False
    codes: frozenset[str] = frozenset()
    targets: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Placed:
    """A JSON value in its place: FHIRPath to it, what it is, and the type of an object."""

    where: str
    value: Any
    definition: ElementDefinition

    @property
    def kind(self) -> str:
        """The type of the element; of a resource, the one that it says it is."""
        if self.definition.kind != ANY_RESOURCE:
            return self.definition.kind
        return str(self.value.get("resourceType")) if isinstance(self.value, dict) else ""


@cache
def elements_of(kind: str) -> Mapping[str, ElementDefinition] | None:
    """The elements of an R4 type by their names in JSON; None when there is no such type."""
    from fhir.resources.R4B import get_fhir_model_class

    try:
        model = get_fhir_model_class(kind)
    except ValueError:
        return None
    return {
        field.alias or name: _definition(field)
        for name, field in model.model_fields.items()
        if name != "fhir_comments"  # of a FHIR before R4
    }


def walk(placed: Placed) -> Iterator[Placed]:
    """A value and all that R4 knows below it, in the order of the JSON."""
    waiting = [placed]
    while waiting:
        placed = waiting.pop()
        yield placed
        if isinstance(placed.value, dict):
            waiting += reversed(list(_below(placed)))


def _below(placed: Placed) -> Iterator[Placed]:
    elements = elements_of(placed.kind) or {}
    for name, inner in placed.value.items():
        if name in elements:
            for where, item in _items(inner, f"{placed.where}.{name}"):
                yield Placed(where, item, elements[name])


def _items(value: object, where: str) -> Iterator[tuple[str, Any]]:
    if not isinstance(value, list):
        yield where, value
        return
    for index, item in enumerate(value):
        yield f"{where}[{index}]", item


def _definition(field: Any) -> ElementDefinition:  # noqa: ANN401 - pydantic's FieldInfo
    extra = field.json_schema_extra or {}
    kind, json_types, many = _type(field.annotation)
    targets = frozenset(extra.get("enum_reference_types", ())) - {ANY_RESOURCE}
    return ElementDefinition(
        kind=kind,
        json_types=json_types,
        many=many,
        required=field.is_required() or bool(extra.get("element_required")),
        codes=frozenset(extra.get("enum_values", ())) if kind == "Code" else frozenset(),
        targets=targets,
    )


def _type(annotation: Any, *, many: bool = False) -> tuple[str, tuple[type, ...], bool]:  # noqa: ANN401
    """The type in an annotation such as `Optional[list[Annotated[str, Uri()]]]`."""
    if hasattr(annotation, "get_model_klass"):  # not called here: it imports the type's module
        return annotation.__name__.removesuffix("Type"), (), many
    if isinstance(annotation, type) and annotation is not type(None):
        return annotation.__name__, _JSON_TYPES.get(annotation, (str,)), many
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        kind = type(arguments[-1]).__name__
        return kind, _JSON_TYPES.get(arguments[0], (str,)), many
    inner = next(one for one in arguments if one is not type(None))
    return _type(inner, many=many or origin is list)
