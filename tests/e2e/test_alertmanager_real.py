"""A real Alertmanager: hears the sink, tells a webhook what it heard, and tells the daemon of other people's alerts."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import requests

from tests import servers
from tests.fakes import FakeClock
from tests.intake_desk import TOKEN, desk
from tests.receivers import Receiver, receiver
from tests.samples import a_deploy
from tests.web_server import on_a_port
from watchdog.clock import SystemClock
from watchdog.errors import SinkError
from watchdog.model import Message, MessageKind, Severity, State
from watchdog.ports import Delivery
from watchdog.sinks.alertmanager import AlertmanagerOptions, AlertmanagerSink
from watchdog.sinks.json_http import rfc3339

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
TOLD_S = 20.0


@pytest.fixture(scope="module")
def heard() -> Iterator[Receiver]:
    with receiver() as hook:
        yield hook


@pytest.fixture(scope="module")
def url(heard: Receiver) -> Iterator[str]:
    with servers.alertmanager(f"{heard.url}/hook") as address:
        yield address


def a_delivery(
    state: State, severity: Severity = Severity.PAGE, *, watch: str = "d1", thread: Mapping[str, str] | None = None
) -> Delivery:
    message = Message(
        key=state.value, watch_id=watch, kind=MessageKind.HELD, severity=severity, sentence=f"{watch} is {state.value}",
        facts={"state": state.value, "public_url": f"https://watch.example/deploys/{watch}"},
    )  # fmt: skip
    return Delivery(message=message, deploy=a_deploy(deploy_id=watch), state=state, thread=thread or {})


def a_sink(url: str, **options: Any) -> AlertmanagerSink:
    return AlertmanagerSink("pager", AlertmanagerOptions(url=url, **options), SystemClock(), {})


def active(url: str, watch: str) -> list[dict[str, Any]]:
    asked = {"filter": f'deploy="{watch}"', "active": "true"}
    found: list[dict[str, Any]] = requests.get(f"{url}/api/v2/alerts", params=asked, timeout=5).json()
    return found


def told(heard: Receiver, watch: str) -> list[tuple[str, str]]:
    alerts = [alert for request in heard.received for alert in request.json()["alerts"]]
    return [(a["labels"]["alertname"], a["status"]) for a in alerts if a["labels"]["deploy"] == watch]


def test_a_held_deploy_fires_until_somebody_decides(url: str, heard: Receiver) -> None:
    """One alert however often it is sent, with labels to route by and a link; resolved by what follows."""
    sink = a_sink(url, labels={"team": "shop"})
    thread = dict(sink.send(a_delivery(State.HELD)))
    assert sink.send(a_delivery(State.HELD, thread=thread)) == thread
    (alert,) = active(url, "d1")
    assert alert["labels"] == {
        "alertname": "DeployHeld", "severity": "critical", "service": "shop", "environment": "production",
        "version": "v2", "deploy": "d1", "team": "shop",
    }  # fmt: skip
    assert alert["annotations"] == {"summary": "d1 is HELD"}
    assert alert["generatorURL"] == "https://watch.example/deploys/d1"
    servers.wait_until(lambda: ("DeployHeld", "firing") in told(heard, "d1"), within_s=TOLD_S, what="it fires")
    assert sink.send(a_delivery(State.INTENT, Severity.WARNING, thread=thread)) == {}
    assert active(url, "d1") == []
    servers.wait_until(lambda: ("DeployHeld", "resolved") in told(heard, "d1"), within_s=TOLD_S, what="it ends")


def test_one_alert_gives_way_to_the_next(url: str) -> None:
    """Held, approved, and then the rollback failed: the second replaces the first."""
    sink = a_sink(url)
    thread = dict(sink.send(a_delivery(State.HELD, Severity.WARNING, watch="d2")))
    assert thread["severity"] == "warning"
    assert sink.send(a_delivery(State.FAILED, watch="d2", thread=thread))["alert"] == "DeployRollbackFailed"
    assert [alert["labels"]["alertname"] for alert in active(url, "d2")] == ["DeployRollbackFailed"]


def test_what_needs_nobody_is_no_alert(url: str) -> None:
    """A hold in observe mode is a note; a deploy that passed never was an alert."""
    sink = a_sink(url)
    assert sink.send(a_delivery(State.HELD, Severity.INFO, watch="d3")) == {}
    assert sink.send(a_delivery(State.PASSED, Severity.GOOD, watch="d3")) == {}
    assert active(url, "d3") == []


def test_odd_letters_are_taken(url: str) -> None:
    """Lone surrogates, line ends and length in the sentence; the alert is there."""
    delivery = a_delivery(State.UNKNOWN, watch="d4")
    object.__setattr__(delivery.message, "sentence", "\ud800\r\n\x00<b>" + "x" * 100_000)
    a_sink(url).send(delivery)
    assert len(active(url, "d4")) == 1


def test_an_alertmanager_that_is_down_may_come_back() -> None:
    """A refused connection is for the outbox to retry."""
    sink = AlertmanagerSink(
        "pager", AlertmanagerOptions(url=f"http://127.0.0.1:{servers.free_port()}"), FakeClock(), {}
    )
    with pytest.raises(SinkError) as failed:
        sink.send(a_delivery(State.HELD))
    assert not failed.value.permanent


def test_alerts_of_others_reach_the_timeline_of_a_deploy(tmp_path: Path) -> None:
    """Alertmanager sends with a token: firing is noted and keeps it from going on, resolved lets it."""
    now = SystemClock().now()
    labels = {"alertname": "CheckoutErrors", "service": "shop", "env": "production"}
    with desk(tmp_path, real_time=True) as daemon, on_a_port(daemon.app.web) as port:
        event = {"id": "d1", "service": "shop", "version": "v2", "previous_version": "v1", "deployed_at": now - 5}
        daemon.client.post("/api/v1/deploys", json=event, headers={"Authorization": f"Bearer {TOKEN}"})
        with servers.alertmanager(f"http://127.0.0.1:{port}/api/v1/intake/alertmanager", token=TOKEN) as address:

            def fire(ends_at: float) -> None:
                told = {"labels": labels, "annotations": {"summary": "Checkout answers 5xx"},
                        "startsAt": rfc3339(now), "endsAt": rfc3339(ends_at)}  # fmt: skip
                requests.post(f"{address}/api/v2/alerts", json=[told], timeout=5).raise_for_status()

            def noted() -> list[str]:
                return [entry.event for entry in daemon.audit("d1") if entry.event.startswith("alert.")]

            fire(now + 3600)
            servers.wait_until(lambda: noted() == ["alert.firing"], within_s=TOLD_S, what="it is noted")
            assert daemon.gate(service="shop").json()["gate"] == "ask"
            fire(SystemClock().now())
            servers.wait_until(lambda: noted()[1:] == ["alert.resolved"], within_s=TOLD_S, what="its end is noted")
            assert daemon.gate(service="shop").json()["gate"] == "wait"
