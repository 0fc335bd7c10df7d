"""Data and schema on a real PostgreSQL: a restore point that its log lists, and half a migration taken back."""

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest

from tests import recipes, servers
from tests.daemon.test_data_safety import held, marked, road, standing, walk
from tests.fakes import FakeClock
from watchdog.clock import SystemClock
from watchdog.hooks.command import CommandHook, CommandOptions
from watchdog.model import ActionKind, ActionState, HoldReason, MessageKind, State
from watchdog.operator_desk import OperatorDesk
from watchdog.ports import HookCall, HookOutcome, Ledger
from watchdog.recovery_steps import recovery_steps

pytestmark = pytest.mark.e2e
FORWARD = "ALTER TABLE orders ADD COLUMN coupon text DEFAULT 'none'"
BREAKS_OFF = "CREATE UNIQUE INDEX CONCURRENTLY orders_by_coupon ON orders (coupon)"  # all rows have the same one
COLUMNS = "SELECT column_name FROM information_schema.columns WHERE table_name = 'orders' ORDER BY 1"
INDEXES = "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'orders'::regclass ORDER BY 1"


@dataclass(frozen=True)
class Database:
    """A PostgreSQL with a shop's orders, and the recipes as hooks upon it."""

    server: servers.PostgresServer
    folder: Path

    def hook(self, name: str) -> CommandHook:
        options = CommandOptions(
            argv=(recipes.program(name, self.folder),),
            idempotent=True,
            pass_env=("PGHOST", "PGUSER", "PGDATABASE", "MIGRATIONS"),
        )
        env = {
            "PATH": f"{Path(servers.program('psql')).parent}:{os.environ['PATH']}",
            "PGHOST": str(self.server.folder),
            "PGUSER": "watchdog",
            "PGDATABASE": "postgres",
            "MIGRATIONS": str(self.folder),
        }
        return CommandHook("db", options, SystemClock(), env, self.folder / "state")

    def half_a_migration(self) -> None:
        """The column is there, the index broke off and stays behind invalid, the version was never written down."""
        self.server.query(FORWARD)
        with pytest.raises(psycopg.errors.UniqueViolation):
            self.server.query(BREAKS_OFF)
        assert self.server.query(INDEXES) == [("orders_by_coupon", False), ("orders_pkey", True)]


@pytest.fixture(scope="module")
def server() -> Iterator[servers.PostgresServer]:
    with servers.postgres() as server:
        yield server


@pytest.fixture
def database(server: servers.PostgresServer, tmp_path: Path) -> Database:
    server.query("DROP TABLE IF EXISTS orders, schema_version")
    server.query("CREATE TABLE orders (id int PRIMARY KEY, total numeric)")
    server.query("INSERT INTO orders SELECT n, n FROM generate_series(1, 100) AS n")
    server.query("CREATE TABLE schema_version (version text)")
    (tmp_path / "v2.down.sql").write_text(recipes.text("v42.down.sql").replace("v42", "v2"))
    return Database(server, tmp_path)


def a_call(kind: ActionKind, *, version: str = "v2", deploy_id: str = "d1") -> HookCall:
    return HookCall(
        action_id="a" * 64,
        kind=kind,
        attempt=1,
        fence=1,
        service="shop",
        environment="production",
        from_version=version,
        to_version="v1",
        deploy_id=deploy_id,
    )


def listed_in_the_log(server: servers.PostgresServer) -> dict[str, str]:
    """The restore points of the write-ahead log, as pg_waldump reads it: where each one's record ends, by name.

    A restore point is not flushed when it is made, only with the next commit or by the WAL writer: the switch does it.
    """
    server.query("SELECT pg_switch_wal()")
    first = server.query("SELECT pg_walfile_name(redo_lsn), redo_lsn::text FROM pg_control_checkpoint()")[0][1]
    argv = [servers.program("pg_waldump"), "-p", str(server.folder / "data" / "pg_wal"), "-r", "XLOG", "-s", str(first)]
    told = subprocess.run(
        argv, capture_output=True, text=True, timeout=60, check=False
    ).stdout  # it ends at the log's end
    return {m[2]: m[1] for m in re.finditer(r"lsn: (\S+), prev .* desc: RESTORE_POINT (.+)$", told, re.MULTILINE)}


def lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def test_the_restore_point_of_a_bad_deploy_is_in_the_log(database: Database, ledger: Ledger, clock: FakeClock) -> None:
    """Made before the first look, told with the bad news and in the steps to take, and there in the log: before what
    was written since, and after what was written until then."""
    before = str(database.server.query("SELECT pg_current_wal_insert_lsn()::text")[0][0])
    watch = walk(ledger, clock, marked(), database.hook("restore-point"), errors=0.3)
    database.server.query("INSERT INTO orders VALUES (1000, 1)")
    after = str(database.server.query("SELECT pg_current_wal_insert_lsn()::text")[0][0])
    (mark,) = [a for a in ledger.actions(watch_id="d1") if a.kind is ActionKind.RESTORE_POINT]
    assert mark.state is ActionState.APPLIED
    told = re.fullmatch(r"restore point watchdog_d1 at lsn (\S+)", mark.detail)
    assert told is not None
    found = listed_in_the_log(database.server)
    assert lsn(before) <= lsn(found["watchdog_d1"]) < lsn(told[1]) < lsn(after)  # the function tells the record's end
    (bad,) = [r.message.sentence for r, _ in ledger.messages("d1") if r.message.kind is MessageKind.DEGRADED]
    assert f"restore point: {mark.detail}" in bad
    rolled_back = replace(watch, state=State.ROLLED_BACK)
    assert mark.detail in " ".join(recovery_steps(rolled_back, ledger.actions(watch_id="d1")))


