"""The sink `slack` against a small Slack over real HTTP."""

import json
import logging
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from tests.fakes import FakeClock
from tests.receivers import Answer, FakeSlack, Receiver, fake_slack, receiver
from tests.samples import a_deploy
from watchdog.errors import ConfigError, SinkError
from watchdog.model import Message, MessageKind, Severity, State
from watchdog.ports import Delivery
from watchdog.sinks.slack import SlackOptions, SlackSink


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with fake_slack() as server:
        yield server


@pytest.fixture
def web() -> Iterator[Receiver]:
    with receiver() as server:
        yield server


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def a_bot(slack: FakeSlack, *, token: str = "xoxb-right", channel: str = "#deploys", timeout_s: int = 5) -> SlackSink:
    options = SlackOptions(token_env="SLACK", channel=channel, base_url=slack.base_url, timeout_s=timeout_s)
    return SlackSink("team", options, FakeClock(), {"SLACK": token})


def a_hook(url: str) -> SlackSink:
    options = SlackOptions(webhook_url_env="SLACK_URL", timeout_s=1)
    return SlackSink("team", options, FakeClock(), {"SLACK_URL": url})


def a_delivery(**changes: Any) -> Delivery:
    told: dict[str, Any] = {
        "key": "started",
        "watch_id": "d1",
        "kind": MessageKind.STARTED,
        "severity": Severity.INFO,
        "sentence": "shop v2: the watch begins",
    }
    state, thread = changes.pop("state", State.WATCHING), changes.pop("thread", {})
    return Delivery(message=Message(**(told | changes)), deploy=a_deploy(), state=state, thread=thread)


def ended(thread: dict[str, str], severity: Severity = Severity.WARNING, state: State = State.ROLLED_BACK) -> Delivery:
    sentence = "shop v2 rolled back: errors 6 % vs 1 %"
    return a_delivery(
        key="ended", kind=MessageKind.ENDED, severity=severity, sentence=sentence, state=state, thread=thread
    )


def test_a_deploy_has_one_message_that_follows_its_state(slack: FakeSlack) -> None:
    """The first message is the parent; later ones edit it and answer in its thread."""
    bot = a_bot(slack)
    thread = dict(bot.send(a_delivery()))
    assert thread == {"channel": slack.channel, "ts": "1700000000.000001"}
    assert "being watched" in json.dumps(slack.parents()[0]["blocks"])
    assert dict(bot.send(ended(thread))) == thread
    (parent,) = slack.parents()
    (reply,) = slack.replies()
    assert "rolled back" in parent["blocks"][0]["text"]["text"]
    assert "errors 6 % vs 1 %" in parent["blocks"][1]["text"]["text"]
    assert reply["thread_ts"] == thread["ts"]
    assert "errors 6 % vs 1 %" in reply["text"]
    assert slack.methods == ["chat.postMessage", "chat.update", "chat.postMessage"]


def test_the_reason_stays_with_the_parent_to_the_end(slack: FakeSlack) -> None:
    """Why it was called worse is said by one message; those that edit the parent afterwards still show it."""
    bot = a_bot(slack)
    thread = dict(bot.send(a_delivery()))
    worse = a_delivery(key="worse", kind=MessageKind.DEGRADED, facts={"because": "errors 6 % vs <1 %"}, thread=thread)
    thread |= bot.send(worse)
    assert "*Why*" not in json.dumps(slack.parents()[0]["blocks"])  # its own sentence says it
    bot.send(ended(thread))
    assert slack.parents()[0]["blocks"][2]["text"]["text"] == "*Why*\nerrors 6 % vs &lt;1 %"
    bot.send(ended(thread, state=State.PASSED))
    assert "*Why*" not in json.dumps(slack.parents()[0]["blocks"])


@pytest.mark.parametrize(
    ("kind", "severity", "rings"),
    [
        (MessageKind.ENDED, Severity.WARNING, True),
        (MessageKind.HELD, Severity.PAGE, True),
        (MessageKind.ENDED, Severity.GOOD, False),
        (MessageKind.PROGRESS, Severity.INFO, False),
        (MessageKind.SOURCE_DOWN, Severity.WARNING, False),
    ],
)
def test_what_must_be_seen_leaves_the_thread(
    slack: FakeSlack, kind: MessageKind, severity: Severity, rings: bool
) -> None:
    """A thread rings nobody: pages and bad endings are shown in the channel as well, the rest is not."""
    bot = a_bot(slack)
    thread = dict(bot.send(a_delivery()))
    bot.send(a_delivery(key="next", kind=kind, severity=severity, thread=thread))
    assert slack.replies()[0]["reply_broadcast"] is rings


