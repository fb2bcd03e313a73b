"""Reading what stored records name, in batches, and holding it against them."""

import gc
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from hc_orchestration.errors import ConfigurationError, StorageError
from hc_orchestration.healthcare.signing import public_key, sha256
from hc_orchestration.healthcare.verification import (
    ChainVerdict,
    Claims,
    Examined,
    Finding,
    Link,
    Listing,
    RecordVerdict,
    Signature,
    Verification,
    chain_findings,
    examine,
    mismatch,
    short,
    unreachable,
)
from hc_orchestration.storage.files import FileChangedError, FileStore, StoredFile
from hc_orchestration.storage.named_rows import NamedRows, about, checked_rows, named_rows
from hc_orchestration.storage.records import KeptHead, ListedRecord

if TYPE_CHECKING:
    from joserfc.jwk import OKPKey

    from hc_orchestration.storage.workspace import Workspace

_FEW = 40
_MOST_PROCESSES = 4


@dataclass(frozen=True, slots=True)
class SigningKeys:
    """Public keys (JWK bytes by id).

    Attributes:
        required: Whether only these will do; else those that the deployment keeps count too.
    """

    by_id: Mapping[str, bytes]
    required: bool = False

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "SigningKeys":
        """The keys that somebody trusts, from their files; none of them: no trust is required.

        Raises:
            ConfigurationError: A file cannot be read or holds no Ed25519 key.
        """
        found: dict[str, bytes] = {}
        for path in paths:
            try:
                content = path.read_bytes()
            except OSError as error:
                message = f"key {path} cannot be read ({type(error).__name__})."
                raise ConfigurationError(message) from None
            found[public_key(content, path)[0]] = content
        return cls(found, required=bool(paths))

    def keys(self) -> "dict[str, OKPKey]":
        """The keys themselves."""
        return dict(public_key(content, name) for name, content in self.by_id.items())


NO_KEYS = SigningKeys({})


def verify_records(
    workspace: "Workspace",
    model_key: str | None = None,
    keys: SigningKeys = NO_KEYS,
    kept_elsewhere: Sequence[str] = (),
) -> Verification:
    """Verify the records of a model, or of all, and their chains.

    Args:
        workspace: Where they are.
        model_key: The model; None for all.
        keys: The keys that are trusted.
        kept_elsewhere: Digests of records that somebody kept outside of the deployment.
    """
    listed, heads = workspace.records.listed(model_key), workspace.records.heads(model_key)
    verifier = _Verifier(workspace, keys, listed)
    examined = verifier.examined(listed)
    chains = _chains(listed, examined, heads)
    lost = _kept_elsewhere(listed, kept_elsewhere)
    return Verification(verifier.verdicts(listed, examined), (*chains, *lost))


def verify_newest(workspace: "Workspace", model_key: str, record: str) -> Verification:
    """Verify one record of a model with all that it names, and the chain as it is listed."""
    listed, heads = workspace.records.listed(model_key), workspace.records.heads(model_key)
    chosen = [entry for entry in listed if entry.part.file.sha256 == record]
    verifier = _Verifier(workspace, NO_KEYS, chosen)
    verdicts = verifier.verdicts(chosen, verifier.examined(chosen))
    unread = [Examined(None, Signature.UNCHECKED, ())] * len(listed)
    return Verification(verdicts, _chains(listed, unread, heads))


