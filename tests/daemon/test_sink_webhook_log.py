"""The sinks `webhook` and `log`."""

import base64
import json
import logging
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest
import standardwebhooks

import watchdog.sinks
from tests.fakes import FakeClock
from tests.receivers import Answer, Receiver, receiver
from tests.samples import a_deploy
from watchdog.cli.logs import JsonLines, PlainLines, log_to_stderr
from watchdog.clock import SystemClock
from watchdog.errors import ConfigError, SinkError
from watchdog.model import Message, MessageKind, Severity, State
from watchdog.ports import Delivery
from watchdog.sinks.log import LogOptions, LogSink
from watchdog.sinks.webhook import WebhookOptions, WebhookSink

SECRET = "whsec_" + base64.b64encode(b"0123456789abcdef0123456789abcdef").decode()
SCHEMA = json.loads(Path(watchdog.sinks.__file__).with_name("webhook.schema.json").read_text())


def a_delivery(sentence: str = "shop v2: fine", **changes: Any) -> Delivery:
    told: dict[str, Any] = {"kind": MessageKind.ENDED, "severity": Severity.GOOD, "facts": {}}
    state = changes.pop("state", State.PASSED)
    message = Message(key="ended", watch_id="d1", sentence=sentence, **(told | changes))
    return Delivery(message=message, deploy=a_deploy(), state=state)


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


def a_sink(url: str, **options: Any) -> WebhookSink:
    return WebhookSink("pager", WebhookOptions(url=url, **options), SystemClock(), {"SECRET": SECRET})


def test_a_message_arrives_signed_and_as_described(web: Receiver) -> None:
    """The reference library verifies the signature, the published schema the body."""
    a_sink(f"{web.url}/in", secret_env="SECRET").send(a_delivery(facts={"time_to_detect_s": 20.5}))
    (request,) = web.received
    event = standardwebhooks.Webhook(SECRET).verify(request.body, request.headers)
    jsonschema.validate(event, SCHEMA, cls=jsonschema.Draft202012Validator)
    assert event["type"] == "deploy.ended"
    assert event["data"]["deploy"]["version"] == "v2"
    assert event["data"]["facts"] == {"time_to_detect_s": 20.5}
    assert event["data"]["id"] == request.headers["webhook-id"]


def test_every_word_of_ours_fits_the_schema(web: Receiver) -> None:
    """No kind, severity or state is missing from what is published."""
    sink = a_sink(web.url)
    validator = jsonschema.Draft202012Validator(SCHEMA)
    words: list[dict[str, Any]] = [{"kind": kind} for kind in MessageKind]
    words += [{"severity": severity} for severity in Severity]
    words += [{"state": state} for state in State]
    for word in words:
        validator.validate(json.loads(sink._body(a_delivery(**word), 1.7e9)))


