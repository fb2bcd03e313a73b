"""Sending a transaction to a FHIR server: with patience, and trusting no answer as a whole."""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from hc_orchestration.errors import ConfigurationError, UploadError

if TYPE_CHECKING:
    import httpx

ATTEMPTS = 5
TIMEOUT_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0
_LONGEST_REASON = 200
_TOO_MANY = 429
_HERE = {"localhost", "127.0.0.1", "::1"}
_FHIR = "application/fhir+json"


@dataclass(frozen=True, slots=True)
class Taken:
    """What a server did with one entry: `place` is where it put it (`Device/1`), if it told."""

    resource_type: str
    created: bool
    place: str | None


class FhirServer:
    """A FHIR R4 server at a base URL; nothing of the bearer token is ever shown."""

    def __init__(
        self,
        url: str,
        token: str | None = None,
        timeout_s: float = TIMEOUT_S,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        """Use the server at `url`; an attempt fails after `timeout_s` seconds of silence.

        Raises:
            ConfigurationError: The URL is none, holds credentials, or would carry the token in the
                clear to another machine.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            message = "--server is the base URL of a FHIR server: https://host/path"
            raise ConfigurationError(message)
        if parts.username or parts.password:
            message = "--server must hold no credentials; set HC_FHIR_TOKEN."
            raise ConfigurationError(message)
        if token and parts.scheme == "http" and parts.hostname not in _HERE:
            message = "a token is sent over https only; --server begins with http:"
            raise ConfigurationError(message)
        if token is not None and (not token.isascii() or not token.isprintable() or " " in token):
            message = "HC_FHIR_TOKEN is no bearer token: it holds spaces, line ends or the like."
            raise ConfigurationError(message)
        self.url = url.rstrip("/")
        self._token = token
        self._timeout_s = timeout_s
        self._pause = pause

    def submit(self, transaction: Mapping[str, Any]) -> list[Taken]:
        """Send a transaction until it is answered; returns what became of each entry.

        To send it again is safe, as every entry of ours is created only where there is none yet.

        Raises:
            UploadError: The server is away after all attempts, refuses it, or did not take every
                entry; names the entries.
        """
        answer = self._answered(transaction)
        if not answer.is_success:
            message = f"{self.url} refused the record: {self._reason(answer)}"
            raise UploadError(message)
        try:
            body = answer.json()
            responses = [entry["response"] for entry in body["entry"]]
            statuses = [str(response["status"]) for response in responses]
        except (ValueError, KeyError, TypeError):
            message = f"{self.url} answered with something that is no transaction-response."
            raise UploadError(message) from None
        sent = transaction["entry"]
        self._require_all(sent, responses, statuses)
        return [
            Taken(
                resource_type=entry["resource"]["resourceType"],
                created=status.startswith("201"),
                place=_place(response.get("location"), entry["resource"]["resourceType"]),
            )
            for entry, response, status in zip(sent, responses, statuses, strict=True)
        ]

    def _answered(self, transaction: Mapping[str, Any]) -> "httpx.Response":
        import httpx

        headers = {"Accept": _FHIR, "Content-Type": _FHIR}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        why = ""
        with httpx.Client(timeout=self._timeout_s, headers=headers) as client:
            for attempt in range(ATTEMPTS):
                wait = min(_FIRST_PAUSE_S * 2**attempt, _LONGEST_PAUSE_S)
                try:
                    answer = client.post(self.url, json=transaction)
                except httpx.TransportError as error:
                    why = type(error).__name__
                else:
                    if answer.status_code != _TOO_MANY and not answer.is_server_error:
                        return answer
                    why = self._reason(answer)
                    wait = _asked_for(answer, wait)
                if attempt < ATTEMPTS - 1:
                    self._pause(wait * random.uniform(1, 1.25))  # noqa: S311 - jitter, no secret
        message = f"{self.url} did not take the record in {ATTEMPTS} attempts: {why}"
        raise UploadError(message)

    def _require_all(
        self,
        sent: Sequence[Mapping[str, Any]],
        responses: Sequence[Mapping[str, Any]],
        statuses: Sequence[str],
    ) -> None:
        if len(responses) != len(sent):
            message = f"{self.url} answered for {len(responses)} of {len(sent)} entries."
            raise UploadError(message)
        failed = [
            f"entry[{index}] {entry['resource']['resourceType']}: {status[:40]}"
            + self._told(response.get("outcome"))
            for index, (entry, response, status) in enumerate(
                zip(sent, responses, statuses, strict=True)
            )
            if status[:3] not in ("200", "201")
        ]
        if failed:
            message = (
                f"{self.url} did not take every entry: {self._without_token('; '.join(failed))}"
            )
            raise UploadError(message)

    def _reason(self, answer: "httpx.Response") -> str:
        try:
            told = self._told(answer.json())
        except ValueError:
            told = ""
        return f"HTTP {answer.status_code}{told}"

    def _told(self, outcome: object) -> str:
        """What an OperationOutcome says, shortened; empty when it is none."""
        if not isinstance(outcome, dict) or not isinstance(outcome.get("issue"), list):
            return ""
        said = []
        for issue in outcome["issue"]:
            if isinstance(issue, dict):
                details = issue.get("details")
                text = details.get("text") if isinstance(details, dict) else None
                said.append(str(issue.get("diagnostics") or text or issue.get("code")))
        return f" ({self._without_token(' '.join('; '.join(said).split()))[:_LONGEST_REASON]})"

    def _without_token(self, text: str) -> str:
        return text.replace(self._token, "…") if self._token else text


def _place(location: object, resource_type: str) -> str | None:
    """`Type/id` of a location, which may be a whole URL and name a version."""
    parts = str(location or "").split("/_history/")[0].split("/")
    return "/".join(parts[-2:]) if parts[-2:-1] == [resource_type] else None


def _asked_for(answer: "httpx.Response", otherwise: float) -> float:
    """The pause that a server asks for in seconds, within reason."""
    asked = answer.headers.get("Retry-After", "")
    return min(float(asked), _LONGEST_PAUSE_S) if asked.isdecimal() else otherwise
