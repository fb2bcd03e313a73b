"""A record as a transaction that a FHIR server can take twice without keeping anything twice."""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hc_orchestration.healthcare.elements import Element, identifier
from hc_orchestration.healthcare.signing import provenance_of
from hc_orchestration.healthcare.terminology import URI_SYSTEM


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
        own = identifier(URI_SYSTEM, f"urn:uuid:{uuid}")
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
