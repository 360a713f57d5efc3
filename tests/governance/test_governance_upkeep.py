"""Background work and stopping: what is cancelled is heard as cancelled, and what fails is tried again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa

from djp.database import open_engine
from djp_governance.adapters.tables import metadata
from djp_governance.adapters.transactions import Transactions
from djp_governance.server import MIGRATIONS


async def test_reading_that_is_cancelled_in_a_statement_is_cancelled(database_url: str) -> None:
    engine = await open_engine(database_url, MIGRATIONS, metadata)
    transactions = Transactions(engine)
    inside = asyncio.Event()

    async def work(connection: Any) -> None:
        while True:  # sooner or later the cancellation meets a statement
            await connection.execute(sa.text("SELECT * FROM windows"))
            inside.set()

    for _ in range(5):
        inside.clear()
        task = asyncio.create_task(transactions.read(work))
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await engine.dispose()


async def test_a_log_that_cannot_be_written_stops_nothing(
    governance: Any, tmp_path: Any, caplog: pytest.LogCaptureFixture, make: Any
) -> None:
    (tmp_path / "logs").write_text("no folder")
    operator = (await governance.start()).client("ops", "operator")
    await operator.set_budget("global", daily_nano_usd=1)
    if governance.url.startswith("sqlite"):

        async def is_told() -> bool:
            return any("the log of events could not be written" in record.message for record in caplog.records)

        await make.until(is_told)
    assert (await operator.budget("global")).daily_nano_usd == 1
    await governance.restart()
