"""The outbox keeps order per deploy and sink, tells nothing twice by itself, and loses nothing."""

import math
from collections.abc import Iterator

import pytest

from tests.fakes import FakeClock
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.ledger import SqlLedger, open_ledger
from watchdog.model import Change, Message, MessageKind, Severity, State

AT = DEPLOYED_AT


def opened(home: str) -> SqlLedger:
    return open_ledger(
        home, max_skew_s=math.inf, clock=FakeClock(), owner="me", sinks_for=lambda service: ("slack", "log")
    )


@pytest.fixture
def ledger(home: str) -> Iterator[SqlLedger]:
    ledger = opened(home)
    ledger.record_deploy(a_watch(), [a_message("started")], [])
    yield ledger
    ledger.close()


def a_message(key: str, watch_id: str = "d1") -> Message:
    return Message(
        key=key,
        watch_id=watch_id,
        kind=MessageKind.PROGRESS,
        severity=Severity.PAGE,
        sentence=f"said {key}",
        facts={"share": 0.1, "nested": {"a": [1, None]}},
    )


def tell(ledger: SqlLedger, *keys: str) -> None:
    messages = tuple(a_message(key) for key in keys)
    assert ledger.commit(Change(watch_id="d1", at=AT, expect_state=State.WATCHING, messages=messages))


def due(ledger: SqlLedger, now: float = AT) -> list[tuple[str, str]]:
    return [(row.sink, row.message.key) for row in ledger.due_messages(now=now, limit=99)]


def row_id(ledger: SqlLedger, sink: str) -> int:
    return next(row.id for row in ledger.due_messages(now=AT + 1e6, limit=99) if row.sink == sink)


def test_what_waits_for_some_sinks_can_be_left_out(ledger: SqlLedger) -> None:
    """A sink that is away has a backlog that nobody needs to read."""
    assert [row.sink for row in ledger.due_messages(now=AT, limit=99, without={"slack"})] == ["log"]
    assert ledger.due_messages(now=AT, limit=99, without=["log", "slack", "other"]) == []


def test_every_sink_of_the_service_gets_the_message_whole(ledger: SqlLedger) -> None:
    """One row per message and sink, and the message comes back as it was."""
    rows = ledger.due_messages(now=AT, limit=99)
    assert [(row.sink, row.message, row.attempts) for row in rows] == [
        ("slack", a_message("started"), 0),
        ("log", a_message("started"), 0),
    ]


def test_only_the_oldest_message_of_each_deploy_and_sink_is_due(ledger: SqlLedger) -> None:
    """A sink hears a deploy's messages in order; a slow sink does not hold up another one."""
    tell(ledger, "second", "third")
    assert due(ledger) == [("slack", "started"), ("log", "started")]
    ledger.delivered(row_id(ledger, "log"), at=AT, remember={})
    assert due(ledger) == [("slack", "started"), ("log", "second")]
    ledger.failed(row_id(ledger, "slack"), at=AT, error="429", next_at=AT + 30.0)
    assert due(ledger) == [("log", "second")]
    assert due(ledger, AT + 29.9) == [("log", "second")]
    assert due(ledger, AT + 30.0) == [("slack", "started"), ("log", "second")]
    assert [row.attempts for row in ledger.due_messages(now=AT + 30.0, limit=1)] == [1]


def test_deploys_do_not_wait_for_each_other(ledger: SqlLedger) -> None:
    """Order is kept per deploy, not over all of them."""
    ledger.record_deploy(a_watch(deploy_id="d2"), [a_message("other", "d2")], [])
    assert ("slack", "other") in due(ledger)


def test_a_key_is_told_once(ledger: SqlLedger) -> None:
    """The same key again, delivered or not, makes no second row."""
    tell(ledger, "second")
    ledger.delivered(row_id(ledger, "log"), at=AT, remember={})
    tell(ledger, "second", "started", "third", "third")
    assert [row.message.key for row, _ in ledger.messages("d1") if row.sink == "log"] == ["started", "second", "third"]


def test_giving_up_keeps_the_row_and_lets_the_next_one_go(ledger: SqlLedger) -> None:
    """A dead message stays visible and blocks nobody."""
    tell(ledger, "second")
    ledger.failed(row_id(ledger, "slack"), at=AT, error="revoked", next_at=None)
    assert due(ledger)[-1] == ("slack", "second")
    states = [(row.message.key, state) for row, state in ledger.messages("d1") if row.sink == "slack"]
    assert states == [("started", "dead"), ("second", "pending")]


def test_what_a_sink_remembers_comes_with_its_delivery(home: str) -> None:
    """The thread's memory grows key by key, per deploy and sink, and survives a restart."""
    ledger = opened(home)
    ledger.record_deploy(a_watch(), [a_message("started"), a_message("next")], [])
    assert ledger.thread("d1", "slack") == {}
    ledger.delivered(row_id(ledger, "slack"), at=AT, remember={"ts": "1.2", "channel": "C1"})
    ledger.delivered(row_id(ledger, "slack"), at=AT, remember={"ts": "3.4"})
    ledger.close()
    ledger = opened(home)
    assert ledger.thread("d1", "slack") == {"ts": "3.4", "channel": "C1"}
    assert ledger.thread("d1", "log") == {}
    assert due(ledger) == [("log", "started")]
    ledger.close()


def test_a_delivered_row_stays_delivered(ledger: SqlLedger) -> None:
    """A late failure report does not bring a told message back, and an unknown row is no error."""
    first = row_id(ledger, "slack")
    ledger.delivered(first, at=AT, remember={})
    ledger.failed(first, at=AT, error="late", next_at=None)
    ledger.delivered(9999, at=AT, remember={"ts": "1"})
    assert due(ledger) == [("log", "started")]
    assert ("delivered", 1) in [(state, row.attempts) for row, state in ledger.messages("d1") if row.id == first]


def test_a_webhook_id_is_used_once_until_it_expires(ledger: SqlLedger) -> None:
    """A replay is seen for `keep_s`, no longer."""
    assert ledger.first_use("w1", now=AT, keep_s=600.0)
    assert not ledger.first_use("w1", now=AT + 599.9, keep_s=600.0)
    assert ledger.first_use("w2", now=AT + 599.9, keep_s=600.0)
    assert ledger.first_use("w1", now=AT + 600.0, keep_s=600.0)
