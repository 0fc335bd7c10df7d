"""What must hold when a run is over: everything came to its end, was told, and is what really happened."""

import math
import sqlite3
from dataclasses import replace
from typing import TYPE_CHECKING

from analysis.prepare import Cells
from tests.simulator.database import CalmDatabase
from tests.simulator.faults import Fault
from tests.simulator.production import TRAITS
from tests.simulator.traffic import PLAIN, Truth
from tests.simulator.witness import FINAL
from watchdog.judging import observation
from watchdog.ledger.chain import verify_chain
from watchdog.ledger.sql import SqlLedger
from watchdog.model import Severity, Watch

if TYPE_CHECKING:
    from tests.simulator.simulation import Simulation

LOUD_END = ("ended", Severity.PAGE)
_EXPIRED = (
    "SELECT DISTINCT watches.id FROM watches JOIN audit ON audit.watch_id = watches.id "
    "WHERE audit.event = 'watch.hold_expired' AND watches.mode <> 'observe'"
)
FEWEST_LOOKS = 6  # a verdict HEALTHY rests on at least so many
REPEATS = frozenset(
    {Fault.CRASH, Fault.FREEZE, Fault.DELAY, Fault.LEDGER_BUSY, Fault.LEDGER_FAILS, Fault.LEDGER_ANSWER_LOST}
    | {Fault.LEDGER_AWAY, Fault.SINK_FAILS, Fault.SINK_SLOW, Fault.CLOCK_SKEW}
)


def unsettled(raw: sqlite3.Connection) -> list[str]:
    """What is not over yet."""
    watches = [
        f"{name} is still {state}"
        for name, state in raw.execute("SELECT id, state FROM watches")
        if state not in FINAL and state != "UNKNOWN"
    ]
    actions = [
        f"action {name[:6]} of {watch} is still {state}"
        for name, watch, state in raw.execute(
            "SELECT id, watch_id, state FROM actions WHERE state IN ('INTENT', 'RUNNING', 'RETRY_WAIT', 'HELD')"
        )
    ]
    waiting = int(raw.execute("SELECT count(*) FROM outbox WHERE state = 'pending'").fetchone()[0])
    return [*watches, *actions, *([f"{waiting} messages still wait"] if waiting else [])]


def check(run: "Simulation") -> None:
    """Everything that can be said only at the end."""
    for left in unsettled(run.raw):
        run.witness.claim(False, "P1", left)
    _deploys(run)
    _messages(run)
    _audit(run)
    _truth(run)


def _deploys(run: "Simulation") -> None:
    for arrival in run.arrivals:
        run.witness.claim(arrival.id in run.witness.watches, "P8", f"{arrival.id} is not on record")
    run.witness.claim(len(run.witness.watches) == len(run.arrivals), "P8", "one deploy is watched twice")


def _messages(run: "Simulation") -> None:
    arrived: dict[tuple[str, str], list[str]] = {}
    for _, sink, message in run.inbox.arrived:
        arrived.setdefault((message.watch_id, sink), []).append(message.key)
    queued: dict[tuple[str, str], list[str]] = {}
    for watch, sink, key, state in run.raw.execute("SELECT watch_id, sink, key, state FROM outbox ORDER BY id"):
        queued.setdefault((watch, sink), []).append(key)
        run.witness.claim(state != "dead", "P9", f"{key} of {watch} was given up")
    for line, keys in queued.items():
        first = list(dict.fromkeys(arrived.get(line, [])))
        run.witness.claim(first == keys, "P9", f"{line}: queued {keys}, told {first}")
        if not run.traps.sprung and not any(run.faults.on(fault) for fault in REPEATS):
            run.witness.claim(len(arrived.get(line, [])) == len(keys), "P9", f"{line} was told twice without need")
    pages = {message.watch_id for _, _, message in run.inbox.arrived if message.severity.value == "page"}
    for watch, states in run.witness.been.items():
        for state in ("UNKNOWN", "FAILED", "NOT_RECOVERED"):
            run.witness.claim(state not in states or watch in pages, "P3", f"{watch} was {state} and nobody was paged")
    ends = {message.watch_id for _, _, message in run.inbox.arrived if (message.key, message.severity) == LOUD_END}
    for (watch,) in run.raw.execute(_EXPIRED):
        run.witness.claim(watch in ends, "P3", f"the hold of {watch} expired and nobody was paged")


def _audit(run: "Simulation") -> None:
    ledger = SqlLedger(CalmDatabase(), sinks_for=lambda _: ())
    report = verify_chain(ledger.audit_chain())
    run.witness.claim(report.problem is None, "I9", str(report.problem))


