"""Deploy events that come at the same time share a commit, and nothing else."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog.errors import LedgerError
from watchdog.ledger import SqlLedger, open_ledger, verify_chain
from watchdog.model import AuditEntry, Recorded, State, Watch
from watchdog.turns import superseded

DEADLINE_S = 20.0


class BrokenError(RuntimeError):
    """What one event's write raises."""


class Crowd:
    """A ledger whose first write waits until so many others have come; it counts commits."""

    def __init__(self, folder: Path) -> None:
        self.others = 0
        self.broken: frozenset[str] = frozenset()
        self.commits = 0
        self._is_first = True
        self.ledger = open_ledger(
            str(folder / "w.db"),
            clock=FakeClock(),
            owner="me",
            sinks_for=lambda service: ("team",),
            failpoint=self._pass,
        )
        write = self.ledger._database.write

        def counted() -> object:
            self.commits += 1
            return write()

        self.ledger._database.write = counted  # type: ignore[method-assign,assignment]

    def _pass(self, name: str) -> None:
        if name == "ledger-record-before-commit" and self._is_first:
            self._is_first = False
            waiting = self.ledger._intakes._waiting
            until = threading.Event()
            for _ in range(int(DEADLINE_S / 0.01)):
                if len(self.ledger._intakes._waiting) == self.others:
                    return
                until.wait(0.01)
            raise AssertionError(f"{len(waiting)} came")

    def record(self, watches: list[Watch], deed: Callable[[Watch], Recorded]) -> list["Future[Recorded]"]:
        """Each from a thread of its own: the first by itself, the others while it writes."""
        self.others, self._is_first = len(watches) - 1, True
        with ThreadPoolExecutor(len(watches)) as threads:
            first = threads.submit(deed, watches[0])
            while self._is_first:
                threading.Event().wait(0.005)
            return [first, *(threads.submit(deed, watch) for watch in watches[1:])]


@pytest.fixture
def crowd(tmp_path: Path) -> Iterator[Crowd]:
    found = Crowd(tmp_path)
    yield found
    found.ledger.close()


def some(count: int) -> list[Watch]:
    watches = [a_watch(deploy_id=f"d{at}") for at in range(count)]
    return [replace(w, deploy=replace(w.deploy, service=f"shop-{at}")) for at, w in enumerate(watches)]


def received(watch: Watch) -> AuditEntry:
    return AuditEntry(at=watch.created_at, watch_id=watch.id, actor="ci", event="deploy.received")


def recorder(ledger: SqlLedger) -> Callable[[Watch], Recorded]:
    return lambda watch: ledger.record_deploy(watch, [], [received(watch)])


def test_those_who_wait_share_one_commit(crowd: Crowd) -> None:
    """Nine come while the first is being written: two transactions for ten deploys, all of them on record."""
    watches = some(10)
    answers = crowd.record(watches, recorder(crowd.ledger))
    assert [answer.result() for answer in answers] == [Recorded.CREATED] * 10
    assert crowd.commits == 2
    assert {watch.id for watch in crowd.ledger.watches()} == {watch.id for watch in watches}
    assert verify_chain(crowd.ledger.audit_chain()).problem is None


def test_one_that_breaks_fails_by_itself(crowd: Crowd) -> None:
    """The others of its transaction are done again, each alone, and once."""
    watches = some(5)
    real = recorder(crowd.ledger)

    def deed(watch: Watch) -> Recorded:
        if watch.id == "d3":  # the database refuses it
            watch = replace(watch, looks=None)  # type: ignore[arg-type]
        return real(watch)

    answers = crowd.record(watches, deed)
    assert [answer.exception() is None for answer in answers] == [True, True, True, False, True]
    assert isinstance(answers[3].exception(), LedgerError)
    assert {watch.id for watch in crowd.ledger.watches()} == {"d0", "d1", "d2", "d4"}
    assert len(crowd.ledger.audit()) == 4


def test_the_same_event_twice_in_one_transaction_is_one_deploy(crowd: Crowd) -> None:
    """Of two copies that wait beside each other one is told that it is known."""
    first, other = some(2)
    answers = crowd.record([first, other, other, other], recorder(crowd.ledger))
    said = sorted(answer.result() for answer in answers)
    assert said == [Recorded.CREATED, Recorded.CREATED, Recorded.SAME, Recorded.SAME]
    assert len(crowd.ledger.audit()) == 2


def test_nobody_is_answered_where_the_commit_fails(crowd: Crowd) -> None:
    """A full disk is told to all who shared the transaction, and none of them is on record."""
    watches = some(4)
    crowd.ledger.record_deploy(replace(a_watch(deploy_id="before")), [], [])
    with crowd.ledger._database.write() as connection:
        connection.exec_driver_sql(
            "CREATE TRIGGER full BEFORE INSERT ON watches BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )

    def deed(watch: Watch) -> Recorded:
        return recorder(crowd.ledger)(watch)

    with ThreadPoolExecutor(4) as threads:
        answers = [threads.submit(deed, watch) for watch in watches]
    assert all(isinstance(answer.exception(), LedgerError) for answer in answers)
    assert [watch.id for watch in crowd.ledger.watches()] == ["before"]


def test_an_older_watch_ends_in_the_transaction_that_begins_the_newer(crowd: Crowd) -> None:
    """One that changed meanwhile stays as it is; a copy of a known deploy ends nobody."""
    ledger = crowd.ledger
    older, moved, newer = some(3)
    crowd._is_first = False
    for watch in (older, moved):
        ledger.record_deploy(watch, [], [received(watch)])
    before = crowd.commits
    ends = [superseded(watch, "v3", None, newer.created_at) for watch in (older, replace(moved, state=State.HELD))]
    assert ledger.record_deploy(newer, [], [received(newer)], ended=ends) is Recorded.CREATED
    assert crowd.commits == before + 1
    found = ledger.watches_of(["d0", "d1", "d2"])
    assert [found[name].state for name in ("d0", "d1", "d2")] == [State.SUPERSEDED, State.WATCHING, State.WATCHING]
    assert [entry.event for entry in ledger.audit()][-2:] == ["deploy.received", "watch.superseded"]
    ends = [superseded(moved, "v3", None, newer.created_at)]
    assert ledger.record_deploy(newer, [], [received(newer)], ended=ends) is Recorded.SAME
    assert ledger.watches_of(["d1"])["d1"].state is State.WATCHING
