"""Canonical bytes, digests, and Ed25519 signatures of records as detached JWS."""

import base64
import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hc_orchestration.errors import ConfigurationError
from hc_orchestration.healthcare.elements import Element
from hc_orchestration.healthcare.terminology import SIGNATURE_SYSTEM

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey

_ALGORITHM = "Ed25519"
_REPORT = "MeasureReport"
_VERIFICATION = "1.2.840.10065.1.12.1.5"
_UNLIKE = re.compile(r"[:,\[]-?\d+(?:\.0|(?:\.\d+)?e[-+]?\d+|(?<=\d{16}))[,}\]]")
"""Numbers that `json` and RFC 8785 may write differently."""
_WHOLE_BELOW = 2**53
_BEYOND = re.compile("[\U00010000-\U0010ffff\ud800-\udfff]")
"""What stands beyond the basic plane, and what is no text at all."""


def canonical_bytes(resource: object) -> bytes:
    """The canonical form of JSON (RFC 8785).

    A record may be a megabyte, for which rfc8785 takes ten times as long as `json`. Both write the
    same, but for numbers that `_UNLIKE` finds and names beyond the basic plane (sorted by UTF-16).
    """
    import rfc8785

    if isinstance(resource, dict | list):
        quick = _sorted_json(resource)
        if quick is not None and _UNLIKE.search(quick):  # mostly scores of 0.0 and 1.0
            quick = _sorted_json(_with_whole_numbers(resource))
        if quick is not None and not _UNLIKE.search(quick):
            return quick.encode("utf-8")
    return rfc8785.dumps(resource)  # type: ignore[arg-type]


