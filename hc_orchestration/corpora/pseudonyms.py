"""Pseudonyms of note ids, for sources whose ids are identifiers themselves (an MRN, a visit)."""

import hashlib
import hmac
from dataclasses import dataclass, field

_LEAST_SALT = 16
_HEX_CHARACTERS = 20


@dataclass(frozen=True, slots=True)
class Pseudonyms:
    """Gives each note id the same pseudonym for as long as the salt is the same.

    HMAC-SHA-256 (RFC 2104) and not a plain digest: without the salt, nobody can try out ids until
    one fits. 80 bits are kept, so that two of a million notes share one with odds of 1 in 10^12.

    Attributes:
        salt: Secret of the deployment, 16 bytes or more; never shown.
    """

    salt: bytes = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse a salt that could be guessed."""
        if len(self.salt) < _LEAST_SALT:
            message = f"a salt has {_LEAST_SALT} bytes or more"
            raise ValueError(message)

    def of(self, note_id: str) -> str:
        """The pseudonym of a note id: "p" and 20 hexadecimal characters."""
        return f"p{self._digest(note_id)}"

    def of_patient(self, patient: str) -> str:
        """The pseudonym of a patient: never that of a note, even when both have the same id."""
        return f"s{self._digest(f'patient{chr(0)}{patient}')}"

    def of_file(self, name: str) -> str:
        """The pseudonym of a file whose name is the id of its note."""
        return f"file {self._digest(f'file{chr(0)}{name}')}"

    def of_purged(self, note_id: str) -> str:
        """What the purge log says in place of a note id; no pseudonym of anything else."""
        return self._digest(f"purged{chr(0)}{note_id}")

    def _digest(self, value: str) -> str:
        keyed = hmac.new(self.salt, value.encode("utf-8"), hashlib.sha256)
        return keyed.hexdigest()[:_HEX_CHARACTERS]
