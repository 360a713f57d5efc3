"""Runs transactions in threads, on plain connections: a hop to a thread for each of them, not for each statement.

An async driver hands every statement to another task or thread and waits for it. For a service that does little but
short transactions, these hops cost more than the statements do (benchmarks/ledger.py has the figures).
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import event
from sqlalchemy.exc import DBAPIError

from djp.database import plain_engine
from djp.mesh.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Sequence

    from sqlalchemy import Connection
    from sqlalchemy.engine import CursorResult
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Answer = TypeVar("Answer")

_SHARE = 64
"""Of the transactions that wait for SQLite's one writer, so many share a commit: what takes long is the disk."""


class TransactionThreads:
    """A pool of threads with a connection each; on SQLite it is one, since only one can write. Ends with the engine."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = plain_engine(engine)
        self._sqlite = engine.dialect.name == "sqlite"
        self._waiting: deque[_Waiting] = deque()
        self._threads = ThreadPoolExecutor(self._engine.pool.size(), "djp-transactions")  # type: ignore[attr-defined]
        event.listen(engine.sync_engine, "engine_disposed", self._close)

    async def run(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do the work in a transaction. It awaits nothing but `connection.execute`, and what raises leaves nothing.

        Who is cancelled while its transaction goes on does not stop it. A work may be done again, in another
        transaction, where a connection broke: so what it does twice must count once.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        self._waiting.append((work, answer))
        self._threads.submit(self._work, loop)
        return await answer

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting: list[_Waiting] = []
        with suppress(IndexError):
            while len(waiting) < (_SHARE if self._sqlite else 1):
                waiting.append(self._waiting.popleft())
        wanted = [one for one in waiting if not one[1].cancelled()]
        if not wanted:
            return  # a transaction before took these with it
        outcomes = self._together([work for work, _ in wanted])
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, [answer for _, answer in wanted], outcomes)

    def _together(self, works: Sequence[_Work]) -> list[_Outcome]:
        """One transaction for all; what one of them raises undoes that one only."""
        if len(works) == 1:
            return [self._alone(works[0])]
        try:
            with self._engine.begin() as connection:
                return [_apart(connection, work) for work in works]
        except Exception:  # the database's, which each is to hear of by itself
            return [self._alone(work) for work in works]

    def _alone(self, work: _Work) -> _Outcome:
        try:
            try:
                return self._transaction(work), None
            except Unavailable:
                if self._sqlite:
                    raise
                return self._transaction(work), None  # the connection broke, mostly while nobody used it
        except Exception as error:  # raised where it is waited for
            return None, error

    def _transaction(self, work: _Work) -> Any:
        with self._engine.begin() as connection:
            return _done(connection, work)

    def _close(self, _engine: Any) -> None:
        self._threads.shutdown()
        self._engine.dispose()


if TYPE_CHECKING:
    _Work = Callable[[AsyncConnection], Coroutine[Any, Any, Any]]
    _Waiting = tuple[_Work, asyncio.Future[Any]]
    _Outcome = tuple[Any, Exception | None]


class _Plain:
    """A connection that does at once what is awaited."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.dialect = connection.dialect

    async def execute(self, *statement: Any) -> CursorResult[Any]:
        return self._connection.execute(*statement)


def _done(connection: Connection, work: _Work) -> Any:
    going = work(cast("AsyncConnection", _Plain(connection)))
    try:
        going.send(None)
    except StopIteration as end:
        return end.value
    going.close()
    raise RuntimeError("a transaction may await its connection only")


def _apart(connection: Connection, work: _Work) -> _Outcome:
    try:
        with connection.begin_nested():
            return _done(connection, work), None
    except Exception as error:
        if isinstance(error, DBAPIError) or isinstance(error.__cause__, sqlite3.Error):
            raise
        return None, error


def _tell(answers: Sequence[asyncio.Future[Any]], outcomes: Sequence[_Outcome]) -> None:
    for answer, (value, error) in zip(answers, outcomes, strict=True):
        if answer.cancelled():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
