"""Which stored records are sent to a FHIR server, and what it did with each."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hc_orchestration.errors import ConfigurationError, EvaluationError
from hc_orchestration.healthcare.fhir_server import FhirServer, Taken
from hc_orchestration.healthcare.signing import sha256
from hc_orchestration.healthcare.upload import parts, placed, record_tag, transaction
from hc_orchestration.healthcare.validity import check_bundle

if TYPE_CHECKING:
    from hc_orchestration.storage.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Sent:
    """A record on a server.

    Attributes:
        record: Digest of the stored record, which the Provenance on the server names too.
        tag: What finds that Provenance: `Provenance?_tag=…`.
        created: Resources that the server lacked; `found` those that it had.
        provenance: Where it put the Provenance, if it told.
    """

    record: str
    tag: str
    created: int
    found: int
    provenance: str | None


def record_in(path: Path) -> bytes:
    """The bytes of a record that was handed out.

    Raises:
        ConfigurationError: The file cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        message = f"{path} cannot be read ({type(error).__name__})."
        raise ConfigurationError(message) from None


def records_to_upload(workspace: "Workspace", model_key: str | None) -> Iterator[bytes]:
    """The newest record of a model, or of each; their bytes are checked against their digest.

    Raises:
        EvaluationError: There is none.
        StorageError: A record is gone, was changed, or cannot be reached.
    """
    newest = {entry.model_key: entry.part.file for entry in workspace.records.listed(model_key)}
    if not newest:
        if model_key is not None:
            workspace.catalogue.entry(model_key)  # bad use, if nobody knows it
        message = "there is no record to upload. Run: hc evaluate"
        raise EvaluationError(message)
    for _, file in sorted(newest.items()):
        yield workspace.files.get(file)


def sent(content: bytes, server: FhirServer, at_once: int | None = None) -> Sent:
    """Send one record, in one transaction or in several of at most `at_once` entries.

    Raises:
        ProvenanceError: It is not a valid record.
        UploadError: The server is away, or did not take all of it.
    """
    record = _record(content)
    digest = sha256(content)
    whole = transaction(record, digest)
    taken: list[Taken] = []
    places: dict[str, str] = {}
    for part in parts(whole, at_once or len(whole["entry"])):
        done = server.submit(placed(part, places))
        taken += done
        told = zip(part["entry"], done, strict=True)
        places |= {entry["fullUrl"]: one.place for entry, one in told if one.place}
    created = sum(entry.created for entry in taken)
    return Sent(
        record=digest,
        tag="|".join(record_tag(record)),
        created=created,
        found=len(taken) - created,
        provenance=next((one.place for one in taken if one.resource_type == "Provenance"), None),
    )


def _record(content: bytes) -> dict[str, Any]:
    try:
        record = json.loads(content)
    except ValueError:
        record = None
    if not isinstance(record, dict):
        message = "the file holds no FHIR record in JSON."
        raise ConfigurationError(message)
    check_bundle(record)
    return record
