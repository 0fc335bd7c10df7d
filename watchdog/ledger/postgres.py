"""PostgreSQL under the ledger: connections that end in time, one clock for all replicas, errors with a remedy."""

from typing import TYPE_CHECKING

from sqlalchemy import Connection, Engine, create_engine, event, text

from watchdog.errors import LedgerCorruptError, LedgerError
from watchdog.ports import Clock

if TYPE_CHECKING:  # the driver is an extra; only a daemon that uses it loads it
    import psycopg

MAX_SKEW_S = 2.0  # two replicas may then be 4 s apart, less than an attempt's grace of 5 s
POOL, OVERFLOW, POOL_WAIT_S = 5, 15, 4.0
_CONNECT_S = 4
# A replica that hangs in the middle of a transaction must not keep its locks: its session is ended by the server, long
# before a lease has run out, and what it had written is rolled back.
_SETTINGS = {
    "statement_timeout": "4s",
    "lock_timeout": "3s",
    "idle_in_transaction_session_timeout": "5s",
    "application_name": "deploy-watchdog",
    "TimeZone": "UTC",
}
_SET = "SELECT set_config(name, value, false) FROM unnest(%s::text[], %s::text[]) AS setting(name, value)"
_DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
_MIGRATION, _CHAIN = 7301, 7302  # the first half of our advisory locks; the second one is the schema


def postgres_engine(url: str, password: str | None) -> Engine:
    """An engine on a libpq address, taken as libpq takes it: several hosts, sockets, TLS, PGPASSFILE, PGSERVICE.

    Raises
    ------
    LedgerError
        The driver is not installed.
    """
    _load_driver()
    import psycopg
    from psycopg.conninfo import conninfo_to_dict

    secret = {} if password is None else {"password": password}

    def connect() -> "psycopg.Connection[tuple[object, ...]]":
        patience = {"connect_timeout": _CONNECT_S, "tcp_user_timeout": 8000, "keepalives_idle": 5}
        named = conninfo_to_dict(url)
        given = {key: value for key, value in patience.items() if key not in named}
        return psycopg.connect(url, **given, **secret)  # type: ignore[arg-type]

    engine = create_engine(
        "postgresql+psycopg://",
        creator=connect,
        pool_size=POOL,
        max_overflow=OVERFLOW,
        pool_timeout=POOL_WAIT_S,
        pool_pre_ping=True,  # after a restart of the server nobody meets a dead connection
        isolation_level="READ COMMITTED",
        hide_parameters=True,  # values are users' data and do not belong into error texts
    )

    @event.listens_for(engine, "connect")
    def configure(connection: "psycopg.Connection[tuple[object, ...]]", _record: object) -> None:
        connection.execute(_SET, [list(_SETTINGS), list(_SETTINGS.values())])
        connection.execute(_DURABLE)  # a commit that was answered survives a power cut
        connection.commit()

    return engine


def _load_driver() -> None:
    try:
        import psycopg  # noqa: F401
    except ImportError as error:
        raise LedgerError(
            f"a ledger in PostgreSQL needs its driver ({error}); in the checkout run: pip install '.[postgres]'",
            permanent=True,
        ) from None


def serialise(connection: Connection) -> None:
    """Let transactions that extend the audit's chain, or compare what they are about to add, do so one by one.

    Held to the end of the transaction. Always taken after rows of watches and actions, never before: no deadlocks.
    SQLite has one writer at a time anyway.
    """
    _lock(connection, _CHAIN)


def lock_for_migration(connection: Connection) -> None:
    """Let one replica at a time look at the schema and change it; the others wait for as long as that takes."""
    connection.execute(text("SET LOCAL statement_timeout = 0"))
    connection.execute(text("SET LOCAL lock_timeout = 0"))
    _lock(connection, _MIGRATION)


def _lock(connection: Connection, key: int) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({key}, hashtext(current_schema()))"))


class ClockGuard:
    """Refuses work to a replica whose clock is not the database's: leases and deadlines are compared between them."""

    def __init__(self, clock: Clock, max_skew_s: float) -> None:
        self._clock = clock
        self._max_skew_s = max_skew_s

    def check(self, connection: Connection, asked_at: float | None = None) -> None:
        """
        Parameters
        ----------
        asked_at
            Our time that the work rests on. A clock that was set right since then has left it in the future.

        Raises
        ------
        LedgerError
            The clocks differ by more than `max_skew_s`, however long the answer took.
        """
        before = self._clock.now()
        theirs = float(connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one())
        after = self._clock.now()
        skew_s = before - theirs if theirs < before else min(0.0, after - theirs)
        skew_s = skew_s if asked_at is None else max(skew_s, asked_at - theirs)
        if abs(skew_s) > self._max_skew_s:
            raise LedgerError(
                f"this machine's clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the database's; "
                "until both are set right (NTP) this replica starts nothing"
            )


def postgres_error(said: str, sqlstate: str | None) -> LedgerError:
    """What an error of PostgreSQL means for the user. Without a state, the connection itself was lost."""
    state = sqlstate or ""
    for prefixes, words, permanent in _MEANINGS:
        if state.startswith(prefixes):
            return LedgerError(words.format(said=said), permanent=permanent)
    if state.startswith("XX00") and state != "XX000":
        return LedgerCorruptError(f"the ledger is damaged ({said}); restore the database from a backup", permanent=True)
    if not state:
        return LedgerError(_UNREACHABLE.format(said=said))
    return LedgerError(f"the ledger refused: {said}")


_UNREACHABLE = (
    "the ledger's database cannot be reached ({said}); nothing is started until it answers. "
    "See that PostgreSQL runs and that [daemon] ledger names it"
)
_MEANINGS: tuple[tuple[tuple[str, ...], str, bool], ...] = (
    (("08", "57P"), _UNREACHABLE, False),
    (
        ("28",),
        ("the ledger's database refused the login ({said}); check the user in [daemon] ledger, ledger_password_env or "
        "ledger_password_file, or PGPASSFILE"),
        True,
    ),
    (("3D",), "the ledger's database is not there ({said}); make it with createdb", True),
    (("53100",), "the ledger could not be written ({said}); free space on its disk, nothing was lost", False),
    (("53",), "the ledger's database is at its limit ({said}); raise max_connections or memory", False),
    (("25006",), "the ledger's database takes no writes ({said}); name the primary: target_session_attrs=read-write",
     False),
    (("40", "55P03", "57014", "25P03"), "the ledger is busy ({said}); it is tried again", False),
    (("42501",), "the ledger cannot be used ({said}); its user must own the tables", True),
)  # fmt: skip
