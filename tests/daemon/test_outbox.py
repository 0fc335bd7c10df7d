"""The outbox: every message told at least once, whatever sinks and ledger do."""

import logging
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest

from tests.fakes import FakeClock, FakeSink
from tests.receivers import Answer, fake_slack
from tests.samples import a_watch
from watchdog.errors import LedgerError, SinkError
from watchdog.model import Message, MessageKind, Severity, State, Watch
from watchdog.outbox import DELAYS_S, GIVE_UP_AFTER_S, Outbox
from watchdog.ports import Delivery, Ledger, OutboxRow, Sink
from watchdog.sinks.slack import SlackOptions, SlackSink


@dataclass
class MemoryLedger:
    """What the outbox uses of a ledger. `broken` makes writes fail, as a full disk does."""

    clock: FakeClock
    rows: dict[int, OutboxRow] = field(default_factory=dict)
    told: list[int] = field(default_factory=list)  # row ids, in order of delivery
    dead: dict[int, str] = field(default_factory=dict)
    threads: dict[tuple[str, str], Mapping[str, str]] = field(default_factory=dict)
    gone_watches: set[str] = field(default_factory=set)
    broken: bool = False
    read_rows: int = 0
    state: State = State.WATCHING

    def queue(self, sink: str, *, watch_id: str = "d1", key: str = "k", severity: Severity = Severity.INFO) -> int:
        number = len(self.rows) + len(self.told) + len(self.dead) + 1
        message = Message(
            key=f"{key}{number}", watch_id=watch_id, kind=MessageKind.PROGRESS, severity=severity, sentence="said"
        )
        now = self.clock.now()
        self.rows[number] = OutboxRow(id=number, sink=sink, message=message, attempts=0, created_at=now, next_at=now)
        return number

    def due_messages(self, *, now: float, limit: int, without: Collection[str] = ()) -> list[OutboxRow]:
        heads: dict[tuple[str, str], OutboxRow] = {}
        for row in sorted(self.rows.values(), key=lambda row: row.id):
            heads.setdefault((row.message.watch_id, row.sink), row)
        due = [row for row in heads.values() if row.next_at <= now and row.sink not in without][:limit]
        self.read_rows += len(due)
        return due

    def watch(self, watch_id: str) -> Watch | None:
        return None if watch_id in self.gone_watches else a_watch(deploy_id=watch_id, state=self.state)

    def thread(self, watch_id: str, sink: str) -> Mapping[str, str]:
        return self.threads.get((watch_id, sink), {})

    def claim_message(self, row_id: int, *, now: float, hold_s: float) -> bool:
        return True

    def delivered(self, row_id: int, *, at: float, remember: Mapping[str, str]) -> None:
        self._write()
        row = self.rows.pop(row_id)
        self.told.append(row_id)
        if remember:
            self.threads[row.message.watch_id, row.sink] = remember

    def failed(self, row_id: int, *, at: float, error: str, next_at: float | None) -> None:
        self._write()
        row = self.rows.pop(row_id)
        if next_at is None:
            self.dead[row_id] = error
        else:
            self.rows[row_id] = replace(row, attempts=row.attempts + 1, next_at=next_at)

    def _write(self) -> None:
        if self.broken:
            raise LedgerError("database or disk is full")


@dataclass
class SlowSink(FakeSink):
    """Hangs until released."""

    release: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        self.entered.set()
        assert self.release.wait(20)
        return super().send(delivery)


@dataclass
class BrokenSink(FakeSink):
    """Has a bug."""

    def send(self, delivery: Delivery) -> Mapping[str, str]:
        raise ZeroDivisionError("a bug")


Open = Callable[..., Outbox]


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def ledger(clock: FakeClock) -> MemoryLedger:
    return MemoryLedger(clock)


