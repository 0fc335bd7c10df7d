"""The one way a watch changes: compare, check, write everything, in the caller's transaction."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Table, bindparam, exc, insert, select, text, update

from watchdog.errors import NotFoundError
from watchdog.ledger import journal, queries, rows
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
    Recorded,
    Watch,
)

_EXPECTED = update(watches).where(watches.c.id == bindparam("own_id"), watches.c.state == bindparam("own_state"))
_INSERT = {table.name: insert(table) for table in (actions, deploys, looks, plans, samples, verdicts, watches)}
_QUERIES = text("INSERT INTO query_texts (digest, body) VALUES (:digest, :body) ON CONFLICT DO NOTHING")
_PATHS = text(
    "INSERT INTO evidence_paths (watch_id, body) VALUES (:watch_id, :body) "
    "ON CONFLICT (watch_id) DO UPDATE SET body = excluded.body"
)
_SERVICES = select(watches.c.id, watches.c.service).where(watches.c.id.in_(bindparam("ids", expanding=True)))
_DIGEST = select(deploys.c.body_digest).where(deploys.c.id == bindparam("own_id"))
_PLAN = select(plans.c.digest).where(plans.c.digest == bindparam("own_digest"))
_EXPECTED_EPOCH = _EXPECTED.where(watches.c.epoch == bindparam("own_epoch"))


class LostError(Exception):
    """The compare-and-set lost: roll back, write nothing."""


class KnownError(Exception):
    """The deploy is on record already: roll back what was to change because of it."""

    def __init__(self, recorded: Recorded) -> None:
        super().__init__(recorded.value)
        self.recorded = recorded


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NewDeploy:
    """A deploy as it begins, and the older watches that it ends, as rows where that can be done beforehand."""

    watch: Watch
    messages: Sequence[Message]
    entries: Iterable[AuditEntry]
    sinks: Sequence[str]
    first: Sequence[Action] = ()
    ended: Sequence["Prepared"] = ()


def record(connection: Connection, new: NewDeploy) -> None:
    """Deploy, plan, watch, messages and audit of a new deploy, and the end of each older watch that is as expected.

    Raises
    ------
    KnownError
        The id is on record, with the same body's digest or with another: the caller rolls all back.
    LostError
        An action of an older watch is no longer as expected: the caller rolls all back.
    """
    deploy = new.watch.deploy
    won = _compared(connection, new.ended)  # first the watches, then the chain: the order in which every change locks
    serialise(connection)  # the same event may reach two replicas at once
    known = connection.execute(_DIGEST, {"own_id": deploy.id}).scalar()
    if known is not None:
        raise KnownError(Recorded.SAME if known == deploy.body_digest else Recorded.CONFLICT)
    _begin(connection, new.watch)
    _insert(connection, actions, [rows.action_row(action) for action in new.first])
    for one in won:
        _write_actions(connection, one.change)
    journal.append(connection, [*new.entries, *(entry for one in won for entry in one.change.audit)])
    journal.enqueue_first(connection, new.messages, new.sinks, new.watch.created_at)
    for one in won:
        journal.enqueue(connection, one.change.messages, new.sinks, one.change.at)


def _begin(connection: Connection, watch: Watch) -> None:
    """A new watch with its deploy, and its plan where no other watch has the same."""
    plan = rows.plan_row(watch.plan)
    _insert(connection, deploys, [rows.deploy_row(watch.deploy)])
    if connection.execute(_PLAN, {"own_digest": plan["digest"]}).scalar() is None:
        _insert(connection, plans, [plan])
    _insert(connection, watches, [rows.watch_row(watch, plan["digest"])])


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


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A change as rows, made before the transaction begins: nobody else waits for that."""

    change: Change
    fields: dict[str, Any]
    queries: list[dict[str, Any]]
    looks: list[dict[str, Any]]
    cells: list[dict[str, Any]]
    verdict: dict[str, Any] | None
    paths: dict[str, Any] | None