def _truth(run: "Simulation") -> None:
    """What was said is what production and the samples show."""
    ledger = SqlLedger(CalmDatabase(), sinks_for=lambda _: ())
    for arrival in run.arrivals:
        watch = ledger.watch(arrival.id)
        if watch is None:
            continue
        states = run.witness.been[watch.id]
        place = run.production.places[watch.deploy.service]
        claim, gone = run.witness.claim, watch.deploy.version in place.ever_gone
        actions = [a for a in ledger.actions(watch_id=watch.id) if a.kind.value == "rollback"]
        effects = sum(run.production.effects.get(action.id, 0) for action in actions)
        blameless = arrival.truth.service.errors == 0.0 and watch.id not in run.asked_by_operator
        claim(not (blameless and "INTENT" in states), "I8", f"{watch.id} is rolled back, and nothing was wrong")
        claim(not (blameless and watch.verdict == "DEGRADED"), "I8", f"{watch.id} is DEGRADED by nothing")
        is_gone = gone or arrival.truth.service.absent  # where it was dead all along, the metrics show no difference
        claim(states[-1] != "ROLLED_BACK" or is_gone, "P2", f"{watch.id} is ROLLED_BACK, and still live")
        claim(states[-1] != "NOT_NEEDED" or effects == 0, "P2", f"{watch.id} is NOT_NEEDED after a hook took effect")
        surely = TRAITS[watch.plan.rollback_hook or ""].has_probe and not run.faults.on(Fault.PROBE_SILENT)
        deploy = watch.deploy  # where another version came in between, the probe could not tell
        undone = effects > 0 and place.went_straight_back(deploy.version, deploy.previous_version or "")
        claim(not (states[-1] == "FAILED" and surely and undone), "P2", f"{watch.id} FAILED, and the hook took effect")
        if effects == 0 and states[-1] in ("PASSED", "INCONCLUSIVE"):
            claim(not actions, "P2", f"{watch.id} is {states[-1]} with an action")
        _evidence(run, ledger, watch, arrival.truth)
        usable = _usable_looks(run, watch.id)
        claim(states[-1] != "PASSED" or usable >= FEWEST_LOOKS, "I8", f"{watch.id} PASSED on {usable} looks")
        _replayed(run, ledger, watch.id)


def _evidence(run: "Simulation", ledger: SqlLedger, watch: Watch, truth: Truth) -> None:
    """What is stored was measured, and what was plain to see was not overlooked."""
    seen, claim = run.traffic.observed(watch.id), run.witness.claim
    for look in ledger.looks(watch.id):
        for name, cells in look.cells.items():
            real = set(_rows(seen.samples.get((name, look.interval), Cells())))
            made_up = [row for row in _rows(cells) if row not in real]
            claim(not made_up, "I8", f"{watch.id} stores at look {look.interval} what nobody measured: {made_up[:2]}")
    plain = truth.onset == 0 and replace(truth.service, factor=1.0, onset=0) == PLAIN and truth.service.factor > 1.0
    passed = run.witness.been[watch.id][-1] == "PASSED"
    claim(bool(run.faults.rates) or not (plain and passed), "I8", f"{watch.id} is bad from the beginning, and PASSED")


def _rows(cells: Cells) -> list[tuple[object, ...]]:
    columns = (cells.arm, cells.replica, cells.stratum, cells.value, cells.total)
    return list(zip(*columns, strict=True))


def _usable_looks(run: "Simulation", watch_id: str) -> int:
    query = (
        "SELECT count(*) FROM samples JOIN looks USING (watch_id, interval) "
        "WHERE watch_id = ? AND interval >= 0 AND facts LIKE '%\"ok\"%'"
    )
    return int(run.raw.execute(query, (watch_id,)).fetchone()[0])


def _replayed(run: "Simulation", ledger: SqlLedger, watch_id: str) -> None:
    """The last verdict follows from the stored samples alone."""
    watch, said = ledger.watch(watch_id), ledger.verdicts(watch_id, last=1)
    if watch is None or not said:
        return
    looks = [look for look in ledger.looks(watch_id) if look.interval <= said[0].look]
    again = run.judge([observation(watch, looks)], [watch.plan.judge])[0]
    same = (again.kind.value, again.sentence) == (said[0].kind, said[0].sentence)
    same &= math.isclose(again.log_threshold, said[0].log_threshold, abs_tol=1e-9)
    same &= math.isclose(again.log_evidence, said[0].log_evidence, rel_tol=1e-9, abs_tol=1e-9)
    run.witness.claim(same, "P14", f"the verdict of {watch_id} replays as {again.kind.value}: {again.sentence}")
