"""Verifying stored records: what they say against what is found. Reads nothing itself."""

import base64
import binascii
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from hc_orchestration.errors import HcError, ProvenanceError
from hc_orchestration.healthcare.elements import sha256_of_ni
from hc_orchestration.healthcare.facts import Artifact
from hc_orchestration.healthcare.signing import (
    canonical_bytes,
    provenance_of,
    sha256,
    signature_problems,
    signing_key_ids,
)
from hc_orchestration.healthcare.validity import check_record

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey

NOTES_TABLE = "notes"


class Outcome(StrEnum):
    """What can be the matter: it differs, it was deleted on purpose, it could not be looked at."""

    MISMATCH = "mismatch"
    PURGED = "purged"
    UNREACHABLE = "unreachable"


class Signature(StrEnum):
    """How a record is signed. `UNCHECKED`: its public key is not here, or it was not read."""

    VALID = "valid"
    WRONG = "wrong"
    UNCHECKED = "unchecked"
    UNSIGNED = "unsigned"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as the record says."""

    outcome: Outcome
    subject: str
    says: str


@dataclass(frozen=True, slots=True)
class TableClaim:
    """Rows that a record names: table, version and digest (hex)."""

    name: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Claims:
    """What a record says of itself and of what it names.

    Attributes:
        corpus: The notes table; its digest is the corpus digest.
        previous: Digest of the record before it in the chain.
    """

    evaluation_id: str
    evaluation_digest: str
    model_key: str
    study: str
    recorded: str
    fingerprint: str
    corpus: TableClaim
    tables: tuple[TableClaim, ...]
    artifacts: tuple[Artifact, ...]
    previous: str | None


@dataclass(frozen=True, slots=True)
class Listing:
    """What the deployment keeps of a record outside of it.

    Attributes:
        record: Digest of the record.
        resource: Digest of the Provenance resource that is stored beside it; None: none is.
    """

    record: str
    resource: str | None
    evaluation_id: str
    evaluation_digest: str
    model_key: str
    previous: str | None
    key_id: str | None


@dataclass(frozen=True, slots=True)
class Examined:
    """What the bytes of a record alone tell; `claims` is None when they are no record."""

    claims: Claims | None
    signature: Signature
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Link:
    """A record's place in the chain of its model and study."""

    record: str
    previous: str | None


@dataclass(frozen=True, slots=True)
class RecordVerdict:
    """A record and everything that is not as it says."""

    record: str
    model_key: str
    study: str | None
    evaluation_id: str
    recorded: str | None
    signature: Signature
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class ChainVerdict:
    """The chain of a model and study; `head` is the kept one."""

    model_key: str
    study: str
    records: int
    head: str | None
    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Verification:
    """What became of all records that were asked for."""

    records: tuple[RecordVerdict, ...]
    chains: tuple[ChainVerdict, ...]

    @property
    def findings(self) -> list[Finding]:
        """Of the records, then of the chains."""
        groups = [one.findings for one in self.records] + [one.findings for one in self.chains]
        return [finding for findings in groups for finding in findings]

    @property
    def clean(self) -> bool:
        """Whether everything was looked at, or deleted on purpose, and is as the records say."""
        return all(finding.outcome is Outcome.PURGED for finding in self.findings)


def mismatch(subject: str, says: str) -> Finding:
    """A finding of what differs."""
    return Finding(Outcome.MISMATCH, subject, says)


def unreachable(subject: str, says: str) -> Finding:
    """A finding of what could not be looked at."""
    return Finding(Outcome.UNREACHABLE, subject, says)


