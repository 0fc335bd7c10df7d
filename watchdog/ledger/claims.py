"""Who may work on what: leases on watches, claims on actions."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Connection, bindparam, exists, insert, or_, select, update

from watchdog.ledger import journal, rows
from watchdog.ledger.postgres import serialise
from watchdog.ledger.queries import active, is_overtaken, joined, paused, rollbacks_since
from watchdog.ledger.schema import IS_OPEN, actions, fences, watches
from watchdog.model import (
    GOES_FORWARD_IN,
    TAKES_DOWN_IN,
    UPDATED,
    Action,
    ActionKind,
    ActionState,
    AuditEntry,
    Claim,
    Message,
    MessageKind,
    Severity,
    State,
    Watch,
)
from watchdog.other_rollbacks import still_limited
from watchdog.ports import Lease

UNREADABLE_S = 60.0  # until a watch whose row cannot be read is tried again: somebody may have mended it
CLAIMABLE = frozenset({ActionState.INTENT, ActionState.RETRY_WAIT})
_ROLLBACK_FROM = frozenset({State.INTENT, State.RETRY_WAIT})
_FORWARD = frozenset({ActionKind.PROMOTE, ActionKind.SWITCH})
_WITHDRAWN = frozenset({ActionState.CANCELLED, ActionState.FAILED, ActionState.NOT_NEEDED})

_DUE = (
    joined()
    .where(
        IS_OPEN,
        watches.c.next_look_at <= bindparam("now"),
        or_(watches.c.lease_owner.is_(None), watches.c.lease_until <= bindparam("now")),
    )
    .order_by(watches.c.next_look_at, watches.c.id)
    .limit(bindparam("most"))
    .with_for_update(of=watches, skip_locked=True)
)
_LEASE = (
    update(watches)
    .where(watches.c.id.in_(bindparam("ids", expanding=True)))
    .values(lease_owner=bindparam("owner"), lease_until=bindparam("until"), epoch=watches.c.epoch + 1)
)
_PUT_OFF = (
    update(watches).where(watches.c.id.in_(bindparam("ids", expanding=True))).values(next_look_at=bindparam("until"))
)
_RELEASE = (
    update(watches)
    .where(
        watches.c.id == bindparam("own_id"),
        watches.c.lease_owner == bindparam("own_name"),
        watches.c.epoch == bindparam("own_epoch"),
    )
    .values(lease_owner=None, lease_until=0.0, next_look_at=bindparam("next_look_at"))
)


def due(connection: Connection, *, owner: str, now: float, lease_s: float, limit: int) -> list[Watch]:
    """Lease the watches whose time has come, the longest waiting first; each lease raises the epoch.

    One that cannot be read is put off, so that it is not in the way of the others.
    """
    found = list(connection.execute(_DUE, {"now": now, "most": limit}).mappings())
    claimed = rows.readable(found, rows.to_watch)
    if len(claimed) < len(found):
        read = {watch.id for watch in claimed}
        put_off = [row["id"] for row in found if row["id"] not in read]
        connection.execute(_PUT_OFF, {"ids": put_off, "until": now + UNREADABLE_S})
    if claimed:
        mine = {"ids": [watch.id for watch in claimed], "owner": owner, "until": now + lease_s}
        connection.execute(_LEASE, mine)
    return [replace(watch, epoch=watch.epoch + 1) for watch in claimed]


def release(connection: Connection, leases: Sequence[Lease], *, owner: str) -> None:
    """Give leases back; one that was lost meanwhile changes nothing."""
    if leases:
        given = [{"own_id": x.watch_id, "own_epoch": x.epoch, "next_look_at": x.next_look_at} for x in leases]
        connection.execute(_RELEASE, [{**one, "own_name": owner} for one in given])


def void_leases(connection: Connection) -> None:
    """Drop all leases: whoever held them lost the file's lock, so it is dead."""
    connection.execute(
        update(watches).where(watches.c.lease_owner.is_not(None)).values(lease_owner=None, lease_until=0.0)
    )


def claim(connection: Connection, wish: Claim, sinks_for: Callable[[str], Sequence[str]]) -> Action | None:
    """Start one attempt, if everything that must hold holds in this very transaction."""
    watch_id = connection.execute(select(actions.c.watch_id).where(actions.c.id == wish.action_id)).scalar()
    if watch_id is None:
        return None
    # first the watch, then its action, then the chain: the order in which every change locks
    watch = connection.execute(select(watches).where(watches.c.id == watch_id).with_for_update()).one()
    wanted = select(actions).where(actions.c.id == wish.action_id).with_for_update()
    action = rows.to_action(connection.execute(wanted).mappings().one())
    serialise(connection)  # kill switch, newer deploys and other rollbacks as they are now, until this is committed
    if action.state not in CLAIMABLE or action.next_at > wish.now or paused(connection) is not None:
        return None
    if watch.lease_owner not in (None, wish.owner) and watch.lease_until > wish.now:
        return None
    if _opposed(connection, action, State(watch.state)) or _limited(connection, action, wish):
        return None
    claimed = replace(
        action,
        state=ActionState.RUNNING,
        attempt=action.attempt + 1,
        fence=_next_fence(connection, action),
        epoch=watch.epoch,
        deadline_at=wish.now + wish.timeout_s,
        started_at=action.started_at if action.state is ActionState.RETRY_WAIT else wish.now,
        finished_at=None,
        params=_params(action, wish),
    )
    connection.execute(update(actions).where(actions.c.id == action.id).values(rows.action_row(claimed)))
    journal.append(connection, [_entry(action, claimed, wish)])
    if action.kind is ActionKind.ROLLBACK:
        _start_rollback(connection, claimed, wish.now, sinks_for(action.service))
    return claimed