def prepare(change: Change) -> Prepared:
    """Check a change, and write it as rows (ValueError as `check`)."""
    check(change)
    fields = rows.settable("watch", change.fields) | {"updated_at": change.at}
    if change.to_state is not None:
        fields["state"] = change.to_state.value
    queries = [rows.queries_row(look.queries) for look in change.looks]
    return Prepared(
        change=change,
        fields=fields,
        queries=queries,
        looks=[
            rows.look_row(change.watch_id, look, asked["digest"])
            for look, asked in zip(change.looks, queries, strict=True)
        ],
        cells=[row for look in change.looks for row in rows.sample_rows(change.watch_id, look)],
        verdict=rows.verdict_row(change.watch_id, change.verdict, change.at) if change.verdict is not None else None,
        paths=rows.paths_row(change.watch_id, change.verdict) if change.verdict is not None else None,
    )


def apply(
    connection: Connection, prepared: Sequence[Prepared], sinks_for: Callable[[str], Sequence[str]]
) -> list[bool]:
    """Write all of each change, or nothing of one whose watch is no longer as it expects; says which were written.

    Raises
    ------
    LostError
        Something else of one change (an interval, an action) is no longer as expected: the caller rolls all back.
    """
    services = _services_of(connection, [one.change.watch_id for one in prepared])
    won = _compared(connection, prepared)
    for one in won:
        if one.change.expect_newest:
            serialise(connection)  # a deploy that is being recorded now comes before this, or finds it done
            if queries.is_overtaken(connection, one.change.watch_id):
                raise LostError
    _keep_queries(connection, won)
    with _lost_if_there():  # the interval is closed already
        _insert(connection, looks, [row for one in won for row in one.looks])
        _insert(connection, samples, [row for one in won for row in one.cells])
    _insert(connection, verdicts, [one.verdict for one in won if one.verdict is not None])
    paths = [one.paths for one in won if one.paths is not None]
    if paths:
        connection.execute(_PATHS, paths)
    for one in won:
        _write_actions(connection, one.change)
    for one in won:
        if (then := one.change.then) is not None:
            serialise(connection)  # its plan may be new to two replicas at once
            _begin(connection, then.watch)
            journal.append(connection, then.audit)
            journal.enqueue(connection, then.messages, sinks_for(then.watch.deploy.service), one.change.at)
    journal.append(connection, [entry for one in won for entry in one.change.audit])
    for one in won:
        journal.enqueue(connection, one.change.messages, sinks_for(services[one.change.watch_id]), one.change.at)
    return [one in won for one in prepared]


def _insert(connection: Connection, table: Table, new: list[dict[str, Any]]) -> None:
    if new:
        connection.execute(_INSERT[table.name], new)


def _keep_queries(connection: Connection, prepared: Iterable[Prepared]) -> None:
    """In one order everywhere: two replicas may be about to write the same ones."""
    asked = {row["digest"]: row for one in prepared for row in one.queries}
    if asked:
        connection.execute(_QUERIES, [asked[digest] for digest in sorted(asked)])


def _compared(connection: Connection, prepared: Sequence[Prepared]) -> list[Prepared]:
    """Those whose watch was as they expect, and is now as they want it."""
    in_order = sorted(prepared, key=lambda one: one.change.watch_id)  # all lock in this order
    return [one for one in in_order if _compare_and_set(connection, one)]


def _compare_and_set(connection: Connection, prepared: Prepared) -> bool:
    change = prepared.change
    expected = {"own_id": change.watch_id, "own_state": change.expect_state.value}
    statement = _EXPECTED
    if change.expect_epoch is not None:
        statement, expected["own_epoch"] = _EXPECTED_EPOCH, change.expect_epoch  # type: ignore[assignment]
    return connection.execute(statement, prepared.fields | expected).rowcount == 1


def _services_of(connection: Connection, watch_ids: Sequence[str]) -> dict[str, str]:
    """The services of stored watches; they never change, so they may be read before the comparison."""
    found = connection.execute(_SERVICES, {"ids": list(watch_ids)})
    services = {str(row.id): str(row.service) for row in found}
    for watch_id in watch_ids:
        if watch_id not in services:
            raise NotFoundError(f"no watch {watch_id!r} is on record", permanent=True)
    return services


@contextmanager
def _lost_if_there() -> Iterator[None]:
    try:
        yield
    except exc.IntegrityError as error:
        if is_duplicate(error):
            raise LostError from None
        raise


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
