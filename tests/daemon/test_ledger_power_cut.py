"""Power cuts: whatever the disk had not been asked to keep may be gone or torn; what was acknowledged is there.

Writes and syncs of a real ledger are recorded, and played back up to any moment. POWER_CUTS=all tries every moment.
"""

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests import servers
from tests.crash.disk_log import Disk, Event, record
from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog.errors import LedgerCorruptError, LedgerError
from watchdog.ledger import SqlLedger, open_ledger, verify_chain

REPO = Path(__file__).resolve().parents[2]
ALL = os.environ.get("POWER_CUTS") == "all"
WRITER = """
import os
from dataclasses import replace
from tests.daemon.test_ledger_claims import an_action, move
from tests.daemon.test_ledger_power_cut import opened
from tests.samples import a_watch
from watchdog.model import State

for session in range(2):
    ledger = opened({path!r})
    with ledger._database.write() as connection:
        connection.exec_driver_sql("PRAGMA wal_autocheckpoint=40")
    for number in range(6):
        name = f"d{{session}}-{{number}}"
        ledger.record_deploy(a_watch(deploy_id=name), [], [])
        os.write(1, f"deploy {{name}}\\n".encode())
        action = an_action(watch_id=name)
        change = replace(move(State.WATCHING, State.INTENT, new_action=action), watch_id=name, messages=())
        told = tuple(replace(message, watch_id=name) for message in move(State.WATCHING).messages)
        assert ledger.commit(replace(change, messages=told))
        os.write(1, f"intent {{name}}\\n".encode())
    ledger.close()
"""


def opened(path: str | Path) -> SqlLedger:
    return open_ledger(path, clock=FakeClock(), owner="me", sinks_for=lambda service: ("team",))


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event]]:
    """Two sessions of a writer, its checkpoints and its closing among them."""
    folder = tmp_path_factory.mktemp("recorded") / "disk"
    folder.mkdir()
    return folder, record(servers.program("strace"), WRITER.format(path=str(folder / "w.db")), folder, REPO)


@pytest.mark.timeout(1800 if ALL else 180)
@pytest.mark.spoils_its_ledger
def test_what_was_acknowledged_survives_a_power_cut(recorded: tuple[Path, list[Event]], tmp_path: Path) -> None:
    """At moments all over the life of a ledger, its making included: it opens, with every deploy and intent."""
    folder, events = recorded
    assert sum(event.kind == "sync" for event in events) > 30
    assert sum(event.kind == "said" for event in events) == 24
    dice, disk, said = random.Random(3), Disk(folder), []
    moments = range(len(events)) if ALL else sorted(dice.sample(range(len(events)), 110))
    cuts = dict.fromkeys(moments, 4 if ALL else 1)
    for number, event in enumerate(events):
        disk.do(event)
        if event.kind == "said":
            said += event.data.decode().split("\n")[:-1]
        for _ in range(cuts.get(number, 0)):
            left = {Path(name).name: content for name, content in disk.left(dice).items()}
            check(left, said, tmp_path / "left", f"after event {number} of {len(events)}")


