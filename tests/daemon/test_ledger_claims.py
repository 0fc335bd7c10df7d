"""Leases on watches and claims on actions: one holder, the kill switch, rising fences."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from threading import Barrier

import pytest

from tests.fakes import FakeClock
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.errors import LedgerError
from watchdog.ledger import SqlLedger, open_ledger
from watchdog.ledger.postgres import ClockGuard
from watchdog.model import (
    FINAL,
    Action,
    ActionKind,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    Claim,
    Limits,
    Message,
    MessageKind,
    Severity,
    State,
)
from watchdog.ports import Lease

AT = DEPLOYED_AT + 100.0


def opened(home: str) -> SqlLedger:
    return open_ledger(home, max_skew_s=math.inf, clock=FakeClock(), owner="me", sinks_for=lambda service: ("team",))


@pytest.fixture
def ledger(home: str) -> Iterator[SqlLedger]:
    ledger = opened(home)
    yield ledger
    ledger.close()


class TheirClock:
    """What a database says the time is."""

    def __init__(self, at: float) -> None:
        self.at = at

    def execute(self, _: object) -> "TheirClock":
        return self

    def scalar_one(self) -> float:
        return self.at


@pytest.mark.parametrize(
    ("ours", "asked_at", "said"),
    [
        (100.0, None, ""),
        (101.9, 101.9, ""),
        (100.0, 60.0, ""),  # a pause of a minute
        (102.1, 102.1, "2.1 s ahead of"),
        (97.0, 97.0, "3.0 s behind"),
        (100.0, 130.0, "30.0 s ahead of"),  # set right since the work began
    ],
)
def test_a_claim_rests_on_a_time_that_is_the_databases(ours: float, asked_at: float | None, said: str) -> None:
    """Else leases of others would be taken for over, and our own would hold for too long."""
    guard, theirs = ClockGuard(FakeClock(now=ours), 2.0), TheirClock(100.0)
    with pytest.raises(LedgerError, match=said) if said else nullcontext():
        guard.check(theirs, asked_at)  # type: ignore[arg-type]


def an_action(kind: ActionKind = ActionKind.ROLLBACK, *, watch_id: str = "d1", next_at: float = 0.0) -> Action:
    return Action(
        id=f"{watch_id}-{kind}",
        watch_id=watch_id,
        kind=kind,
        state=ActionState.INTENT,
        hook="back",
        service="shop",
        environment="production",
        from_version="v2",
        to_version="v1",
        created_at=AT,
        next_at=next_at,
        params={"weights": [1, 0.5]},
    )


def move(
    source: State,
    target: State | None = None,
    *,
    new_action: Action | None = None,
    action: ActionUpdate | None = None,
    key: str = "moved",
) -> Change:
    return Change(
        watch_id="d1",
        at=AT,
        expect_state=source,
        to_state=target,
        new_action=new_action,
        action=action,
        audit=(AuditEntry(at=AT, watch_id="d1", actor="test", event="moved"),),
        messages=(Message(key=key, watch_id="d1", kind=MessageKind.ACTION, severity=Severity.INFO, sentence="said"),),
    )


def intend(ledger: SqlLedger, *, next_at: float = 0.0) -> Action:
    """A deploy whose rollback is recorded."""
    action = an_action(next_at=next_at)
    ledger.record_deploy(a_watch(), [], [])
    assert ledger.commit(move(State.WATCHING, State.INTENT, new_action=action))
    return action


def claim(ledger: SqlLedger, action: Action, *, owner: str = "me", now: float = AT) -> Action | None:
    return ledger.claim_action(Claim(action_id=action.id, owner=owner, now=now, timeout_s=30.0))


def test_a_claim_starts_the_attempt_with_everything_that_belongs_to_it(ledger: SqlLedger) -> None:
    """Action and watch run, attempt and fence rise, audit and message are there."""
    action = intend(ledger)
    claimed = claim(ledger, action)
    assert claimed == replace(
        action, state=ActionState.RUNNING, attempt=1, fence=1, started_at=AT, deadline_at=AT + 30.0
    )
    assert ledger.action(action.id) == claimed
    watch = ledger.watch("d1")
    assert watch is not None
    assert watch.state is State.RUNNING
    assert [(e.event, e.before, e.after) for e in ledger.audit("d1")][-1] == ("action.running", "INTENT", "RUNNING")
    row, state = ledger.messages("d1")[-1]
    assert (row.message.key, row.message.kind, state) == (
        f"action:{action.id}:attempt:1",
        MessageKind.ACTION,
        "pending",
    )
    assert [a.id for a in ledger.rollbacks_since(AT)] == [action.id]
    assert ledger.rollbacks_since(AT + 1.0) == []


def test_a_rollback_that_ran_counts_even_when_it_was_cancelled(ledger: SqlLedger) -> None:
    """Its hook was started, nobody knows what it did, and an operator gave it up: cool-down and breaker see it."""
    action = intend(ledger)
    claimed = claim(ledger, action)
    assert claimed is not None
    for state, watch_state in ((ActionState.UNKNOWN, State.UNKNOWN), (ActionState.CANCELLED, State.CANCELLED)):
        before, watch = ledger.action(action.id), ledger.watch("d1")
        assert before is not None
        assert watch is not None
        changed = ActionUpdate(id=action.id, expect=frozenset({before.state}), to=state)
        assert ledger.commit(replace(move(watch.state, watch_state), expect_epoch=watch.epoch, action=changed))
    assert [a.id for a in ledger.rollbacks_since(AT)] == [action.id]


def test_a_rollback_that_was_cancelled_before_it_ran_was_none(ledger: SqlLedger) -> None:
    """Nothing was touched: cool-down and breaker do not see it."""
    action = intend(ledger)
    assert [a.id for a in ledger.rollbacks_since(AT)] == [action.id]
    changed = ActionUpdate(id=action.id, expect=frozenset({ActionState.INTENT}), to=ActionState.CANCELLED)
    assert ledger.commit(replace(move(State.INTENT, State.CANCELLED), action=changed))
    assert ledger.rollbacks_since(AT) == []


def test_a_claimed_action_cannot_be_claimed_again(ledger: SqlLedger) -> None:
    """RUNNING belongs to its claimer; after RETRY_WAIT the next attempt has a higher fence and the first start."""
    action = intend(ledger)
    assert claim(ledger, action) is not None
    assert claim(ledger, action) is None
    again = ActionUpdate(
        id=action.id,
        expect=frozenset({ActionState.RUNNING}),
        to=ActionState.RETRY_WAIT,
        fields={"next_at": AT + 5.0},
    )
    assert ledger.commit(move(State.RUNNING, State.RETRY_WAIT, action=again, key="again"))
    assert claim(ledger, action, now=AT + 4.9) is None
    second = claim(ledger, action, now=AT + 5.0)
    assert second is not None
    assert (second.attempt, second.fence, second.started_at, second.deadline_at) == (2, 2, AT, AT + 35.0)


def test_the_kill_switch_blocks_every_claim_until_it_is_off(home: str) -> None:
    """Paused: no action starts, also after a restart; who and why are audited."""
    ledger = opened(home)
    action = intend(ledger)
    ledger.set_paused(True, actor="ann", why="incident 7", at=AT)
    assert claim(ledger, action) is None
    ledger.close()
    ledger = opened(home)
    assert ledger.paused() == "incident 7"
    assert claim(ledger, action) is None
    assert ledger.action(action.id) == action
    ledger.set_paused(True, actor="ann", why="", at=AT)
    assert ledger.paused() == "paused by ann"
    ledger.set_paused(False, actor="bob", why="over", at=AT)
    assert ledger.paused() is None
    assert claim(ledger, action) is not None
    switched = [e for e in ledger.audit() if e.event.startswith("operator.")]
    assert [(e.actor, e.event, e.why) for e in switched] == [
        ("ann", "operator.pause", "incident 7"),
        ("ann", "operator.pause", ""),
        ("bob", "operator.resume", "over"),
    ]
    ledger.close()


def test_unknown_cancelled_and_early_actions_are_not_claimed(ledger: SqlLedger) -> None:
    """None for what is not there, not due, or no longer wanted."""
    action = intend(ledger, next_at=AT + 1.0)
    assert ledger.claim_action(Claim(action_id="nobody", owner="me", now=AT, timeout_s=1.0)) is None
    assert claim(ledger, action) is None
    cancel = ActionUpdate(id=action.id, expect=frozenset({ActionState.INTENT}), to=ActionState.CANCELLED)
    assert ledger.commit(move(State.INTENT, State.CANCELLED, action=cancel, key="cancel"))
    assert claim(ledger, action, now=AT + 2.0) is None


def test_another_owners_lease_forbids_the_claim(ledger: SqlLedger) -> None:
    """While a replica works on a watch, no other one starts its action; the lease's epoch goes into the claim."""
    action = intend(ledger)
    ledger.claim_due(owner="one", now=AT, lease_s=15.0, limit=10)
    assert claim(ledger, action, owner="two") is None
    claimed = claim(ledger, action, owner="one")
    assert claimed is not None
    assert claimed.epoch == 1


