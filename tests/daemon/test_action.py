"""The only edge that changes production."""

from dataclasses import replace

import pytest

from tests.fakes import FakeClock, FakeHook
from tests.roads import called_worse
from tests.samples import a_watch
from watchdog.action import CLAIM_FRESH_S, GRACE_S, ActionEdge
from watchdog.intended import rollback_action
from watchdog.model import (
    Action,
    ActionState,
    AuditEntry,
    Change,
    Claim,
    MessageKind,
    Severity,
    State,
)
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import HookCall, HookOutcome, Ledger, ProbeAnswer
from watchdog.telling import message


class Crash(BaseException):
    """The daemon dies here; nothing after it runs."""


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def intend(ledger: Ledger, clock: FakeClock) -> Action:
    """A watch that has just decided to roll back."""
    watch = a_watch()
    ledger.record_deploy(watch, [message(watch, MessageKind.STARTED, Severity.INFO, "on", key="started")], [])
    action = rollback_action(watch, ActionState.INTENT, clock.now())
    assert action is not None
    assert ledger.commit(
        Change(
            watch_id=watch.id,
            at=clock.now(),
            expect_state=State.WATCHING,
            to_state=State.INTENT,
            new_action=action,
            fields={"degraded_at": clock.now()},
            audit=(AuditEntry(at=clock.now(), watch_id=watch.id, actor="daemon", event="decision.roll_back"),),
            messages=(message(watch, MessageKind.DEGRADED, Severity.WARNING, "bad", key="degraded"),),
        )
    )
    return action


def edge_of(ledger: Ledger, clock: FakeClock, hook: FakeHook, **more: object) -> ActionEdge:
    return ActionEdge(ledger=ledger, hooks={"back": hook}, clock=clock, owner="me", **more)  # type: ignore[arg-type]


def states(ledger: Ledger, action: Action) -> tuple[ActionState, State]:
    """Where the action and its watch stand."""
    found, watch = ledger.action(action.id), ledger.watch(action.watch_id)
    assert found is not None
    assert watch is not None
    return found.state, watch.state


def test_an_intended_rollback_runs_once_and_is_verified_next(ledger: Ledger, clock: FakeClock) -> None:
    """Intent, claim, hook, probe, VERIFYING; carrying it out again does nothing."""
    action, hook = intend(ledger, clock), FakeHook()
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    edge.carry_out(action.id)
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)
    assert (len(hook.calls), hook.effects, hook.live) == (1, 1, "v1")
    call = hook.calls[0]
    assert (call.action_id, call.attempt, call.from_version, call.to_version) == (action.id, 1, "v2", "v1")
    assert call.fence > 0


@pytest.mark.parametrize("live", ["v1", "v3"])
def test_production_that_moved_on_is_left_alone(ledger: Ledger, clock: FakeClock, live: str) -> None:
    """Somebody rolled back or forward already: NOT_NEEDED, and the hook is never called."""
    action, hook = intend(ledger, clock), FakeHook(live=live)
    edge_of(ledger, clock, hook).carry_out(action.id)
    assert states(ledger, action) == (ActionState.NOT_NEEDED, State.NOT_NEEDED)
    assert hook.calls == []


def test_a_hook_that_lies_is_found_out_by_the_probe(ledger: Ledger, clock: FakeClock) -> None:
    """Exit 0 without effect is retried under the same id, and ends FAILED, never ROLLED_BACK."""
    action, hook = intend(ledger, clock), FakeHook(works=False)
    edge = edge_of(ledger, clock, hook)
    for _ in range(6):
        edge.carry_out(action.id)
        clock.advance(60)
    assert states(ledger, action) == (ActionState.FAILED, State.FAILED)
    assert [c.attempt for c in hook.calls] == [1, 2, 3]
    assert {c.action_id for c in hook.calls} == {action.id}
    fences = [c.fence for c in hook.calls]
    assert fences == sorted(set(fences)), "every attempt has a higher fence"


def test_a_failed_hook_that_took_effect_counts_as_done(ledger: Ledger, clock: FakeClock) -> None:
    """The probe's word is above the exit code."""
    action = intend(ledger, clock)
    edge_of(ledger, clock, FakeHook(outcome=HookOutcome.TIMED_OUT)).carry_out(action.id)
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)


def test_a_retry_waits_its_time(ledger: Ledger, clock: FakeClock) -> None:
    """RETRY_WAIT is not claimed before it is due."""
    action, hook = intend(ledger, clock), FakeHook(works=False, outcome=HookOutcome.RETRY)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    assert states(ledger, action) == (ActionState.RETRY_WAIT, State.RETRY_WAIT)
    edge.carry_out(action.id)
    assert len(hook.calls) == 1
    clock.advance(1.1)
    edge.carry_out(action.id)
    assert len(hook.calls) == 2


