"""The file on disk: refused when damaged, never replaced, one process at a time, the schema known."""

import json
import random
import re
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from tests.fakes import FakeClock
from tests.samples import a_watch
from watchdog.errors import LedgerCorruptError, LedgerError, LedgerLockedError
from watchdog.ledger import SqlLedger, open_ledger, open_readonly
from watchdog.ledger import engine as engine_module
from watchdog.ledger.engine import Database, sqlite_engine
from watchdog.ledger.migrate import MIGRATIONS, create, migrate
from watchdog.ledger.schema import HEAD, KNOWN, metadata
from watchdog.model import AuditEntry

ROOT = Path(__file__).parents[2]


def opened(path: Path, listen: str = "") -> SqlLedger:
    return open_ledger(path, clock=FakeClock(), owner="me", sinks_for=lambda service: ("team",), listen=listen)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a closed ledger with some rows."""
    path = tmp_path_factory.mktemp("sound") / "w.db"
    ledger = opened(path)
    for number in range(40):
        entry = AuditEntry(at=1.0, watch_id=None, actor="ann", event="e", why="because " * 40)
        ledger.record_deploy(a_watch(deploy_id=f"d{number}"), [], [entry])
    ledger.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["w.db", "w.db.lock"]
    return path.read_bytes()


def test_a_new_ledger_is_wal_and_fully_synchronous(tmp_path: Path) -> None:
    """What was answered is on disk, and readers do not block writers."""
    ledger = opened(tmp_path / "w.db")
    with ledger._database.write() as connection:
        found = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert found == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 5000}
    ledger.close()
    assert (tmp_path / "w.db").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("part", [0.0, 0.01, 0.2, 0.5, 0.8, 0.95, 0.999])
@pytest.mark.spoils_its_ledger
def test_a_truncated_file_is_refused_and_left_alone(tmp_path: Path, sound: bytes, part: float) -> None:
    """However much is missing: an error with the way to restore, and not a byte changed."""
    path = tmp_path / "w.db"
    cut = sound[: int(len(sound) * part)]
    path.write_bytes(cut)
    for opener in (opened, open_readonly):
        with pytest.raises(LedgerCorruptError, match="put a backup in its place"):
            opener(path)
    assert path.read_bytes() == cut


@pytest.mark.spoils_its_ledger
def test_a_damaged_page_is_refused_wherever_it_is(tmp_path: Path, sound: bytes) -> None:
    """The head of every page of the file, one after the other: always refused or repaired by nobody."""
    path = tmp_path / "w.db"
    size = int.from_bytes(sound[16:18], "big")
    refused = 0
    for page in range(len(sound) // size):
        damaged = bytearray(sound)
        damaged[page * size : page * size + 12] = bytes([0xA5] * 12)
        path.write_bytes(damaged)
        try:
            opened(path).close()
        except LedgerCorruptError:
            refused += 1
            assert path.read_bytes() == damaged
        else:
            assert is_overflow(sound[page * size : (page + 1) * size])
    assert refused > 10


def is_overflow(page: bytes) -> bool:
    """Pages of long texts begin with the next page's number instead of a type and carry no structure."""
    return page[0] not in (2, 5, 10, 13)