@pytest.mark.parametrize("kind", [ActionKind.PROMOTE, ActionKind.SWITCH])
def test_a_rollback_waits_for_a_running_promote(ledger: SqlLedger, kind: ActionKind) -> None:
    """A promote that runs is waited out; one that has not started never starts once a rollback is intended."""
    forward, late = an_action(kind), replace(an_action(kind), id="late")
    ledger.record_deploy(a_watch(), [], [])
    ledger.commit(move(State.WATCHING, new_action=forward, key="1"))
    ledger.commit(move(State.WATCHING, new_action=late, key="2"))
    assert claim(ledger, forward) is not None
    back = an_action()
    assert ledger.commit(move(State.WATCHING, State.INTENT, new_action=back, key="3"))
    assert claim(ledger, back) is None
    assert claim(ledger, late) is None
    done = ActionUpdate(id=forward.id, expect=frozenset({ActionState.RUNNING}), to=ActionState.APPLIED)
    assert ledger.commit(move(State.INTENT, action=done, key="4"))
    claimed = claim(ledger, back)
    assert claimed is not None
    assert claimed.fence == 2
    assert claim(ledger, late) is None


def test_a_promote_leaves_its_watch_where_it_is(ledger: SqlLedger) -> None:
    """Only a rollback moves the watch."""
    ledger.record_deploy(a_watch(), [], [])
    ledger.commit(move(State.WATCHING, new_action=an_action(ActionKind.PROMOTE)))
    assert claim(ledger, an_action(ActionKind.PROMOTE)) is not None
    assert ledger.counts() == {"WATCHING": 1}


