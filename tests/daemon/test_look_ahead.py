"""Is the way back open? Asked when the watch begins, while there is time to mend it."""

from dataclasses import dataclass, field, replace

import pytest

from tests.fakes import FakeClock, FakeHook
from tests.samples import a_watch
from watchdog.action import GRACE_S, ActionEdge
from watchdog.intended import first_actions, rollback_action
from watchdog.model import Action, ActionKind, ActionState, MessageKind, Severity, State, Watch
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import HookCall, Ledger
from watchdog.telling import message

GONE = "no server of v1 is left in the backend"


class Crash(BaseException):
    """The daemon dies here; nothing after it runs."""


@dataclass
class Foresighted(FakeHook):
    """A hook that can say beforehand what would be in its way."""

    hindrance: str | None = None
    asked: list[HookCall] = field(default_factory=list)
    dies: bool = False

    def preflight(self, call: HookCall) -> str | None:
        """What is in the way now."""
        self.asked.append(call)
        if self.dies:
            raise Crash
        return self.hindrance


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def begun(ledger: Ledger, clock: FakeClock, *, looks_ahead: tuple[str, ...] = ("back",)) -> Watch:
    """A watch that has just begun, with what it begins with."""
    watch = a_watch()
    started = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [started], [], first_actions(watch, clock.now(), looks_ahead=looks_ahead))
    return watch


def edge_of(ledger: Ledger, clock: FakeClock, hook: FakeHook) -> ActionEdge:
    return ActionEdge(ledger=ledger, hooks={"back": hook}, clock=clock, owner="me")


def ahead(ledger: Ledger) -> list[Action]:
    """The looks ahead on record."""
    return [action for action in ledger.actions(watch_id="d1") if action.kind is ActionKind.LOOK_AHEAD]


def told(ledger: Ledger) -> list[str]:
    """What people were told after the start."""
    return [row.message.sentence for row, _ in ledger.messages("d1")][1:]


def test_what_would_be_in_the_way_is_told_when_the_watch_begins(ledger: Ledger, clock: FakeClock) -> None:
    """As a warning and in the audit; the watch goes on, nothing is run."""
    begun(ledger, clock)
    hook = Foresighted(hindrance=GONE)
    edge_of(ledger, clock, hook).carry_out(ahead(ledger)[0].id)
    assert told(ledger) == [f"shop v2 (canary 10 %): going back to v1 would not work now: {GONE}"]
    assert ahead(ledger)[0].state is ActionState.FAILED
    assert (hook.asked[0].kind, hook.asked[0].from_version, hook.asked[0].to_version) == ("rollback", "v2", "v1")
    assert hook.calls == []
    watch = ledger.watch("d1")
    assert watch is not None
    assert watch.state is State.WATCHING
    assert [entry.event for entry in ledger.audit("d1")][-1] == "action.failed"


def test_an_open_way_back_is_worth_no_message(ledger: Ledger, clock: FakeClock) -> None:
    """It is on the page and in the audit, for whoever asks."""
    begun(ledger, clock)
    edge_of(ledger, clock, Foresighted()).carry_out(ahead(ledger)[0].id)
    assert told(ledger) == []
    assert (ahead(ledger)[0].state, ahead(ledger)[0].detail) == (ActionState.APPLIED, "nothing is in its way")


def test_hooks_that_cannot_look_ahead_are_not_asked(ledger: Ledger, clock: FakeClock) -> None:
    """Most commands cannot."""
    begun(ledger, clock, looks_ahead=("another",))
    assert ahead(ledger) == []


def test_a_blocked_way_back_keeps_no_rollback_from_being_tried(ledger: Ledger, clock: FakeClock) -> None:
    """It was so when the watch began; somebody may have mended it since."""
    watch = begun(ledger, clock)
    hook = Foresighted(hindrance=GONE)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(ahead(ledger)[0].id)
    OperatorDesk(ledger=ledger, clock=clock).rollback(watch.id, actor="ana", why="bad")
    rollback = next(a for a in ledger.actions(watch_id="d1") if a.kind is ActionKind.ROLLBACK)
    edge.carry_out(rollback.id)
    assert hook.live == "v1"


@pytest.mark.parametrize("state", [State.INTENT, State.SUPERSEDED])
def test_nobody_is_asked_once_the_watch_is_past_its_beginning(ledger: Ledger, clock: FakeClock, state: State) -> None:
    """The answer would come too late to be of use."""
    watch = replace(a_watch(), state=state)
    started = message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")
    ledger.record_deploy(watch, [started], [], first_actions(watch, clock.now(), looks_ahead=("back",)))
    hook = Foresighted(hindrance=GONE)
    edge_of(ledger, clock, hook).carry_out(ahead(ledger)[0].id)
    assert hook.asked == []
    assert ahead(ledger)[0].state is ActionState.CANCELLED
    assert told(ledger) == []


def test_a_daemon_that_dies_while_it_looks_ahead_asks_again(ledger: Ledger, clock: FakeClock) -> None:
    """Nothing can be broken by asking twice."""
    begun(ledger, clock)
    hook = Foresighted(hindrance=GONE, dies=True)
    edge = edge_of(ledger, clock, hook)
    with pytest.raises(Crash):
        edge.carry_out(ahead(ledger)[0].id)
    running = ahead(ledger)[0]
    assert running.state is ActionState.RUNNING
    hook.dies = False
    clock.advance(hook.timeout_s + GRACE_S + 1.0)
    assert edge.adopt(running)
    clock.advance(60.0)
    edge.carry_out(running.id)
    assert told(ledger) == [f"shop v2 (canary 10 %): going back to v1 would not work now: {GONE}"]
    assert hook.calls == []


def test_without_a_version_to_go_back_to_there_is_nothing_to_ask(clock: FakeClock) -> None:
    """The first deploy of a service."""
    watch = a_watch()
    first = replace(watch, deploy=replace(watch.deploy, previous_version=None))
    assert rollback_action(first, ActionState.INTENT, clock.now()) is None
    assert first_actions(first, clock.now(), looks_ahead=("back",)) == ()
