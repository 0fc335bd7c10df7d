"""What is asked of the ledger: pure reading, on the caller's snapshot."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Select, func, select, tuple_

from watchdog.ledger import rows
from watchdog.ledger.chain import ChainedEntry
from watchdog.ledger.schema import actions, audit, deploys, flags, looks, outbox, plans, samples, verdicts, watches
from watchdog.model import FINAL, Action, ActionKind, ActionState, State, StoredLook, Watch
from watchdog.ports import OutboxRow, StoredVerdict

PAUSED = "paused"


def joined() -> Select[Any]:
    """Watches with the texts of their deploy and plan."""
    return (
        select(watches, deploys.c.body.label("deploy_body"), plans.c.body.label("plan_body"))
        .join(deploys, deploys.c.id == watches.c.deploy_id)
        .join(plans, plans.c.digest == watches.c.plan_digest)
    )


def watch(connection: Connection, watch_id: str) -> Watch | None:
    row = connection.execute(joined().where(watches.c.id == watch_id)).mappings().one_or_none()
    return None if row is None else rows.to_watch(row)


def watches_of(connection: Connection, watch_ids: Sequence[str]) -> dict[str, Watch]:
    found = connection.execute(joined().where(watches.c.id.in_(watch_ids))).mappings()
    return {row["id"]: rows.to_watch(row) for row in found}


def find_watches(
    connection: Connection,
    *,
    service: str | None,
    environment: str | None,
    states: frozenset[State] | None,
    limit: int,
    before: float | None,
    before_id: str | None,
    services: frozenset[str] | None,
) -> list[Watch]:
    """The newest first. Only ids are sorted; the long texts are fetched for the rows of the page alone."""
    newest = (watches.c.created_at.desc(), watches.c.id.desc())
    ids = select(watches.c.id).order_by(*newest).limit(limit)
    if service is not None:
        ids = ids.where(watches.c.service == service)
    if services is not None:
        ids = ids.where(watches.c.service.in_(sorted(services)))
    if environment is not None:
        ids = ids.where(watches.c.environment == environment)
    if states is not None:
        ids = ids.where(watches.c.state.in_([state.value for state in states]))
    if before is not None and before_id is not None:
        ids = ids.where(tuple_(watches.c.created_at, watches.c.id) < tuple_(before, before_id))
    elif before is not None:
        ids = ids.where(watches.c.created_at < before)
    found = joined().where(watches.c.id.in_(ids.scalar_subquery())).order_by(*newest)
    return [rows.to_watch(row) for row in connection.execute(found).mappings()]


def train(connection: Connection, name: str, environment: str) -> list[Watch]:
    """The watches of one release train, in the order in which they were deployed."""
    found = joined().where(watches.c.train == name, watches.c.environment == environment)
    order = (deploys.c.deployed_at, watches.c.created_at, watches.c.id)
    return [rows.to_watch(row) for row in connection.execute(found.order_by(*order)).mappings()]


def distinct(connection: Connection, name: str) -> list[str]:
    """The values of an indexed column in order: from each to the next, not through every row."""
    column = watches.c[name]
    step = select(func.min(column).label("value")).cte("step", recursive=True)
    following = select(select(func.min(column)).where(column > step.c.value).scalar_subquery())
    step = step.union_all(following.where(step.c.value.is_not(None)))
    return [str(value) for value in connection.execute(select(step.c.value)).scalars() if value is not None]


def stored_looks(connection: Connection, watch_id: str, after: int | None) -> list[StoredLook]:
    """In the order of their intervals; `after` leaves out intervals up to and including it."""
    heads = select(looks).where(looks.c.watch_id == watch_id).order_by(looks.c.interval)
    bodies = select(samples).where(samples.c.watch_id == watch_id)
    if after is not None:
        heads, bodies = heads.where(looks.c.interval > after), bodies.where(samples.c.interval > after)
    cells: defaultdict[int, dict[str, str]] = defaultdict(dict)
    # sorted here: databases differ in how they order texts
    for row in sorted(connection.execute(bodies), key=lambda row: (row.interval, row.metric)):
        cells[row.interval][row.metric] = row.cells
    return [rows.to_look(row, cells.get(row["interval"], {})) for row in connection.execute(heads).mappings()]


def stored_verdicts(connection: Connection, watch_id: str, last: int | None) -> list[StoredVerdict]:
    """In the order they fell; `last` keeps the newest ones only."""
    found = select(verdicts).where(verdicts.c.watch_id == watch_id).order_by(verdicts.c.id.desc()).limit(last)
    return [rows.to_verdict(row) for row in connection.execute(found).mappings()][::-1]


def chained_audit(connection: Connection, watch_id: str | None, limit: int | None) -> list[ChainedEntry]:
    """The newest `limit` rows, oldest first."""
    found = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if watch_id is not None:
        found = found.where(audit.c.watch_id == watch_id)
    return [rows.to_chained(row) for row in connection.execute(found).mappings()][::-1]


def find_actions(
    connection: Connection, *, watch_id: str | None, states: frozenset[ActionState] | None
) -> list[Action]:
    """In the order they were intended."""
    found = select(actions).order_by(actions.c.created_at, actions.c.id)
    if watch_id is not None:
        found = found.where(actions.c.watch_id == watch_id)
    if states is not None:
        found = found.where(actions.c.state.in_([state.value for state in states]))
    return [rows.to_action(row) for row in connection.execute(found).mappings()]


def action(connection: Connection, action_id: str) -> Action | None:
    row = connection.execute(select(actions).where(actions.c.id == action_id)).mappings().one_or_none()
    return None if row is None else rows.to_action(row)


_UNDONE = (ActionState.HELD, ActionState.CANCELLED, ActionState.NOT_NEEDED)


def rollbacks_since(connection: Connection, since: float) -> list[Action]:
    """The rollbacks of all services that were started, or are about to be, whatever came of them but NOT_NEEDED."""
    at = func.coalesce(actions.c.started_at, actions.c.created_at)
    found = (
        select(actions)
        .where(
            actions.c.kind == ActionKind.ROLLBACK.value,
            actions.c.state.not_in([state.value for state in _UNDONE]),
            at >= since,
        )
        .order_by(at, actions.c.id)
    )
    return [rows.to_action(row) for row in connection.execute(found).mappings()]


def paused(connection: Connection) -> str | None:
    """Why no action may start, while the kill switch is on."""
    row = connection.execute(select(flags).where(flags.c.name == PAUSED)).one_or_none()
    if row is None:
        return None
    return str(row.value) or f"paused by {row.actor}"


def messages(connection: Connection, watch_id: str) -> list[tuple[OutboxRow, str]]:
    found = select(outbox).where(outbox.c.watch_id == watch_id).order_by(outbox.c.id)
    return [(rows.to_outbox_row(row), str(row["state"])) for row in connection.execute(found).mappings()]


def active(connection: Connection) -> int:
    """How many watches go on."""
    ended = [state.value for state in FINAL]
    return int(connection.execute(select(func.count()).where(watches.c.state.not_in(ended))).scalar_one())


def counts(connection: Connection) -> Mapping[str, int]:
    found = select(watches.c.state, func.count()).group_by(watches.c.state)
    return {str(state): int(number) for state, number in connection.execute(found)}
