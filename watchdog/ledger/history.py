"""What people look back on: drawn samples, evidence over time, labels, and counts of how deploys ended."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, bindparam, delete, func, insert, select

from watchdog.ledger import journal, rows
from watchdog.ledger.queries import LOOKS
from watchdog.ledger.schema import DAY_OF_WATCH, labels, looks, plans, samples, verdicts, watches
from watchdog.model import AuditEntry, Label, LabelKind, State, StoredLook
from watchdog.ports import CellKeys, EvidencePoint, RawSamples, Tally

DAY_S = 86400
_AT_ONCE = 500  # ids in one question; databases bound the number of parameters
_MOST_RESTORES = 1000
_LABELS = select(labels).where(labels.c.watch_id.in_(bindparam("ids", expanding=True)))
_TOTAL, _VALUE = ',"total":', ',"value":'


def evidence_path(connection: Connection, watch_id: str) -> list[EvidencePoint]:
    """In the order of the looks, without the payloads, which grow with every look."""
    columns = (verdicts.c.look, verdicts.c.at, verdicts.c.log_evidence, verdicts.c.log_threshold)
    found = select(*columns).where(verdicts.c.watch_id == watch_id).order_by(verdicts.c.id)
    return [
        EvidencePoint(look=look, at=at, log_evidence=_real(evidence), log_threshold=_real(threshold))
        for look, at, evidence, threshold in connection.execute(found)
    ]


def metric_evidence(
    connection: Connection, watch_id: str, after: int | None
) -> Iterator[tuple[int, Mapping[str, float]]]:
    """What was said of each metric after each look; `after` leaves out looks up to and including it."""
    found = select(verdicts.c.look, verdicts.c.payload).where(verdicts.c.watch_id == watch_id).order_by(verdicts.c.id)
    if after is not None:
        found = found.where(verdicts.c.look > after)
    for look, payload in connection.execute(found):
        yield look, rows.read(f"a verdict of watch {watch_id}", partial(_by_metric, payload))


def _by_metric(payload: str) -> dict[str, float]:
    """Infinities are stored as words, NaN as null."""
    told = {str(said["metric"]): said["log_evidence"] for said in from_json(payload)["evidence"]}
    return {metric: math.nan if value is None else float(value) for metric, value in told.items()}


def last_look(connection: Connection, watch_id: str) -> StoredLook | None:
    """The newest closed interval, without its cells."""
    newest = LOOKS.where(looks.c.watch_id == watch_id).order_by(looks.c.interval.desc()).limit(1)
    row = connection.execute(newest).mappings().one_or_none()
    return None if row is None else rows.to_look(row, {})


def raw_samples(connection: Connection, watch_id: str, after: int | None) -> Iterator[RawSamples]:
    """In the order of the intervals; `after` leaves out intervals up to and including it."""
    found = (
        select(samples.c.interval, samples.c.metric, samples.c.cells)
        .where(samples.c.watch_id == watch_id)
        .order_by(samples.c.interval, samples.c.metric)
    )
    if after is not None:
        found = found.where(samples.c.interval > after)
    known: dict[str, CellKeys] = {}
    for part in connection.execute(found).partitions(_AT_ONCE):
        yield from rows.read(f"samples of watch {watch_id}", partial(_raw, part, known))


def _raw(part: Iterable[Sequence[Any]], known: dict[str, CellKeys]) -> list[RawSamples]:
    """Cut each text before its numbers: what stands there is the same in nearly every interval, and read once.

    `encode.dumps` sorts the names and escapes quotes inside of texts, so that the cuts can be nowhere else.
    """
    found = []
    for interval, metric, cells in part:
        total, value = cells.index(_TOTAL), cells.index(_VALUE)
        keys = known.get(cells[:total])
        if keys is None:
            told = json.loads(cells[:total] + "}")
            keys = CellKeys(arm=told["arm"], replica=told["replica"], stratum=told["stratum"], le=told["le"])
            known[cells[:total]] = keys
        total_json, value_json = cells[total + len(_TOTAL) : value], cells[value + len(_VALUE) : -1]
        found.append(RawSamples(interval, metric, keys, value_json, total_json))
    return found


def set_label(connection: Connection, label: Label, entry: AuditEntry) -> None:
    """Replace what was said of a verdict; the audit keeps both words."""
    connection.execute(delete(labels).where(labels.c.watch_id == label.watch_id))
    values = {"watch_id": label.watch_id, "kind": label.kind.value, "note": label.note, "actor": label.actor}
    connection.execute(insert(labels), values | {"at": label.at})
    journal.append(connection, [entry])


def find_labels(connection: Connection, watch_ids: Sequence[str]) -> Mapping[str, Label]:
    """By the ids of the watches; those without a label are absent."""
    found: dict[str, Label] = {}
    for start in range(0, len(watch_ids), _AT_ONCE):
        for row in connection.execute(_LABELS, {"ids": list(watch_ids[start : start + _AT_ONCE])}):
            kind = rows.read(f"the label of watch {row.watch_id}", partial(LabelKind, row.kind))
            found[row.watch_id] = Label(watch_id=row.watch_id, kind=kind, note=row.note, actor=row.actor, at=row.at)
    return found


def tallies(connection: Connection, service: str | None, since: float | None) -> list[Tally]:
    """Counted in the database: a hundred thousand deploys are some hundred rows. `since` takes its whole day in.

    Labels are counted by themselves and taken off the rest: few deploys have one, and to look for the label of each
    would take longer than all of the counting.
    """
    since_day = None if since is None else math.floor(since / DAY_S)
    counted = _counted(connection, service, since_day)
    budgets = _budgets(connection, {key.plan_digest for key in counted})
    found = _labelled(connection, service, since_day)
    for (key, _), count in found.items():
        counted[key] -= count
    every = [*((key, None, count) for key, count in counted.items()), *((k, said, n) for (k, said), n in found.items())]
    told = [
        Tally(
            service=key.service,
            mode=key.mode,
            day=key.day,
            state=_STATES[key.state],
            verdict=key.verdict,
            label=said,
            budget=budgets[key.plan_digest],
            count=count,
        )
        for key, said, count in every
        if count > 0
    ]
    return sorted(told, key=lambda tally: (tally.day, tally.service))


class _Alike(NamedTuple):
    """What deploys have in common that are counted together."""

    service: str
    mode: str
    state: str
    verdict: str | None
    plan_digest: str
    day: int


_ALIKE = (
    watches.c.service, watches.c.mode, watches.c.state, watches.c.verdict, watches.c.plan_digest, DAY_OF_WATCH,
)  # fmt: skip # in the order of the index, which then need not be sorted
_STATES = {state.value: state for state in State}
_KINDS = {kind.value: kind for kind in LabelKind}


def _counted(connection: Connection, service: str | None, since_day: int | None) -> dict[_Alike, int]:
    found = select(*_ALIKE, func.count()).group_by(*_ALIKE)
    if service is not None:
        found = found.where(watches.c.service == service)
    if since_day is not None:
        found = found.where(since_day <= DAY_OF_WATCH)
    return {_Alike(*key): count for *key, count in connection.execute(found).all()}


def _labelled(
    connection: Connection, service: str | None, since_day: int | None
) -> dict[tuple[_Alike, LabelKind], int]:
    """From the labels to their watches: the join is an outer one so that SQLite does not begin at the other end."""
    found = (
        select(*_ALIKE, labels.c.kind, func.count())
        .select_from(labels.outerjoin(watches, watches.c.id == labels.c.watch_id))
        .group_by(*_ALIKE, labels.c.kind)
    )
    return {
        (_Alike(*key), _KINDS[kind]): count
        for *key, kind, count in connection.execute(found).all()
        if (service is None or key[0] == service) and (since_day is None or key[-1] >= since_day)
    }


def _budgets(connection: Connection, digests: set[str]) -> dict[str, float]:
    wanted = sorted(digests)
    found: dict[str, float] = {}
    for start in range(0, len(wanted), _AT_ONCE):
        part = select(plans).where(plans.c.digest.in_(wanted[start : start + _AT_ONCE]))
        for digest, body in connection.execute(part):
            found[digest] = rows.read(f"plan {digest}", partial(_budget, body))
    return found


def _budget(plan: str) -> float:
    return float(json.loads(plan)["judge"]["budget"])


def times_to_restore(connection: Connection, service: str, since: float) -> list[float]:
    """Seconds from the verdict to the proof that traffic is back on the old version."""
    found = (
        select(watches.c.degraded_at, watches.c.recovered_at)
        .where(watches.c.service == service, watches.c.created_at >= since, watches.c.recovered_at.is_not(None))
        .where(watches.c.degraded_at.is_not(None))
        .order_by(watches.c.created_at.desc())
        .limit(_MOST_RESTORES)
    )
    return [row.recovered_at - row.degraded_at for row in connection.execute(found)]


def _real(value: float | None) -> float:
    return math.nan if value is None else value