def test_a_deleted_parent_is_posted_again(slack: FakeSlack) -> None:
    """Somebody deleted the message: the story goes on in a new one, which is remembered."""
    bot = a_bot(slack)
    thread = dict(bot.send(a_delivery()))
    slack.messages = {"0": {}}
    again = dict(bot.send(ended(thread)))
    assert again["ts"] != thread["ts"]
    assert again["ts"] in slack.messages


def test_a_parent_that_may_not_be_edited_still_gets_its_reply(slack: FakeSlack) -> None:
    """A workspace that forbids edits loses the state line, not the news."""
    bot = a_bot(slack)
    thread = dict(bot.send(a_delivery()))
    slack.web.script.append(Answer(200, b'{"ok": false, "error": "edit_window_closed"}'))
    assert dict(bot.send(ended(thread))) == thread
    assert len(slack.replies()) == 1


def test_a_retry_after_a_failed_reply_does_not_add_a_parent(slack: FakeSlack) -> None:
    """Edit, then reply: repeating both leaves one parent and one reply."""
    bot = a_bot(slack)
    thread = dict(bot.send(a_delivery()))
    slack.web.script.extend([Answer(200, b'{"ok": true}'), Answer(200, b'{"ok": false, "error": "fatal_error"}')])
    with pytest.raises(SinkError) as failed:
        bot.send(ended(thread))
    assert not failed.value.permanent
    bot.send(ended(thread))
    assert (len(slack.parents()), len(slack.replies())) == (1, 1)


def test_a_short_rate_limit_is_sat_out(slack: FakeSlack) -> None:
    """429 with a second to wait, then 200: sent, without a word to the outbox."""
    slack.web.script.append(Answer(429, b'{"ok": false, "error": "ratelimited"}', {"Retry-After": "0"}))
    assert a_bot(slack).send(a_delivery())["ts"] in slack.messages
    assert slack.methods == ["chat.postMessage"] * 2


@pytest.mark.parametrize(("header", "wish"), [("30", 30.0), ("86400", 3600.0), ("soon", None)])
def test_a_long_rate_limit_goes_back_to_the_outbox(slack: FakeSlack, header: str, wish: float | None) -> None:
    """No thread sleeps for half a minute; the wish is handed on, within reason."""
    slack.web.script.append(Answer(429, b'{"ok": false, "error": "ratelimited"}', {"Retry-After": header}))
    began = time.monotonic()
    with pytest.raises(SinkError) as failed:
        a_bot(slack).send(a_delivery())
    assert (failed.value.permanent, failed.value.retry_after_s) == (False, wish)
    assert time.monotonic() - began < 2
    assert len(slack.web.received) == 1


@pytest.mark.parametrize("answer", [Answer(503, b"busy"), Answer(cut=True)], ids=["503", "cut"])
def test_a_stumble_is_tried_again_at_once(slack: FakeSlack, answer: Answer) -> None:
    """One server error or broken connection is hidden from everybody."""
    slack.web.script.append(answer)
    assert a_bot(slack).send(a_delivery())["ts"] in slack.messages


def test_a_slack_that_is_down_is_a_failure_that_may_pass(slack: FakeSlack) -> None:
    """5xx again and again, and nobody listening, are for the outbox to retry."""
    slack.web.otherwise = lambda _: Answer(500, b"<html>oops</html>")
    with pytest.raises(SinkError, match="HTTP 500") as failed:
        a_bot(slack).send(a_delivery())
    assert not failed.value.permanent
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        options = SlackOptions(token_env="S", channel="C1", base_url=f"http://127.0.0.1:{taken.getsockname()[1]}/api/")
        with pytest.raises(SinkError) as refused:
            SlackSink("team", options, FakeClock(), {"S": "xoxb-right"}).send(a_delivery())
    assert not refused.value.permanent


def test_a_hanging_slack_is_left_in_time(slack: FakeSlack) -> None:
    """The timeout holds, and a timeout may pass."""
    slack.web.script.append(Answer(hang=True))
    began = time.monotonic()
    with pytest.raises(SinkError) as failed:
        a_bot(slack, timeout_s=1).send(a_delivery())
    assert not failed.value.permanent
    assert time.monotonic() - began < 3


@pytest.mark.parametrize("error", ["invalid_auth", "token_revoked", "account_inactive", "is_archived", "missing_scope"])
def test_what_somebody_must_mend_is_told_and_waits(slack: FakeSlack, error: str) -> None:
    """A revoked token may be replaced: the message is kept, and the error says what to do."""
    slack.web.script.append(Answer(200, json.dumps({"ok": False, "error": error}).encode()))
    with pytest.raises(SinkError, match=f"{error}; mend the token") as failed:
        a_bot(slack).send(a_delivery())
    assert not failed.value.permanent


