"""What every sink kind in the table must do. A new entry without a case here fails."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from tests.fakes import FakeClock
from tests.receivers import Answer, FakeSlack, Received, fake_slack
from tests.samples import a_deploy
from watchdog.errors import SinkError
from watchdog.model import Message, MessageKind, Severity, State
from watchdog.ports import Delivery, Sink
from watchdog.sinks import SINKS

ENV = {"SLACK": "xoxb-right", "TOKEN": "right"}
# kind → options of a sink that works; `{url}` is a server that takes everything
WORKS: dict[str, dict[str, Any]] = {
    "slack": {"token_env": "SLACK", "channel": "#deploys", "base_url": "{url}/api/"},
    "webhook": {"url": "{url}/api/chat.postMessage"},
    "log": {},
    "alertmanager": {"url": "{url}"},
    "grafana": {"url": "{url}", "token_env": "TOKEN"},
    "github": {"url": "{url}", "token_env": "TOKEN", "repository": "example/shop"},
    "cdevents": {"url": "{url}"},
    "heartbeat": {"url": "{url}"},
}
# kind → where a deploy stands that it has something to say about, where that is not "passed"
SPEAKS_OF = {"alertmanager": State.FAILED, "cdevents": State.ROLLED_BACK}
CANNOT_FAIL = {"log", "heartbeat"}  # the latter takes no messages: see test_sink_heartbeat
Build = Callable[[str], Sink]


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_slack() as server:
        yield server


@pytest.fixture
def build(slack: FakeSlack) -> Build:
    """Construct a sink exactly as the composition root does."""

    def built(kind: str) -> Sink:
        told = {k: v.replace("{url}", slack.web.url) if isinstance(v, str) else v for k, v in WORKS[kind].items()}
        adapter: Any = SINKS[kind]
        if kind != "slack":  # the server above speaks Slack only
            slack.web.otherwise = answered
        made: Sink = adapter(name="team", options=adapter.Options(**told), clock=FakeClock(), env=ENV)
        return made

    return built


def answered(request: Received) -> Answer:
    """What GitHub and Grafana would answer, and everybody else's ok."""
    if "/commits/" in request.path:
        return Answer(body=b"a" * 40)
    if request.method == "GET":
        return Answer(body=b"[]")
    return Answer(body=b'{"id": 7}')


def a_delivery(sentence: str = "shop v2 passed", state: State = State.PASSED, **facts: Any) -> Delivery:
    message = Message(
        key="ended",
        watch_id="d1",
        kind=MessageKind.ENDED,
        severity=Severity.PAGE if state is State.FAILED else Severity.GOOD,
        sentence=sentence,
        facts={**facts, "state": state.value},
    )
    return Delivery(message=message, deploy=a_deploy(), state=state)


def test_every_kind_has_its_case() -> None:
    """Adding a sink means adding how it works."""
    assert set(SINKS) == set(WORKS)


@pytest.mark.parametrize("kind", SINKS)
def test_the_table_names_each_kind_as_it_names_itself(kind: str) -> None:
    """Table, class and configuration say the same word."""
    assert SINKS[kind].kind == kind


@pytest.mark.parametrize("kind", SINKS)
def test_options_are_described_frozen_and_closed(kind: str) -> None:
    """Every key is documented, unknown ones are refused, nothing changes after the start."""
    options = SINKS[kind].Options
    assert issubclass(options, BaseModel)
    assert [name for name, known in options.model_fields.items() if not known.description] == []
    assert options.model_config.get("frozen")
    with pytest.raises(ValidationError, match="extra_forbidden"):
        options(**{**WORKS[kind], "no_such_key": 1})


@pytest.mark.parametrize("kind", SINKS)
def test_a_message_is_taken_and_memory_is_text(kind: str, build: Build) -> None:
    """What a sink wants remembered can be stored by any ledger, and comes back usable."""
    sink = build(kind)
    delivery = a_delivery(state=SPEAKS_OF.get(kind, State.PASSED))
    remembered = sink.send(delivery)
    assert {type(text) for pair in remembered.items() for text in pair} <= {str}
    again = sink.send(replace(delivery, thread=remembered))
    assert dict(again) == dict(remembered)


@pytest.mark.parametrize("kind", SINKS)
@pytest.mark.parametrize("kind_of_message", MessageKind)
def test_every_kind_of_message_is_taken(kind: str, kind_of_message: MessageKind, build: Build) -> None:
    """No kind, severity or state is unknown to a sink."""
    sink = build(kind)
    states = list(State)
    for number, severity in enumerate(Severity):
        message = replace(a_delivery().message, kind=kind_of_message, severity=severity)
        sink.send(replace(a_delivery(), message=message, state=states[number]))


@pytest.mark.parametrize("kind", SINKS)
def test_hostile_and_odd_content_is_taken(kind: str, build: Build) -> None:
    """Mentions, line ends, lone surrogates, NaN, nesting and length are content, not trouble."""
    sink = build(kind)
    for sentence in ("<!channel>\r\n\x00\x1b[2J\u202e", "\ud800", "x" * 200_000, ""):
        sink.send(a_delivery(sentence, exposed_requests=float("nan"), total_requests="<@U1>", deep={"a": [1, {}]}))


@pytest.mark.parametrize("kind", [kind for kind in SINKS if kind not in CANNOT_FAIL])
def test_a_receiver_that_is_down_is_a_sink_error_that_may_pass(kind: str, build: Build, slack: FakeSlack) -> None:
    """Only SinkError leaves a sink, and an outage is never permanent."""
    sink = build(kind)
    slack.web.otherwise = lambda _: Answer(503, b"<html>")
    with pytest.raises(SinkError) as failed:
        sink.send(a_delivery(state=SPEAKS_OF.get(kind, State.PASSED)))
    assert not failed.value.permanent
