"""Old months leave the ledger whole, in batches, and never with anything that is still held."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

import djp_governance.adapters.sql_retention
from djp.database import open_engine
from djp_governance.adapters.sql_ledger import SqlLedger
from djp_governance.adapters.sql_retention import Retention
from djp_governance.adapters.tables import metadata
from djp_governance.limits import Budget, Limits
from djp_governance.model import Call, Order, RequestKey, RunLimits
from djp_governance.server import MIGRATIONS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

NOW = datetime(2027, 5, 15, 12, 0, tzinfo=UTC)
LIMITS = Limits(Budget(), Budget())


@pytest.fixture
async def engine(database_url: str, monkeypatch: pytest.MonkeyPatch, audit: Any) -> AsyncIterator[Any]:
    monkeypatch.setattr(djp_governance.adapters.sql_retention, "BATCH", 3)
    engine = await open_engine(database_url, MIGRATIONS, metadata)
    yield engine
    await engine.dispose()
    audit(database_url)


class Book:
    """A ledger in which things happen at times of the test's choosing."""

    def __init__(self, engine: Any, make: Any) -> None:
        self.ledger, self.make = SqlLedger(engine), make

    def key(self) -> RequestKey:
        return RequestKey("acme", self.make.id(), "body")

    async def run(self, at: datetime, *, settle: bool = True) -> str:
        order = Order(self.make.id(), 10, 10, RunLimits(), lease_s=0)
        held = (await self.ledger.reserve(self.key(), order, LIMITS, at)).reservation.reservation_id
        await self.ledger.charge(self.key(), held, [Call(self.make.id(), "m", 4, 1, 1)], at)
        if settle:
            await self.ledger.close(self.key(), held, "settled", at)
        return held

    async def names(self) -> set[str]:
        found = await self.ledger.reservations("acme", state=None, run_id="", after=None, limit=1000)
        return {one.reservation_id for one in found}


async def test_whole_months_go_when_they_are_old_enough(engine: Any, make: Any, database_url: str) -> None:
    book = Book(engine, make)
    for month in (1, 2, 3):
        for day in range(1, 8):
            await book.run(datetime(2026, month, day, tzinfo=UTC))
    kept = {await book.run(datetime(2026, 4, 1, tzinfo=UTC)), await book.run(NOW)}
    retention = Retention(book.ledger.transactions, UTC, ledger_days=400, request_days=30)  # the 10th of April 2026
    assert await retention.retire(NOW) == 21
    assert await book.names() == kept
    for table in ("entries", "calls", "reservations"):
        rows = await make.sql(database_url, f"SELECT DISTINCT reservation_id FROM {table}")
        assert {row["reservation_id"] for row in rows} == kept
    rows = await make.sql(database_url, "SELECT DISTINCT starts_on FROM windows WHERE scope = 'global'")
    assert {row["starts_on"] for row in rows} == {"2026-04-01", "2027-05-15", "2027-05-01"}
    assert len(await make.sql(database_url, "SELECT * FROM requests")) == 3  # today's
    assert await retention.retire(NOW) == 0


async def test_a_month_with_money_still_held_stays_and_so_do_those_after_it(engine: Any, make: Any) -> None:
    book = Book(engine, make)
    await book.run(datetime(2026, 1, 5, tzinfo=UTC))
    held = await book.run(datetime(2026, 2, 5, tzinfo=UTC), settle=False)
    settled = await book.run(datetime(2026, 2, 4, tzinfo=UTC))
    march = await book.run(datetime(2026, 3, 5, tzinfo=UTC))
    retention = Retention(book.ledger.transactions, UTC, ledger_days=400, request_days=30)
    assert await retention.retire(NOW) == 1
    assert await book.names() == {held, settled, march}
    await book.ledger.close(book.key(), held, "released", NOW)
    assert await retention.retire(NOW) == 3
    assert await book.names() == set()


async def test_the_windows_of_a_reservation_that_is_charged_meanwhile_wait_for_it(
    postgres_url: str, make: Any, audit: Any
) -> None:
    engine = await open_engine(postgres_url, MIGRATIONS, metadata)
    book = Book(engine, make)
    held = [await book.run(datetime(2026, 1, day, tzinfo=UTC)) for day in (4, 5)]
    retention = Retention(book.ledger.transactions, UTC, ledger_days=400, request_days=30)
    async with engine.begin() as charging:
        lock = "SELECT * FROM reservations WHERE reservation_id = :name FOR UPDATE"
        await charging.execute(text(lock), {"name": held[0]})
        assert await retention.retire(NOW) == 1
    await book.ledger.charge(book.key(), held[0], [Call(make.id(), "m", 4, 1, 1)], NOW)
    assert len(await make.sql(postgres_url, "SELECT * FROM windows")) == 6  # of two days and a month, twice
    assert await retention.retire(NOW) == 1
    assert await make.sql(postgres_url, "SELECT * FROM windows") == []
    await engine.dispose()
    audit(postgres_url)


async def test_a_ledger_can_be_kept_for_ever_and_requests_are_forgotten_all_the_same(
    engine: Any, make: Any, database_url: str
) -> None:
    book = Book(engine, make)
    await book.run(NOW - timedelta(days=3650))
    retention = Retention(book.ledger.transactions, UTC, ledger_days=0, request_days=30)
    assert await retention.retire(NOW) == 0
    assert len(await book.names()) == 1
    assert await make.sql(database_url, "SELECT * FROM requests") == []
