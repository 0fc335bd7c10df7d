"""The ledger's statements on SQLite without SQLAlchemy's own way of running them, which takes most of a run's time.

They are still built and compiled by SQLAlchemy: the SQL and its parameters are the same to the letter. What is left out
are its events, its result objects and its pool. A test holds runs equal with and without.
"""

import sqlite3
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import exc
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.compiler import SQLCompiler

Many = Sequence[Mapping[str, Any]]


class Quick:
    """What the ledger's code asks of a connection, and no more: anything else fails by its name."""

    def __init__(self, raw: sqlite3.Connection, dialect: Dialect) -> None:
        self._raw = raw
        self.dialect = dialect
        self._compiled: dict[Any, Any] = {}

    def begin(self) -> None:
        self._raw.execute("BEGIN")

    def commit(self) -> None:
        self._raw.execute("COMMIT")

    def rollback(self) -> None:
        if self._raw.in_transaction:
            self._raw.execute("ROLLBACK")

    def execute(self, statement: Any, parameters: Mapping[str, Any] | Many | None = None) -> "Result":
        many: Many = [parameters] if isinstance(parameters, Mapping) else parameters or []
        keys = sorted(many[0]) if many else []
        compiled, extracted, collected, _ = statement._compile_w_cache(
            self.dialect, compiled_cache=self._compiled, column_keys=keys, for_executemany=len(many) > 1
        )
        sql, rows = _bound(compiled, extracted, collected, many)
        try:
            cursor = self._raw.executemany(sql, rows) if len(rows) > 1 else self._raw.execute(sql, rows[0])
        except sqlite3.IntegrityError as error:
            raise exc.IntegrityError(sql, None, error) from error
        return Result(cursor)


def _bound(compiled: SQLCompiler, extracted: Any, collected: Any, many: Many) -> tuple[str, list[list[Any]]]:
    """The SQL and the values for it, in order, once for each row."""
    values = [
        compiled.construct_params(
            dict(one), escape_names=False, _group_number=at, extracted_parameters=extracted, _collected_params=collected
        )
        for at, one in enumerate(many or [{}])
    ]
    if compiled.literal_execute_params or compiled.post_compile_params:
        [only] = values
        expanded = compiled._process_parameters_for_postcompile(only)
        prepare = {**compiled._bind_processors, **expanded.processors}
        return expanded.statement, [[_sent(only[name], prepare.get(name)) for name in expanded.positiontup or ()]]
    plain = compiled._bind_processors
    names = compiled.positiontup or ()
    return compiled.string, [[_sent(one[name], plain.get(name)) for name in names] for one in values]


def _sent(value: Any, prepare: Any) -> Any:
    """A value as its column's type sends it."""
    return value if prepare is None else prepare(value)


class Result:
    """The rows of one statement, as the ledger's code takes them."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._columns = tuple(column[0] for column in cursor.description or ())
        self.rowcount = cursor.rowcount
        self._rows = cursor.fetchall() if cursor.description else []

    def __iter__(self) -> Iterator[Any]:
        return iter(self.all())

    def all(self) -> list[Any]:
        row = _row(self._columns)
        return [row(*values) for values in self._rows]

    def mappings(self) -> "Mapped":
        return Mapped([dict(zip(self._columns, values, strict=True)) for values in self._rows])

    def scalars(self) -> list[Any]:
        return [values[0] for values in self._rows]

    def scalar(self) -> Any:
        return self._rows[0][0] if self._rows else None

    def scalar_one(self) -> Any:
        [(value, *_)] = self._rows
        return value

    def one(self) -> Any:
        [row] = self.all()
        return row

    def one_or_none(self) -> Any:
        return self.one() if self._rows else None

    def first(self) -> Any:
        return self.all()[0] if self._rows else None


class Mapped(list[dict[str, Any]]):
    """The same as dictionaries."""

    def one(self) -> dict[str, Any]:
        [row] = self
        return row

    def one_or_none(self) -> dict[str, Any] | None:
        return self.one() if self else None


@cache
def _row(columns: tuple[str, ...]) -> Any:
    return namedtuple("_Row", columns, rename=True)  # noqa: PYI024 (the columns are known only here)
