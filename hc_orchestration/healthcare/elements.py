"""FHIR elements as plain JSON: codings, references, digests as URIs, instants."""

import base64
from datetime import UTC, datetime
from typing import Any

from hc_orchestration.healthcare.terminology import FOREIGN_CODES, URI_SYSTEM, own_codes

Element = dict[str, Any]


def coding(system: str, code: str, base: str) -> Element:
    """A coding with the display that its code system gives.

    Args:
        system: The system, a name such as `statistic` for one of ours.
        code: A code of it.
        base: The canonical base of our own.
    """
    address = system if ":" in system else f"{base}/CodeSystem/{system}"
    known = FOREIGN_CODES.get(address) or own_codes(base)[address]
    return {"system": address, "code": code, "display": known[code]}


def concept(system: str, code: str, base: str, text: str | None = None) -> Element:
    """A CodeableConcept of one coding; `text` is what people read."""
    return {"coding": [coding(system, code, base)], **({"text": text} if text else {})}


def identifier(system: str, value: str) -> Element:
    """An identifier of a register."""
    return {"system": system, "value": value}


def digest_identifier(sha256: str) -> Element:
    """An identifier that is the digest of the thing itself."""
    return identifier(URI_SYSTEM, ni(sha256))


def ni(sha256: str) -> str:
    """A digest as a `ni` URI (RFC 6920: base64url without padding)."""
    encoded = base64.urlsafe_b64encode(bytes.fromhex(sha256)).rstrip(b"=").decode("ascii")
    return f"ni:///sha-256;{encoded}"


def sha256_of_ni(uri: str) -> str | None:
    """The digest (hex) in a `ni` URI, or None when it is another URI."""
    prefix, _, encoded = uri.partition(";")
    if prefix != "ni:///sha-256":
        return None
    try:
        return base64.urlsafe_b64decode(encoded + "=").hex()
    except ValueError:
        return None


def instant(moment: datetime) -> str:
    """Whole seconds, UTC: instants with fractions do not survive every FHIR library."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
