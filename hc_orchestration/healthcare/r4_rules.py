"""The invariants of R4 by type, and the written forms of its primitives.

A rule takes any JSON object of its type, malformed ones too, and says whether it holds; what is of
the wrong type altogether is named elsewhere. Keys and wording follow the R4 specification.
"""

import base64
import binascii
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Invariant:
    """A rule of a type: its key in R4, what it says, and whether an object keeps it."""

    key: str
    says: str
    holds: Callable[[Json], bool]


def objects(value: object) -> list[Json]:
    """The JSON objects of a list; whatever else stands there is passed over."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def part(value: object, name: str) -> Any:  # noqa: ANN401 - any JSON
    """What stands under a name, where there is an object at all."""
    return value.get(name) if isinstance(value, dict) else None


def descendants(value: object) -> Iterator[tuple[str, Any]]:
    """Every name and value below a JSON value."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name), inner
            yield from descendants(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from descendants(inner)


def contained(resource: Json) -> list[Json]:
    """The resources contained in one."""
    return objects(resource.get("contained"))


def _in_order(period: Json) -> bool:
    """Whether start and end are of one precision, without which they cannot be compared, in order.

    Times are in UTC, so the order of the texts is theirs.
    """
    start, end = period.get("start"), period.get("end")
    if not isinstance(start, str) or not isinstance(end, str):
        return True
    return len(start) == len(end) and start <= end


def _low_to_high(value: Json) -> bool:
    """Whether low and high are numbers of one unit, in order."""
    if "low" not in value or "high" not in value:
        return True
    low, high = value["low"], value["high"]
    if any(part(low, name) != part(high, name) for name in ("system", "code")):
        return False
    least, most = part(low, "value"), part(high, "value")
    return isinstance(least, int | float) and isinstance(most, int | float) and least <= most


def _one_of(value: Json, first: Callable[[str], bool], second: Callable[[str], bool]) -> bool:
    return any(first(name) for name in value) != any(second(name) for name in value)


def _is_referred_to(inner: Json, resource: Json) -> bool:
    """Whether a contained resource is pointed to from its container, or points back to it."""
    mark = f"#{inner.get('id')}"
    around = {**resource, "contained": [one for one in contained(resource) if one is not inner]}
    if any(value == mark for name, value in descendants(around) if name != "div"):
        return True
    return any(name == "reference" and value == "#" for name, value in descendants(inner))


_FORMATTING = re.compile(
    r"a|abbr|acronym|b|big|blockquote|br|caption|cite|code|col|colgroup|dd|dfn|div|dl|dt|em|h[1-6]"
    r"|hr|i|img|kbd|li|ol|p|pre|q|samp|small|span|strong|sub|sup|table|tbody|td|tfoot|th|thead|tr"
    r"|tt|ul|var"
)
_TAG = re.compile(r"<[/\s]*([^\s/>]*)([^>]*)>")


def _formats_only(narrative: Json) -> bool:
    div = narrative.get("div")
    if not isinstance(div, str):
        return True
    return div.startswith('<div xmlns="http://www.w3.org/1999/xhtml"') and all(
        _FORMATTING.fullmatch(tag)
        and not re.search(r"\bon\w+\s*=|javascript:", rest, re.IGNORECASE)
        for tag, rest in _TAG.findall(div)
    )


def _says_something(narrative: Json) -> bool:
    div = narrative.get("div")
    return not isinstance(div, str) or "<img" in div or bool(_TAG.sub("", div).strip())


def _distinct(entries: object) -> bool:
    marks = [
        f"{entry['fullUrl']} {part(part(entry.get('resource'), 'meta'), 'versionId')}"
        for entry in objects(entries)
        if "fullUrl" in entry
    ]
    return len(set(marks)) == len(marks)


def _no_entry_has(name: str) -> Callable[[Json], bool]:
    return lambda bundle: all(name not in entry for entry in objects(bundle.get("entry")))


_PROGRAM_NAME = re.compile(r"[A-Z][A-Za-z0-9_]{0,254}")
INVARIANTS: dict[str, tuple[Invariant, ...]] = {
    "Period": (Invariant("per-1", "start is after end, or of another precision", _in_order),),
    "Range": (Invariant("rng-2", "low is above high, or of another unit", _low_to_high),),
    "Quantity": (
        Invariant(
            "qty-3", "a code without a system", lambda it: "code" not in it or "system" in it
        ),
    ),
    "Attachment": (
        Invariant(
            "att-1", "data without contentType", lambda it: "data" not in it or "contentType" in it
        ),
    ),
    "Extension": (
        Invariant(
            "ext-1",
            "either extensions or a value, one of both",
            lambda it: _one_of(
                it, lambda name: name == "extension", lambda name: name.startswith("value")
            ),
        ),
    ),
    "Narrative": (
        Invariant("txt-1", "holds more than formatting", _formats_only),
        Invariant("txt-2", "says nothing", _says_something),
    ),
    "Organization": (
        Invariant(
            "org-1",
            "has neither identifier nor name",
            lambda it: "identifier" in it or "name" in it,
        ),
    ),
    "Measure": (
        Invariant(
            "mea-0",
            "the name is no identifier for programs",
            lambda it: bool(_PROGRAM_NAME.fullmatch(str(it.get("name", "")))),
        ),
    ),
    "Group": (
        Invariant(
            "grp-1",
            "only an actual group has members",
            lambda it: "member" not in it or it.get("actual") is True,
        ),
    ),
    "MeasureReport": (
        Invariant(
            "mrp-1",
            "a data collection has no groups",
            lambda it: it.get("type") != "data-collection" or "group" not in it,
        ),
    ),
    "MeasureReportGroupStratifierStratum": (
        Invariant(
            "mrp-2",
            "either a value or components, one of both",
            lambda it: _one_of(it, lambda name: name == "value", lambda name: name == "component"),
        ),
    ),
    "Bundle": (
        Invariant("bdl-1", "a collection has no total", lambda it: "total" not in it),
        Invariant("bdl-2", "a collection has no search in an entry", _no_entry_has("search")),
        Invariant("bdl-3", "a collection has no request in an entry", _no_entry_has("request")),
        Invariant("bdl-4", "a collection has no response in an entry", _no_entry_has("response")),
        Invariant("bdl-7", "the same fullUrl twice", lambda it: _distinct(it.get("entry"))),
    ),
    "BundleEntry": (
        Invariant("bdl-5", "an entry without a resource", lambda it: "resource" in it),
        Invariant(
            "bdl-8",
            "a fullUrl with a version",
            lambda it: "/_history/" not in str(it.get("fullUrl")),
        ),
    ),
}
"""Type → what R4 demands of it beyond structure, as far as a record may hold it."""

DOMAIN_INVARIANTS: tuple[Invariant, ...] = (
    Invariant(
        "dom-2",
        "a contained resource contains another",
        lambda it: not any("contained" in inner for inner in contained(it)),
    ),
    Invariant(
        "dom-3",
        "a contained resource is referred to from nowhere",
        lambda it: all(_is_referred_to(inner, it) for inner in contained(it)),
    ),
    Invariant(
        "dom-4",
        "a contained resource has a version or lastUpdated",
        lambda it: (
            not any(
                part(inner.get("meta"), name) is not None
                for inner in contained(it)
                for name in ("versionId", "lastUpdated")
            )
        ),
    ),
    Invariant(
        "dom-5",
        "a contained resource has a security label",
        lambda it: not any(part(inner.get("meta"), "security") for inner in contained(it)),
    ),
)
"""What R4 demands of every resource in an entry."""

_TIME = r"T([01]\d|2[0-3]):[0-5]\d:[0-5]\d"
_URI = r"[^\s\x00-\x1f]+"
_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_LOGICAL = rf"(?!urn:uuid:(?!{_UUID}$)){_URI}"
_FORMS = {
    "Id": (r"[A-Za-z0-9\-.]{1,64}", "1 to 64 letters, digits, - and ."),
    "Code": (r"[^\s\x00-\x1f]+( [^\s\x00-\x1f]+)*", "a code without stray spaces"),
    "Uri": (_LOGICAL, "a URI without spaces"),
    "Url": (_LOGICAL, "a URL without spaces"),
    "Canonical": (_LOGICAL, "an address without spaces"),
    "String": (r"[^\x00-\x08\x0b\x0c\x0e-\x1f]*\S[^\x00-\x08\x0b\x0c\x0e-\x1f]*", "readable text"),
    "Markdown": (
        r"[^\x00-\x08\x0b\x0c\x0e-\x1f]*\S[^\x00-\x08\x0b\x0c\x0e-\x1f]*",
        "readable text",
    ),
    "Instant": (rf"\d{{4}}-\d\d-\d\d{_TIME}Z", "whole seconds in UTC"),
    "DateTime": (rf"\d{{4}}(-\d\d(-\d\d({_TIME}Z)?)?)?", "a date, or whole seconds in UTC"),
}
_PATTERNS = {kind: (re.compile(form), says) for kind, (form, says) in _FORMS.items()}
MEDIA_TYPE = re.compile(r"[\w.+-]+/[\w.+-]+(\s*;\s*[\w.+-]+=[^;]+)*")
"""A code of the required binding to BCP 13."""


def malformed(kind: str, text: str) -> str | None:
    """What a primitive should be and is not; None when it is well formed."""
    if kind == "Base64Binary":
        return None if _is_base64(text) else "base64"
    pattern, says = _PATTERNS.get(kind, (None, ""))
    return says if pattern and not pattern.fullmatch(text) else None


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode("".join(text.split()), validate=True))
    except (binascii.Error, ValueError):
        return False