def test_the_schema_refuses_what_is_not_described(web: Receiver) -> None:
    """The validation above can fail."""
    event = json.loads(a_sink(web.url)._body(a_delivery(), 1.7e9))
    event["data"]["secret"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(event, SCHEMA)


def test_a_message_keeps_its_id_over_deliveries(web: Receiver) -> None:
    """Whoever got it twice can tell."""
    sink = a_sink(web.url)
    sink.send(a_delivery())
    sink.send(a_delivery())
    first, second = (request.headers["webhook-id"] for request in web.received)
    assert first == second


def test_odd_facts_become_json(web: Receiver) -> None:
    """NaN and infinity are null, strangers their text; the body is always JSON as everybody reads it."""
    odd = {"a": float("nan"), "b": (1, float("inf")), "c": State.HELD, "d": {1: None, "e": Path("x")}, "f": True}
    a_sink(web.url).send(a_delivery(facts=odd))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    event = json.loads(web.received[0].body, parse_constant=refuse)
    assert event["data"]["facts"] == {"a": None, "b": [1, None], "c": "HELD", "d": {"1": None, "e": "x"}, "f": True}


@pytest.mark.parametrize(
    ("answer", "permanent", "wish"),
    [
        (Answer(410), True, None),
        (Answer(422), True, None),
        (Answer(400), True, None),
        (Answer(401), False, None),
        (Answer(404), False, None),
        (Answer(302, headers={"Location": "/x"}), False, None),
        (Answer(429, headers={"Retry-After": "17"}), False, 17.0),
        (Answer(503, headers={"Retry-After": "x"}), False, None),
        (Answer(cut=True), False, None),
    ],
    ids=lambda value: str(getattr(value, "status", value)),
)
def test_refusals_are_sorted_by_hope(web: Receiver, answer: Answer, permanent: bool, wish: float | None) -> None:
    """Gone or unacceptable is for ever; everything else may pass, at the receiver's own pace."""
    web.script.append(answer)
    with pytest.raises(SinkError) as failed:
        a_sink(web.url).send(a_delivery())
    assert (failed.value.permanent, failed.value.retry_after_s) == (permanent, wish)
    assert len(web.received) == 1


def test_a_receiver_that_hangs_or_is_not_there_fails_in_time(web: Receiver) -> None:
    """The deadline holds, and both may pass."""
    web.script.append(Answer(hang=True))
    began = time.monotonic()
    with pytest.raises(SinkError) as failed:
        a_sink(web.url, timeout_s=0.3).send(a_delivery())
    assert not failed.value.permanent
    assert time.monotonic() - began < 2
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(SinkError) as failed:
            a_sink(f"http://127.0.0.1:{taken.getsockname()[1]}").send(a_delivery())
    assert not failed.value.permanent


def test_a_bad_secret_is_refused_at_the_start() -> None:
    """A key that cannot sign is a mistake of the configuration."""
    with pytest.raises(ConfigError):
        WebhookSink("p", WebhookOptions(url="https://x/", secret_env="S"), FakeClock(), {"S": "whsec_a"})


def a_log(name: str) -> LogSink:
    return LogSink("log", LogOptions(logger=name), FakeClock(), {})


def test_a_message_is_one_line_of_json(caplog: pytest.LogCaptureFixture) -> None:
    """It parses back to what was said, and its letters stay readable."""
    caplog.set_level(logging.INFO)
    a_log("told").send(a_delivery("errors ×2.9 (1.7–4.8)"))
    (record,) = caplog.records
    assert record.name == "told"
    assert "×2.9 (1.7–4.8)" in record.getMessage()
    assert json.loads(record.getMessage())["sentence"] == "errors ×2.9 (1.7–4.8)"


def test_a_log_for_people_has_the_sentence_alone(caplog: pytest.LogCaptureFixture) -> None:
    """The rest of the message is for programs: `run --json` writes it."""
    caplog.set_level(logging.INFO)
    a_log("told").send(a_delivery('shop "v2": errors ×2.9\n\u2028forged'))
    (record,) = caplog.records
    assert PlainLines().format(record).partition("INFO    ")[2] == 'shop "v2": errors ×2.9\\n\\u2028forged'
    assert json.loads(json.loads(JsonLines().format(record))["body"])["kind"] == "ended"


def test_a_server_that_is_down_does_not_flood_the_log() -> None:
    """urllib3 warns of every single try; what came of them is told once, by the source."""
    loggers = [logging.root, logging.getLogger("urllib3"), logging.getLogger("watchdog")]
    handlers, levels = logging.root.handlers[:], [one.level for one in loggers]
    try:
        log_to_stderr(as_json=False)
        assert not logging.getLogger("urllib3.connectionpool").isEnabledFor(logging.WARNING)
        assert logging.getLogger("watchdog.sources").isEnabledFor(logging.INFO)
    finally:
        logging.root.handlers[:] = handlers
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


@pytest.mark.parametrize(
    "attack",
    [
        "a\nERROR forged",
        "a\r\nb",
        "a\x1b[2J",
        "a\u2028b",
        "a\u202eb",
        "a\x85b",
        "a\x9bb",
        "a\ud800b",
        "%s %n",
        "\x7f\x00",
    ],
)
def test_no_line_is_forged_in_the_log(caplog: pytest.LogCaptureFixture, attack: str) -> None:
    """Whatever a sentence holds, the log gets one line of seen characters that reads back the same."""
    caplog.set_level(logging.INFO)
    a_log("told").send(a_delivery(attack))
    (line,) = (record.getMessage() for record in caplog.records)
    assert line.isprintable()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["sentence"] == attack


@pytest.mark.parametrize(
    ("severity", "level"),
    [
        (Severity.INFO, logging.INFO),
        (Severity.GOOD, logging.INFO),
        (Severity.WARNING, logging.WARNING),
        (Severity.PAGE, logging.ERROR),
    ],
)
def test_severity_becomes_a_level(caplog: pytest.LogCaptureFixture, severity: Severity, level: int) -> None:
    """A page stands out in the log as well."""
    caplog.set_level(logging.INFO)
    a_log("told").send(a_delivery(severity=severity))
    assert [record.levelno for record in caplog.records] == [level]
