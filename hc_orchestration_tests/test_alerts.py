"""Alerts: each event once, over a real HTTP server, again when it was not delivered."""

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import dagster as dg
import pytest

from hc_orchestration.definitions import build_definitions
from hc_orchestration.errors import ConfigurationError
from hc_orchestration.reporting.alerts import Alert, AlertKind, payload
from hc_orchestration.resources.alerting import AlertCursor, AlertError, UnreachableError, send_new
from hc_orchestration.schedules import NIGHTLY_TAG, last_tick
from hc_orchestration.sensors import alert_sensor, missing_alerts
from hc_orchestration.settings import Settings
from hc_orchestration.storage.workspace import Workspace
from hc_orchestration.study import Schedule, load_study
from hc_orchestration_tests.conftest import RULER, STUDY, TERMS
from hc_orchestration_tests.test_promotion import better_and_worse, many_notes, run_all

Run = Callable[..., dg.ExecuteInProcessResult]
FAILING = f"{STUDY}\ngates: [{{metric: exact.f1, minimum: 0.9, name: ambitious}}]\n"
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


class Webhook:
    """An HTTP server that keeps what it is sent, and answers as it is told."""

    def __init__(self) -> None:
        self.received: list[dict[str, Any]] = []
        self.bodies: list[bytes] = []
        self.keys: list[str | None] = []
        self.answer = 200
        self.pause = 0.0
        webhook = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                time.sleep(webhook.pause)
                if webhook.answer == 200:
                    webhook.bodies.append(body)
                    webhook.received.append(json.loads(body))
                    webhook.keys.append(self.headers["Idempotency-Key"])
                self.send_response(webhook.answer)
                if webhook.answer == 302:
                    self.send_header("Location", f"{webhook.url}/elsewhere")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hooks/a-secret"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def webhook(monkeypatch: pytest.MonkeyPatch) -> Iterator[Webhook]:
    """A webhook whose address is in the environment."""
    server = Webhook()
    monkeypatch.setenv("HC_ALERT_WEBHOOK", server.url)
    yield server
    server.close()


class Ticks:
    """Ticks of the sensor, each with the cursor that the one before left."""

    def __init__(self, settings: Settings, instance: dg.DagsterInstance) -> None:
        self._sensor, self._instance = alert_sensor(settings), instance
        self._cursor: str | None = None

    def __call__(self) -> str:
        with dg.build_sensor_context(instance=self._instance, cursor=self._cursor) as context:
            answer = self._sensor(context)
            self._cursor = context.cursor
        assert isinstance(answer, dg.SkipReason)
        return answer.skip_message or ""


@pytest.fixture
def tick(settings: Settings, instance: dg.DagsterInstance) -> Ticks:
    return Ticks(settings, instance)


@pytest.fixture
def failing(settings: Settings, run_job: Run) -> Settings:
    """A deployment whose model fails a gate."""
    settings.study.write_text(FAILING, encoding="utf-8")
    assert run_job("refresh_corpus").success
    assert run_job("evaluate_model", TERMS).success
    return settings


def test_a_failed_gate_is_sent_once_and_again_only_when_the_scores_change(
    failing: Settings, run_job: Run, webhook: Webhook, tick: Ticks
) -> None:
    settings = failing
    record = Workspace(settings).records.of_model(TERMS)[0]

    assert tick() == "sent 1 alerts; 0 wait for the next tick"
    assert tick() == "sent 0 alerts; 0 wait for the next tick"

    (sent,) = webhook.received
    assert record.run
    assert record.mlflow
    assert sent == {
        "text": f"{TERMS} FAIL: exact.f1 is 0.769 (no interval), minimum 0.9, on 7 gold mentions.",
        "id": webhook.keys[0],
        "kind": "gate_failed",
        "at": sent["at"],
        "study": "test-study",
        "model": TERMS,
        "champion": None,
        "metric": "exact.f1",
        "value": pytest.approx(10 / 13),
        "reference": None,
        "interval": None,
        "threshold": 0.9,
        "support": 7,
        "p_holm": None,
        "verdict": "FAIL",
        "evaluation_id": record.evaluation_id,
        "links": {
            "dagster": f"{settings.dagster_url}/runs/{record.run.dagster_run_id}",
            "mlflow": record.mlflow.url,
        },
    }
    assert b"asthma" not in webhook.bodies[0]
    assert b"Test cohort" not in webhook.bodies[0]

    run_job("evaluate_model", TERMS)
    assert tick() == "sent 0 alerts; 0 wait for the next tick", "inputs are unchanged"
    with (settings.catalogue.parent / "terms.tsv").open("a", encoding="utf-8") as terms:
        terms.write("DISEASE\tdenies\n")
    run_job("evaluate_model", TERMS)
    assert tick() == "sent 1 alerts; 0 wait for the next tick"