def test_a_hook_that_asks_for_another_try_gets_it_without_a_probe(ledger: Ledger, clock: FakeClock) -> None:
    """It says itself that it has done nothing yet (exit 75, 429): nobody is woken, and the next try is made."""
    action = intend(ledger, clock)
    hook = FakeHook(outcome=HookOutcome.RETRY, works=False, probe_speaks=False, has_probe=False)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    assert states(ledger, action) == (ActionState.RETRY_WAIT, State.RETRY_WAIT)
    hook.outcome, hook.works = HookOutcome.OK, True
    clock.advance(60)
    edge.carry_out(action.id)
    assert (states(ledger, action)[0], hook.effects) == (ActionState.APPLIED, 1)


def test_production_halfway_is_believed_above_the_wish_for_another_try(ledger: Ledger, clock: FakeClock) -> None:
    """Where the probe sees a part of the effect, "I did nothing yet" is not true."""
    action, hook = intend(ledger, clock), FakeHook(outcome=HookOutcome.RETRY, works=False)
    hook.probe = lambda call: ProbeAnswer.PARTIAL  # type: ignore[method-assign]
    edge_of(ledger, clock, hook).carry_out(action.id)
    assert states(ledger, action) == (ActionState.UNKNOWN, State.UNKNOWN)


@pytest.mark.parametrize("outcome", [HookOutcome.FAILED, HookOutcome.TIMED_OUT])
def test_when_nobody_can_tell_it_stops_and_pages(ledger: Ledger, clock: FakeClock, outcome: HookOutcome) -> None:
    """No probe, not idempotent, no clean end: UNKNOWN, one page, no second run."""
    action, hook = intend(ledger, clock), FakeHook(outcome=outcome, probe_speaks=False)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    edge.carry_out(action.id)
    assert states(ledger, action) == (ActionState.UNKNOWN, State.UNKNOWN)
    assert len(hook.calls) == 1
    pages = [row for row, _ in ledger.messages(action.watch_id) if row.message.severity is Severity.PAGE]
    assert len(pages) == 1


def test_an_idempotent_hook_may_run_again_without_a_probe(ledger: Ledger, clock: FakeClock) -> None:
    """What its owner declared safe to repeat is repeated, with the same id."""
    action = intend(ledger, clock)
    hook = FakeHook(outcome=HookOutcome.FAILED, probe_speaks=False, has_probe=False, idempotent=True)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    hook.outcome = HookOutcome.OK
    clock.advance(60)
    edge.carry_out(action.id)
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)
    assert hook.effects == 1


def test_an_unknown_action_is_settled_when_the_probe_speaks_again(ledger: Ledger, clock: FakeClock) -> None:
    """UNKNOWN → VERIFYING when it had taken effect after all; the hook is not called again."""
    action, hook = intend(ledger, clock), FakeHook(outcome=HookOutcome.TIMED_OUT, probe_speaks=False)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    hook.probe_speaks = True
    unknown = ledger.action(action.id)
    assert unknown is not None
    edge.ask_again(unknown)
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)
    assert len(hook.calls) == 1


def test_a_stale_claim_starts_nothing(ledger: Ledger, clock: FakeClock) -> None:
    """A daemon that slept between claim and start leaves production alone."""
    action, hook = intend(ledger, clock), FakeHook()

    def pause(name: str) -> None:
        if name == "action-claimed":
            clock.mono += CLAIM_FRESH_S + 1

    edge_of(ledger, clock, hook, failpoint=pause).carry_out(action.id)
    assert hook.calls == []
    assert states(ledger, action)[0] is ActionState.RETRY_WAIT


def test_the_kill_switch_holds_a_recorded_intent_aloud(ledger: Ledger, clock: FakeClock) -> None:
    """Paused between decision and claim: held with its reason and a page; after resume only an approval starts it."""
    action, hook = intend(ledger, clock), FakeHook()
    edge = edge_of(ledger, clock, hook)
    ledger.set_paused(True, actor="op", why="freeze", at=clock.now())
    edge.carry_out(action.id)
    assert (hook.calls, states(ledger, action)) == ([], (ActionState.HELD, State.HELD))
    held = [row.message for row, _ in ledger.messages(action.watch_id) if row.message.kind is MessageKind.HELD]
    assert [(m.severity, "freeze" in m.sentence) for m in held] == [(Severity.PAGE, True)]
    ledger.set_paused(False, actor="op", why="over", at=clock.now())
    edge.carry_out(action.id)
    assert hook.calls == []
    OperatorDesk(ledger=ledger, clock=clock).approve(action.watch_id, actor="op")
    edge.carry_out(action.id)
    assert hook.effects == 1