def verify_file(workspace: "Workspace", path: Path, keys: SigningKeys = NO_KEYS) -> Verification:
    """Verify a record that was handed out, and what it names as far as it is here.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({type(error).__name__})."
        raise ConfigurationError(message) from None
    listed = workspace.records.listed()
    verifier = _Verifier(workspace, keys, listed)
    digest = sha256(content)
    known = next((entry for entry in listed if entry.part.file.sha256 == digest), None)
    one = examine(
        content,
        _listing(known) if known else None,
        verifier.keys.keys(),
        signer_required=keys.required,
    )
    named = verifier.named([one.claims] if one.claims else [])
    more = [*named.of(one.claims), *([] if known else _unlisted(one.claims, listed))]
    claims = one.claims
    verdict = RecordVerdict(
        record=digest,
        model_key=claims.model_key if claims else "",
        study=claims.study if claims else None,
        evaluation_id=claims.evaluation_id if claims else "",
        recorded=claims.recorded if claims else None,
        signature=one.signature,
        findings=(*one.findings, *more),
    )
    return Verification((verdict,), ())


def _unlisted(claims: Claims | None, listed: Sequence[ListedRecord]) -> list[Finding]:
    own = [e for e in listed if claims is not None and e.evaluation_id == claims.evaluation_id]
    if own:
        digests = ", ".join(short(entry.part.file.sha256) for entry in own)
        return [mismatch("record", f"the record of this evaluation is another one: {digests}")]
    return [unreachable("record", "this deployment knows no such evaluation, nor its digest")]


def _listing(entry: ListedRecord) -> Listing:
    part = entry.part
    return Listing(
        record=part.file.sha256,
        resource=part.resource.sha256 if part.resource else None,
        evaluation_id=entry.evaluation_id,
        evaluation_digest=part.evaluation_digest,
        model_key=entry.model_key,
        previous=part.previous,
        key_id=part.key_id,
    )


def _chains(
    listed: Sequence[ListedRecord],
    examined: Sequence[Examined],
    heads: Sequence[KeptHead],
) -> tuple[ChainVerdict, ...]:
    kept: dict[tuple[str, str], list[str]] = {}
    study_of: dict[str, str] = {}
    for one in heads:
        study = " ".join(one.head.study.split())
        kept.setdefault((one.model_key, study), []).append(one.head.record)
        study_of[one.head.record] = study
    links: dict[tuple[str, str], list[Link]] = {}
    for entry, seen in zip(listed, examined, strict=True):
        record = entry.part.file.sha256
        study = seen.claims.study if seen.claims else study_of.get(record, "")
        previous = seen.claims.previous if seen.claims else entry.part.previous
        links.setdefault((entry.model_key, study), []).append(Link(record, previous))
    return tuple(
        ChainVerdict(
            model_key=key[0],
            study=key[1],
            records=len(links.get(key, [])),
            head=kept[key][-1] if key in kept else None,
            findings=tuple(chain_findings(links.get(key, []), kept.get(key, []))),
        )
        for key in sorted(links.keys() | kept.keys())
    )


def _kept_elsewhere(
    listed: Sequence[ListedRecord], digests: Sequence[str]
) -> Iterator[ChainVerdict]:
    """The records that somebody kept the digest of and that are not here."""
    present = {entry.part.file.sha256 for entry in listed}
    lost = tuple(
        mismatch("head", f"{short(digest)} was kept elsewhere, and is not here")
        for digest in dict.fromkeys(digests)
        if digest not in present
    )
    if lost:
        yield ChainVerdict("", "", 0, None, lost)


@dataclass(frozen=True, slots=True)
class _Named:
    """What was found of the things that records name, by what they say of them."""

    artifacts: Mapping[tuple[str, str], Finding | None]
    tables: Mapping[NamedRows, Finding | None]

    def of(self, claims: Claims | None) -> list[Finding]:
        if claims is None:
            return []
        found = [self.artifacts[a.name, a.sha256] for a in claims.artifacts]
        found += [self.tables[rows] for rows in named_rows(claims)]
        return [finding for finding in found if finding is not None]


class _Verifier:
    """Reads for one verification; everything is read once, however many records name it."""

    def __init__(
        self, workspace: "Workspace", keys: SigningKeys, listed: Sequence[ListedRecord]
    ) -> None:
        self._workspace = workspace
        self._files = workspace.files
        self._purges = workspace.purges.all()
        self._key_findings: dict[str, Finding] = {}
        own = {} if keys.required else self._own_keys(listed)
        self.keys = SigningKeys({**own, **keys.by_id}, keys.required)

    def examined(self, listed: Sequence[ListedRecord]) -> list[Examined]:
        """What the bytes of each record tell."""
        jobs = [
            _Job(self._files, entry.part.file, entry.part.resource, _listing(entry), self.keys)
            for entry in listed
        ]
        if len(jobs) <= _FEW:
            done = [_examine(job) for job in jobs]
        else:
            processes = min(_MOST_PROCESSES, os.cpu_count() or 1)
            with ProcessPoolExecutor(processes, get_context("spawn"), _settle) as pool:
                done = list(pool.map(_examine, jobs, chunksize=8))
        return [
            replace(
                seen,
                findings=(
                    *seen.findings,
                    *(self._about(error, file.name, file.sha256) for error, file in lost),
                ),
            )
            for seen, lost in done
        ]

    def verdicts(
        self, listed: Sequence[ListedRecord], examined: Sequence[Examined]
    ) -> tuple[RecordVerdict, ...]:
        """All that there is to say of each record."""
        named = self.named([one.claims for one in examined if one.claims])
        return tuple(
            RecordVerdict(
                record=entry.part.file.sha256,
                model_key=entry.model_key,
                study=one.claims.study if one.claims else None,
                evaluation_id=entry.evaluation_id,
                recorded=one.claims.recorded if one.claims else None,
                signature=one.signature,
                findings=(*one.findings, *self._about_key(entry), *named.of(one.claims)),
            )
            for entry, one in zip(listed, examined, strict=True)
        )

    def _about_key(self, entry: ListedRecord) -> list[Finding]:
        """What is wrong with the stored public key of a record."""
        found = self._key_findings.get(entry.part.key_id or "")
        return [found] if found else []

    def named(self, claims: Sequence[Claims]) -> _Named:
        """Look at every artifact and all rows that the records name."""
        artifacts = {
            (a.name, a.sha256): StoredFile(a.name, a.sha256, a.size)
            for one in claims
            for a in one.artifacts
        }
        checked = {key: self._checked_file(file) for key, file in artifacts.items()}
        tables = checked_rows(self._workspace.delta, self._purges, claims)
        return _Named(checked, tables)

    def _own_keys(self, listed: Sequence[ListedRecord]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        files = {e.part.key_id: e.part.public_key for e in listed if e.part.public_key}
        for key_id, file in files.items():
            if key_id is None or file is None:
                continue
            try:
                content = self._files.get(file)
                if public_key(content, file.name)[0] == key_id:
                    found[key_id] = content
                else:
                    self._key_findings[key_id] = mismatch("key", f"{file.name} is another key")
            except ConfigurationError as error:
                self._key_findings[key_id] = mismatch("key", str(error))
            except StorageError as error:
                self._key_findings[key_id] = self._about(error, "key", file.sha256)
        return found

    def _checked_file(self, file: StoredFile) -> Finding | None:
        try:
            self._files.get(file)
        except StorageError as error:
            return self._about(error, file.name, file.sha256)
        return None

    def _about(self, error: StorageError, subject: str, sha256: str) -> Finding:
        return about(error, subject, self._purges, sha256, None)


@dataclass(frozen=True, slots=True)
class _Job:
    """A record for a process of its own to read and examine."""

    files: FileStore
    record: StoredFile
    resource: StoredFile | None
    listing: Listing
    keys: SigningKeys


_Lost = list[tuple[StorageError, StoredFile]]


def _settle() -> None:
    """Parsing a megabyte of JSON makes the collector look at all of fhir.resources again."""
    gc.freeze()
    gc.set_threshold(200_000, 50, 50)


def _examine(job: _Job) -> tuple[Examined, _Lost]:
    """What the record tells, and which of its files could not be had."""
    lost: _Lost = []
    if job.resource is not None:
        try:
            job.files.get(job.resource)
        except StorageError as error:
            lost.append((error, job.resource))
    try:
        content = job.files.get(job.record)
    except FileChangedError:
        content = job.files.get_anyway(job.record)
    except StorageError as error:
        return Examined(None, Signature.UNCHECKED, ()), [*lost, (error, job.record)]
    seen = examine(content, job.listing, job.keys.keys(), signer_required=job.keys.required)
    return seen, lost
