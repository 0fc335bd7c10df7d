"""The picture of a verdict: drawn apart, shown once below its message, and never in anybody's way."""

import json
import logging
import math
import re
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import pytest

import watchdog.picture
from tests.fakes import FakeClock, FakeSink
from tests.receivers import Answer, FakeSlack, fake_slack
from tests.samples import a_deploy, a_watch
from watchdog.errors import SinkError
from watchdog.model import Message, MessageKind, Severity, State, Watch
from watchdog.picture import Easel, Painter, PictureError, drawn, told
from watchdog.ports import Delivery, EvidencePoint, Ledger, RawSamples
from watchdog.series import Arms
from watchdog.showing import Picture
from watchdog.sinks.slack import SlackOptions, SlackSink

ROOT = Path(watchdog.picture.__file__).parent
PNG = Picture(png=b"\x89PNG fake", title="shop v2: errors", says="errors 6 % vs 1 %")
THREAD = {"channel": "C0123456789", "ts": "1700000000.000001"}
PATH = [EvidencePoint(look=i, at=0.0, log_evidence=i - 2.0, log_threshold=math.log(100)) for i in range(9)]
ARMS = Arms(
    old=[(x * 10.0, 0.01) for x in range(-9, 9)],
    new=[(x * 10.0, 0.06 if x != 4 else math.nan) for x in range(9)],
    share=True,
)


def a_verdict(kind: MessageKind = MessageKind.DEGRADED, **facts: Any) -> Delivery:
    message = Message(
        key="degraded:0",
        watch_id="d1",
        kind=kind,
        severity=Severity.WARNING,
        sentence="errors 6 % vs 1 %",
        facts={"metric": "errors", "state": "INTENT", **facts},
    )
    return Delivery(message=message, deploy=a_deploy(), state=State.INTENT, thread=THREAD)


@dataclass
class Wall(FakeSink):
    """A sink that shows pictures."""

    wants_pictures: bool = True
    shown: list[Picture] = field(default_factory=list)
    fault: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def show(self, delivery: Delivery, picture: Picture) -> None:
        try:
            if self.fault is not None:
                raise self.fault
            self.shown.append(picture)
        finally:
            self.done.set()


@dataclass
class Counting:
    """A painter that remembers what it was asked for."""

    asked: list[Message] = field(default_factory=list)

    def __call__(self, message: Message) -> Picture:
        self.asked.append(message)
        return PNG


@pytest.fixture
def slack(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeSlack]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with fake_slack() as server:
        yield server


def a_bot(slack: FakeSlack, *, charts: bool = True) -> SlackSink:
    options = SlackOptions(token_env="S", channel="#deploys", base_url=slack.base_url, charts=charts)
    return SlackSink("team", options, FakeClock(), {"S": "xoxb-right"})


def size(png: bytes) -> tuple[int, int]:
    width, height = struct.unpack(">II", png[16:24])
    return int(width), int(height)


def test_a_picture_is_a_png_that_shows_both_arms() -> None:
    """Drawn by a process of its own; a version that looks like a formula, and gaps, are no trouble."""
    watch = a_watch()
    watch = replace(watch, deploy=replace(watch.deploy, version="$v_2^{$"))
    shown = told(watch, "errors", ARMS, PATH)
    shown["moments"] = [{"at_s": 0.0, "name": "deploy"}, {"at_s": 1.0, "name": "onset"}, {"at_s": 80.0, "name": "50 %"}]
    png = drawn(shown)
    assert size(png) == (1200, 720)
    assert len(png) > 20_000  # an empty frame has a third of that


def test_a_drawing_that_fails_says_why() -> None:
    """The last line of its complaint, no traceback."""
    with pytest.raises(PictureError, match="KeyError"):
        drawn({"title": "nothing else"})


