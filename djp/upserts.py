"""INSERTs that know what to do with a key that is there, for SQLite and Postgres alike."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sqlalchemy import Column, Table


def insert_into(dialect: str, table: Table) -> Any:
    """An INSERT that knows conflicts, of the dialect."""
    insert: Any
    if dialect == "postgresql":
        from sqlalchemy.dialects.postgresql import insert
    else:
        from sqlalchemy.dialects.sqlite import insert
    return insert(table)


@cache
def insert_if_new(dialect: str, table: Table, returning: Column[Any]) -> Any:
    """An INSERT that leaves rows alone whose key exists; on SQLite and Postgres alike, though named twice.

    It gives a column of what was inserted: Postgres's driver counts no rows.
    """
    return insert_into(dialect, table).on_conflict_do_nothing().returning(returning)