def examine(
    content: bytes,
    listing: Listing | None,
    keys: Mapping[str, "OKPKey"],
    *,
    signer_required: bool,
) -> Examined:
    """Everything that can be told from the bytes of a record and what is kept of it outside.

    Args:
        content: The record as it was stored or handed out.
        listing: What the deployment keeps of it; None for a record that it does not know.
        keys: Public keys by id.
        signer_required: Whether only these keys will do: one that is unsigned, or signed with
            another, is then a mismatch.
    """
    findings: list[Finding] = []
    if listing is not None and sha256(content) != listing.record:
        findings.append(mismatch("record", "its bytes are not those that were stored"))
    try:
        bundle = json.loads(content)
        claims = _claims(bundle)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        findings.append(mismatch("record", "it is not the record of an evaluation"))
        return Examined(None, Signature.UNCHECKED, tuple(findings))
    canonical = _is_canonical(content, bundle)
    if not canonical:
        findings.append(mismatch("record", "its bytes are not the canonical form (RFC 8785)"))
    findings += _invalid(bundle, content)
    signature, about_it = _signature(
        bundle, content if canonical else b"", listing, keys, signer_required=signer_required
    )
    findings += about_it
    findings += _card(bundle)
    if listing is not None:
        findings += _unlike_listing(claims, listing)
        if listing.resource and sha256(canonical_bytes(provenance_of(bundle))) != listing.resource:
            findings.append(mismatch("resource", "it is not the Provenance in the record"))
    return Examined(claims, signature, tuple(findings))


def chain_findings(links: Sequence[Link], kept: Sequence[str]) -> list[Finding]:
    """What is wrong with the chain of one model and study.

    Args:
        links: The records that are there, each with the one that it follows.
        kept: Digests of the heads that were kept, oldest first: one for each record ever made.
    """
    return [*_broken_links(links), *_heads(links, kept), *_lost(links, kept)]


def _broken_links(links: Sequence[Link]) -> Iterator[Finding]:
    present = {link.record for link in links}
    for link in links:
        if link.previous is not None and link.previous not in present:
            yield mismatch(
                "chain", f"{short(link.record)} follows {short(link.previous)}, which is not here"
            )
    first = [link.record for link in links if link.previous is None]
    if len(first) > 1:
        yield mismatch("chain", f"{len(first)} records claim to be the first: {_listed(first)}")
    followed = Counter(link.previous for link in links if link.previous is not None)
    for record, times in followed.items():
        if times > 1:
            yield mismatch("chain", f"{times} records follow {short(record)}, where one may")


def _heads(links: Sequence[Link], kept: Sequence[str]) -> Iterator[Finding]:
    followed = {link.previous for link in links}
    heads = [link.record for link in links if link.record not in followed]
    if links and len(heads) != 1:
        yield mismatch("head", f"the chain has {len(heads)} heads, and one is right")
    for record in heads:
        if kept and record != kept[-1]:
            yield mismatch("head", f"the kept head is {short(kept[-1])}, not {short(record)}")


def _lost(links: Sequence[Link], kept: Sequence[str]) -> Iterator[Finding]:
    present = {link.record for link in links}
    for record in dict.fromkeys(kept):
        if record not in present:
            yield mismatch("head", f"{short(record)} was recorded, and is not here")
    for link in links:
        if link.record not in kept:
            yield mismatch("head", f"{short(link.record)} is here, and was never kept as a head")


def short(digest: str) -> str:
    """The beginning of a digest, for people."""
    return digest[:12]


def _listed(records: Sequence[str]) -> str:
    return ", ".join(short(record) for record in records)