def test_a_copy_is_recovered_to_the_restore_point(database: Database) -> None:
    """As the steps say that people are given: with what was written before it, and without what came after."""
    server = database.server
    backup = server.folder / f"backup-{database.folder.name}"
    argv = [servers.program("pg_basebackup"), "-h", str(server.folder), "-U", "watchdog", "-D", str(backup)]
    argv += ["--wal-method=none", "--checkpoint=fast"]
    user = "nobody" if os.geteuid() == 0 else None
    subprocess.run(argv, cwd=server.folder, user=user, check=True, capture_output=True, timeout=120)
    server.query("INSERT INTO orders VALUES (101, 1)")
    assert (
        database.hook("restore-point").run(a_call(ActionKind.RESTORE_POINT, deploy_id="d7")).outcome is HookOutcome.OK
    )
    server.query("UPDATE orders SET total = 0")  # what the bad version did
    server.query("INSERT INTO orders VALUES (102, 1)")
    server.query("SELECT pg_switch_wal()")
    with servers.recovered(backup, "watchdog_d7", server.folder / "data" / "pg_wal") as copy:
        servers.wait_until(
            lambda: copy.query("SELECT pg_is_in_recovery()") == [(False,)], within_s=30, what="the copy is recovered"
        )
        assert copy.query("SELECT count(*), sum(total)::int, max(id) FROM orders") == [(101, 5051, 101)]
    assert server.query("SELECT sum(total)::int, max(id) FROM orders") == [(1, 102)]


def test_an_id_from_outside_is_a_name_and_nothing_else(database: Database) -> None:
    """Quotes, commands of psql, and more than a name may be long."""
    nasty = "x'); DROP TABLE orders; --\n\\! touch here\n`id`" + "y" * 80
    done = database.hook("restore-point").run(a_call(ActionKind.RESTORE_POINT, deploy_id=nasty))
    assert done.outcome is HookOutcome.OK, done.output
    assert database.server.query("SELECT count(*) FROM orders") == [(100,)]
    assert any(name.startswith("watchdog_x'); DROP TABLE") for name in listed_in_the_log(database.server))


def test_half_a_migration_is_taken_back_by_an_operator(database: Database, ledger: Ledger, clock: FakeClock) -> None:
    """The deploy is held, a human asks, and the schema is v1's again with all its rows; once more does no harm."""
    database.half_a_migration()
    hook = database.hook("migrate-down")
    watch = held(ledger, clock, hook)
    assert (watch.state, watch.hold) == (State.HELD, HoldReason.MIGRATION)
    assert database.server.query(COLUMNS) == [("coupon",), ("id",), ("total",)]
    desk = OperatorDesk(ledger=ledger, clock=clock)
    desk.migrate_down("d1", actor="ann", why="half applied")
    road(ledger, clock, hook).act()
    assert "the migration of v2 taken back: v2 is taken back by" in standing(ledger).sentence
    assert database.server.query(COLUMNS) == [("id",), ("total",)]
    assert database.server.query(INDEXES) == [("orders_pkey", True)]
    assert database.server.query("SELECT count(*), sum(total)::int FROM orders") == [(100, 5050)]
    assert hook.run(a_call(ActionKind.MIGRATE_DOWN)).outcome is HookOutcome.OK
    assert desk.approve("d1", actor="ann").state is State.INTENT


def test_a_migration_that_cannot_get_its_lock_changes_nothing(database: Database) -> None:
    """A report reads the table for long: it gives up after five seconds, whole, and stops nobody longer than that."""
    database.half_a_migration()
    before = database.server.query(COLUMNS), database.server.query(INDEXES)
    hook = database.hook("migrate-down")
    with psycopg.connect(database.server.url()) as report:
        report.execute("SELECT count(*) FROM orders")  # its share lock stays until the transaction ends
        done = hook.run(a_call(ActionKind.MIGRATE_DOWN))
    assert (done.outcome, "lock timeout" in done.output) == (HookOutcome.FAILED, True)
    assert (database.server.query(COLUMNS), database.server.query(INDEXES)) == before
    assert hook.run(a_call(ActionKind.MIGRATE_DOWN)).outcome is HookOutcome.OK


@pytest.mark.parametrize("version", ["../v2", "", ".", "v2/../v2", "v2;id", "v2 v3"])
def test_a_version_that_is_no_file_name_opens_no_file(database: Database, version: str) -> None:
    """It comes from whoever sends deploy events."""
    done = database.hook("migrate-down").run(a_call(ActionKind.MIGRATE_DOWN, version=version))
    assert (done.outcome, "no version that names a file" in done.output) == (HookOutcome.FAILED, True)


def test_a_version_without_a_way_down_says_so(database: Database) -> None:
    """Nothing is run."""
    done = database.hook("migrate-down").run(a_call(ActionKind.MIGRATE_DOWN, version="v3"))
    assert (done.outcome, "nothing takes v3 back" in done.output) == (HookOutcome.FAILED, True)