def test_the_daemon_itself_never_loads_matplotlib() -> None:
    """It would cost every daemon a second at the start and its memory for ever: one file names it, inside functions."""
    naming = [
        (path.name, found[1] != "")
        for path in sorted(ROOT.rglob("*.py"))
        for found in re.finditer(r"^( *)(?:import|from) matplotlib\b", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert set(naming) == {("drawing.py", True)}


@dataclass
class OneWatch:
    """What the painter reads of a ledger."""

    found: Watch | None = field(default_factory=a_watch)
    path: list[EvidencePoint] = field(default_factory=lambda: PATH)

    def watch(self, watch_id: str) -> Watch | None:
        return self.found

    def verdicts(self, watch_id: str, *, last: int | None = None) -> list[Any]:
        @dataclass
        class Said:
            payload: dict[str, Any]

        return [Said({"evidence": [{"metric": "errors", "since_look": 2, "log_evidence": "inf"}]})]

    def evidence_path(self, watch_id: str) -> list[EvidencePoint]:
        return self.path

    def actions(self, *, watch_id: str) -> list[Any]:
        return []

    def raw_samples(self, watch_id: str, *, after: int | None = None) -> Iterator[RawSamples]:
        return iter(())


def test_what_is_drawn_comes_from_the_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deploy and onset are marked; the threshold is the one that decided."""
    asked: list[Any] = []

    def draw(shown: Any) -> bytes:
        asked.append(shown)
        return b"png"

    monkeypatch.setattr("watchdog.picture.drawn", draw)
    picture = Painter(cast(Ledger, OneWatch()))(a_verdict().message)
    assert picture == Picture(png=b"png", title="shop v2: errors", says="errors 6 % vs 1 %")
    assert [(m["name"], m["at_s"]) for m in asked[0]["moments"]] == [("deploy", 0.0), ("onset", 10.0)]
    assert asked[0]["threshold"] == pytest.approx(2.0)
    json.dumps(asked[0], allow_nan=False)


@pytest.mark.parametrize("ledger", [OneWatch(found=None), OneWatch(path=[])], ids=["watch is gone", "no look yet"])
def test_where_there_is_nothing_to_draw_there_is_no_picture(ledger: OneWatch) -> None:
    """Neither an error nor an empty frame."""
    assert Painter(cast(Ledger, ledger))(a_verdict().message) is None


@pytest.mark.parametrize(
    ("kind", "facts", "is_shown"),
    [
        (MessageKind.DEGRADED, {}, True),
        (MessageKind.HELD, {}, True),
        (MessageKind.ENDED, {"state": "PASSED"}, True),
        (MessageKind.ENDED, {"state": "INCONCLUSIVE"}, True),
        (MessageKind.ENDED, {"state": "ROLLED_BACK"}, False),  # its verdict has been shown
        (MessageKind.STARTED, {}, False),
        (MessageKind.ACTION, {}, False),
        (MessageKind.DEGRADED, {"metric": None}, False),  # the candidate is absent: nothing to draw
    ],
)
def test_only_verdicts_are_illustrated(kind: MessageKind, facts: dict[str, Any], is_shown: bool) -> None:
    """One picture for each verdict on a metric."""
    wall, painter = Wall(), Counting()
    easel = Easel(painter)
    easel.put(wall, a_verdict(kind, **facts))
    if is_shown:
        assert wall.done.wait(5)
    easel.close()
    assert (wall.shown == [PNG]) is is_shown
    assert bool(painter.asked) is is_shown


def test_a_sink_without_pictures_is_left_alone() -> None:
    """Neither one that cannot, nor one that does not want to."""
    painter = Counting()
    easel = Easel(painter)
    easel.put(FakeSink(), a_verdict())
    easel.put(Wall(wants_pictures=False), a_verdict())
    easel.close()
    assert painter.asked == []


@pytest.mark.parametrize("fault", [SinkError("slack: HTTP 500"), ZeroDivisionError("a bug")])
def test_a_picture_that_fails_is_left_out_and_said(fault: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Once, and the next one is drawn all the same."""
    caplog.set_level(logging.WARNING)
    bad, good = Wall(fault=fault), Wall()
    easel = Easel(lambda message: PNG)
    easel.put(bad, a_verdict())
    easel.put(good, a_verdict())
    assert good.done.wait(5)
    easel.close()
    assert (bad.shown, good.shown) == ([], [PNG])
    assert "no picture of d1" in caplog.text


def test_nobody_waits_for_a_picture() -> None:
    """A drawing that hangs holds up neither whoever asks, nor a storm of others; too many are left out."""
    stuck, began = threading.Event(), time.monotonic()
    easel = Easel(lambda message: PNG if stuck.wait(10) else None)
    walls = [Wall() for _ in range(40)]
    for wall in walls:
        easel.put(wall, a_verdict())
    assert time.monotonic() - began < 1.0
    easel.close()
    easel.put(walls[0], a_verdict())  # after the end: no error
    stuck.set()


def test_slack_gets_the_picture_in_the_thread(slack: FakeSlack) -> None:
    """Uploaded in the three steps that Slack asks for, with words for those who cannot see it."""
    bot = a_bot(slack)
    thread = bot.send(a_verdict())
    bot.show(replace(a_verdict(), thread=thread), PNG)
    (shared,) = slack.files
    assert (shared["bytes"], shared["thread_ts"]) == (PNG.png, thread["ts"])
    assert (shared["title"], shared["alt_txt"]) == (PNG.title, PNG.says)


def test_a_bot_that_may_not_upload_asks_once(slack: FakeSlack) -> None:
    """Without the scope files:write words must do; drawing in vain would help nobody."""
    bot = a_bot(slack)
    assert bot.wants_pictures
    slack.web.script.append(Answer(200, b'{"ok": false, "error": "missing_scope"}'))
    with pytest.raises(SinkError, match="missing_scope"):
        bot.show(a_verdict(), PNG)
    assert not bot.wants_pictures


@pytest.mark.parametrize("answer", [Answer(500, b"oops"), Answer(404, b"gone"), Answer(cut=True)])
def test_an_upload_that_breaks_off_is_an_error_without_the_address(slack: FakeSlack, answer: Answer) -> None:
    """The address of an upload is a key to it."""
    slack.web.otherwise = lambda request: answer if request.path.startswith("/upload/") else slack.respond(request)
    with pytest.raises(SinkError) as failed:
        a_bot(slack).show(a_verdict(), PNG)
    assert "/upload/" not in str(failed.value)
    assert slack.files == []


def test_no_pictures_where_they_are_not_wanted_or_cannot_be(slack: FakeSlack) -> None:
    """Switched off, or an incoming webhook, which can only post."""
    assert not a_bot(slack, charts=False).wants_pictures
    options = SlackOptions(webhook_url_env="U")
    assert not SlackSink("team", options, FakeClock(), {"U": slack.web.url}).wants_pictures
