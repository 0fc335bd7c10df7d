"""Alerts of other people's rules: on the timeline, in the way of a promotion, and never a vote for a rollback."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from analysis.result import Reason, Verdict, VerdictKind
from tests.intake_desk import TOKEN, Desk, desk, sent
from tests.samples import a_watch
from watchdog.alert_notes import firing
from watchdog.model import DecisionKind, Mode, State, Steps
from watchdog.policy import Brakes, decide
from watchdog.surroundings import Surroundings
from watchdog.tally import Tally

NOW = 1_700_000_000.0
HEALTHY = Verdict(kind=VerdictKind.HEALTHY, reason=None, metric="errors", look=17, alarm_look=None, log_evidence=-1.0,
                  log_threshold=4.6, sentence="errors 1 % vs 1 %")  # fmt: skip
DEGRADED = replace(HEALTHY, kind=VerdictKind.DEGRADED, reason=Reason.METRICS, alarm_look=3, log_evidence=5.0)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Desk]:
    """A daemon that watches shop v2, live for 20 s."""
    with desk(tmp_path) as made:
        body = {"id": "d1", "service": "shop", "version": "v2", "previous_version": "v1", "deployed_at": NOW - 20}
        token = {"Authorization": f"Bearer {TOKEN}"}
        assert made.client.post("/api/v1/deploys", json=body, headers=token).status_code == 201
        yield made


def alerts(**changed: Any) -> dict[str, Any]:
    """The recorded notification with its first alert changed."""
    body: dict[str, Any] = json.loads(json.dumps(sent("alertmanager-v4").body))
    body["alerts"][0] |= changed
    return body


def noted(daemon: Desk) -> list[str]:
    return [entry.why for entry in daemon.audit("d1") if entry.event.startswith("alert.")]


def fires(daemon: Desk) -> tuple[str, ...]:
    return firing(daemon.audit("d1"), daemon.watch("d1").deploy.deployed_at)


def test_an_alert_since_the_deploy_is_on_its_timeline(daemon: Desk) -> None:
    """By name and summary, told once to the sinks, and still firing until it is resolved."""
    answer = daemon.send("alertmanager", "alertmanager-v4")
    assert (answer.status_code, answer.json()) == (200, {"deploys": ["d1"], "unrelated": 1})
    assert noted(daemon) == ["CheckoutErrors fires: Checkout answers 5xx"]
    assert fires(daemon) == ("CheckoutErrors",)
    told = [row.message.sentence for row, _ in daemon.app.ledger.messages("d1")]
    assert "an alert alone rolls nothing back" in told[-1]
    assert daemon.watch("d1").state is State.WATCHING


def test_repeated_notifications_add_nothing(daemon: Desk) -> None:
    """Alertmanager repeats what still fires, and two of them tell the same."""
    for _ in range(3):
        daemon.send("alertmanager", "alertmanager-v4")
    assert len(noted(daemon)) == 1
    assert len(daemon.app.ledger.messages("d1")) == 2


def test_a_resolved_alert_holds_nothing_up(daemon: Desk) -> None:
    """And may fire again later, in an episode of its own."""
    daemon.send("alertmanager", "alertmanager-v4")
    daemon.post("alertmanager", alerts(status="resolved"))
    assert (noted(daemon)[-1], fires(daemon)) == ("CheckoutErrors is resolved", ())
    daemon.post("alertmanager", alerts(startsAt="2023-11-14T22:13:19Z"))
    assert fires(daemon) == ("CheckoutErrors",)


def test_an_alert_from_before_the_deploy_is_only_noted(daemon: Desk) -> None:
    """It cannot come from this deploy."""
    daemon.post("alertmanager", alerts(startsAt="2023-11-14T22:00:00Z"))
    assert noted(daemon) == ["CheckoutErrors fires, since before the deploy: Checkout answers 5xx"]
    assert fires(daemon) == ()
    assert len(daemon.app.ledger.messages("d1")) == 1


@pytest.mark.parametrize(
    "labels",
    [
        {"alertname": "X", "service": "shop", "env": "staging"},  # another environment
        {"alertname": "X", "service": "other", "env": "production"},  # a service this token is not good for
        {"alertname": "DeployHeld", "service": "shop", "env": "production", "deploy": "d1"},  # our own sink's
        {"alertname": "X"},
    ],
)
def test_alerts_about_something_else_are_left_out(daemon: Desk, labels: dict[str, str]) -> None:
    """200 and nothing written; above all our own alerts do not come back as news."""
    assert daemon.post("alertmanager", alerts(labels=labels)).status_code == 200
    assert noted(daemon) == []


def test_hostile_words_are_made_harmless(daemon: Desk) -> None:
    """A summary cannot steer a terminal, nor begin a line of the log."""
    daemon.post("alertmanager", alerts(annotations={"summary": "\x1b[2J\r\nERROR \u202e" + "x" * 1000}))
    (said,) = noted(daemon)
    assert said.isprintable()
    assert len(said) < 400


def test_a_storm_of_alerts_is_bounded(daemon: Desk) -> None:
    """Twenty by name of one notification; one transaction, one message."""
    first = alerts()["alerts"][0]
    many = [first | {"fingerprint": f"{n:016x}", "labels": first["labels"] | {"alertname": f"A{n}"}} for n in range(99)]
    assert daemon.send("alertmanager", "alertmanager-v4", alerts=many).status_code == 200
    assert len(noted(daemon)) == 20
    assert len(daemon.app.ledger.messages("d1")) == 2


def test_what_holds_up_is_never_crowded_out(daemon: Desk) -> None:
    """In a storm that began before the deploy the one alert since then is noted, and every resolution is."""
    first = alerts()["alerts"][0]
    old = first | {"startsAt": "2023-11-14T22:00:00Z"}
    many = [old | {"fingerprint": f"{n:016x}", "labels": first["labels"] | {"alertname": f"A{n}"}} for n in range(40)]
    daemon.send("alertmanager", "alertmanager-v4", alerts=[*many, first])
    assert fires(daemon) == ("CheckoutErrors",)
    resolved = [alert | {"status": "resolved"} for alert in [*many, first]]
    daemon.send("alertmanager", "alertmanager-v4", alerts=resolved)
    assert fires(daemon) == ()
    assert len([why for why in noted(daemon) if why.endswith("is resolved")]) == 20


def test_a_later_episode_counts_even_where_the_end_of_the_first_was_not_told(daemon: Desk) -> None:
    """A lost "resolved" hides no alert that began since the deploy; an older start of it is no news."""
    daemon.post("alertmanager", alerts(startsAt="2023-11-14T22:00:00Z"))
    daemon.post("alertmanager", alerts())
    assert fires(daemon) == ("CheckoutErrors",)
    daemon.post("alertmanager", alerts(startsAt="2023-11-14T22:00:00Z"))
    assert (len(noted(daemon)), fires(daemon)) == (2, ("CheckoutErrors",))


def test_the_gate_asks_a_human_while_an_alert_fires(daemon: Desk) -> None:
    """Flagger gives no more traffic, Argo Rollouts pauses; nobody is told to go back."""
    daemon.send("alertmanager", "alertmanager-v4")
    told = daemon.gate(service="shop", version="v2").json()
    assert told["gate"] == "ask"
    assert told["sentence"].startswith("CheckoutErrors fires since the deploy")
    metadata = {"version": "v2"}
    assert daemon.ask("confirm-traffic-increase", metadata=metadata).status_code == 409
    assert daemon.ask("rollout", metadata=metadata).status_code == 200
    assert daemon.ask("rollback", metadata=metadata).status_code == 409


# --- the policy ---------------------------------------------------------------------------------------------


def test_a_watch_does_not_pass_while_an_alert_fires() -> None:
    """Nothing measured got worse, something else did: nobody can tell."""
    over = replace(a_watch(), looks=18)
    assert decide(over, HEALTHY, Brakes(), NOW).kind is DecisionKind.PASS
    decision = decide(over, HEALTHY, Brakes(alerts=("A", "B")), NOW)
    assert decision.kind is DecisionKind.CONCLUDE
    assert "A, B fire since the deploy" in decision.why


def test_a_step_waits_while_an_alert_fires() -> None:
    """However healthy the verdict is."""
    steps = Steps(shares=(0.1, 0.5, 1.0), bake_s=60.0, hook="promote")
    watch = replace(a_watch(), mode=Mode.AUTO, looks=7, plan=replace(a_watch().plan, steps=steps))
    late = watch.live_at + 600
    assert decide(watch, HEALTHY, Brakes(looked=12), late).kind is DecisionKind.PROMOTE
    assert decide(watch, HEALTHY, Brakes(looked=12, alerts=("A",)), late).kind is DecisionKind.WAIT


def test_an_alert_neither_makes_nor_stops_a_rollback() -> None:
    """The decision about a degraded deploy is the same with and without."""
    for mode in Mode:
        watch = replace(a_watch(), mode=mode)
        assert decide(watch, DEGRADED, Brakes(alerts=("A",)), NOW) == decide(watch, DEGRADED, Brakes(), NOW)
    looking = replace(a_watch(), looks=3)
    assert decide(looking, HEALTHY, Brakes(alerts=("A",)), NOW).kind is DecisionKind.WAIT


def test_the_ledger_is_asked_for_alerts_only_where_they_matter(daemon: Desk) -> None:
    """In the middle of a watch without steps nothing is read; at its end they are found."""
    daemon.send("alertmanager", "alertmanager-v4")
    surroundings = Surroundings(ledger=daemon.app.ledger)
    watch = daemon.watch("d1")
    over, tally = replace(watch, looks=watch.plan.judge.planned_looks), Tally(watch.plan)
    assert surroundings.brakes(replace(watch, looks=1), HEALTHY, (), tally, now=NOW, paused=None).alerts == ()
    assert surroundings.brakes(over, HEALTHY, (), tally, now=NOW, paused=None).alerts == ("CheckoutErrors",)
    assert surroundings.brakes(over, DEGRADED, (), tally, now=NOW, paused=None).alerts == ()
