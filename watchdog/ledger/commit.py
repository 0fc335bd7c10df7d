"""The one way a watch changes: compare, check, write everything, in the caller's transaction."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from sqlalchemy import Connection, exc, insert, select, update

from watchdog.errors import NotFoundError
from watchdog.ledger import journal, rows
from watchdog.ledger.engine import is_duplicate
from watchdog.ledger.postgres import serialise
from watchdog.ledger.schema import actions, deploys, looks, plans, samples, verdicts, watches
from watchdog.model import (
    ACTION_TRANSITIONS,
    TRANSITIONS,
    Action,
    ActionState,
    ActionUpdate,
    AuditEntry,
    Change,
    Message,
    Watch,
)
from watchdog.ports import Recorded


class LostError(Exception):
    """The compare-and-set lost: roll back, write nothing."""


def record(
    connection: Connection,
    watch: Watch,
    messages: Sequence[Message],
    entries: Iterable[AuditEntry],
    sinks: Sequence[str],
    first: Sequence[Action] = (),
) -> Recorded:
    """Deploy, plan, watch, messages and audit of a new deploy; a known id is compared by its body's digest."""
    serialise(connection)  # the same event may reach two replicas at once
    known = connection.execute(select(deploys.c.body_digest).where(deploys.c.id == watch.deploy.id)).scalar()
    if known is not None:
        return Recorded.SAME if known == watch.deploy.body_digest else Recorded.CONFLICT
    plan = rows.plan_row(watch.plan)
    connection.execute(insert(deploys), rows.deploy_row(watch.deploy))
    if connection.execute(select(plans.c.digest).where(plans.c.digest == plan["digest"])).scalar() is None:
        connection.execute(insert(plans), plan)
    connection.execute(insert(watches), rows.watch_row(watch, plan["digest"]))
    if first:
        connection.execute(insert(actions), [rows.action_row(action) for action in first])
    journal.append(connection, entries)
    journal.enqueue(connection, messages, sinks, watch.created_at)
    return Recorded.CREATED


def check(change: Change) -> None:
    """Refuse, before any transaction, what no state of the ledger could make right.

    Raises
    ------
    ValueError
        A mistake of the caller: a forbidden transition, one without audit or message, an unknown field.
    """
    rows.settable("watch", change.fields)
    if change.to_state is not None:
        if change.to_state not in TRANSITIONS.get(change.expect_state, frozenset()):
            raise ValueError(f"a watch cannot go from {change.expect_state} to {change.to_state}")
        if not change.audit or not change.messages:
            raise ValueError(f"the transition to {change.to_state} lacks its audit entry or its message")
    if any(message.watch_id != change.watch_id for message in change.messages):
        raise ValueError("a change tells only about its own watch")
    if change.new_action is not None and change.new_action.watch_id != change.watch_id:
        raise ValueError("a new action belongs to the watch that changes")
    if change.action is not None:
        _check_action(change.action)


def _check_action(change: ActionUpdate) -> None:
    rows.settable("action", change.fields)
    if not change.expect:
        raise ValueError(f"action {change.id}: no state is expected")
    for state in change.expect - {change.to}:
        if change.to is ActionState.RUNNING:
            raise ValueError("only claim_action starts an action: it counts attempts and fences")
        if change.to not in ACTION_TRANSITIONS.get(state, frozenset()):
            raise ValueError(f"an action cannot go from {state} to {change.to}")


def apply(connection: Connection, change: Change, sinks: Sequence[str]) -> None:
    """Write all of the change.

    Raises
    ------
    LostError
        Something is no longer as the change expects it; the caller rolls back.
    """
    values = rows.settable("watch", change.fields) | {"updated_at": change.at}
    if change.to_state is not None:
        values["state"] = change.to_state.value
    statement = update(watches).where(watches.c.id == change.watch_id, watches.c.state == change.expect_state.value)
    if change.expect_epoch is not None:
        statement = statement.where(watches.c.epoch == change.expect_epoch)
    if connection.execute(statement.values(values)).rowcount != 1:
        raise LostError
    _write_looks(connection, change)
    if change.verdict is not None:
        connection.execute(insert(verdicts), rows.verdict_row(change.watch_id, change.verdict, change.at))
    _write_actions(connection, change)
    journal.append(connection, change.audit)
    journal.enqueue(connection, change.messages, sinks, change.at)


def service_of(connection: Connection, watch_id: str) -> str:
    """The service of a stored watch; never changes, so it may be read before the comparison."""
    service = connection.execute(select(watches.c.service).where(watches.c.id == watch_id)).scalar()
    if service is None:
        raise NotFoundError(f"no watch {watch_id!r} is on record", permanent=True)
    return str(service)


@contextmanager
def _lost_if_there() -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError as error:
        if is_duplicate(error):
            raise LostError from None
        raise


def _write_looks(connection: Connection, change: Change) -> None:
    if not change.looks:
        return
    cells = [row for look in change.looks for row in rows.sample_rows(change.watch_id, look)]
    with _lost_if_there():  # the interval is closed already
        connection.execute(insert(looks), [rows.look_row(change.watch_id, look) for look in change.looks])
        if cells:
            connection.execute(insert(samples), cells)


def _write_actions(connection: Connection, change: Change) -> None:
    if change.new_action is not None:
        with _lost_if_there():  # the same intent is recorded already
            connection.execute(insert(actions), rows.action_row(change.new_action))
    if change.action is not None:
        expected = [state.value for state in change.action.expect]
        values = rows.settable("action", change.action.fields) | {"state": change.action.to.value}
        found = update(actions).where(
            actions.c.id == change.action.id,
            actions.c.watch_id == change.watch_id,
            actions.c.state.in_(expected),
        )
        if change.action.fence is not None:
            found = found.where(actions.c.fence == change.action.fence)
        if connection.execute(found.values(values)).rowcount != 1:
            raise LostError
