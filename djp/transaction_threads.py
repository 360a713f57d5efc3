"""Runs transactions in threads, on plain connections: a hop to a thread for each of them, not for each statement.

An async driver hands every statement to another task or thread and waits for it. For a service that does little but
short transactions, these hops cost more than the statements do (benchmarks/ledger.py has the figures).
"""

from __future__ import annotations

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar, cast

from sqlalchemy import event

from djp.database import DatabaseAwayError, clear_error, plain_engine
from djp.mesh.errors import Unavailable
from djp.plain_connection import PlainConnection

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator, Sequence

    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

Answer = TypeVar("Answer")

_SHARE = 64
"""Of the transactions that wait for SQLite's one writer, so many share a commit: what takes long is the disk."""


class CommitUnansweredError(DatabaseAwayError):
    """The connection broke while a transaction was committed: it may count, or not."""


class TransactionThreads:
    """A pool of threads with a connection each; on SQLite it is one, since only one can write, and another one reads.
    Ends with the engine."""

    def __init__(self, engine: AsyncEngine, *, repeatable: bool = True) -> None:
        """`repeatable`: works are such that done twice they count once."""
        self._engine = plain_engine(engine)
        self._sqlite = engine.dialect.name == "sqlite"
        self._repeatable = repeatable
        self._urgent: deque[_Waiting] = deque()
        self._waiting: deque[_Waiting] = deque()
        self._was_urgent = False
        """What the last transaction began with: the next one begins with whoever else waits, so that nobody starves."""
        self._threads = ThreadPoolExecutor(self._engine.pool.size(), "djp-transactions")  # type: ignore[attr-defined]
        self._reader, self._readers = self._engine, self._threads
        if self._sqlite:
            self._reader, self._readers = plain_engine(engine), ThreadPoolExecutor(1, "djp-reader")
        event.listen(engine.sync_engine, "engine_disposed", self._close)

    async def run(
        self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]], *, urgent: bool = False
    ) -> Answer:
        """Do the work in a transaction. It awaits nothing but `connection.execute`, and what raises leaves nothing.

        Who is cancelled while its transaction goes on does not stop it. Where a connection broke, a work is done again,
        in another transaction: if its commit was not answered, only a repeatable one. An `urgent` one comes before
        those that wait already, all but one of them.

        Raises:
            CommitUnansweredError: whether a work counts that is not repeatable, nobody knows.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        (self._urgent if urgent else self._waiting).append(_Waiting(work, answer, urgent))
        self._threads.submit(self._work, loop)
        return await answer

    async def look(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        """Do a short work that only reads; on SQLite it waits for no writer, and reads all of one instant."""
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._looked, work)

    def _looked(self, work: Callable[[AsyncConnection], Coroutine[Any, Any, Answer]]) -> Answer:
        value, error = self._alone(work, self._reader)
        if error:
            raise error
        return cast("Answer", value)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        lines = (self._waiting, self._urgent) if self._was_urgent else (self._urgent, self._waiting)
        first = _next(*lines)
        if not first:
            return  # a transaction before took it with it
        self._was_urgent = first.urgent
        if self._sqlite and (self._urgent or self._waiting):
            answers, outcomes = self._together(first)
        else:
            answers, outcomes = [first.answer], [self._alone(first.work, self._engine)]
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_tell, answers, outcomes)

    def _together(self, first: _Waiting) -> tuple[list[asyncio.Future[Any]], list[_Outcome]]:
        """One transaction for many; what one of them raises undoes that one only. After an urgent one it ends soon."""
        taken: list[_Waiting] = []
        outcomes: list[_Outcome] = []
        one: _Waiting | None = first
        try:
            with self._transaction(self._engine) as connection:
                while one:
                    taken.append(one)
                    outcomes.append(self._apart(connection, one.work))
                    lines = (self._urgent,) if one.urgent else (self._urgent, self._waiting)
                    one = _next(*lines) if len(taken) < _SHARE else None
        except Exception:  # the database's, which each is to hear of by itself
            outcomes = [self._alone(one.work, self._engine) for one in taken]
        return [one.answer for one in taken], outcomes

    def _alone(self, work: _Work, engine: Engine) -> _Outcome:
        try:
            try:
                return self._once(work, engine), None
            except Unavailable as away:
                if self._sqlite or (isinstance(away, CommitUnansweredError) and not self._repeatable):
                    raise
                return self._once(work, engine), None  # the connection broke, mostly while nobody used it
        except Exception as error:  # raised where it is waited for
            return None, error

    def _once(self, work: _Work, engine: Engine) -> Any:
        with self._transaction(engine) as connection:
            return self._done(connection, work)

    @contextmanager
    def _transaction(self, engine: Engine) -> Iterator[DBAPIConnection]:
        driver: Any = engine.dialect.loaded_dbapi
        pooled, done = None, False
        try:
            pooled = engine.raw_connection()
            connection: Any = pooled.dbapi_connection
            if self._sqlite:
                connection.execute("BEGIN IMMEDIATE" if engine is self._engine else "BEGIN")
            yield connection
            done = True
            connection.commit()
        except driver.Error as error:
            clear = clear_error(engine, error, pooled)
            if done and isinstance(clear, DatabaseAwayError):
                raise CommitUnansweredError(clear.message) from error
            if clear:
                raise clear from error
            raise
        finally:
            if pooled:
                pooled.close()  # which undoes what was not committed

    def _done(self, connection: DBAPIConnection, work: _Work) -> Any:
        going = work(cast("AsyncConnection", PlainConnection(connection, self._engine.dialect)))
        try:
            going.send(None)
        except StopIteration as end:
            return end.value
        going.close()
        raise RuntimeError("a transaction may await its connection only")

    def _apart(self, connection: Any, work: _Work) -> _Outcome:
        connection.execute("SAVEPOINT apart")
        try:
            value = self._done(connection, work)
        except self._engine.dialect.loaded_dbapi.Error:
            raise
        except Exception as error:  # raised where it is waited for
            connection.execute("ROLLBACK TO apart")
            return None, error
        finally:
            connection.execute("RELEASE apart")
        return value, None

    def _close(self, _engine: Any) -> None:
        for threads, engine in ((self._threads, self._engine), (self._readers, self._reader)):
            threads.shutdown()
            engine.dispose()


if TYPE_CHECKING:
    _Work = Callable[[AsyncConnection], Coroutine[Any, Any, Any]]
    _Outcome = tuple[Any, Exception | None]


@dataclass(frozen=True)
class _Waiting:
    work: _Work
    answer: asyncio.Future[Any]
    urgent: bool


def _next(*lines: deque[_Waiting]) -> _Waiting | None:
    """Of those that still wait, the first of the first line that has one."""
    for line in lines:
        with suppress(IndexError):
            while (one := line.popleft()).answer.cancelled():
                pass
            return one
    return None


def _tell(answers: Sequence[asyncio.Future[Any]], outcomes: Sequence[_Outcome]) -> None:
    for answer, (value, error) in zip(answers, outcomes, strict=True):
        if answer.cancelled():
            continue
        if error is None:
            answer.set_result(value)
        else:
            answer.set_exception(error)
