"""One simulated daemon: the real parts of the product, wired as `watchdog.app` wires them, on simulated ports."""

import math
import sqlite3
from collections.abc import Callable
from functools import cache
from threading import Condition
from typing import cast

from tests.simulator.database import SimulatedDatabase, SimulatedTurn
from tests.simulator.faults import Faults
from tests.simulator.inbox import Inbox, SimulatedSink
from tests.simulator.process import Jobs, Process, Threads
from tests.simulator.production import TRAITS, Production, Run, SimulatedHook
from tests.simulator.settings import RETRIES, settings
from tests.simulator.traffic import SETTLE_S, STEP_S, SimulatedSource, Traffic
from watchdog.action import ActionEdge
from watchdog.intake import Intake
from watchdog.ledger.claims import void_leases
from watchdog.ledger.sql import SqlLedger
from watchdog.model import Limits
from watchdog.operator_desk import OperatorDesk
from watchdog.outbox import Outbox
from watchdog.pipeline import Pipeline
from watchdog.planning import Pace
from watchdog.ports import Hook, Sink, Source
from watchdog.scheduler import Scheduler, Workers
from watchdog.surroundings import Surroundings
from watchdog.telemetry import Telemetry

TICK_S = 1.0
_WORK = {  # when a round of a job could find something to do at the earliest; nothing: never
    "tick": "SELECT min(max(next_look_at, CASE WHEN lease_owner IS NULL THEN 0 ELSE lease_until END)) FROM watches "
    "WHERE state NOT IN ('PASSED', 'INCONCLUSIVE', 'SUPERSEDED', 'CANCELLED', 'NOT_NEEDED', 'FAILED', 'ROLLED_BACK', "
    "'NOT_RECOVERED', 'SMOKE_FAILED')",
    "act": "SELECT min(CASE state WHEN 'RUNNING' THEN deadline_at ELSE next_at END) FROM actions "
    "WHERE state IN ('INTENT', 'RETRY_WAIT', 'RUNNING')",
    "outbox": "SELECT min(next_at) FROM outbox WHERE state = 'pending'",
    "unknown": "SELECT min(0.0) FROM actions WHERE state = 'UNKNOWN'",
}
_WAITING = (
    "SELECT sink FROM outbox AS row WHERE state = 'pending' AND next_at <= :now AND NOT EXISTS (SELECT 1 "
    "FROM outbox AS older WHERE older.state = 'pending' AND older.watch_id = row.watch_id AND older.sink = row.sink "
    "AND older.id < row.id)"
)


@cache
def _telemetry() -> Telemetry:
    """Counters that nobody reads here; making them takes longer than a short run."""
    return Telemetry()


class Daemon:
    """A process with everything in it that the real one has but for its web server."""

    def __init__(
        self,
        process: Process,
        *,
        shared: bool,
        raw: sqlite3.Connection,
        faults: Faults,
        production: Production,
        traffic: Traffic,
        inbox: Inbox,
        sinks: tuple[str, ...],
        committed: Callable[[Process], None],
        started: Callable[[Run], None],
    ) -> None:
        self.process, self._raw, self._shared = process, raw, shared
        self._database = SimulatedDatabase(process, faults, committed, shared=shared)
        self.ledger = SqlLedger(self._database, sinks_for=lambda _: sinks, failpoint=process.failpoint)
        self.ledger._intakes._turn = cast(Condition, SimulatedTurn(process))
        hooks = {
            name: cast("Hook", SimulatedHook(trait, process, production, faults, started))
            for name, trait in TRAITS.items()
        }
        policy = settings().policy
        self._senders = Threads(process)
        workers = Workers(pool=Threads(process))
        limits = Limits(
            cool_down_s=policy.cool_down_s,
            breaker_rollbacks=policy.breaker_rollbacks,
            breaker_share=policy.breaker_share,
            breaker_window_s=policy.breaker_window_s,
            bad_target_s=policy.bad_target_s,
        )
        edge = ActionEdge(
            ledger=self.ledger, hooks=hooks, clock=process, owner=process.name, retries=RETRIES, alone=not shared,
            limits=limits, failpoint=process.failpoint,
        )  # fmt: skip
        self.pipeline = Pipeline(
            ledger=self.ledger,
            sources={"metrics": cast("Source", SimulatedSource(process, traffic, faults))},
            edge=edge,
            surroundings=Surroundings(ledger=self.ledger, limits=limits),
            clock=process,
            owner=process.name,
            telemetry=_telemetry(),
            submit=workers.submit,
            failpoint=process.failpoint,
        )
        senders = {name: cast("Sink", SimulatedSink(name, process, faults, inbox)) for name in sinks}
        self._outbox = Outbox(
            self.ledger, senders, process, patience_s=0.0, pool=self._senders, failpoint=process.failpoint
        )
        self._scheduler = Scheduler(
            pipeline=self.pipeline,
            outbox=self._outbox,
            workers=workers,
            clock=process,
            telemetry=_telemetry(),
            tick_s=TICK_S,
            jobs=Jobs(process, self._has_work),
        )
        self.intake = Intake(
            config=settings(), paces={"metrics": Pace(step_s=STEP_S, settle_s=SETTLE_S)}, ledger=self.ledger,
            clock=process,
        )  # fmt: skip
        self.desk = OperatorDesk(ledger=self.ledger, clock=process)
        self.ready = False
        self._due: dict[str, tuple[int, float]] = {}  # job → writes so far, and when it has something to do

    def start(self) -> None:
        """As opening a ledger and starting the daemon do."""
        if not self._shared:
            with self._database.write() as connection:
                void_leases(connection)
        self._scheduler.start()
        self.ready = True

    def _has_work(self, job: str) -> bool:
        """Whether a round of a job could find anything to do."""
        self.process.check_alive()
        now = self.process.now()
        due = now >= self._due_at(job)
        if job != "outbox":
            return due
        if self._senders.take_news():
            return True
        free = {name for name, line in self._outbox._lines.items() if line.sending is None and line.rests_until <= now}
        return due and bool(free) and any(sink in free for (sink,) in self._raw.execute(_WAITING, {"now": now}))

    def _due_at(self, job: str) -> float:
        """Asked again only when anything has been written since."""
        written = self._raw.total_changes
        asked_at, due_at = self._due.get(job, (-1, 0.0))
        if asked_at != written:
            (found,) = self._raw.execute(_WORK[job]).fetchone()
            due_at = math.inf if found is None else float(found)
            self._due[job] = (written, due_at)
        return due_at
