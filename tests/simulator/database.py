"""The real ledger code over one database in memory that all processes of a run share, with faults at its edges.

A transaction runs alone from its beginning to its commit: the isolation of several PostgreSQL sessions is not simulated
here, what happens between the transactions of several daemons is. The test suite runs real daemons on PostgreSQL too.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import cast

from sqlalchemy import Connection, StaticPool, create_engine, event

from tests.simulator.faults import Fault, Faults
from tests.simulator.process import Process
from tests.simulator.quick import Quick
from watchdog.errors import LedgerError
from watchdog.ledger.engine import Database, translated
from watchdog.ledger.migrate import create

MAX_SKEW_S = 2.0  # as the ledger on PostgreSQL allows it
TURN_S = 0.01  # between two looks whether the others are through
AWAY_S = 8.0


@cache
def _session() -> tuple[Connection, sqlite3.Connection]:
    """One for all runs of this interpreter: its engine remembers how statements compile."""
    raw = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False, cached_statements=2000)
    raw.execute("PRAGMA foreign_keys=ON").close()
    engine = create_engine("sqlite+pysqlite://", poolclass=StaticPool, creator=lambda: raw)

    @event.listens_for(engine, "begin")
    def begin(_: Connection) -> None:
        raw.execute("BEGIN").close()

    return engine.connect(), raw


@cache
def _template() -> sqlite3.Connection:
    """An empty ledger, made once."""
    connection, raw = _session()
    with connection.begin():
        create(connection)
    template = sqlite3.connect(":memory:", check_same_thread=False)
    raw.backup(template)
    return template


def fresh() -> sqlite3.Connection:
    """Empty the database for a new run; the answer is for those who look at what is committed."""
    template, (_, raw) = _template(), _session()
    template.backup(raw)
    return raw


def forget() -> None:
    """Let go of the database of a run that was broken off in the middle of a transaction; the next one gets its own."""
    for kept in (_quick, _session, _template):
        kept.cache_clear()


@cache
def _quick() -> Quick:
    connection, raw = _session()
    return Quick(raw, connection.dialect)


class CalmDatabase(Database):
    """The database as it is, for those who look at it when a run is over."""

    slowly = False  # by SQLAlchemy's own connection

    def __init__(self) -> None:
        self.read_only = self.is_shared = False

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Nobody else goes on within one turn, so that reads are of one moment anyway; each may still be refused."""
        yield

    @contextmanager
    def read(self) -> Iterator[Connection]:
        with translated():
            if self.slowly:
                try:
                    yield _session()[0]
                finally:
                    _session()[0].rollback()
            else:  # nobody else can go on meanwhile: a snapshot needs no transaction
                yield cast("Connection", _quick())

    @contextmanager
    def write(self) -> Iterator[Connection]:
        if self.slowly:
            with translated(), _session()[0].begin():
                yield _session()[0]
            return
        quick = _quick()
        with translated():
            quick.begin()
            try:
                yield cast("Connection", quick)
            except BaseException:
                quick.rollback()
                raise
            quick.commit()

    def close(self) -> None:
        """The connection lives on, for the other processes."""


class SimulatedDatabase(CalmDatabase):
    """One process's way to the database: it may be refused, cut off, or left without an answer."""

    def __init__(self, process: Process, faults: Faults, committed: Callable[[Process], None], *, shared: bool) -> None:
        super().__init__()
        self.is_shared = shared
        self._process, self._faults, self._committed = process, faults, committed
        self._away_until = 0.0

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self._reach()
        with super().read() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        self._process.linger_before_write()
        self._reach()
        if self._strikes(Fault.LEDGER_BUSY, 0.02):
            raise LedgerError("the ledger is busy (database is locked)")
        with super().write() as connection:
            yield connection
            self._process.call("commits")
            if self._strikes(Fault.LEDGER_FAILS, 0.02):
                raise LedgerError("the ledger could not be written (disk is full)")
        self._committed(self._process)
        if self._strikes(Fault.LEDGER_ANSWER_LOST, 0.03):
            raise LedgerError("the ledger's database cannot be reached (the connection broke at the commit)")
        self._process.call("committed")

    def check_clock(self, connection: Connection, asked_at: float | None = None) -> None:
        skew_s = self._process.skew_s
        if asked_at is not None:  # the clock may have been set right meanwhile
            skew_s = max(skew_s, asked_at - (self._process.now() - skew_s))
        if self.is_shared and abs(skew_s) > MAX_SKEW_S:
            raise LedgerError("this machine's clock is not the database's")

    def _reach(self) -> None:
        self._process.check_alive()
        if self._strikes(Fault.LEDGER_AWAY, 0.002):
            self._away_until = self._process.monotonic() + AWAY_S
        if self._process.monotonic() < self._away_until and not self._process.quiet:
            raise LedgerError("the ledger's database cannot be reached")

    def _strikes(self, fault: Fault, chance: float) -> bool:
        return not self._process.quiet and self._faults.strikes(fault, chance)


class SimulatedTurn:
    """Where deploy events wait for the one that writes for all of them: in simulated time, for all share a thread.

    A real `threading.Condition` would wait for ever: whoever shall notify it is a task of the same thread.
    """

    def __init__(self, process: Process) -> None:
        self._process = process

    def __enter__(self) -> None:
        """Nobody else runs until a task sleeps."""

    def __exit__(self, *_: object) -> None:
        """Nothing was locked."""

    def wait(self) -> None:
        self._process.sleep(TURN_S)

    def notify_all(self) -> None:
        """They look for themselves."""