def test_the_kill_switch_holds_a_rollback_that_waits_for_its_next_try(ledger: Ledger, clock: FakeClock) -> None:
    """Pulled between two tries: held aloud, and what the last try came to is said; an approval takes the next one."""
    action, hook = intend(ledger, clock), FakeHook(works=False, outcome=HookOutcome.RETRY)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    ledger.set_paused(True, actor="op", why="freeze", at=clock.now())
    clock.advance(1.1)
    edge.carry_out(action.id)
    assert (len(hook.calls), states(ledger, action)) == (1, (ActionState.HELD, State.HELD))
    held = [row.message for row, _ in ledger.messages(action.watch_id) if row.message.kind is MessageKind.HELD]
    assert [(m.severity, "freeze" in m.sentence) for m in held] == [(Severity.PAGE, True)]
    assert "attempt 1 before that: the hook asked for another try" in held[0].sentence
    ledger.set_paused(False, actor="op", why="over", at=clock.now())
    edge.carry_out(action.id)
    assert len(hook.calls) == 1
    hook.works = True
    OperatorDesk(ledger=ledger, clock=clock).approve(action.watch_id, actor="op")
    edge.carry_out(action.id)
    assert (hook.effects, [c.attempt for c in hook.calls]) == (1, [1, 2])


def test_a_target_that_was_called_worse_meanwhile_holds_a_recorded_intent(ledger: Ledger, clock: FakeClock) -> None:
    """The last look before the claim agrees with the policy; what a human approved goes on."""
    hook, action = FakeHook(), intend(ledger, clock)
    called_worse(ledger, "v1", at=clock.now() - 60)
    edge = edge_of(ledger, clock, hook)
    edge.carry_out(action.id)
    assert (states(ledger, action), hook.effects) == ((ActionState.HELD, State.HELD), 0)
    OperatorDesk(ledger=ledger, clock=clock).approve("d1", actor="anna")
    edge.carry_out(action.id)
    assert (states(ledger, action), hook.effects) == ((ActionState.APPLIED, State.VERIFYING), 1)


def test_every_approval_is_told(ledger: Ledger, clock: FakeClock) -> None:
    """Approved under the kill switch it is held again; the second approval is as much news as the first."""
    action, desk = intend(ledger, clock), OperatorDesk(ledger=ledger, clock=clock)
    edge = edge_of(ledger, clock, FakeHook())
    ledger.set_paused(True, actor="op", why="freeze", at=clock.now())
    for _ in range(2):
        edge.carry_out(action.id)
        clock.advance(0.2)
        desk.approve(action.watch_id, actor="op")
    told = [row.message.sentence for row, _ in ledger.messages(action.watch_id)]
    assert sum("approved by op" in sentence for sentence in told) == 2
    assert sum("paused" in sentence for sentence in told) == 2


def test_a_hook_that_left_the_configuration_fails_aloud(ledger: Ledger, clock: FakeClock) -> None:
    """Renamed while its rollback waited: FAILED and a page, never silence."""
    action = intend(ledger, clock)
    edge = ActionEdge(ledger=ledger, hooks={}, clock=clock, owner="me")
    for _ in range(4):
        edge.carry_out(action.id)
        clock.advance(60)
    assert states(ledger, action) == (ActionState.FAILED, State.FAILED)
    assert [row.message.severity for row, _ in ledger.messages(action.watch_id)][-1] is Severity.PAGE


def test_a_rollback_gives_way_to_a_newer_deploy(ledger: Ledger, clock: FakeClock) -> None:
    """v3 came while v2's rollback waited: going back to v1 now would hit v3."""
    action, hook = intend(ledger, clock), FakeHook()
    watch = a_watch(deploy_id="d2")
    newer = replace(watch, created_at=clock.now() + 1, deploy=replace(watch.deploy, version="v3"))
    ledger.record_deploy(newer, [], [])
    assert ledger.claim_action(Claim(action_id=action.id, owner="me", now=clock.now(), timeout_s=1)) is None
    edge_of(ledger, clock, hook).carry_out(action.id)
    assert hook.calls == []
    assert states(ledger, action) == (ActionState.NOT_NEEDED, State.NOT_NEEDED)
    settled = ledger.action(action.id)
    assert settled is not None
    assert "v3" in settled.detail


def test_an_attempt_that_works_elsewhere_is_not_repeated_before_its_time(ledger: Ledger, clock: FakeClock) -> None:
    """A request went out, the daemon died: "not applied" is believed only after the deadline."""
    action, hook = intend(ledger, clock), FakeHook(acts_elsewhere=True, works=False)

    def die(call: HookCall) -> None:
        raise Crash

    hook.on_run = die
    edge = edge_of(ledger, clock, hook)
    with pytest.raises(Crash):
        edge.carry_out(action.id)
    running = ledger.action(action.id)
    assert running is not None
    assert not edge.adopt(running)
    hook.live = "v1"  # the receiver finishes at last
    assert edge.adopt(running)
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)
    assert len(hook.calls) == 1