@pytest.mark.usefixtures("failing")
def test_what_the_webhook_did_not_take_is_sent_at_the_next_tick_and_its_address_told_nowhere(
    webhook: Webhook,
    tick: Ticks,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG, logger="httpx")

    for answer in (500, 302, 404):
        webhook.answer = answer
        assert tick() == "sent 0 alerts; 1 wait for the next tick"
    webhook.answer = 200
    assert tick() == "sent 1 alerts; 0 wait for the next tick"

    assert len(webhook.received) == 1
    said = capfd.readouterr()
    assert "a-secret" not in caplog.text + said.out + said.err


def test_a_champion_that_is_beaten_with_significance(
    settings: Settings, instance: dg.DagsterInstance, webhook: Webhook, tick: Ticks
) -> None:
    """And a model that is behind it by more than the margin fails its gate."""
    from hc_orchestration.resources.promoting import promote
    from hc_orchestration.resources.workspace import promotion_projection

    better, worse = better_and_worse(settings)
    many_notes(settings, 40)
    run_all(settings, instance, better, worse)
    compare = build_definitions(settings).resolve_job_def("compare_models")
    settings.study.write_text(
        f"{STUDY}\ngates: [{{metric: strict.f1, regression: 0.02}}]\n", encoding="utf-8"
    )

    def become_champion(key: str) -> None:
        workspace = Workspace(settings)
        promote(workspace, promotion_projection(settings.tracking_uri, workspace), key, None)
        for _ in range(2):  # the same comparison again is no news
            assert compare.execute_in_process(instance=instance, raise_on_error=False).success

    become_champion(worse)
    tick()
    (beaten,) = webhook.received
    assert (beaten["kind"], beaten["model"], beaten["champion"]) == (
        "champion_beaten",
        better,
        worse,
    )
    assert (beaten["metric"], beaten["support"]) == ("strict.f1", 80)
    assert beaten["interval"]["low"] > 0
    assert beaten["p_holm"] < 0.05
    become_champion(better)
    tick()
    behind = webhook.received[1]
    assert (behind["kind"], behind["model"], behind["champion"], behind["verdict"]) == (
        "gate_failed",
        worse,
        better,
        "FAIL",
    )
    assert len(webhook.received) == 2
    assert tick() == "sent 0 alerts; 0 wait for the next tick"


def switch_on_nightly(settings: Settings, instance: dg.DagsterInstance) -> None:
    """As the button under Automation does."""
    from dagster._core.remote_representation.external import RemoteSchedule
    from dagster._core.test_utils import create_test_daemon_workspace_context
    from dagster._core.workspace.load_target import ModuleTarget

    del settings
    target = ModuleTarget("hc_orchestration.definitions", None, None, "hc")
    with create_test_daemon_workspace_context(target, instance) as process:
        location = process.create_request_context().code_locations[0]
        (repository,) = location.get_repositories().values()
        schedule = repository.get_schedule("nightly")
        assert isinstance(schedule, RemoteSchedule)
        instance.start_schedule(schedule)


