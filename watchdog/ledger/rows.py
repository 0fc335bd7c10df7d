"""Nouns to table rows and back. A row that cannot be read is damage, and is said so."""

import hashlib
import json
import logging
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, replace
from functools import lru_cache
from typing import Any, TypeVar, get_type_hints

from sqlalchemy import RowMapping

from analysis.prepare import Cells, LookFacts
from analysis.result import Verdict
from watchdog.errors import LedgerCorruptError
from watchdog.identity import This
from watchdog.ledger.chain import ChainedEntry
from watchdog.ledger.encode import decoder, dumps, loads, to_json
from watchdog.ledger.engine import RESTORE
from watchdog.ledger.schema import actions, watches
from watchdog.model import Action, AuditEntry, Deploy, Message, Plan, StoredLook, Watch
from watchdog.ports import OutboxRow, StoredVerdict

_log = logging.getLogger(__name__)

T = TypeVar("T")
AnyRow = RowMapping

WATCH_FIELDS = frozenset(f.name for f in fields(Watch)) - {"deploy", "plan"}
_FIXED = frozenset({"id", "state", "created_at", "updated_at", "epoch"})
SETTABLE = {
    "watch": WATCH_FIELDS - _FIXED,
    "action": frozenset({"detail", "next_at", "deadline_at", "started_at", "finished_at", "params"}),
}
_COLUMNS = {"watch": watches.c, "action": actions.c}


def read(what: str, reader: Callable[[], T]) -> T:
    """Run a reader; what it cannot read is told as damage, with the way out."""
    try:
        return reader()
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise LedgerCorruptError(
            f"{what} in the ledger cannot be read ({str(error)[:300]}); {RESTORE}", permanent=True
        ) from error


def readable(found: Iterable[AnyRow], reader: Callable[[AnyRow], T]) -> list[T]:
    """What can be read of many rows; damage costs its own row, and nobody else's.

    Raises
    ------
    LedgerCorruptError
        None of several can be read: then it is not a row that is damaged.
    """
    read_ones: list[T] = []
    damage: list[LedgerCorruptError] = []
    for row in found:
        try:
            read_ones.append(reader(row))
        except LedgerCorruptError as error:
            damage.append(error)
    if len(damage) > 1 and not read_ones:
        raise damage[0]
    for one in damage:
        _tell_once(one.message)
    return read_ones


@lru_cache(maxsize=1024)
def _tell_once(said: str) -> None:
    """Rows that are asked for with every tick would fill the log."""
    _log.error("left out: %s", said)


