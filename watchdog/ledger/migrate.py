"""Bringing a database to the newest schema. alembic is imported only when there is something to do."""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from watchdog.errors import LedgerError
from watchdog.ledger.schema import HEAD, KNOWN, metadata

MIGRATIONS = Path(__file__).parent / "migrations"


def revision(connection: Connection) -> str:
    """The schema's revision.

    Raises
    ------
    LedgerError
        The database belongs to something else, or to a newer version of this program.
    """
    if not inspect(connection).has_table("alembic_version"):
        raise LedgerError("this is a database, but no ledger of deploy-watchdog; name another one", permanent=True)
    found = connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    if found not in KNOWN:
        raise LedgerError(
            f"the ledger has schema {found}, newer than this version of deploy-watchdog knows ({HEAD}); "
            "start the newer version, or restore the backup made before its first start",
            permanent=True,
        )
    return str(found)


def create(connection: Connection) -> None:
    """Make all tables at the newest revision; a test holds this equal to running every migration."""
    metadata.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:head)"), {"head": HEAD})


def create_or_migrate(connection: Connection) -> None:
    """Bring a PostgreSQL schema up to date: an empty one gets the tables, ours the missing migrations.

    Raises
    ------
    LedgerError
        It holds somebody else's tables, or those of a newer version.
    """
    found = inspect(connection).get_table_names()
    if not found:
        create(connection)
    elif revision(connection) != HEAD:
        migrate(connection)


def migrate(connection: Connection) -> None:
    """Run all missing migrations inside the caller's transaction."""
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