@pytest.mark.parametrize("error", ["msg_too_long", "invalid_blocks", "no_text"])
def test_a_message_that_slack_will_never_take_is_given_up(slack: FakeSlack, error: str) -> None:
    """The same message would fare no better; those behind it must not wait."""
    slack.web.script.append(Answer(200, json.dumps({"ok": False, "error": error}).encode()))
    with pytest.raises(SinkError, match=error) as failed:
        a_bot(slack).send(a_delivery())
    assert failed.value.permanent


def test_wrong_token_and_unknown_channel_are_told(slack: FakeSlack) -> None:
    """As Slack itself answers them."""
    with pytest.raises(SinkError, match="invalid_auth"):
        a_bot(slack, token="xoxb-wrong").send(a_delivery())
    with pytest.raises(SinkError, match="channel_not_found"):
        a_bot(slack, channel="C404").send(a_delivery())


def test_a_page_instead_of_an_answer_is_no_success(slack: FakeSlack) -> None:
    """200 with HTML, as from a captive proxy, is a failure that may pass, and its text is not repeated."""
    slack.web.script.append(Answer(200, b"<html>please log in</html>", {"Content-Type": "text/html"}))
    with pytest.raises(SinkError) as failed:
        a_bot(slack).send(a_delivery())
    assert not failed.value.permanent
    assert "log in" not in failed.value.message


def test_an_incoming_webhook_gets_whole_messages(web: Receiver) -> None:
    """One way: every message stands alone and nothing is remembered."""
    hook = a_hook(f"{web.url}/services/T/B/x")
    assert hook.send(a_delivery()) == {}
    assert hook.send(ended({})) == {}
    assert [len(request.json()["blocks"]) for request in web.received] == [3, 3]
    assert "rolled back" in web.received[1].json()["text"]


@pytest.mark.parametrize(
    ("status", "body", "permanent"),
    [
        (404, b"no_service", False),
        (403, b"action_prohibited", False),
        (410, b"channel_is_archived", False),
        (400, b"invalid_payload", True),
        (404, b"<html>", False),
        (500, b"rollup_error", False),
    ],
)
def test_a_webhook_that_is_gone_can_be_replaced(web: Receiver, status: int, body: bytes, permanent: bool) -> None:
    """Only a message that Slack refuses for itself is given up; the address may be mended."""
    web.otherwise = lambda _: Answer(status, body)
    with pytest.raises(SinkError) as failed:
        a_hook(web.url).send(a_delivery())
    assert failed.value.permanent is permanent


def test_secrets_stay_out_of_errors_and_logs(slack: FakeSlack, web: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    """Neither the token nor the webhook's address is in any error or log line, at any level."""
    caplog.set_level(logging.DEBUG)
    slack.web.otherwise = lambda _: Answer(200, b'{"ok": false, "error": "invalid_auth"}')
    web.otherwise = lambda _: Answer(cut=True)
    told = []
    for sink in (a_bot(slack), a_hook(f"{web.url}/services/canary-secret")):
        with pytest.raises(SinkError) as failed:
            sink.send(a_delivery())
        told.append(str(failed.value))
    assert "canary-secret" not in caplog.text + "".join(told)
    assert "xoxb-right" not in caplog.text + "".join(told)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"token_env": "S"},
        {"channel": "C1"},
        {"token_env": "S", "channel": "C1", "webhook_url_env": "U"},
        {"token_env": "S", "channel": "C1", "base_url": "ftp://x"},
        {"token_env": "S", "channel": "C1", "chanel": "C2"},
    ],
)
def test_half_a_configuration_is_refused(options: dict[str, str]) -> None:
    """One way in, with what it needs, and nothing else."""
    with pytest.raises(ValidationError):
        SlackOptions.model_validate(options)


def test_a_webhook_address_that_is_none_is_refused_without_repeating_it() -> None:
    """The address is a secret even when it is wrong."""
    with pytest.raises(ConfigError) as refused:
        a_hook("canary-secret")
    assert "canary-secret" not in str(refused.value)


def test_a_thread_of_another_deploy_is_not_reused(slack: FakeSlack) -> None:
    """What is remembered comes with the delivery; the sink itself keeps nothing."""
    bot = a_bot(slack)
    bot.send(a_delivery())
    bot.send(replace(a_delivery(), deploy=a_deploy(deploy_id="d2")))
    assert len(slack.parents()) == 2