def _with_whole_numbers(value: object) -> object:
    """The same JSON, with integers for the floats that RFC 8785 writes as such."""
    if isinstance(value, dict):
        return {name: _with_whole_numbers(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_with_whole_numbers(inner) for inner in value]
    if isinstance(value, float) and value.is_integer() and abs(value) < _WHOLE_BELOW:
        return int(value)
    return value


def sha256(content: bytes) -> str:
    """The digest (hex) of bytes."""
    return hashlib.sha256(content).hexdigest()


def _sorted_json(value: object) -> str | None:
    """None where rfc8785 would write it differently, or say what is wrong."""
    try:
        text = json.dumps(
            value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
        )
    except (TypeError, ValueError):
        return None
    return None if not text.isascii() and _BEYOND.search(text) else text


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key; `key_id` is its RFC 7638 thumbprint."""

    key: "OKPKey"
    key_id: str

    @classmethod
    def read(cls, path: Path) -> "SigningKey":
        """Read a private key (PEM or JWK).

        Raises:
            ConfigurationError: It is missing, open to others, or no private Ed25519 key.
        """
        try:
            others = path.stat().st_mode & 0o077
            content = path.read_bytes()
        except OSError as error:
            message = f"signing key {path} cannot be read ({type(error).__name__})."
            raise ConfigurationError(message) from None
        if others:
            message = f"signing key {path} can be read by others. Run: chmod 600 {path}"
            raise ConfigurationError(message)
        key = _imported(content, path)
        if not key.is_private:
            message = f"{path} holds no private key, so it cannot sign."
            raise ConfigurationError(message)
        return cls(key, key.thumbprint())

    @property
    def public(self) -> bytes:
        """The public key as a JWK."""
        return canonical_bytes(self.key.as_dict(private=False))


def generate_key(path: Path) -> SigningKey:
    """Make a key pair: the private key at `path` (0600), the public one beside it (`.pub.jwk`).

    Raises:
        ConfigurationError: There is a file already, or it cannot be written.
    """
    from joserfc.jwk import OKPKey

    key = OKPKey.generate_key("Ed25519")
    made = SigningKey(key, key.thumbprint())
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "wb") as file:
            file.write(key.as_pem(private=True))
        public_path(path).write_bytes(made.public)
    except FileExistsError:
        message = f"{path} is there already; a key is never overwritten."
        raise ConfigurationError(message) from None
    except OSError as error:
        message = f"{path} cannot be written ({type(error).__name__})."
        raise ConfigurationError(message) from None
    return made


def public_path(path: Path) -> Path:
    """Where the public key of a private one lies."""
    return path.with_name(f"{path.name}.pub.jwk")


def public_key(content: bytes, where: Path | str) -> tuple[str, "OKPKey"]:
    """The id and the key in a file that holds a public (or private) Ed25519 key.

    Raises:
        ConfigurationError: It holds none.
    """
    key = _imported(content, where)
    return key.thumbprint(), key


def signed(bundle: Mapping[str, Any], key: SigningKey | None) -> dict[str, Any]:
    """The Bundle with its Provenance signed over its targets, then signed itself.

    Without a key it is returned as it is.
    """
    if key is None:
        return dict(bundle)
    provenance = provenance_of(bundle)
    who = _software(provenance)
    when = str(provenance["recorded"])
    mark = _signature(targets_bytes(bundle), key, when, who)
    entries = [
        {**entry, "resource": {**entry["resource"], "signature": [mark]}}
        if entry["resource"]["resourceType"] == "Provenance"
        else entry
        for entry in bundle["entry"]
    ]
    marked = {**bundle, "entry": entries}
    return {**marked, "signature": _signature(canonical_bytes(marked), key, when, who)}


def provenance_of(bundle: Mapping[str, Any]) -> dict[str, Any]:
    """The Provenance resource of a record."""
    found = [
        entry["resource"]
        for entry in bundle["entry"]
        if entry["resource"]["resourceType"] == "Provenance"
    ]
    (provenance,) = found
    return provenance  # type: ignore[no-any-return]


def targets_bytes(bundle: Mapping[str, Any], content: bytes = b"") -> bytes:
    """What the signature of the Provenance covers.

    The canonical form of a list: the Provenance without its signature, then its targets.

    Args:
        bundle: The record.
        content: Its canonical form, where that is at hand: its largest resource, a target, is then
            cut from it.
    """
    provenance = {k: v for k, v in provenance_of(bundle).items() if k != "signature"}
    by_url = {entry["fullUrl"]: entry["resource"] for entry in bundle["entry"]}
    report = _report_in(content, bundle) if content else None
    parts = [canonical_bytes(provenance)]
    for target in provenance["target"]:
        resource = by_url.get(target.get("reference"))
        is_report = isinstance(resource, dict) and resource.get("resourceType") == _REPORT
        parts.append(report if report and is_report else canonical_bytes(resource))
    return b"[" + b",".join(parts) + b"]"


def _report_in(content: bytes, bundle: Mapping[str, Any]) -> bytes | None:
    """The canonical form of the one MeasureReport, cut from that of its record; None if it cannot.

    What stands before and after it is short, and made anew.
    """
    entries = bundle["entry"]
    places = [at for at, e in enumerate(entries) if e["resource"]["resourceType"] == _REPORT]
    if len(places) != 1 or entries[places[0]].keys() != {"fullUrl", "resource"}:
        return None
    at = places[0]
    url = canonical_bytes({"fullUrl": entries[at]["fullUrl"]})[:-1]
    before = b"".join(canonical_bytes(entry) + b"," for entry in entries[:at])
    start = b'{"entry":[' + before + url + b',"resource":'
    after = b"".join(b"," + canonical_bytes(entry) for entry in entries[at + 1 :])
    rest = canonical_bytes({name: value for name, value in bundle.items() if name != "entry"})
    end = b"}" + after + b"]," + rest[1:]
    if not (content.startswith(start) and content.endswith(end)):
        return None
    return content[len(start) : -len(end)]


def signature_problems(
    bundle: Mapping[str, Any], keys: Mapping[str, "OKPKey"], content: bytes = b""
) -> tuple[list[str], list[str]]:
    """What is wrong with the signatures of a record, and which keys are not here.

    Args:
        bundle: The record.
        keys: Public keys by id.
        content: Its canonical form, where that is at hand: what was signed is then cut from it.
    """
    whole = bundle.get("signature")
    parts = provenance_of(bundle).get("signature")
    if whole is None and parts is None:
        return [], []
    if whole is None or not parts:
        return ["the record is signed only in part: a signature was removed"], []
    checks = [
        ("Bundle.signature", whole, _without_signature(bundle, content)),
        *(("Provenance.signature", part, targets_bytes(bundle, content)) for part in parts),
    ]
    wrong: list[str] = []
    absent: list[str] = []
    for name, mark, payload in checks:
        key_id = _key_id(mark)
        if key_id is None:
            wrong.append(f"{name} is no detached JWS")
        elif key_id not in keys:
            absent.append(f"{name} was not checked: the public key {key_id} is not here")
        elif not _verified(mark, payload, keys[key_id]):
            wrong.append(f"{name} does not fit what it signs (key {key_id})")
    return wrong, absent


def _without_signature(bundle: Mapping[str, Any], content: bytes) -> bytes:
    """The canonical form of a record but for its signature, which stands near its end."""
    last = {name: value for name, value in bundle.items() if name >= "signature"}
    after = {name: value for name, value in last.items() if name != "signature"}
    end = b"," + canonical_bytes(last)[1:]
    if after and content.endswith(end):
        return content[: -len(end)] + b"," + canonical_bytes(after)[1:]
    return canonical_bytes({name: value for name, value in bundle.items() if name != "signature"})


def signing_key_ids(bundle: Mapping[str, Any]) -> set[str | None]:
    """The ids of the keys that a record says it is signed with; empty for an unsigned one."""
    marks = [bundle.get("signature"), *(provenance_of(bundle).get("signature") or ())]
    return {_key_id(mark) for mark in marks if mark is not None}


def _imported(content: bytes, where: Path | str) -> "OKPKey":
    from joserfc.errors import JoseError
    from joserfc.jwk import OKPKey

    try:
        source: Any = json.loads(content) if content.lstrip().startswith(b"{") else content
        key = OKPKey.import_key(source)
        curve = key.as_dict(private=False).get("crv")
    except (JoseError, ValueError, TypeError, KeyError):
        curve = None
    if curve != "Ed25519":
        message = f"{where} holds no Ed25519 key (PEM or JWK). Make one: hc provenance keygen"
        raise ConfigurationError(message)
    return key


def _signature(payload: bytes, key: SigningKey, when: str, who: Element) -> Element:
    from joserfc import jws

    header = {"alg": _ALGORITHM, "kid": key.key_id}
    compact = jws.serialize_compact(header, payload, key.key, algorithms=[_ALGORITHM])
    detached = str(jws.detach_content(compact))
    return {
        "type": [
            {
                "system": SIGNATURE_SYSTEM,
                "code": _VERIFICATION,
                "display": "Verification Signature",
            }
        ],
        "when": when,
        "who": who,
        "targetFormat": "application/fhir+json",
        "sigFormat": "application/jose",
        "data": base64.b64encode(detached.encode("ascii")).decode("ascii"),
    }


def _software(provenance: Mapping[str, Any]) -> Element:
    """The software signs: it is the second agent of an evaluation's Provenance."""
    who: Element = provenance["agent"][1]["who"]
    return who


def _detached(mark: Mapping[str, Any]) -> bytes:
    return base64.b64decode(str(mark.get("data", "")), validate=True)


def _key_id(mark: Mapping[str, Any]) -> str | None:
    try:
        encoded = _detached(mark).split(b".")[0]
        header = json.loads(base64.urlsafe_b64decode(encoded + b"=" * (-len(encoded) % 4)))
        return str(header["kid"])
    except (ValueError, KeyError, TypeError):
        return None


def _verified(mark: Mapping[str, Any], payload: bytes, key: "OKPKey") -> bool:
    from joserfc import jws
    from joserfc.errors import JoseError

    try:
        jws.deserialize_compact(_detached(mark), key, algorithms=[_ALGORITHM], payload=payload)
    except (JoseError, ValueError):
        return False
    return True