@pytest.fixture
def open_outbox(ledger: MemoryLedger, clock: FakeClock) -> Iterator[Open]:
    """Outboxes over the memory ledger, closed at the end."""
    opened: list[Outbox] = []

    def open_one(**sinks: Sink) -> Outbox:
        opened.append(Outbox(cast(Ledger, ledger), sinks, clock, patience_s=0.2))
        return opened[-1]

    yield open_one
    for outbox in opened:
        outbox.close()


def drain_until(outbox: Outbox, condition: Callable[[], bool]) -> None:
    """Drain as the scheduler does, until something asynchronous has come about."""
    for _ in range(50):
        outbox.drain()
        if condition():
            return
    raise AssertionError("it did not come about")


def test_everything_due_is_told_in_order(ledger: MemoryLedger, open_outbox: Open) -> None:
    """One drain tells all messages of all deploys to all their sinks, each deploy's in the order they were queued."""
    team, pager = FakeSink(), FakeSink()
    for watch_id in ("d1", "d2", "d1"):
        ledger.queue("team", watch_id=watch_id)
        ledger.queue("pager", watch_id=watch_id)
    assert open_outbox(team=team, pager=pager).drain() == 6
    assert ledger.rows == {}
    for sink in (team, pager):
        keys = [d.message.key for d in sink.told if d.message.watch_id == "d1"]
        assert len(keys) == 2
        assert keys == sorted(keys)
    assert open_outbox(team=team, pager=pager).drain() == 0


def test_a_sink_gets_deploy_state_and_its_own_memory(ledger: MemoryLedger, open_outbox: Open) -> None:
    """What a sink returned comes back with the next message of the same deploy, and only to that sink."""

    class Remembering(FakeSink):
        def send(self, delivery: Delivery) -> Mapping[str, str]:
            super().send(delivery)
            return {"ts": "1"}

    team, other = Remembering(), FakeSink()
    outbox = open_outbox(team=team, other=other)
    ledger.queue("team")
    ledger.queue("team")
    ledger.queue("team", watch_id="d2")
    ledger.queue("other")
    ledger.state = State.ROLLED_BACK
    outbox.drain()
    threads = [(d.deploy.id, dict(d.thread)) for d in team.told]
    assert sorted(threads, key=str) == [("d1", {"ts": "1"}), ("d1", {}), ("d2", {})]
    assert dict(other.told[0].thread) == {}
    assert {d.state for d in team.told} == {State.ROLLED_BACK}


def test_failures_are_tried_again_with_growing_patience(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open
) -> None:
    """At once, then after 5 s, 30 s, 2 min, then every 5 min; never earlier."""
    sink = FakeSink(error=SinkError("down"))
    outbox = open_outbox(team=sink)
    number = ledger.queue("team")
    for delay in (*DELAYS_S, DELAYS_S[-1], DELAYS_S[-1]):
        assert outbox.drain() == 0
        assert ledger.rows[number].next_at == clock.now() + delay
        attempts = ledger.rows[number].attempts
        clock.advance(delay - 0.5)
        outbox.drain()
        assert ledger.rows[number].attempts == attempts
        clock.advance(0.5)
    sink.error = None
    assert outbox.drain() == 1


def test_the_receivers_wish_is_honoured(ledger: MemoryLedger, clock: FakeClock, open_outbox: Open) -> None:
    """Retry-After delays this message, and every other one for the same sink."""
    sink = FakeSink(error=SinkError("busy", retry_after_s=60))
    outbox = open_outbox(team=sink)
    number = ledger.queue("team")
    outbox.drain()
    assert ledger.rows[number].next_at == clock.now() + 60
    sink.error = None
    ledger.queue("team", watch_id="d2")
    clock.advance(59)
    assert outbox.drain() == 0
    clock.advance(1)
    assert outbox.drain() == 2


def test_a_wish_shorter_than_our_own_patience_does_not_shorten_it(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open
) -> None:
    """`Retry-After: 0` is no invitation to hammer."""
    number = ledger.queue("team")
    open_outbox(team=FakeSink(error=SinkError("busy", retry_after_s=0))).drain()
    assert ledger.rows[number].next_at == clock.now() + DELAYS_S[0]


