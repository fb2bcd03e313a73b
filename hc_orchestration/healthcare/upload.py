"""A record as a transaction that a FHIR server can take twice without keeping anything twice."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any
from urllib.parse import quote

from hc_orchestration.healthcare.elements import Element, identifier
from hc_orchestration.healthcare.signing import provenance_of


def transaction(record: Mapping[str, Any], digest: str) -> dict[str, Any]:
    """The transaction Bundle that creates what a server lacks of a record.

    The organization, the model and the metric definitions are one on a server, whichever record
    they come with; all else is of this record, and is found again by the uuid that it has there.
    A server gives ids of its own and rewrites references, so what it then holds is a copy: the
    signatures, which would not fit it, are left out, and a tag names the record that does fit.

    Args:
        record: The Bundle of an evaluation.
        digest: sha256 (hex) of its bytes.
    """
    base = _base(provenance_of(record))
    return {
        "resourceType": "Bundle",
        "type": "transaction",
        "entry": [_entry(entry, base, digest) for entry in record["entry"]],
    }


def parts(bundle: Mapping[str, Any], at_once: int) -> list[dict[str, Any]]:
    """A transaction as several of at most so many entries; each refers to itself or earlier ones.

    Some servers take only a few entries that are created where there is none yet.
    """
    entries = bundle["entry"]
    return [
        {**bundle, "entry": entries[start : start + at_once]}
        for start in range(0, len(entries), at_once)
    ]


def placed(part: Mapping[str, Any], places: Mapping[str, str]) -> dict[str, Any]:
    """A part whose references to earlier parts say where the server put these (`Device/1`)."""
    own = {entry["fullUrl"] for entry in part["entry"]}
    return {**part, "entry": _placed(part["entry"], places.keys() - own, places)}


def _placed(value: Any, known: AbstractSet[str], places: Mapping[str, str]) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [_placed(inner, known, places) for inner in value]
    if not isinstance(value, dict):
        return value
    return {
        name: places[inner]
        if name == "reference" and inner in known
        else _placed(inner, known, places)
        for name, inner in value.items()
    }


def record_tag(record: Mapping[str, Any]) -> tuple[str, str]:
    """System and code of the tag by which a server finds the Provenance of a record (`_tag`)."""
    provenance = provenance_of(record)
    return _tag(provenance, _base(provenance))


def token_query(name: str, system: str, value: str) -> str:
    """A search for a token: separators of FHIR escaped in the values, and all of it for a URL.

    A raw `|` or `#` would silently make another search of it.
    """
    escaped = "|".join(_escaped(part) for part in (system, value))
    return f"{name}={quote(escaped, safe='')}"


def _escaped(text: str) -> str:
    for mark in ("\\", "|", ",", "$"):
        text = text.replace(mark, f"\\{mark}")
    return text


def _entry(entry: Mapping[str, Any], base: str, digest: str) -> Element:
    resource = dict(entry["resource"])
    kind = resource["resourceType"]
    uuid = resource.pop("id")
    resource.pop("signature", None)
    if kind == "Provenance":
        tag = {"system": f"{base}/record-digest", "code": digest}
        resource["meta"] = {**resource["meta"], "tag": [*resource["meta"]["tag"], tag]}
        found_by = token_query("_tag", *_tag(resource, base))
    elif kind == "Measure":
        found_by = f"url={quote(resource['url'], safe='')}&version={quote(resource['version'])}"
    elif kind == "Organization" or _is_model(resource, base):
        known = resource["identifier"][0]
        found_by = token_query("identifier", known["system"], known["value"])
    else:
        # not as urn:uuid, which a server may rewrite wherever it stands, as it does in references
        own = identifier(f"{base}/resource", uuid)
        resource["identifier"] = [*resource.get("identifier", ()), own]
        found_by = token_query("identifier", own["system"], own["value"])
    request = {"method": "POST", "url": kind, "ifNoneExist": found_by}
    return {"fullUrl": entry["fullUrl"], "resource": resource, "request": request}


def _is_model(resource: Mapping[str, Any], base: str) -> bool:
    systems = [known["system"] for known in resource.get("identifier", ())]
    return resource["resourceType"] == "Device" and f"{base}/model" in systems


def _tag(provenance: Mapping[str, Any], base: str) -> tuple[str, str]:
    system = f"{base}/record"
    return system, next(t["code"] for t in provenance["meta"]["tag"] if t["system"] == system)


def _base(provenance: Mapping[str, Any]) -> str:
    """The canonical base of the record's study, from its first tag."""
    return str(provenance["meta"]["tag"][0]["system"]).rpartition("/")[0]
