"""SQLAlchemy's statements on a driver's own connection: the same answers as SQLAlchemy's own execution gives."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    MetaData,
    String,
    Table,
    bindparam,
    create_engine,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.sqlite import insert as insert_or

from djp.plain_connection import PlainConnection, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator

notes = Table(
    "notes",
    MetaData(),
    Column("name", String, primary_key=True),
    Column("many", Integer, nullable=False, server_default="7"),
)
NAMED = select(notes).where(notes.c.name.in_(bindparam("names", expanding=True))).order_by(notes.c.name)
HOSTILE = ["50 % off", ":name", "%(name)s", "?", "Grüße 🙂", "a'b\"c;--", ""]


@pytest.fixture
def plain() -> Iterator[PlainConnection]:
    dialect: Any = sqlite.dialect()
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("CREATE TABLE notes (name TEXT PRIMARY KEY, many INTEGER NOT NULL DEFAULT 7)")
        yield PlainConnection(connection, dialect)  # type: ignore[arg-type]


def answer(plain: PlainConnection, statement: Any, values: Any = None) -> Rows:
    return asyncio.run(plain.execute(statement, values))


def test_names_and_values_come_through_whatever_they_look_like(plain: PlainConnection) -> None:
    told = answer(plain, insert(notes).returning(notes.c.name), [{"name": name} for name in HOSTILE])
    assert [row.name for row in told] == HOSTILE
    for name in HOSTILE:
        assert answer(plain, NAMED, {"names": [name]}).one().name == name


def test_a_list_of_values_may_have_any_length(plain: PlainConnection) -> None:
    answer(plain, insert(notes), [{"name": one} for one in "abc"])
    for names in (["a"], [], ["a", "b", "c"], ["c", "nobody"]):
        assert [row.name for row in answer(plain, NAMED, {"names": names})] == [one for one in names if one in "abc"]


def test_a_statement_has_values_of_its_own_and_is_given_others(plain: PlainConnection) -> None:
    more = update(notes).where(notes.c.name == bindparam("this"), notes.c.many < 100).values(many=notes.c.many + 3)
    answer(plain, insert(notes).values(name="a"))
    assert answer(plain, more, {"this": "a"}).rowcount == 1
    assert answer(plain, more, {"this": "b"}).rowcount == 0
    assert answer(plain, select(func.max(notes.c.many))).scalars() == [10]


def test_the_same_statement_with_other_columns_is_another(plain: PlainConnection) -> None:
    add = insert(notes)
    answer(plain, add, {"name": "a"})
    answer(plain, add, {"name": "b", "many": 1})
    assert [tuple(row) for row in answer(plain, NAMED, {"names": ["a", "b"]})] == [("a", 7), ("b", 1)]


def test_what_returns_rows_only_now_and_then(plain: PlainConnection) -> None:
    new = insert_or(notes).on_conflict_do_nothing().returning(notes.c.name)
    assert answer(plain, new, {"name": "a"}).one_or_none().name == "a"
    assert answer(plain, new, {"name": "a"}).one_or_none() is None
    assert answer(plain, new, [{"name": "a"}, {"name": "b"}]).scalars() == ["b"]


def test_one_row_is_one(plain: PlainConnection) -> None:
    answer(plain, insert(notes), [{"name": "a"}, {"name": "b"}])
    for one in (Rows.one, Rows.one_or_none):
        with pytest.raises(ValueError, match="too many"):
            one(answer(plain, NAMED, {"names": ["a", "b"]}))
    with pytest.raises(ValueError, match="not enough"):
        answer(plain, NAMED, {"names": []}).one()


def test_the_drivers_errors_are_raised_as_they_are(plain: PlainConnection) -> None:
    answer(plain, insert(notes), {"name": "a"})
    with pytest.raises(sqlite3.IntegrityError):
        answer(plain, insert(notes), {"name": "a"})


def test_as_sqlalchemy_itself(plain: PlainConnection) -> None:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        notes.metadata.create_all(connection)
        for statement, values in (
            (insert(notes), [{"name": one, "many": place} for place, one in enumerate(HOSTILE)]),
            (delete(notes).where(notes.c.many > bindparam("least")), {"least": 4}),
            (NAMED, {"names": HOSTILE}),
        ):
            theirs, ours = connection.execute(statement, values), answer(plain, statement, values)
            if theirs.returns_rows:
                assert [tuple(row) for row in ours] == [tuple(row) for row in theirs]
    engine.dispose()