def test_a_sink_that_is_down_is_not_asked_once_per_message(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open
) -> None:
    """A hundred waiting messages cost one try, not a hundred timeouts; all are told when it is back."""
    sink = FakeSink(error=SinkError("down"))
    outbox = open_outbox(team=sink)
    for number in range(100):
        ledger.queue("team", watch_id=f"w{number}")
    outbox.drain()
    assert sum(row.attempts for row in ledger.rows.values()) == 1
    sink.error = None
    clock.advance(60)
    assert outbox.drain(limit=1000) == 100


def test_permanent_failures_are_given_up_loudly(
    ledger: MemoryLedger, open_outbox: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """What no retry mends is an error in the log; the next message is still tried."""
    sink = FakeSink(error=SinkError("msg_too_long", permanent=True))
    first, second = ledger.queue("team"), ledger.queue("team")
    open_outbox(team=sink).drain()
    assert set(ledger.dead) == {first, second}
    errors = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 2
    assert "msg_too_long" in errors[0].getMessage()


def test_a_message_nobody_took_for_three_days_is_given_up(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """72 hours of retries, then one error in the log."""
    outbox = open_outbox(team=FakeSink(error=SinkError("down")))
    number = ledger.queue("team")
    clock.advance(GIVE_UP_AFTER_S - 1)
    outbox.drain()
    assert number in ledger.rows
    clock.advance(DELAYS_S[0])
    outbox.drain()
    assert number in ledger.dead
    assert "given up" in caplog.text


def test_a_bug_in_a_sink_is_a_failure_like_any_other(ledger: MemoryLedger, open_outbox: Open) -> None:
    """Any exception is retried; the others are told."""
    fine = FakeSink()
    broken = ledger.queue("bug")
    ledger.queue("fine")
    assert open_outbox(bug=BrokenSink(), fine=fine).drain() == 1
    assert ledger.rows[broken].attempts == 1


def test_a_hanging_sink_holds_up_nobody_else(ledger: MemoryLedger, open_outbox: Open) -> None:
    """While one sink hangs, drains return and the others go on; it has one message in flight, not more."""
    slow, fine = SlowSink(), FakeSink()
    outbox = open_outbox(slow=slow, fine=fine)
    for number in range(3):
        ledger.queue("slow", watch_id=f"w{number}")
    ledger.queue("fine")
    assert outbox.drain() == 1
    assert slow.entered.is_set()
    ledger.queue("fine")
    assert outbox.drain() == 1
    assert (len(fine.told), slow.told) == (2, [])
    slow.release.set()
    drain_until(outbox, lambda: not ledger.rows)
    assert [d.message.watch_id for d in slow.told] == ["w0", "w1", "w2"]  # each once, in order


def test_the_backlog_of_a_dead_sink_hides_no_other(ledger: MemoryLedger, clock: FakeClock, open_outbox: Open) -> None:
    """More waiting messages than one page of the ledger, all for a resting sink, all older: the page goes out."""
    fine = FakeSink()
    outbox = open_outbox(dead=FakeSink(error=SinkError("down", retry_after_s=600)), fine=fine)
    for number in range(300):
        ledger.queue("dead", watch_id=f"w{number}")
    outbox.drain(limit=10)
    ledger.queue("fine", watch_id="late")
    assert outbox.drain(limit=10) == 1
    assert len(fine.told) == 1


def test_what_was_sent_is_not_sent_again_while_the_ledger_cannot_write(ledger: MemoryLedger, open_outbox: Open) -> None:
    """A full disk must not become a message a second; the record follows when it can."""
    team = FakeSink()
    outbox = open_outbox(team=team)
    ledger.queue("team")
    ledger.queue("team", watch_id="d2")
    ledger.broken = True
    for _ in range(5):
        outbox.drain()
    assert len(team.told) == 2
    ledger.broken = False
    outbox.drain()
    assert (len(team.told), len(ledger.told), ledger.rows) == (2, 2, {})


def test_a_failure_that_cannot_be_recorded_is_not_repeated_at_once(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open
) -> None:
    """Without a ledger to remember, the sink rests anyway."""

    class Counting(FakeSink):
        calls = 0

        def send(self, delivery: Delivery) -> Mapping[str, str]:
            Counting.calls += 1
            raise SinkError("msg_too_long", permanent=True)

    outbox = open_outbox(team=Counting())
    ledger.queue("team")
    ledger.broken = True
    for _ in range(5):
        outbox.drain()
    assert Counting.calls == 1


def test_a_ledger_that_cannot_be_read_stops_nothing(
    open_outbox: Open, ledger: MemoryLedger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Drain never raises; it says why nothing was sent."""

    def unreadable(**_: Any) -> list[OutboxRow]:
        raise LedgerError("malformed")

    monkeypatch.setattr(ledger, "due_messages", unreadable)
    assert open_outbox(team=FakeSink()).drain() == 0
    assert "malformed" in caplog.text


def test_what_waits_for_a_sink_that_rests_is_not_read_again_and_again(ledger: MemoryLedger, open_outbox: Open) -> None:
    """Slack is down and a thousand deploys wait for it: the log hears of each, at no more cost."""
    down = FakeSink(error=SinkError("away"))
    outbox = open_outbox(team=down, log=FakeSink())
    for number in range(1000):
        ledger.queue("team", watch_id=f"w{number}")
    outbox.drain()
    before = ledger.read_rows
    for number in range(5):
        ledger.queue("log", watch_id=f"x{number}")
        outbox.drain()
    assert len(ledger.told) == 5
    assert ledger.read_rows - before <= 5 * 2


def test_messages_for_a_sink_that_is_gone_are_given_up(
    ledger: MemoryLedger, open_outbox: Open, clock: FakeClock
) -> None:
    """A sink removed from the configuration leaves no messages that wait for ever."""
    number = ledger.queue("old")
    ledger.queue("team")
    outbox = open_outbox(team=FakeSink())
    assert outbox.drain() == 1
    assert number not in ledger.dead
    for _ in range(8):
        clock.advance(120.0)
        outbox.drain()
    assert "no sink is named old" in ledger.dead[number]


def test_a_message_may_be_there_before_its_sink(ledger: MemoryLedger, open_outbox: Open, clock: FakeClock) -> None:
    """While the configuration is exchanged, or where another replica was told of the new sink first."""
    ledger.queue("pager")
    assert open_outbox(team=FakeSink()).drain() == 0
    clock.advance(60.0)
    pager = FakeSink()
    assert open_outbox(team=FakeSink(), pager=pager).drain() == 1
    assert len(pager.told) == 1


def test_a_message_without_a_watch_is_given_up(ledger: MemoryLedger, open_outbox: Open) -> None:
    """Damage to one record does not stop the line."""
    ledger.gone_watches.add("d9")
    number = ledger.queue("team", watch_id="d9")
    outbox = open_outbox(team=FakeSink())
    ledger.queue("team", watch_id="d1")
    drain_until(outbox, lambda: not ledger.rows)
    assert number in ledger.dead
    assert len(ledger.told) == 1


def test_every_try_is_reported(ledger: MemoryLedger, clock: FakeClock) -> None:
    """Whoever counts hears delivered, retry and given_up."""
    heard: list[tuple[str, str]] = []
    sinks: dict[str, Sink] = {
        "a": FakeSink(),
        "b": FakeSink(error=SinkError("down")),
        "c": FakeSink(error=SinkError("gone", permanent=True)),
    }
    for name in sinks:
        ledger.queue(name)
    outbox = Outbox(cast(Ledger, ledger), sinks, clock, report=lambda sink, outcome: heard.append((sink, outcome)))
    outbox.drain()
    outbox.close()
    assert sorted(heard) == [("a", "delivered"), ("b", "retry"), ("c", "given_up")]


def test_two_drains_at_once_send_nothing_twice(ledger: MemoryLedger, open_outbox: Open) -> None:
    """The scheduler's drain and the last one at shutdown may meet."""
    team = FakeSink()
    outbox = open_outbox(team=team)
    for number in range(50):
        ledger.queue("team", watch_id=f"w{number}")
    drains = [threading.Thread(target=outbox.drain) for _ in range(4)]
    for drain in drains:
        drain.start()
    for drain in drains:
        drain.join()
    assert len(team.told) == len({d.message.watch_id for d in team.told}) == 50


def test_sinks_can_be_exchanged_while_a_message_is_on_its_way(
    ledger: MemoryLedger, open_outbox: Open, clock: FakeClock
) -> None:
    """What is in flight is settled once; a sink that is gone is given up in the end, a new one is told."""
    slow, plain = SlowSink(), FakeSink()
    outbox = open_outbox(slow=slow)
    first, second = ledger.queue("slow"), ledger.queue("new", watch_id="d2")
    sending = threading.Thread(target=outbox.drain)
    sending.start()
    assert slow.entered.wait(20)
    sending.join(20)
    assert second not in ledger.dead  # nobody was named so yet
    outbox.exchange({"new": plain}, None)
    third, fourth = ledger.queue("new", watch_id="d3"), ledger.queue("slow", watch_id="d4")
    slow.release.set()
    drain_until(outbox, lambda: {first, third} <= set(ledger.told))
    outbox.drain()
    assert sorted(ledger.told) == [first, third]
    for _ in range(8):
        clock.advance(120.0)
        outbox.drain()
    assert sorted(ledger.told) == [first, second, third]
    assert fourth in ledger.dead
    assert (len(slow.told), len(plain.told)) == (1, 2)


def test_what_a_revoked_token_kept_back_is_told_in_order_once_it_is_replaced(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open
) -> None:
    """Hours later: a bot with a new token, as a reload makes it, tells all of it, each deploy's messages in order."""
    with fake_slack() as slack:

        def bot(token: str) -> SlackSink:
            options = SlackOptions(token_env="S", channel=slack.channel, base_url=slack.base_url)
            return SlackSink("team", options, clock, {"S": token})

        outbox = open_outbox(team=bot("xoxb-revoked"))
        queued = [ledger.queue("team", watch_id=f"d{number % 3}") for number in range(9)]
        for _ in range(12):
            outbox.drain()
            clock.advance(1800.0)
        assert (ledger.told, ledger.dead) == ([], {})
        outbox.exchange({"team": bot(slack.token)}, None)
        for _ in range(12):
            outbox.drain()
            clock.advance(300.0)
    assert sorted(ledger.told) == queued
    for first in range(3):
        assert [number for number in ledger.told if number % 3 == queued[first] % 3] == queued[first::3]


def test_a_deploys_story_reaches_slack_through_an_outage(
    ledger: MemoryLedger, clock: FakeClock, open_outbox: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the real sink: outage, rate limit, then one parent message and its thread, in order."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_slack() as slack:
        options = SlackOptions(token_env="SLACK", channel="#deploys", base_url=slack.base_url)
        outbox = open_outbox(team=SlackSink("team", options, clock, {"SLACK": "xoxb-right"}))
        for _ in range(3):
            ledger.queue("team")
        slack.web.script.extend([Answer(503), Answer(503), Answer(429, headers={"Retry-After": "40"})])
        drain_until(outbox, lambda: ledger.rows[1].attempts == 1)
        clock.advance(5)
        drain_until(outbox, lambda: ledger.rows[1].attempts == 2)
        assert ledger.rows[1].next_at == clock.now() + 40
        clock.advance(40)
        drain_until(outbox, lambda: not ledger.rows)
        assert (len(slack.parents()), len(slack.replies())) == (1, 2)
        assert ledger.told == [1, 2, 3]