def check(left: dict[str, bytes], said: list[str], place: Path, when: str) -> None:
    """Open what was left; all that was said is there."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for name, content in left.items():
        if not name.endswith("-shm"):  # shared memory, made anew
            (place / name).write_bytes(content)
    assert "w.db" in left or not said, when
    with closing(opened(place / "w.db")) as ledger:
        assert verify_chain(ledger.audit_chain()).problem is None, when
        for kind, name in (line.split() for line in said):
            assert ledger.watch(name) is not None, (when, kind, name)
            assert kind == "deploy" or ledger.action(f"{name}-rollback") is not None, (when, kind, name)


@pytest.mark.spoils_its_ledger
def test_a_ledger_that_did_not_ask_for_its_writes_to_be_kept_would_be_found_out(
    recorded: tuple[Path, list[Event]], tmp_path: Path
) -> None:
    """The same record without its syncs loses what was acknowledged: the test above can fail."""
    folder, events = recorded
    dice, disk = random.Random(3), Disk(folder)
    made = next(number for number, event in enumerate(events) if event.kind == "said")
    for number, event in enumerate(events):
        if event.kind != "sync" or number < made:
            disk.do(event)
    said = [line for event in events if event.kind == "said" for line in event.data.decode().split("\n")[:-1]]

    def cut_ten_times() -> None:
        for _ in range(10):
            left = {Path(name).name: content for name, content in disk.left(dice).items()}
            check(left, said, tmp_path / "left", "at the end")

    with pytest.raises((AssertionError, LedgerError)):
        cut_ten_times()


# --- a log of writes that was damaged ---------------------------------------------------------------------


@pytest.fixture
def crashed(tmp_path: Path) -> tuple[bytes, bytes]:
    """The file and the log of a ledger with twelve deploys, as a killed daemon leaves them."""
    path = tmp_path / "whole" / "w.db"
    path.parent.mkdir()
    with closing(opened(path)) as ledger:
        for number in range(12):
            ledger.record_deploy(a_watch(deploy_id=f"d{number}"), [], [])
        return path.read_bytes(), path.with_name("w.db-wal").read_bytes()


def numbers(ledger: SqlLedger) -> list[int]:
    """The deploys on record, every table asked."""
    found = sorted(int(watch.id.removeprefix("d")) for watch in ledger.watches(limit=100))
    assert verify_chain(ledger.audit_chain()).problem is None
    assert sum(ledger.counts().values()) == len(found)
    return found


def cuts(log: bytes) -> Iterator[int]:
    """Bytes at which the log is cut: every one of the last 8 KB in the long form, and the edges of all frames."""
    frame = 24 + int.from_bytes(log[8:12], "big")
    edges = {edge + by for edge in range(32, len(log) + 1, frame) for by in (-1, 0, 1)}
    near_the_end = range(len(log) - 8192, len(log), 1 if ALL else 157)
    yield from sorted(at for at in {0, 1, 31, *(edges if ALL else list(edges)[::7]), *near_the_end} if at <= len(log))


@pytest.mark.timeout(1800 if ALL else 180)
@pytest.mark.spoils_its_ledger
def test_a_cut_log_leaves_whole_transactions(crashed: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Wherever it was cut: the first so many deploys, each whole; with the log as it was, all of them."""
    file, log = crashed
    path, seen = tmp_path / "w.db", set()
    for at in cuts(log):
        path.with_name("w.db.lock").unlink(missing_ok=True)  # it knows that there were deploys
        path.write_bytes(file)
        path.with_name("w.db-wal").write_bytes(log[:at])
        with closing(opened(path)) as ledger:
            found = numbers(ledger)
        assert found == list(range(len(found))), at
        seen.add(len(found))
    path.write_bytes(file)
    path.with_name("w.db-wal").write_bytes(log)
    with closing(opened(path)) as ledger:
        assert numbers(ledger) == list(range(12))
    assert max(seen) >= 11


@pytest.mark.spoils_its_ledger
@pytest.mark.parametrize("kept", ["the file alone", "an empty log", "nothing"])
def test_a_ledger_that_lost_everything_is_not_taken_for_a_new_one(tmp_path: Path, kept: str) -> None:
    """Once a deploy was on record, an empty ledger is refused with the way to restore, until told otherwise."""
    path, log = tmp_path / "w.db", tmp_path / "w.db-wal"
    with closing(opened(path)) as ledger:
        file = path.read_bytes()
        ledger.record_deploy(a_watch(), [], [])
    for name in tmp_path.glob("w.db*"):
        if name.suffix != ".lock":
            name.unlink()
    if kept != "nothing":
        path.write_bytes(file)
    if kept == "an empty log":
        log.touch()
    for _ in range(2):
        with pytest.raises(LedgerCorruptError, match=r"held deploys when it was last used.*put a backup.*begin anew"):
            opened(path)
    (tmp_path / "w.db.lock").unlink()
    with closing(opened(path)) as ledger:
        assert ledger.counts() == {}


@pytest.mark.spoils_its_ledger
def test_a_log_with_flipped_bytes_leaves_whole_transactions(crashed: tuple[bytes, bytes], tmp_path: Path) -> None:
    """Its checksums end it where it was damaged; nothing half is believed, and nothing else is raised than our own."""
    file, log = crashed
    path, dice, refused = tmp_path / "w.db", random.Random(9), list[str]()
    for _ in range(200 if ALL else 40):
        path.with_name("w.db.lock").unlink(missing_ok=True)
        damaged = bytearray(log)
        damaged[dice.randrange(len(damaged))] ^= dice.randrange(1, 256)
        path.write_bytes(file)
        path.with_name("w.db-wal").write_bytes(damaged)
        try:
            with closing(opened(path)) as ledger:
                found = numbers(ledger)
        except LedgerError as error:
            refused.append(str(error))
        else:
            assert found == list(range(len(found)))
    assert all("To restore" in told for told in refused)