@pytest.mark.integration
def test_a_night_without_a_finished_evaluation_of_a_present_model(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    study = load_study(settings.study)
    night = last_tick(study.schedule, datetime.now(UTC)) + timedelta(days=2)
    late, early = night + timedelta(hours=7), night + timedelta(hours=5)

    def missing(now: datetime) -> list[str]:
        return [alert.model_key for alert in missing_alerts(instance, settings, study, now)]

    assert missing(late) == [], "the schedule is off"
    switch_on_nightly(settings, instance)
    assert missing(late) == [TERMS, RULER]
    assert missing(night - timedelta(days=5)) == [], "the schedule was not on yet"
    first, again = (missing_alerts(instance, settings, study, late)[0] for _ in range(2))
    assert (first.id, first.at) == (again.id, night + timedelta(hours=6))
    assert "6 hours after it began" in first.text
    previous = missing_alerts(instance, settings, study, early)[0]
    assert previous.id != first.id, "before its hour it is still about the night before"


def test_a_night_with_a_finished_evaluation_is_not_missing(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    """A run by hand does not count, nor does a failed one."""
    study = load_study(settings.study)
    night = last_tick(study.schedule, datetime.now(UTC))
    now = night + timedelta(hours=6, minutes=1)

    class Switched:
        """The instance, with a schedule that has been on for long."""

        def all_instigator_state(self) -> list[Any]:
            class Data:
                start_timestamp = 0.0

            class State:
                name, is_running, instigator_data = "nightly", True, Data

            return [State]

        def get_runs(self, filters: dg.RunsFilter) -> Any:
            return instance.get_runs(filters)

    def missing() -> list[str]:
        switched: Any = Switched()
        return [a.model_key for a in missing_alerts(switched, settings, study, now)]

    definitions = build_definitions(settings)
    tags = {NIGHTLY_TAG: night.isoformat()}

    def run(job: str, key: str | None = None, tags: dict[str, str] | None = None) -> None:
        definitions.resolve_job_def(job).execute_in_process(
            instance=instance, partition_key=key, tags=tags, raise_on_error=False
        )

    run("refresh_corpus", tags=tags)
    run("evaluate_model", RULER)
    assert missing() == [TERMS, RULER]
    run("evaluate_model", TERMS, tags)
    assert missing() == [RULER]
    (settings.catalogue.parent / "ruler" / "config.cfg").unlink()
    run("evaluate_model", RULER, tags)
    assert missing() == [RULER]


def test_the_sensor_is_on_and_tells_the_log_where_there_is_no_webhook(
    settings: Settings, run_job: Run, tick: Ticks
) -> None:
    repository = build_definitions(settings).get_repository_def()
    assert repository.get_sensor_def("alerts").default_status is dg.DefaultSensorStatus.RUNNING
    assert tick() == "sent 0 alerts; 0 wait for the next tick"
    settings.study.write_text(FAILING, encoding="utf-8")
    run_job("refresh_corpus")
    run_job("evaluate_model", TERMS)

    assert tick() == "sent 1 alerts; 0 wait for the next tick"
    assert tick() == "sent 0 alerts; 0 wait for the next tick"


def alert(name: str) -> Alert:
    return Alert(AlertKind.GATE_FAILED, (name,), NOW, "m-1", f"{name} fails")


def test_a_refused_alert_does_not_keep_the_others_and_silence_ends_the_tick(
    caplog: pytest.LogCaptureFixture,
) -> None:
    alerts = [alert(name) for name in ("a", "b", "c")]
    tried: list[str] = []
    log = logging.getLogger("test")

    def refuse_first(one: Alert) -> None:
        tried.append(one.text)
        if one is alerts[0]:
            message = "the webhook answered 400"
            raise AlertError(message)

    after = send_new(alerts, AlertCursor(NOW), refuse_first, log)
    assert after.sent == {alerts[1].id, alerts[2].id}
    assert [record.getMessage() for record in caplog.records] == [
        f"alert {alerts[0].id} is not delivered yet (the webhook answered 400): a fails",
        f"alert {alerts[1].id}: b fails",
        f"alert {alerts[2].id}: c fails",
    ]

    def nobody(one: Alert) -> None:
        tried.append(one.text)
        message = "the webhook cannot be reached: ConnectError"
        raise UnreachableError(message)

    tried.clear()
    assert send_new(alerts, AlertCursor(NOW), nobody, log).sent == frozenset()
    assert tried == ["a fails"]


def test_a_webhook_that_does_not_answer_is_left_after_a_while(
    webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    from hc_orchestration.resources.alerting import post

    monkeypatch.setattr("hc_orchestration.resources.alerting._TIMEOUT_S", 0.2)
    webhook.pause = 1.0
    with pytest.raises(UnreachableError, match="ReadTimeout"):
        post(webhook.url, b"{}", "id")
    with pytest.raises(UnreachableError, match="UnsupportedProtocol"):
        post("file:///etc/passwd", b"{}", "id")


def test_the_cursor_looks_back_a_day_at_first_and_a_month_at_most() -> None:
    first = AlertCursor.read(None, NOW)
    assert first.since == NOW - timedelta(days=1)
    kept = AlertCursor.read(AlertCursor(first.since, frozenset({"x"})).write(), NOW)
    assert kept == AlertCursor(first.since, frozenset({"x"}))
    later = AlertCursor.read(kept.write(), NOW + timedelta(days=90))
    assert later.since == NOW + timedelta(days=60)


def test_a_payload_is_bounded() -> None:
    long = Alert(AlertKind.GATE_FAILED, ("a",), NOW, "m" * 9_000, "x" * 100_000)

    assert len(json.dumps(payload(long, "s" * 5_000, None, "http://127.0.0.1:3000"))) < 4_000


def test_the_study_names_a_variable_and_no_address(settings: Settings) -> None:
    settings.study.write_text(f"{STUDY}\nalerts: {{webhook_env: 'https://h/x'}}\n")
    with pytest.raises(ConfigurationError, match=r"alerts\.webhook_env"):
        load_study(settings.study)
    settings.study.write_text(f"{STUDY}\nalerts: {{webhook_env: OUR_HOOK}}\n")
    assert load_study(settings.study).alerts.webhook_env == "OUR_HOOK"


def test_the_last_tick_is_in_the_time_zone_of_the_study() -> None:
    schedule = Schedule(cron="0 2 * * *", timezone="Europe/Berlin")
    assert last_tick(schedule, NOW) == datetime(2026, 1, 5, 1, 0, tzinfo=UTC)
    assert last_tick(schedule, datetime(2026, 1, 5, 0, 59, tzinfo=UTC)) == datetime(
        2026, 1, 4, 1, 0, tzinfo=UTC
    )
