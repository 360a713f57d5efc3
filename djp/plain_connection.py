"""SQLAlchemy's statements on a driver's own connection: compiled once, with nothing in between.

SQLAlchemy's execution costs several times what SQLite takes for the statement itself (benchmarks/ledger.py). Statements
should be made once, as constants of their modules or behind a `cache`; others work too, and are compiled each time.
"""

from __future__ import annotations

from collections import namedtuple
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from sqlalchemy.engine import Dialect
    from sqlalchemy.engine.interfaces import DBAPIConnection, DBAPICursor

_KEPT = 500
"""So many compiled statements; the ledger has about 60 that are made once."""


class Rows(list[Any]):
    """What statements answered: their rows, with columns by name, and how many rows the last of them changed."""

    rowcount = -1

    def all(self) -> Sequence[Any]:
        """Every row."""
        return self

    def one(self) -> Any:
        """The only row."""
        (row,) = self
        return row

    def one_or_none(self) -> Any:
        """The only row, if there is one."""
        return self.one() if self else None

    def scalars(self) -> list[Any]:
        """The first column of every row."""
        return [row[0] for row in self]


class PlainConnection:
    """A connection that does at once what is awaited, with what works in transactions use of an AsyncConnection.

    Values go to the driver and come back as they are: SQLite gives 0 and 1 for booleans. Raises the driver's errors.
    """

    def __init__(self, connection: DBAPIConnection, dialect: Dialect) -> None:
        self.dialect = dialect
        self._connection = connection

    async def execute(self, statement: Any, values: Mapping[str, Any] | list[Mapping[str, Any]] | None = None) -> Rows:
        """Execute a statement, or for a list of values once for each of them."""
        told = Rows()
        for one in values if isinstance(values, list) else (values or {},):
            cursor = self._connection.cursor()
            _compiled(statement, tuple(one), self.dialect).execute(cursor, one, told)
            cursor.close()
        return told


class _Compiled:
    """A statement of SQLAlchemy as a driver takes it."""

    def __init__(self, statement: Any, names: Sequence[str], dialect: Dialect) -> None:
        self._compiled = statement.compile(dialect=dialect, column_keys=names)
        self._own = dict(self._compiled.params)  # what the statement itself has values for
        self._text = self._for_driver(self._compiled.string)
        self._row: Callable[[Any], Any] | None = None
        self._silent = False

    def execute(self, cursor: DBAPICursor, values: Mapping[str, Any], told: Rows) -> None:
        text, names, parameters = self._text, self._compiled.positiontup, {**self._own, **values}
        if self._compiled.post_compile_params:  # a list of values: there are as many places as the list is long
            expanded, parameters, _, names, _ = self._compiled.construct_expanded_state(parameters)
            text = self._for_driver(expanded)
        cursor.execute(text, parameters if names is None else [parameters[name] for name in names])
        told.rowcount = cursor.rowcount
        if self._silent:
            return
        if self._row is None:  # asked once: psycopg makes an object for each column of a description
            if not cursor.description:
                self._silent = True
                return
            kind: Any = namedtuple("Row", [column[0] for column in cursor.description], rename=True)  # type: ignore[misc]
            self._row = kind._make
        told.extend(map(self._row, cursor.fetchall()))

    def _for_driver(self, text: str) -> Any:
        """SQLite takes text; psycopg bytes, which it would make of the text each time."""
        return text if self._compiled.positional else text.encode()


_compiled = lru_cache(_KEPT)(_Compiled)