@pytest.mark.parametrize(
    ("outcome", "state"), [(HookOutcome.OK, ActionState.APPLIED), (HookOutcome.TIMED_OUT, ActionState.UNKNOWN)]
)
def test_a_request_that_is_still_being_worked_on_is_not_sent_again(
    ledger: Ledger, clock: FakeClock, outcome: HookOutcome, state: ActionState
) -> None:
    """Accepted: the metrics will tell. Unanswered: nobody can tell; neither is a reason for a second request."""
    action, hook = intend(ledger, clock), FakeHook(acts_elsewhere=True, works=False, outcome=outcome)
    edge_of(ledger, clock, hook).carry_out(action.id)
    assert (states(ledger, action)[0], len(hook.calls)) == (state, 1)


def test_an_orphan_that_never_ends_is_paged_after_its_deadline(ledger: Ledger, clock: FakeClock) -> None:
    """Its group may run for ever; the watch may not wait for ever."""
    action, hook = intend(ledger, clock), FakeHook(running=True)

    def die(call: HookCall) -> None:
        raise Crash

    hook.on_run = die
    edge = edge_of(ledger, clock, hook)
    with pytest.raises(Crash):
        edge.carry_out(action.id)
    running = ledger.action(action.id)
    assert running is not None
    clock.advance(hook.timeout_s + GRACE_S + 1)
    assert edge.adopt(running)
    assert states(ledger, action) == (ActionState.UNKNOWN, State.UNKNOWN)
    edge.ask_again(replace(running, state=ActionState.UNKNOWN))
    assert states(ledger, action)[0] is ActionState.UNKNOWN


CRASH_POINTS = ["action-before-claim", "action-claimed", "hook-before-start", "hook-returned",
                "outcome-before-commit", "outcome-committed"]  # fmt: skip


@pytest.mark.parametrize("point", CRASH_POINTS)
@pytest.mark.parametrize("second", [None, *CRASH_POINTS])
def test_a_crash_anywhere_neither_loses_nor_doubles_a_rollback(
    ledger: Ledger, clock: FakeClock, point: str, second: str | None
) -> None:
    """The daemon dies at one point, its successor perhaps at another; a third finishes: exactly one effect."""
    action, hook = intend(ledger, clock), FakeHook()
    for doomed in (point, second, None):

        def die(name: str, doomed: str | None = doomed) -> None:
            if name == doomed:
                raise Crash

        _life(ledger, clock, edge_of(ledger, clock, hook, failpoint=die), action)
    assert hook.effects == 1
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)


def _life(ledger: Ledger, clock: FakeClock, edge: ActionEdge, action: Action) -> None:
    """One life of the daemon: adopt what is RUNNING, then carry out what is due, for a while."""
    try:
        for running in ledger.actions(states=frozenset({ActionState.RUNNING})):
            edge.adopt(running)
        for _ in range(4):
            clock.advance(30)
            edge.carry_out(action.id)
    except Crash:
        clock.advance(GRACE_S)


def test_an_attempt_that_outlived_its_daemon_is_waited_for(ledger: Ledger, clock: FakeClock) -> None:
    """A hook that still runs is not judged, and not run a second time."""
    action, hook = intend(ledger, clock), FakeHook(running=True, works=False)

    def die(call: HookCall) -> None:
        raise Crash

    hook.on_run = die
    edge = edge_of(ledger, clock, hook)
    with pytest.raises(Crash):
        edge.carry_out(action.id)
    running = ledger.action(action.id)
    assert running is not None
    assert running.state is ActionState.RUNNING
    assert not edge.adopt(running)
    hook.running, hook.live = False, "v1"
    assert edge.adopt(running)
    assert states(ledger, action) == (ActionState.APPLIED, State.VERIFYING)


def test_an_action_of_an_unknown_watch_state_is_refused_by_the_ledger(ledger: Ledger, clock: FakeClock) -> None:
    """A claim on an action whose watch has ended meanwhile is not granted."""
    action, hook = intend(ledger, clock), FakeHook()
    watch = ledger.watch(action.watch_id)
    assert watch is not None
    assert ledger.commit(
        Change(
            watch_id=watch.id,
            at=clock.now(),
            expect_state=State.INTENT,
            to_state=State.CANCELLED,
            audit=(AuditEntry(at=clock.now(), watch_id=watch.id, actor="op", event="operator.cancel"),),
            messages=(message(replace(watch), MessageKind.ENDED, Severity.INFO, "cancelled", key="ended"),),
        )
    )
    edge_of(ledger, clock, hook).carry_out(action.id)
    assert hook.calls == []