def settable(what: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """The columns for `values`; ValueError for a name or value that the table does not take."""
    unknown = set(values) - SETTABLE[what]
    if unknown:
        raise ValueError(f"no field of a stored {what}, or not one to set here: {', '.join(sorted(unknown))}")
    row = {name: dumps(value) if name == "params" else to_json(value) for name, value in values.items()}
    empty = [name for name, value in row.items() if value is None and not _COLUMNS[what][name].nullable]
    if empty:
        raise ValueError(f"a stored {what} needs a value (not None, not NaN) for {', '.join(sorted(empty))}")
    return row


def deploy_row(deploy: Deploy) -> dict[str, Any]:
    return {
        "id": deploy.id,
        "service": deploy.service,
        "environment": deploy.environment,
        "version": deploy.version,
        "deployed_at": deploy.deployed_at,
        "body_digest": deploy.body_digest,
        "body": dumps(deploy),
    }


def plan_row(plan: Plan) -> dict[str, Any]:
    """Plans are immutable, and the deploys of a service that are watched alike share one."""
    digest, body = _plan_text(This(plan))
    return {"digest": digest, "body": body}


@lru_cache(maxsize=1024)
def _plan_text(this: This[Plan]) -> tuple[str, str]:
    body = dumps(this.one)
    return hashlib.sha256(body.encode()).hexdigest(), body


def watch_row(watch: Watch, plan_digest: str) -> dict[str, Any]:
    row = {name: to_json(getattr(watch, name)) for name in WATCH_FIELDS}
    return row | {
        "deploy_id": watch.deploy.id,
        "plan_digest": plan_digest,
        "service": watch.deploy.service,
        "environment": watch.deploy.environment,
        "train": watch.deploy.train,
        "lease_owner": None,
        "lease_until": 0.0,
    }


def to_watch(row: AnyRow) -> Watch:
    """A Watch from its row joined with `deploy_body` and `plan_body`."""

    def build() -> Watch:
        decoded = {name: reader(row[name]) for name, reader in _WATCH_READERS.items()}
        return Watch(deploy=_deploy(row["deploy_body"]), plan=_plan(row["plan_body"]), **decoded)

    return read(f"watch {row['id']}", build)


@lru_cache(maxsize=8192)
def _deploy(body: str) -> Deploy:
    """Deploys are immutable, and those that are watched are read with every look."""
    return loads(Deploy, body)


@lru_cache(maxsize=2048)
def _plan(body: str) -> Plan:
    """Plans are immutable and shared by the watches of a service; each is decoded once."""
    return loads(Plan, body)


def action_row(action: Action) -> dict[str, Any]:
    row = {f.name: to_json(getattr(action, f.name)) for f in fields(Action)}
    return row | {"params": dumps(action.params)}


def to_action(row: AnyRow) -> Action:
    values = dict(row)

    def build() -> Action:
        values["params"] = json.loads(values["params"])
        return Action(**{name: reader(values[name]) for name, reader in _ACTION_READERS.items()})

    return read(f"action {values['id']}", build)


def look_row(watch_id: str, look: StoredLook, queries_digest: str) -> dict[str, Any]:
    return {
        "watch_id": watch_id,
        "interval": look.interval,
        "facts": dumps(look.facts),
        "queries": queries_digest,
    }


def queries_row(queries: Mapping[str, str]) -> dict[str, Any]:
    """What was asked of the source for a look; other looks may have asked the same."""
    body = dumps(queries)
    return {"digest": hashlib.sha256(body.encode()).hexdigest(), "body": body}


def sample_rows(watch_id: str, look: StoredLook) -> list[dict[str, Any]]:
    return [
        {"watch_id": watch_id, "interval": look.interval, "metric": metric, "cells": dumps(cells)}
        for metric, cells in look.cells.items()
    ]


def to_look(row: AnyRow, cells: Mapping[str, str]) -> StoredLook:
    """A look from its row joined with `queries_body`, and the stored cells of each metric."""
    return read(
        f"look {row['interval']} of watch {row['watch_id']}",
        lambda: StoredLook(
            interval=row["interval"],
            facts=loads(LookFacts, row["facts"]),
            cells={metric: loads(Cells, text) for metric, text in cells.items()},
            queries=loads(dict[str, str], row["queries"] if row["queries_body"] is None else row["queries_body"]),
        ),
    )


def verdict_row(watch_id: str, verdict: Verdict, at: float) -> dict[str, Any]:
    return {
        "watch_id": watch_id,
        "at": at,
        "look": verdict.look,
        "kind": to_json(verdict.kind),
        "reason": to_json(verdict.reason),
        "metric": verdict.metric,
        "log_evidence": _real(verdict.log_evidence),
        "log_threshold": _real(verdict.log_threshold),
        "sentence": verdict.sentence,
        "payload": dumps(replace(verdict, evidence=tuple([replace(said, path=()) for said in verdict.evidence]))),
    }


def paths_row(watch_id: str, verdict: Verdict) -> dict[str, Any]:
    """The evidence of each metric after every look, as the newest verdict has it."""
    return {"watch_id": watch_id, "body": dumps({said.metric: said.path for said in verdict.evidence})}


def _real(value: float) -> float | None:
    return None if math.isnan(value) else float(value)


def to_verdict(row: AnyRow) -> StoredVerdict:
    return read(
        f"a verdict of watch {row['watch_id']}",
        lambda: StoredVerdict(
            look=row["look"],
            at=row["at"],
            kind=row["kind"],
            reason=row["reason"],
            metric=row["metric"],
            log_evidence=math.nan if row["log_evidence"] is None else row["log_evidence"],
            log_threshold=math.nan if row["log_threshold"] is None else row["log_threshold"],
            sentence=row["sentence"],
            payload=json.loads(row["payload"]),
        ),
    )


def audit_row(chained: AuditEntry, prev_hash: str, own_hash: str) -> dict[str, Any]:
    row = {f.name: to_json(getattr(chained, f.name)) for f in fields(AuditEntry)}
    return row | {"details": dumps(chained.details), "prev_hash": prev_hash, "hash": own_hash}


def to_chained(row: AnyRow) -> ChainedEntry:
    values = dict(row)

    def build() -> ChainedEntry:
        values["details"] = json.loads(values["details"])
        entry = AuditEntry(**{f.name: values[f.name] for f in fields(AuditEntry)})
        return ChainedEntry(id=int(values["id"]), entry=entry, prev_hash=values["prev_hash"], hash=values["hash"])

    return read(f"audit row {values['id']}", build)


def message_row(message: Message, sink: str, at: float) -> dict[str, Any]:
    row = {f.name: to_json(getattr(message, f.name)) for f in fields(Message)}
    return row | {
        "facts": dumps(message.facts),
        "sink": sink,
        "state": "pending",
        "attempts": 0,
        "created_at": at,
        "next_at": at,
        "tried_at": None,
        "error": "",
    }


def to_outbox_row(row: AnyRow) -> OutboxRow:
    values = dict(row)

    def build() -> OutboxRow:
        noun = {f.name: values[f.name] for f in fields(Message)} | {"facts": json.loads(values["facts"])}
        return OutboxRow(
            id=values["id"],
            sink=values["sink"],
            message=_MESSAGE_READER(noun),
            attempts=values["attempts"],
            created_at=values["created_at"],
            next_at=values["next_at"],
        )

    return read(f"outbox row {values['id']}", build)


def _readers(kind: type, names: frozenset[str]) -> dict[str, Callable[[Any], Any]]:
    hints = get_type_hints(kind)
    return {name: decoder(hints[name]) for name in sorted(names)}


_WATCH_READERS = _readers(Watch, WATCH_FIELDS)
_ACTION_READERS = _readers(Action, frozenset(f.name for f in fields(Action)))
_MESSAGE_READER = decoder(Message)
