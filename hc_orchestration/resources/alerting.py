"""Sending alerts: each once, what could not be delivered again at the next tick."""

import json
import logging
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from hc_orchestration.errors import HcError
from hc_orchestration.reporting.alerts import Alert, payload
from hc_orchestration.storage.workspace import Workspace

_FIRST_LOOK_BACK = timedelta(days=1)
_LOOK_BACK = timedelta(days=30)
_TIMEOUT_S = 5.0
_SECONDS_A_TICK = 25.0
_OK = range(200, 300)


class AlertError(HcError):
    """An alert that was not delivered; the address, which may be a secret, is not named."""


class UnreachableError(AlertError):
    """Nobody answered, so that the other alerts need not be tried now."""


@dataclass(frozen=True, slots=True)
class AlertCursor:
    """What has been told.

    Attributes:
        since: Earlier events are not looked at any more.
        sent: Ids of the alerts since then that were delivered.
    """

    since: datetime
    sent: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def read(cls, text: str | None, now: datetime) -> "AlertCursor":
        """The cursor of the last tick; the first tick looks back one day."""
        if not text:
            return cls(now - _FIRST_LOOK_BACK)
        stored = json.loads(text)
        since = datetime.fromisoformat(stored["since"]).astimezone(UTC)
        return cls(max(since, now - _LOOK_BACK), frozenset(stored["sent"]))

    def write(self) -> str:
        """As a sensor keeps it."""
        return json.dumps({"since": self.since.isoformat(), "sent": sorted(self.sent)})


def send_new(
    alerts: Iterable[Alert],
    cursor: AlertCursor,
    deliver: Callable[[Alert], None],
    log: logging.Logger,
) -> AlertCursor:
    """Deliver the alerts that were not delivered before.

    One that is refused does not keep the others; when nobody answers, or after 25 s, the rest waits
    for the next tick.

    Args:
        alerts: Everything since `cursor.since`, oldest first.
        cursor: What was delivered.
        deliver: Raises `AlertError`.
        log: Told of each alert, once, as it is delivered; and of failures.

    Returns:
        The cursor of the next tick; ids of events that are looked at no more are forgotten.
    """
    known = list(alerts)
    sent = {alert.id for alert in known} & cursor.sent
    until = time.monotonic() + _SECONDS_A_TICK
    for alert in known:
        if alert.id in sent:
            continue
        if time.monotonic() > until:
            break
        try:
            deliver(alert)
        except AlertError as error:
            log.warning("alert %s is not delivered yet (%s): %s", alert.id, error, alert.text)
            if isinstance(error, UnreachableError):
                break
            continue
        log.warning("alert %s: %s", alert.id, alert.text)
        sent.add(alert.id)
    return AlertCursor(cursor.since, frozenset(sent))


def deliverer(workspace: Workspace) -> Callable[[Alert], None]:
    """What delivers an alert: to the webhook of the study, or to nobody but the log.

    Raises:
        AlertError: (the deliverer) The webhook did not take it.
    """
    address = os.environ.get(workspace.study.alerts.webhook_env, "").strip()
    if not address:
        return _to_the_log_only

    def deliver(alert: Alert) -> None:
        record = workspace.records.read(alert.evaluation_id) if alert.evaluation_id else None
        document = payload(alert, workspace.study.name, record, workspace.settings.dagster_url)
        post(address, json.dumps(document).encode(), alert.id)

    return deliver


def _to_the_log_only(alert: Alert) -> None:
    del alert


def post(address: str, body: bytes, alert_id: str) -> None:
    """POST one alert; any 2xx answer means that it was taken, redirects are not followed.

    Raises:
        UnreachableError: Nobody answered in time, or the address is none.
        AlertError: The answer was another one.
    """
    import httpx

    logging.getLogger("httpx").setLevel(logging.WARNING)  # it would log the address
    headers = {"Content-Type": "application/json", "Idempotency-Key": alert_id}
    try:
        with httpx.stream(
            "POST", address, content=body, headers=headers, timeout=_TIMEOUT_S
        ) as answer:
            status = answer.status_code
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        message = f"the webhook cannot be reached: {type(error).__name__}"
        raise UnreachableError(message) from None
    if status not in _OK:
        message = f"the webhook answered {status}"
        raise AlertError(message)
