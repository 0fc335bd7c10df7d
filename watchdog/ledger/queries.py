"""What is asked of the ledger: pure reading, on the caller's snapshot.

Statements that are asked with every look are built once: building one takes longer than SQLite takes to answer it.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache, lru_cache
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    bindparam,
    exists,
    func,
    literal_column,
    or_,
    select,
    tuple_,
    union_all,
)

from watchdog.ledger import rows
from watchdog.ledger.chain import ChainedEntry
from watchdog.ledger.schema import (
    BEGAN,
    IS_OPEN,
    actions,
    audit,
    deploys,
    flags,
    looks,
    outbox,
    plans,
    query_texts,
    samples,
    verdicts,
    watches,
)
from watchdog.model import Action, ActionKind, ActionState, State, StoredLook, Watch
from watchdog.ports import OutboxRow, StoredVerdict

PAUSED = "paused"
_STATEMENTS = 256  # kept of those that are asked with some states or others


def joined() -> Select[Any]:
    """Watches with the texts of their deploy and plan."""
    return (
        select(watches, deploys.c.body.label("deploy_body"), plans.c.body.label("plan_body"))
        .join(deploys, deploys.c.id == watches.c.deploy_id)
        .join(plans, plans.c.digest == watches.c.plan_digest)
    )


_WATCH = joined().where(watches.c.id == bindparam("own_id"))
_WATCHES_OF = joined().where(watches.c.id.in_(bindparam("ids", expanding=True)))
LOOKS = select(looks, query_texts.c.body.label("queries_body")).outerjoin(
    query_texts, query_texts.c.digest == looks.c.queries
)
_LOOKS = LOOKS.where(looks.c.watch_id == bindparam("own_id"), looks.c.interval > bindparam("after")).order_by(
    looks.c.interval
)
_SAMPLES = select(samples).where(samples.c.watch_id == bindparam("own_id"), samples.c.interval > bindparam("after"))
_BEFORE_ALL = -(2**31)  # no interval is older
_ACTION = select(actions).where(actions.c.id == bindparam("own_id"))
_OPEN = select(func.count(watches.c.next_look_at)).where(IS_OPEN)  # by the index's own column, or SQLite takes another
_HURT = select(watches.c.service).where(  # neither ordered nor distinct: SQLite would walk through the past for that
    IS_OPEN,
    func.coalesce(watches.c.environment, "") == bindparam("environment"),  # nor is the environment's index to be taken
    watches.c.reason == bindparam("reason"),
    watches.c.updated_at >= bindparam("since"),
)
_PAUSE = select(flags).where(flags.c.name == PAUSED)


def watch(connection: Connection, watch_id: str) -> Watch | None:
    row = connection.execute(_WATCH, {"own_id": watch_id}).mappings().one_or_none()
    return None if row is None else rows.to_watch(row)


def watches_of(connection: Connection, watch_ids: Sequence[str]) -> dict[str, Watch]:
    found = connection.execute(_WATCHES_OF, {"ids": list(watch_ids)}).mappings()
    return {watch.id: watch for watch in rows.readable(found, rows.to_watch)}


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
    wanted = {
        "service": service,
        "services": sorted(services) if services is not None else None,
        "environment": environment,
        "before": before,
        "before_id": before_id if before is not None else None,
    }
    given = {name: value for name, value in wanted.items() if value is not None}
    found = connection.execute(_newest(frozenset(given), states), {**given, "most": limit}).mappings()
    return rows.readable(found, rows.to_watch)


def _in(column: ColumnElement[str], states: frozenset[StrEnum]) -> ColumnElement[bool]:
    """The states stand in the statement: a list of parameters would be written out anew with every execution."""
    return column.in_([literal_column(f"'{state.value}'") for state in sorted(states)])


@lru_cache(maxsize=_STATEMENTS)
def _newest(given: frozenset[str], states: frozenset[State] | None) -> Select[Any]:
    """The page that these conditions ask for."""
    place, last = tuple_(watches.c.created_at, watches.c.id), tuple_(bindparam("before"), bindparam("before_id"))
    conditions = {
        "service": watches.c.service == bindparam("service"),
        "services": watches.c.service.in_(bindparam("services", expanding=True)),
        "environment": watches.c.environment == bindparam("environment"),
        "before": watches.c.created_at < bindparam("before"),
        "before_id": place < last,
    }
    names = given - {"before"} if "before_id" in given else given
    ids = select(watches.c.id).order_by(*_ORDER).limit(bindparam("most"))
    ids = ids.where(*(conditions[name] for name in sorted(names)))
    if states is not None:
        ids = ids.where(_in(watches.c.state, states))
    return joined().where(watches.c.id.in_(ids.scalar_subquery())).order_by(*_ORDER)


_PLACE = (watches.c.service == bindparam("service"), watches.c.environment == bindparam("environment"))
_ORDER = (watches.c.created_at.desc(), watches.c.id.desc())


@lru_cache(maxsize=_STATEMENTS)
def _standing(states: frozenset[State], lately: frozenset[State]) -> Select[Any]:
    """Ids first, along an index each; ordered with the rest, SQLite would walk through all that ever stood there."""
    ids = select(watches.c.id).where(*_PLACE)
    newest = ids.order_by(*_ORDER).limit(1).subquery()
    wanted = [ids.where(_in(watches.c.state, states)), select(newest.c.id)]
    if lately:
        wanted.append(ids.where(_in(watches.c.state, lately), watches.c.updated_at >= bindparam("since")))
    return joined().where(watches.c.id.in_(union_all(*wanted))).order_by(*_ORDER)


def standing(
    connection: Connection,
    service: str,
    environment: str,
    states: frozenset[State],
    lately: frozenset[State],
    since: float,
) -> list[Watch]:
    """The watches of one place in these states, or `lately` come into one of those, and its newest whatever its state;
    the newest first."""
    place = {"service": service, "environment": environment, **({"since": since} if lately else {})}
    found = connection.execute(_standing(states, lately), place).mappings()
    return rows.readable(found, rows.to_watch)


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
    wanted = {"own_id": watch_id, "after": _BEFORE_ALL if after is None else after}
    cells: defaultdict[int, dict[str, str]] = defaultdict(dict)
    # sorted here: databases differ in how they order texts
    for row in sorted(connection.execute(_SAMPLES, wanted), key=lambda row: (row.interval, row.metric)):
        cells[row.interval][row.metric] = row.cells
    heads = connection.execute(_LOOKS, wanted).mappings()
    return [rows.to_look(row, cells.get(row["interval"], {})) for row in heads]


def stored_verdicts(connection: Connection, watch_id: str, last: int | None) -> list[StoredVerdict]:
    """In the order they fell; `last` keeps the newest ones only."""
    found = select(verdicts).where(verdicts.c.watch_id == watch_id).order_by(verdicts.c.id.desc()).limit(last)
    return [rows.to_verdict(row) for row in connection.execute(found).mappings()][::-1]


def chained_audit(connection: Connection, watch_id: str | None, limit: int | None) -> list[ChainedEntry]:
    """The newest `limit` rows, oldest first."""
    wanted: dict[str, object] = {} if watch_id is None else {"own_id": watch_id}
    if limit is not None:
        wanted["most"] = limit
    found = _audit(of_watch=watch_id is not None, some=limit is not None)
    return [rows.to_chained(row) for row in connection.execute(found, wanted).mappings()][::-1]


@cache
def _audit(*, of_watch: bool, some: bool) -> Select[Any]:
    found = select(audit).order_by(audit.c.id.desc())
    if of_watch:
        found = found.where(audit.c.watch_id == bindparam("own_id"))
    return found.limit(bindparam("most")) if some else found


def find_actions(
    connection: Connection, *, watch_id: str | None, states: frozenset[ActionState] | None
) -> list[Action]:
    """In the order they were intended. One that cannot be read is left out, but where its own watch is asked for."""
    wanted: dict[str, object] = {}
    if watch_id is not None:
        wanted["own_id"] = watch_id
    found = _actions(states, of_watch=watch_id is not None)
    told = connection.execute(found, wanted).mappings()
    return rows.readable(told, rows.to_action) if watch_id is None else [rows.to_action(row) for row in told]


@lru_cache(maxsize=_STATEMENTS)
def _actions(states: frozenset[ActionState] | None, *, of_watch: bool) -> Select[Any]:
    found = select(actions).order_by(actions.c.created_at, actions.c.id)
    if of_watch:
        found = found.where(actions.c.watch_id == bindparam("own_id"))
    if states is not None:
        found = found.where(_in(actions.c.state, states))
    return found


def action(connection: Connection, action_id: str) -> Action | None:
    row = connection.execute(_ACTION, {"own_id": action_id}).mappings().one_or_none()
    return None if row is None else rows.to_action(row)


_NOT_BEGUN = (ActionState.HELD, ActionState.CANCELLED, ActionState.NOT_NEEDED)  # unless they had been, before
_ROLLBACKS = (
    select(actions)
    .where(
        actions.c.kind == ActionKind.ROLLBACK.value,
        or_(actions.c.started_at.is_not(None), actions.c.state.not_in([state.value for state in _NOT_BEGUN])),
        bindparam("since") <= BEGAN,
    )
    .order_by(BEGAN, actions.c.id)
)


def rollbacks_since(connection: Connection, since: float) -> list[Action]:
    """The rollbacks of all services that were started, or are about to be, whatever came of them.

    One whose hook ran, and which was cancelled because nobody knew its effect, may well have taken effect.
    """
    return rows.readable(connection.execute(_ROLLBACKS, {"since": since}).mappings(), rows.to_action)


def paused(connection: Connection) -> str | None:
    """Why no action may start, while the kill switch is on."""
    row = connection.execute(_PAUSE).one_or_none()
    if row is None:
        return None
    return str(row.value) or f"paused by {row.actor}"


def messages(connection: Connection, watch_id: str) -> list[tuple[OutboxRow, str]]:
    found = select(outbox).where(outbox.c.watch_id == watch_id).order_by(outbox.c.id)
    return [(rows.to_outbox_row(row), str(row["state"])) for row in connection.execute(found).mappings()]


def hurt(connection: Connection, environment: str, reason: str, since: float) -> list[str]:
    """The services of an environment of which a watch that goes on has come to this reason since, in order."""
    wanted = {"environment": environment, "reason": reason, "since": since}
    return sorted({str(service) for service in connection.execute(_HURT, wanted).scalars()})


def is_overtaken(connection: Connection, watch_id: str) -> bool:
    """A newer deploy of the same place is on record."""
    own = watches.alias("own")
    newer = exists().where(
        own.c.id == watch_id,
        watches.c.service == own.c.service,
        watches.c.environment == own.c.environment,
        watches.c.id != watch_id,
        watches.c.created_at > own.c.created_at,
    )
    return bool(connection.execute(select(newer)).scalar())


def active(connection: Connection) -> int:
    """How many watches go on."""
    return int(connection.execute(_OPEN).scalar_one())


def counts(connection: Connection) -> Mapping[str, int]:
    found = select(watches.c.state, func.count()).group_by(watches.c.state)
    return {str(state): int(number) for state, number in connection.execute(found)}