ONE = Limits(breaker_rollbacks=1)


def intend_both(ledger: SqlLedger, *, by_hand: bool = False, other: str = "cart") -> list[Action]:
    """Two deploys whose rollbacks were decided at the same moment, neither knowing of the other."""
    intended = []
    for name, service in (("d1", "shop"), ("d2", other)):
        watch = a_watch(deploy_id=name)
        ledger.record_deploy(replace(watch, deploy=replace(watch.deploy, service=service)), [], [])
        action = replace(an_action(watch_id=name), service=service, params={"by_hand": True} if by_hand else {})
        change = replace(move(State.WATCHING, State.INTENT, new_action=action), watch_id=name)
        told = Message(key="m", watch_id=name, kind=MessageKind.ACTION, severity=Severity.INFO, sentence="said")
        entry = AuditEntry(at=AT, watch_id=name, actor="test", event="moved")
        assert ledger.commit(replace(change, messages=(told,), audit=(entry,)))
        intended.append(action)
    return intended


def test_two_replicas_that_decide_at_once_do_not_pass_the_breaker_together(ledger: SqlLedger) -> None:
    """Claimed at the same moment from two threads: one starts, which is what the breaker allows."""
    intended = intend_both(ledger)
    start = Barrier(2)

    def race(action: Action) -> Action | None:
        start.wait(timeout=30)
        return ledger.claim_action(Claim(action_id=action.id, owner=action.id, now=AT, timeout_s=30.0, limits=ONE))

    with ThreadPoolExecutor(2) as pool:
        won = [claimed.id for claimed in pool.map(race, intended) if claimed is not None]
    assert won == [intended[0].id]


@pytest.mark.parametrize(("by_hand", "claimed"), [(False, [True, False]), (True, [True, True])])
def test_what_a_human_wants_is_not_limited(ledger: SqlLedger, by_hand: bool, claimed: list[bool]) -> None:
    """The limits are those of the daemon's own decisions."""
    intended = intend_both(ledger, by_hand=by_hand)
    wishes = [Claim(action_id=a.id, owner="me", now=AT, timeout_s=30.0, limits=ONE) for a in intended]
    assert [ledger.claim_action(wish) is not None for wish in wishes] == claimed


def test_a_second_attempt_is_not_limited(ledger: SqlLedger) -> None:
    """What has begun is carried to its end, whoever was rolled back meanwhile."""
    first, second = intend_both(ledger)
    none_of_it = Claim(action_id=first.id, owner="me", now=AT, timeout_s=30.0, limits=ONE)
    assert ledger.claim_action(none_of_it) is not None
    again = ActionUpdate(id=first.id, expect=frozenset({ActionState.RUNNING}), to=ActionState.RETRY_WAIT)
    assert ledger.commit(move(State.RUNNING, State.RETRY_WAIT, action=again, key="again"))
    wide = Claim(action_id=second.id, owner="me", now=AT, timeout_s=30.0, limits=Limits(breaker_rollbacks=9))
    assert ledger.claim_action(wide) is not None
    assert ledger.claim_action(none_of_it) is not None


def test_fences_rise_over_all_actions_of_a_service(ledger: SqlLedger) -> None:
    """Two deploys of one service share one row of rising fences."""
    fences = []
    for name in ("d1", "d2"):
        ledger.record_deploy(a_watch(deploy_id=name), [], [])
        action = an_action(ActionKind.PAUSE, watch_id=name)
        change = replace(move(State.WATCHING, new_action=action), watch_id=name, messages=())
        assert ledger.commit(change)
        claimed = claim(ledger, action)
        assert claimed is not None
        fences.append(claimed.fence)
    assert fences == [1, 2]