def _claims(bundle: Mapping[str, Any]) -> Claims:
    """Raises KeyError and the like when it is no record of ours."""
    resources = [entry["resource"] for entry in bundle["entry"]]
    provenance = provenance_of(bundle)
    tags = {tag["system"].rpartition("/")[2]: tag["code"] for tag in provenance["meta"]["tag"]}
    documents: dict[str, list[Mapping[str, Any]]] = {}
    for resource in resources:
        if resource["resourceType"] == "DocumentReference":
            kind = resource["type"]["coding"][0]["code"]
            documents.setdefault(kind, []).append(resource)
    model = next(r for r in resources if r["resourceType"] == "Device")
    (corpus,) = documents["corpus"]
    before = [e["what"] for e in provenance["entity"] if e["role"] == "revision"]
    return Claims(
        evaluation_id=str(tags["evaluation"]),
        evaluation_digest=str(tags["evaluation-digest"]),
        model_key=str(tags["partition"]),
        study=str(tags["study"]),
        recorded=str(provenance["recorded"]),
        fingerprint=_digest(model["identifier"][0]["value"]),
        corpus=_table(corpus),
        tables=tuple(_table(document) for document in documents.get("table", [])),
        artifacts=tuple(_artifact(document) for document in documents.get("artifact", [])),
        previous=_digest(before[0]["identifier"]["value"]) if before else None,
    )


def _digest(uri: str) -> str:
    found = sha256_of_ni(uri)
    if found is None:
        message = "not a digest"
        raise ValueError(message)
    return found


def _table(document: Mapping[str, Any]) -> TableClaim:
    name, _, version = document["identifier"][1]["value"].rpartition("@")
    return TableClaim(name, int(version), _digest(document["content"][0]["attachment"]["url"]))


def _artifact(document: Mapping[str, Any]) -> Artifact:
    attachment = document["content"][0]["attachment"]
    return Artifact(attachment["title"], _digest(attachment["url"]), int(attachment["size"]))


def _is_canonical(content: bytes, bundle: object) -> bool:
    try:
        return canonical_bytes(bundle) == content
    except ValueError:  # rfc8785's own are among them
        return False


def _invalid(bundle: Mapping[str, Any], content: bytes) -> list[Finding]:
    """What the write-time check has to say."""
    try:
        check_record(bundle, content)
    except ProvenanceError as error:
        return [mismatch("validity", str(error))]
    return []


def _signature(
    bundle: Mapping[str, Any],
    canonical: bytes,
    listing: Listing | None,
    keys: Mapping[str, "OKPKey"],
    *,
    signer_required: bool,
) -> tuple[Signature, list[Finding]]:
    try:
        wrong, absent = signature_problems(bundle, keys, canonical)
        signed_with = signing_key_ids(bundle)
    except (HcError, ValueError, TypeError, AttributeError, KeyError):
        return Signature.WRONG, [mismatch("signature", "it is none")]
    findings = [mismatch("signature", problem) for problem in wrong]
    expected = listing.key_id if listing else None
    if expected is not None and signed_with != {expected}:
        findings.append(mismatch("signature", f"it is not signed with the listed key {expected}"))
    if signer_required:
        findings += [mismatch("signature", problem) for problem in absent]
        if not signed_with:
            findings.append(mismatch("signature", "it is not signed, and a key was asked for"))
    else:
        findings += [unreachable("signature", problem) for problem in absent]
    if wrong:
        return Signature.WRONG, findings
    if absent:
        return Signature.UNCHECKED, findings
    return (Signature.VALID if signed_with else Signature.UNSIGNED), findings


def _card(bundle: Mapping[str, Any]) -> list[Finding]:
    """The model card lies in the record itself."""
    for entry in bundle["entry"]:
        resource = entry["resource"]
        if resource["resourceType"] == "DocumentReference" and (
            resource["type"]["coding"][0]["code"] == "model-card"
        ):
            try:
                content = base64.b64decode(resource["content"][0]["attachment"]["data"])
                named = sha256_of_ni(resource["masterIdentifier"]["value"])
            except (binascii.Error, KeyError, TypeError, IndexError):
                named = content = None
            if content is None or sha256(content) != named:
                return [mismatch("model card", "it is not the one that its digest names")]
    return []


def _unlike_listing(claims: Claims, listing: Listing) -> Iterator[Finding]:
    for name in ("evaluation_id", "evaluation_digest", "model_key", "previous"):
        said, listed = getattr(claims, name), getattr(listing, name)
        if said != listed:
            yield mismatch("listing", f"the record's {name} is not the one that is listed")