def _params(action: Action, wish: Claim) -> Mapping[str, Any]:
    """A rollback begins with the servers that have the new version by then; each further try says the same as it."""
    if action.kind is not ActionKind.ROLLBACK or action.state is ActionState.RETRY_WAIT:
        return action.params
    others = {name: value for name, value in action.params.items() if name != UPDATED}
    return {**others, UPDATED: list(wish.updated)} if wish.updated else others


def _opposed(connection: Connection, action: Action, watch_state: State) -> bool:
    """A rollback waits out a running promote or switch of its deploy, and they never start once one is intended.

    Nothing goes forward, and no migration back, of a deploy that has ended or been overtaken since that was decided.
    """
    if action.kind is ActionKind.ROLLBACK:
        return (
            watch_state not in _ROLLBACK_FROM
            or _any(connection, action, _FORWARD, {ActionState.RUNNING})
            or is_overtaken(connection, action.watch_id)
        )
    if action.kind in _FORWARD:
        return (
            watch_state not in GOES_FORWARD_IN
            or is_overtaken(connection, action.watch_id)
            or _any(connection, action, {ActionKind.ROLLBACK}, set(ActionState) - _WITHDRAWN)
        )
    return action.kind is ActionKind.MIGRATE_DOWN and watch_state not in TAKES_DOWN_IN


def _limited(connection: Connection, action: Action, wish: Claim) -> bool:
    """Whether others were rolled back since this was decided, by another replica or in the same moment."""
    if action.kind is not ActionKind.ROLLBACK:
        return False
    others = rollbacks_since(connection, wish.now - wish.limits.reach_s)
    return still_limited(action, others, active(connection), wish.limits, wish.now) is not None


def _any(
    connection: Connection,
    action: Action,
    kinds: set[ActionKind] | frozenset[ActionKind],
    states: set[ActionState] | frozenset[ActionState],
) -> bool:
    found = exists().where(
        actions.c.watch_id == action.watch_id,
        actions.c.kind.in_([kind.value for kind in kinds]),
        actions.c.state.in_([state.value for state in states]),
    )
    return bool(connection.execute(select(found)).scalar())


def _next_fence(connection: Connection, action: Action) -> int:
    """A number above every fence ever given for this service and environment."""
    place = (fences.c.service == action.service, fences.c.environment == action.environment)
    raised = update(fences).where(*place).values(fence=fences.c.fence + 1)
    if connection.execute(raised).rowcount == 0:
        connection.execute(insert(fences), {"service": action.service, "environment": action.environment, "fence": 1})
    return int(connection.execute(select(fences.c.fence).where(*place)).scalar_one())


def _start_rollback(connection: Connection, action: Action, now: float, sinks: Sequence[str]) -> None:
    sentence = (
        f"{action.service} {action.from_version}: rolling back to {action.to_version} "
        f"with hook {action.hook} (attempt {action.attempt})"
    )
    connection.execute(
        update(watches)
        .where(watches.c.id == action.watch_id)
        .values(state=State.RUNNING.value, updated_at=now, sentence=sentence)
    )
    told = Message(
        key=f"action:{action.id}:attempt:{action.attempt}",
        watch_id=action.watch_id,
        kind=MessageKind.ACTION,
        severity=Severity.WARNING,
        sentence=sentence,
        facts={
            "service": action.service,
            "environment": action.environment,
            "version": action.from_version,
            "previous_version": action.to_version,
            "state": State.RUNNING.value,
            "action": action.id,
            "attempt": action.attempt,
        },
    )
    journal.enqueue(connection, [told], sinks, now)


def _entry(before: Action, after: Action, wish: Claim) -> AuditEntry:
    return AuditEntry(
        at=wish.now,
        watch_id=after.watch_id,
        actor=wish.owner,
        event="action.running",
        before=before.state.value,
        after=after.state.value,
        why=f"attempt {after.attempt} of {after.deed} with hook {after.hook}",
        details={"action": after.id, "attempt": after.attempt, "fence": after.fence, "epoch": after.epoch},
    )