@pytest.mark.spoils_its_ledger
def test_flipped_bytes_never_make_a_new_ledger(tmp_path: Path, sound: bytes) -> None:
    """150 random flips: the ledger is refused, or opens with all its deploys; nothing else is ever raised."""
    path = tmp_path / "w.db"
    draw = random.Random(7)
    refused = 0
    for _ in range(150):
        damaged = bytearray(sound)
        for _ in range(draw.randint(1, 64)):
            damaged[draw.randrange(len(damaged))] ^= draw.randrange(1, 256)
        path.write_bytes(damaged)
        try:
            ledger = open_readonly(path)
        except LedgerError:
            refused += 1
            continue
        with closing(ledger):
            try:
                assert sum(ledger.counts().values()) == 40
                ledger.watches(limit=100)
                ledger.audit_chain()
            except LedgerCorruptError:
                refused += 1
    assert refused > 50


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to look like one" * 99, b"x", b""])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    """Text, a byte, nothing: refused and left as it is."""
    path = tmp_path / "w.db"
    path.write_bytes(content)
    with pytest.raises(LedgerCorruptError):
        opened(path)
    assert path.read_bytes() == content


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    """Its tables are not ours; nothing is added to it."""
    path = tmp_path / "w.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("CREATE TABLE customers (id INTEGER)")
    with pytest.raises(LedgerError, match="no ledger of deploy-watchdog"):
        opened(path)
    with closing(sqlite3.connect(path)) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("customers",)]


def test_an_empty_database_is_not_taken_for_a_new_ledger(tmp_path: Path) -> None:
    """A ledger is only ever made where there is no file; a sound database without tables lost them."""
    path = tmp_path / "w.db"
    with closing(sqlite3.connect(path)) as other:
        other.execute("VACUUM")
    before = path.read_bytes()
    with pytest.raises(LedgerError, match="no ledger of deploy-watchdog"):
        opened(path)
    assert path.read_bytes() == before


def test_a_missing_ledger_with_its_log_left_is_not_replaced(tmp_path: Path) -> None:
    """A -wal without its database says that something was lost."""
    (tmp_path / "w.db-wal").write_bytes(b"rest")
    with pytest.raises(LedgerCorruptError, match="is missing"):
        opened(tmp_path / "w.db")
    assert not (tmp_path / "w.db").exists()


def test_a_half_made_ledger_is_made_anew(tmp_path: Path) -> None:
    """A crash during the very first start leaves only a draft, which the next start throws away."""
    (tmp_path / "w.db.new").write_bytes(b"half")
    opened(tmp_path / "w.db").close()
    assert not (tmp_path / "w.db.new").exists()


def test_a_newer_schema_is_refused_untouched(tmp_path: Path, sound: bytes) -> None:
    """An older program does not guess what a newer one wrote."""
    path = tmp_path / "w.db"
    path.write_bytes(sound)
    with closing(sqlite3.connect(path)) as other:
        other.execute("UPDATE alembic_version SET version_num = '9999'")
        other.commit()
    before = path.read_bytes()
    for opener in (opened, open_readonly):
        with pytest.raises(LedgerError, match="schema 9999, newer than this version"):
            opener(path)
    assert path.read_bytes() == before


def test_a_missing_folder_and_a_foreign_url_are_told(tmp_path: Path) -> None:
    """Both are mistakes of the configuration."""
    with pytest.raises(LedgerError, match="No such file or directory"):
        opened(tmp_path / "none" / "w.db")
    with pytest.raises(LedgerError, match="oracle://"):
        open_ledger("oracle://db", clock=FakeClock(), owner="me", sinks_for=lambda service: ())


def test_any_file_name_will_do(tmp_path: Path) -> None:
    """Blanks, percent signs, question marks and umlauts in a path mean themselves."""
    path = tmp_path / "a b%20c" / "wörk?mode=memory#1.db"
    path.parent.mkdir()
    for _ in range(2):
        opened(path).close()
        open_readonly(path).close()
    found = {file.name for file in path.parent.iterdir()}
    assert {path.name, path.name + ".lock"} <= found <= {path.name + end for end in ("", ".lock", "-wal", "-shm")}


def test_a_reader_creates_and_writes_nothing(tmp_path: Path) -> None:
    """No file appears, no lock is taken, and every write is refused."""
    with pytest.raises(LedgerError, match="no ledger at"):
        open_readonly(tmp_path / "w.db")
    assert list(tmp_path.iterdir()) == []
    daemon = opened(tmp_path / "w.db")
    reader = open_readonly(f"sqlite:///{tmp_path}/w.db")
    daemon.record_deploy(a_watch(), [], [])
    assert reader.watch("d1") == a_watch()
    with pytest.raises(LedgerError, match="reading only"):
        reader.set_paused(True, actor="x", why="y", at=1.0)
    reader.close()
    daemon.close()


def test_a_busy_ledger_is_a_passing_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program that keeps a transaction open: told, not permanent, and over when it lets go."""
    monkeypatch.setattr(engine_module, "_PRAGMAS", ("busy_timeout=50",))
    ledger = opened(tmp_path / "w.db")
    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(LedgerError, match="busy") as caught:
            ledger.record_deploy(a_watch(), [], [])
        other.execute("ROLLBACK")
    assert not caught.value.permanent
    ledger.record_deploy(a_watch(), [], [])
    assert ledger.counts() == {"WATCHING": 1}
    ledger.close()


def test_a_writer_has_the_database_from_its_first_statement(tmp_path: Path) -> None:
    """What a transaction compares cannot be changed by another program before it writes."""
    ledger = opened(tmp_path / "w.db")
    with closing(sqlite3.connect(tmp_path / "w.db", isolation_level=None, timeout=0)) as other:
        with ledger._database.write(), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")
    ledger.close()


def test_a_second_opening_in_one_process_is_refused_too(tmp_path: Path) -> None:
    """Also under another name of the same file; after closing, the next one gets in."""
    first = opened(tmp_path / "w.db", listen="127.0.0.1:8811")
    (tmp_path / "alias.db").symlink_to(tmp_path / "w.db")
    with pytest.raises(LedgerLockedError, match=r"listening on 127\.0\.0\.1:8811"):
        opened(tmp_path / "alias.db")
    first.close()
    opened(tmp_path / "w.db").close()


