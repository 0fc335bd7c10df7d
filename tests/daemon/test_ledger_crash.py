"""Real processes killed while they write, real threads, a real full disk."""

import itertools
import os
import random
import resource
import select
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from tests.fakes import FakeClock
from tests.samples import DEPLOYED_AT, a_watch
from watchdog.errors import LedgerError
from watchdog.ledger import SqlLedger, open_ledger, verify_chain
from watchdog.model import AuditEntry, Change, Message, MessageKind, Severity, State

Writer = Callable[[Path, TextIO], None]


@contextmanager
def process(body: Writer, path: Path) -> Iterator[tuple[int, TextIO]]:
    """A real process of its own that runs `body`; what it writes can be read here. Killed at the end at the latest."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            with os.fdopen(writing, "w", buffering=1) as out:
                body(path, out)
            code = 0
        finally:
            os._exit(code)  # never back into the test runner
    os.close(writing)
    with os.fdopen(reading) as out:
        try:
            yield pid, out
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def write_for_ever(path: Path, out: TextIO) -> None:
    """Commit, and only then say so."""
    ledger = opened(path)
    ledger.record_deploy(a_watch(), [], [])
    watch = ledger.watch("d1")
    assert watch is not None
    for number in itertools.count(watch.looks):
        assert ledger.commit(a_change(number))
        out.write(f"{number}\n")


def start(path: Path, out: TextIO) -> None:
    out.write("go\n")
    opened(path)
    signal.pause()


def fill_the_disk(path: Path, out: TextIO) -> None:
    """Files may not grow beyond 600 kB until, after the error, they may."""
    ledger = opened(path)
    ledger.record_deploy(a_watch(), [], [])
    resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
    number = 0
    try:
        for number in itertools.count():
            assert ledger.commit(a_change(number))
    except LedgerError as error:
        out.write(f"{number} {error.permanent} {error.message}\n")
    watch = ledger.watch("d1")
    assert watch is not None
    assert watch.looks == len(ledger.audit()) == number
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert ledger.commit(a_change(number))
    ledger.close()
    out.write("done\n")


def opened(path: str | Path) -> SqlLedger:
    return open_ledger(path, clock=FakeClock(), owner="me", sinks_for=lambda service: ("team",))


def a_change(number: int) -> Change:
    """The look counter, an audit entry and a message: three tables that must agree."""
    return Change(
        watch_id="d1",
        at=DEPLOYED_AT + number,
        expect_state=State.WATCHING,
        fields={"looks": number + 1},
        audit=(AuditEntry(at=1.0, watch_id="d1", actor="writer", event="look", why="x" * 500, details={"n": number}),),
        messages=(
            Message(
                key=f"look:{number}",
                watch_id="d1",
                kind=MessageKind.PROGRESS,
                severity=Severity.INFO,
                sentence="said",
            ),
        ),
    )


def check(ledger: SqlLedger, acknowledged: int) -> int:
    """Everything acknowledged is there, and the tables agree; at most one unacknowledged change more."""
    watch = ledger.watch("d1")
    assert watch is not None
    numbers = [entry.details["n"] for entry in ledger.audit(limit=10**6)]
    assert numbers == list(range(watch.looks))
    assert [row.message.key for row, _ in ledger.messages("d1")] == [f"look:{n}" for n in numbers]
    assert verify_chain(ledger.audit_chain()).problem is None
    assert acknowledged <= watch.looks <= acknowledged + 1
    return watch.looks


def test_no_acknowledged_row_is_lost_to_sigkill(tmp_path: Path) -> None:
    """Eight times over: kill the writer at an arbitrary moment, look, and let the next one go on."""
    draw = random.Random(11)
    path = tmp_path / "w.db"
    acknowledged = 0
    for _ in range(8):
        with process(write_for_ever, path) as (pid, out):
            for _ in range(draw.randint(1, 40)):
                acknowledged = int(out.readline()) + 1
            os.kill(pid, signal.SIGKILL)
            rest = [line for line in out.read().splitlines(keepends=True) if line.endswith("\n")]
            acknowledged = int(rest[-1]) + 1 if rest else acknowledged
        ledger = opened(path)
        acknowledged = check(ledger, acknowledged)
        ledger.close()
    assert acknowledged > 8


def test_a_kill_during_the_first_start_leaves_a_start_that_works(tmp_path: Path) -> None:
    """Whatever the very first start had made when it was killed, the next one opens or makes the ledger."""
    for number in range(12):
        path = tmp_path / f"w{number}.db"
        with process(start, path) as (pid, out):
            assert out.readline() == "go\n"
            select.select([out], [], [], number * 0.003)  # nothing comes: this waits for the moment to kill
            os.kill(pid, signal.SIGKILL)
        ledger = opened(path)
        ledger.record_deploy(a_watch(), [], [])
        assert ledger.counts() == {"WATCHING": 1}
        ledger.close()


def test_a_full_disk_is_told_and_loses_nothing(tmp_path: Path) -> None:
    """The change that no longer fits is refused whole; with room again, the next one goes through."""
    path = tmp_path / "w.db"
    with process(fill_the_disk, path) as (_, out):
        written, permanent, message = out.readline().split(" ", 2)
        assert out.readline() == "done\n"
    assert (int(written) > 10, permanent) == (True, "False")
    assert "free space" in message
    ledger = opened(path)
    check(ledger, int(written) + 1)
    ledger.close()


def test_tick_workers_outbox_and_api_work_side_by_side(tmp_path: Path) -> None:
    """Six threads read and write at once: nothing is refused as locked, nothing is lost, the chain is whole."""
    ledger = opened(tmp_path / "w.db")

    def work(thread: int) -> None:
        ledger.record_deploy(a_watch(deploy_id=f"d{thread}"), [], [])
        for number in range(15):
            entry = AuditEntry(at=1.0, watch_id=f"d{thread}", actor=f"t{thread}", event="e", details={"n": number})
            change = Change(
                watch_id=f"d{thread}",
                at=1.0,
                expect_state=State.WATCHING,
                fields={"looks": number + 1},
                audit=(entry,),
            )
            assert ledger.commit(change)
            watch = ledger.watch(f"d{thread}")
            assert watch is not None
            assert watch.looks == number + 1
            assert ledger.counts()["WATCHING"] >= 1
            ledger.due_messages(now=2.0, limit=10)

    with ThreadPoolExecutor(6) as pool:
        for future in [pool.submit(work, thread) for thread in range(6)]:
            future.result()
    report = verify_chain(ledger.audit_chain())
    assert (report.rows, report.problem) == (90, None)
    for thread in range(6):
        assert [entry.details["n"] for entry in ledger.audit(f"d{thread}")] == list(range(15))
    ledger.close()
