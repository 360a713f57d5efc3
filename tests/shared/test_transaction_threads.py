"""Transactions in threads: alone or sharing a commit, each is whole or leaves nothing, and answers its own caller."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from djp.database import open_engine
from djp.mesh.errors import DiskFull
from djp.transaction_threads import TransactionThreads

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine
    from pathlib import Path

    from sqlalchemy.ext.asyncio import AsyncConnection


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "notes.db"


@pytest.fixture
async def threads(path: Path) -> AsyncIterator[TransactionThreads]:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        connection.execute("INSERT INTO alembic_version VALUES ('0001')")
        connection.execute("CREATE TABLE notes (name TEXT PRIMARY KEY)")
        connection.commit()
    migrations = path.parent / "migrations" / "versions"
    migrations.mkdir(parents=True)
    (migrations / "0001_notes.py").write_text("")
    engine = await open_engine(f"sqlite+aiosqlite:///{path}", migrations.parent)
    yield TransactionThreads(engine)
    await engine.dispose()


def note(name: str, then: Exception | None = None) -> Callable[[AsyncConnection], Coroutine[Any, Any, str]]:
    async def work(connection: AsyncConnection) -> str:
        await connection.execute(text("INSERT INTO notes VALUES (:name)"), {"name": name})
        if then:
            raise then
        return name

    return work


def names(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        return {name for (name,) in connection.execute("SELECT name FROM notes")}


class Busy:
    """A transaction that goes on until it is let go: what comes meanwhile waits, and then goes together."""

    def __init__(self) -> None:
        self.begun, self.goes_on = threading.Event(), threading.Event()

    async def work(self, _connection: AsyncConnection) -> str:
        self.begun.set()
        assert self.goes_on.wait(60)
        return "busy"


async def queue(threads: TransactionThreads, *works: Any) -> list[Any]:
    """The outcomes of works that had to wait for each other."""
    busy = Busy()
    first = asyncio.create_task(threads.run(busy.work))
    await asyncio.to_thread(busy.begun.wait, 60)
    waiting = [asyncio.create_task(threads.run(work)) for work in works]
    await asyncio.sleep(0)  # each is in the queue
    busy.goes_on.set()
    assert await first == "busy"
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_what_waits_shares_a_commit_and_each_gets_its_own_answer(threads: TransactionThreads, path: Path) -> None:
    seen: list[set[str]] = []

    def looking(name: str) -> Any:
        async def work(connection: AsyncConnection) -> str:
            seen.append(names(path))  # what others see who read meanwhile
            return await note(name)(connection)

        return work

    assert await queue(threads, *(looking(name) for name in "abc")) == ["a", "b", "c"]
    assert seen == [set(), set(), set()]
    assert names(path) == {"a", "b", "c"}


async def test_a_work_that_fails_leaves_nothing_and_harms_no_other(threads: TransactionThreads, path: Path) -> None:
    outcomes = await queue(threads, note("a"), note("b", ValueError("no")), note("c"), note("d", KeyError("d")))
    assert [type(one) for one in outcomes] == [str, ValueError, str, KeyError]
    assert names(path) == {"a", "c"}


async def test_one_that_the_database_refuses_harms_no_other(threads: TransactionThreads, path: Path) -> None:
    outcomes = await queue(threads, note("a"), note("a"), note("b"))
    assert outcomes[0] == "a"
    assert outcomes[2] == "b"
    assert "UNIQUE" in str(outcomes[1])
    assert names(path) == {"a", "b"}


async def test_a_disk_that_is_full_at_the_commit_fails_all_that_shared_it_and_keeps_nothing(
    threads: TransactionThreads, path: Path
) -> None:
    async def fill(connection: AsyncConnection) -> None:
        await connection.execute(text("PRAGMA max_page_count = 1"))
        for n in range(1000):
            await connection.execute(text("INSERT INTO notes VALUES (:name)"), {"name": f"{n}" * 2000})

    outcomes = await queue(threads, note("a"), fill, note("b"))
    assert isinstance(outcomes[1], DiskFull)
    assert names(path) <= {"a", "b"}
    for name, outcome in zip("ab", (outcomes[0], outcomes[2]), strict=True):
        assert (outcome == name) == (name in names(path))


async def test_who_goes_away_while_waiting_is_not_served(threads: TransactionThreads, path: Path) -> None:
    busy = Busy()
    first = asyncio.create_task(threads.run(busy.work))
    await asyncio.to_thread(busy.begun.wait, 60)
    gone, stays = (asyncio.create_task(threads.run(note(name))) for name in ("gone", "stays"))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.wait([gone])
    busy.goes_on.set()
    assert await stays == "stays"
    await first
    assert names(path) == {"stays"}


async def test_the_urgent_come_first_and_all_others_get_their_turn(threads: TransactionThreads) -> None:
    busy, order, answers = Busy(), list[str](), list[asyncio.Task[None]]()

    def saying(name: str) -> Callable[[AsyncConnection], Coroutine[Any, Any, None]]:
        async def work(_connection: AsyncConnection) -> None:
            order.append(name)

        return work

    first = asyncio.create_task(threads.run(busy.work))
    await asyncio.to_thread(busy.begun.wait, 60)
    for name in ("a", "b", "c", "U1", "U2"):
        answers.append(asyncio.create_task(threads.run(saying(name), urgent=name.startswith("U"))))
        await asyncio.sleep(0)
    busy.goes_on.set()
    await asyncio.gather(first, *answers)
    assert order == ["U1", "U2", "a", "b", "c"]


async def test_who_is_urgent_all_the_time_starves_nobody(threads: TransactionThreads) -> None:
    urgent = Busy()
    urgents = [asyncio.create_task(threads.run(urgent.work, urgent=True))]
    await asyncio.to_thread(urgent.begun.wait, 60)
    patient = asyncio.create_task(threads.run(note("patient")))
    for _ in range(200):  # there is always one that waits
        before, urgent = urgent, Busy()
        urgents.append(asyncio.create_task(threads.run(urgent.work, urgent=True)))
        await asyncio.sleep(0)
        before.goes_on.set()
        await asyncio.to_thread(urgent.begun.wait, 60)
    assert patient.done()
    urgent.goes_on.set()
    await asyncio.gather(patient, *urgents)


async def test_who_goes_away_meanwhile_does_not_stop_it(threads: TransactionThreads, path: Path) -> None:
    busy = Busy()

    async def work(connection: AsyncConnection) -> None:
        await note("done")(connection)
        await busy.work(connection)

    task = asyncio.create_task(threads.run(work))
    await asyncio.to_thread(busy.begun.wait, 60)
    task.cancel()
    await asyncio.wait([task])
    busy.goes_on.set()
    await threads.run(note("next"))
    assert names(path) == {"done", "next"}


async def test_a_transaction_awaits_nothing_else(threads: TransactionThreads, path: Path) -> None:
    async def work(connection: AsyncConnection) -> None:
        await note("a")(connection)
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="its connection only"):
        await threads.run(work)
    assert names(path) == set()


async def test_many_at_once(threads: TransactionThreads, path: Path) -> None:
    many = [f"{n}" for n in range(500)]
    assert await asyncio.gather(*(threads.run(note(name)) for name in many)) == many
    assert names(path) == set(many)


async def test_who_looks_waits_for_no_writer_and_sees_what_is_committed(threads: TransactionThreads) -> None:
    async def count(connection: AsyncConnection) -> int:
        return int((await connection.execute(text("SELECT count(*) FROM notes"))).one()[0])

    async def refused(connection: AsyncConnection) -> None:
        await connection.execute(text("SELECT * FROM nothing"))

    busy = Busy()
    await threads.run(note("before"))
    writing = asyncio.create_task(threads.run(busy.work))
    await asyncio.to_thread(busy.begun.wait, 60)
    waiting = asyncio.create_task(threads.run(note("after")))
    assert await threads.look(count) == 1
    with pytest.raises(sqlite3.OperationalError, match="nothing"):
        await threads.look(refused)
    busy.goes_on.set()
    await asyncio.gather(writing, waiting)
    assert await threads.look(count) == 2