def test_a_second_process_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    """A real second process is told who holds the ledger, and gets it once the first one was killed."""
    code = (
        "import sys\nfrom tests.fakes import FakeClock\nfrom watchdog.ledger import open_ledger\n"
        "open_ledger(sys.argv[1], clock=FakeClock(0.0), owner='first', sinks_for=lambda s: (), listen='here:1')\n"
        "print('open', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "w.db")]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "open\n"
        expected = rf"process {first.pid} \(started 1970-01-01T00:00:00\+00:00, listening on here:1\)"
        with pytest.raises(LedgerLockedError, match=expected):
            opened(tmp_path / "w.db")
        second = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert second.returncode != 0
        assert re.search(expected, second.stderr)
        first.kill()
    opened(tmp_path / "w.db").close()


def test_a_lock_nobody_signed_is_still_a_lock(tmp_path: Path) -> None:
    """The text in the lock file is for people; garbage in it breaks nothing."""
    (tmp_path / "w.db.lock").write_text("garbage")
    first = opened(tmp_path / "w.db")
    assert json.loads((tmp_path / "w.db.lock").read_text())["owner"] == "me"
    (tmp_path / "w.db.lock").write_text("garbage")
    with pytest.raises(LedgerLockedError, match="another process"):
        opened(tmp_path / "w.db")
    first.close()


def tables(path: Path) -> set[tuple[str, str]]:
    """Every statement that made the schema, blanks aside."""
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL").fetchall()
    return {(name, re.sub(r"\s+", " ", sql)) for name, sql in rows}


@pytest.mark.filterwarnings("ignore:.*expression-based index")
def test_migrations_lead_to_the_tables_of_the_code(tmp_path: Path) -> None:
    """Running every migration, and creating a new ledger, end in the same schema as the metadata, to the letter."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    made = {}
    for name, make in (("migrated", migrate), ("created", create)):
        path = tmp_path / name
        path.touch()
        with closing(Database(sqlite_engine(path))) as database:
            with database.write() as connection:
                make(connection)
            with database.read() as connection:
                context = MigrationContext.configure(connection, opts={"compare_type": True})
                assert compare_metadata(context, metadata) == []
                assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == HEAD
        made[name] = tables(path)
    ours = {name: {row for row in rows if row[0] != "alembic_version"} for name, rows in made.items()}
    assert {name for name, _ in ours["created"]} == {name for name, _ in ours["migrated"]}
    assert "audit_no_delete" in {name for name, _ in ours["created"]}
    for index in ("ix_watches_tally", "ix_watches_open", "ix_actions_began"):  # alembic compares no expressions
        migrated, created = ({sql for name, sql in rows if name == index} for rows in ours.values())
        assert len(migrated) == 1
        assert migrated == created


def test_every_migration_is_known_and_the_head_is_the_newest() -> None:
    """The code's own list, which spares alembic at start, equals alembic's."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(MIGRATIONS))
    assert script.get_current_head() == HEAD
    assert {revision.revision for revision in script.walk_revisions()} == KNOWN


def test_an_interrupted_migration_leaves_the_old_schema(tmp_path: Path) -> None:
    """All migrations run in one transaction."""
    path = tmp_path / "w.db"
    path.touch()
    with closing(Database(sqlite_engine(path))) as database:
        with suppress(InterruptedError), database.write() as connection:
            migrate(connection)
            raise InterruptedError
        assert tables(path) == set()


def test_the_schema_is_valid_for_postgresql() -> None:
    """Every table compiles for the dialect that comes next."""
    for table in metadata.sorted_tables:
        assert "CREATE TABLE" in str(CreateTable(table).compile(dialect=postgresql.dialect()))


def test_opening_an_existing_ledger_does_not_import_alembic(tmp_path: Path) -> None:
    """A daemon's ordinary start costs neither its second nor its memory."""
    opened(tmp_path / "w.db").close()
    code = (
        "import sys\nfrom tests.fakes import FakeClock\nfrom watchdog.ledger import open_ledger\n"
        "open_ledger(sys.argv[1], clock=FakeClock(), owner='o', sinks_for=lambda s: ()).close()\n"
        "open_ledger(sys.argv[2], clock=FakeClock(), owner='o', sinks_for=lambda s: ()).close()\n"
        "assert 'sqlalchemy' in sys.modules\nassert 'alembic' not in sys.modules\n"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "w.db"), str(tmp_path / "fresh.db")]
    subprocess.run(arguments, cwd=ROOT, check=True, timeout=60)
