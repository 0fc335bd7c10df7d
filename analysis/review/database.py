"""A daemon's database, opened for reading only: every question is a short transaction on a connection of its own."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, create_engine, inspect, text
from sqlalchemy.engine import Engine
from sqlalchemy.exc import DatabaseError
from sqlalchemy.pool import NullPool

_NEEDED = frozenset(
    {"deploys", "plans", "watches", "looks", "samples", "verdicts", "labels", "query_texts", "evidence_paths"}
)
_AT_ONCE = 500  # ids in one question; databases bound the number of parameters


class Database:
    """Rows of a ledger as dicts.

    Parameters
    ----------
    address
        A file, ``sqlite:///FILE`` or ``postgresql://USER@HOST/DATABASE``.

    Raises
    ------
    FileNotFoundError
        There is no such file; none is created.
    ValueError
        It is no ledger of a daemon.
    """

    def __init__(self, address: str) -> None:
        self.engine = _postgres(address) if address.startswith(("postgresql://", "postgres://")) else _sqlite(address)
        missing = _NEEDED - set(inspect(self.engine).get_table_names())
        if missing:
            raise ValueError(f"{address} is no ledger of this version: it has no table {min(missing)!r}")

    def rows(self, query: str, only: Sequence[str] | None = None, *, key: str = "w.id") -> Iterator[dict[str, Any]]:
        """Ask for rows; `{only}` in the query is where the restriction to some deploys goes."""
        if only is None:
            yield from self._ask(text(query.format(only="1 = 1")), {})
            return
        asked = text(query.format(only=f"{key} IN :only")).bindparams(bindparam("only", expanding=True))
        for start in range(0, len(only), _AT_ONCE):
            yield from self._ask(asked, {"only": list(only[start : start + _AT_ONCE])})

    def _ask(self, query: Any, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query, values).mappings()]


def is_ledger(path: Path) -> bool:
    """Whether a file is a ledger that can be read here."""
    try:
        Database(str(path))
    except (ValueError, DatabaseError):
        return False
    return True


def _sqlite(address: str) -> Engine:
    path = Path(address.removeprefix("sqlite:///")).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"no ledger at {path}")
    return create_engine(f"sqlite:///{path.as_uri()}?mode=ro&uri=true", poolclass=NullPool)


def _postgres(address: str) -> Engine:
    import psycopg

    engine = create_engine("postgresql+psycopg://", creator=lambda: psycopg.connect(address), poolclass=NullPool)
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