def test_a_claim_race_has_one_winner(ledger: SqlLedger) -> None:
    """Eight threads claim the same action at the same moment, ten times over."""
    ledger.record_deploy(a_watch(), [], [])
    with ThreadPoolExecutor(8) as pool:
        for number in range(10):
            action = replace(an_action(ActionKind.PAUSE), id=f"p{number}")
            assert ledger.commit(move(State.WATCHING, new_action=action, key=action.id))
            start = Barrier(8)

            def race(_: int, action: Action = action, start: Barrier = start) -> Action | None:
                start.wait(timeout=30)
                return claim(ledger, action)

            won = [claimed for claimed in pool.map(race, range(8)) if claimed is not None]
            assert [(claimed.attempt, claimed.fence) for claimed in won] == [(1, number + 1)]


def test_a_rollback_and_a_promote_never_run_together(ledger: SqlLedger) -> None:
    """Claimed at the same moment, whichever is first shuts the other out."""
    ledger.record_deploy(a_watch(), [], [])
    forward, back = an_action(ActionKind.PROMOTE), an_action()
    ledger.commit(move(State.WATCHING, new_action=forward, key="1"))
    start = Barrier(2)

    def promote() -> Action | None:
        start.wait(timeout=30)
        return claim(ledger, forward)

    def roll_back() -> Action | None:
        start.wait(timeout=30)
        ledger.commit(move(State.WATCHING, State.INTENT, new_action=back, key="2"))
        return claim(ledger, back)

    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(promote), pool.submit(roll_back)]
        won = [future.result() for future in tries]
    assert sum(claimed is not None for claimed in won) == 1


def test_threads_share_due_watches_without_overlap(ledger: SqlLedger) -> None:
    """Every due watch is leased exactly once, whoever asks."""
    for number in range(40):
        ledger.record_deploy(a_watch(deploy_id=f"d{number}"), [], [])
    with ThreadPoolExecutor(4) as pool:
        batches = list(pool.map(lambda n: ledger.claim_due(owner=f"o{n}", now=AT, lease_s=15.0, limit=7), range(8)))
    leased = [watch.id for batch in batches for watch in batch]
    assert len(leased) == len(set(leased)) == 40


@pytest.mark.parametrize("state", list(State))
def test_only_watches_that_need_work_are_due(ledger: SqlLedger, state: State) -> None:
    """Final states rest; all others come up when their time has come, not before."""
    ledger.record_deploy(a_watch(state=state), [], [])
    due_at = a_watch().next_look_at
    assert ledger.claim_due(owner="me", now=due_at - 0.1, lease_s=15.0, limit=9) == []
    leased = ledger.claim_due(owner="me", now=due_at, lease_s=15.0, limit=9)
    assert [watch.id for watch in leased] == ([] if state in FINAL else ["d1"])


def test_a_lease_ends_by_release_or_by_time(ledger: SqlLedger) -> None:
    """Each lease raises the epoch; a release by somebody who lost the lease does nothing."""
    ledger.record_deploy(a_watch(), [], [])
    first = ledger.claim_due(owner="one", now=AT, lease_s=15.0, limit=1)[0]
    assert ledger.claim_due(owner="one", now=AT + 14.9, lease_s=15.0, limit=1) == []
    second = ledger.claim_due(owner="two", now=AT + 15.0, lease_s=15.0, limit=1)[0]
    assert (first.epoch, second.epoch) == (1, 2)
    ledger.release_all([Lease(watch_id="d1", epoch=1, next_look_at=0.0)], owner="one")
    assert ledger.claim_due(owner="one", now=AT + 16.0, lease_s=15.0, limit=1) == []
    ledger.release_all([Lease(watch_id="d1", epoch=2, next_look_at=AT + 20.0)], owner="two")
    assert ledger.claim_due(owner="one", now=AT + 19.9, lease_s=15.0, limit=1) == []
    assert ledger.claim_due(owner="one", now=AT + 20.0, lease_s=15.0, limit=1)[0].epoch == 3


def test_a_restart_does_not_wait_for_the_leases_of_the_dead(tmp_path: Path) -> None:
    """The file's lock proves that the former holder is gone, so its leases are void at once."""
    home = f"{tmp_path}/w.db"
    ledger = opened(home)
    ledger.record_deploy(a_watch(), [], [])
    assert ledger.claim_due(owner="dead", now=AT, lease_s=1e6, limit=1)
    ledger.close()
    ledger = opened(home)
    assert ledger.claim_due(owner="me", now=AT, lease_s=15.0, limit=1)[0].epoch == 2
    ledger.close()
