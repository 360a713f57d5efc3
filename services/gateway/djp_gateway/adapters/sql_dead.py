"""Dead letters, in the SQL database that has the runs: each is a column or two of its run."""

from __future__ import annotations

import uuid
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, bindparam, case, func, insert, select, text, update

from djp.database import from_us, now_us, to_us
from djp.mesh.errors import NotFound
from djp.mesh.times import from_timestamp
from djp.v1 import run_pb2
from djp_gateway.adapters.pages import read_page
from djp_gateway.adapters.tables import runs
from djp_gateway.ports import DeadRun
from djp_gateway.spec import new_run

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp.v1 import dead_letter_pb2
    from djp_gateway.adapters.sql_store import SqlRunStore
    from djp_gateway.adapters.transactions import Transactions

_SHARE_LOCK = 0x646A7073  # "djps": the advisory lock of who takes a share on Postgres, as the write lock is on SQLite

# Statements are built once: building one costs as much as running it.
_ADD = insert(runs)
_OF_RUN = update(runs).where(runs.c.run_id == bindparam("of_run"))
_SHARE_OF = select(runs.c.share_us).where(runs.c.run_id == bindparam("of_run"))
_TAKEN = select(
    func.coalesce(func.sum(case((runs.c.terminal, runs.c.cost_nano_usd), else_=runs.c.share_nano_usd)), 0)
).where(runs.c.tenant == bindparam("of_tenant"), runs.c.share_us >= bindparam("since"))


class SqlDeadLetters:
    """DeadLetters on SQLAlchemy Core; one transaction a call."""

    def __init__(self, tables: Transactions, store: SqlRunStore) -> None:
        self._tables = tables
        self._store = store
        self._sqlite = tables.dialect == "sqlite"

    async def get(self, tenant: str, dead_letter_id: str) -> DeadRun:
        query = select(runs).where(
            runs.c.tenant == tenant, runs.c.run_id == dead_letter_id.lower(), runs.c.died_us.is_not(None)
        )
        for row in await self._tables.rows(query):
            return self._opened(row)
        raise NotFound(
            f"there is no dead letter {dead_letter_id}; `djp dlq list` shows those there are",
            field="dead_letter_id",
        )

    async def list(
        self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter, *, page_size: int, page_token: str
    ) -> tuple[Sequence[DeadRun], str]:
        where = _fitting(tenant, wanted)
        found, token = await read_page(self._tables.engine, where, runs.c.died_us, size=page_size, token=page_token)
        return [self._opened(row) for row in found], token

    async def replay(
        self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter, *, window_share: float, executor: str, at_most: int
    ) -> Sequence[str]:
        where = and_(*_fitting(tenant, wanted), runs.c.replayed_as.is_(None))
        query = select(runs).where(where).order_by(runs.c.died_us, runs.c.run_id).limit(at_most)
        if not self._sqlite:
            query = query.with_for_update()  # who replays the same at the same time finds them replayed

        async def replayed(connection: AsyncConnection) -> Sequence[str]:
            made = []
            for row in (await connection.execute(query)).all():
                run = _again(self._store.opened(row), window_share)
                made.append(
                    self._store.row_of(
                        run,
                        request_id=str(uuid.uuid5(uuid.UUID(row.run_id), "replay request")),
                        request_sha256=sha256(row.run_id.encode()).hexdigest(),
                        executor=executor,
                    )
                )
                marked = {"replayed_as": run.run_id, "replayed_us": run.created_at.ToMicroseconds()}
                await connection.execute(_OF_RUN, {"of_run": row.run_id, **marked})
            if made:
                await connection.execute(_ADD, made)
            return [row["run_id"] for row in made]

        return await self._tables.change(replayed)

    async def replayed(self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter) -> Sequence[str]:
        where = and_(*_fitting(tenant, wanted, replayed=True), runs.c.replayed_as.is_not(None))
        query = select(runs.c.replayed_as).where(where).order_by(runs.c.died_us, runs.c.run_id)
        return [row.replayed_as for row in await self._tables.rows(query)]

    async def purge(self, tenant: str, wanted: dead_letter_pb2.DeadLetterFilter) -> int:
        forget = update(runs).where(*_fitting(tenant, wanted)).values(died_us=None)

        async def purged(connection: AsyncConnection) -> int:
            return (await connection.execute(forget)).rowcount

        return await self._tables.change(purged)

    async def take_share(
        self, run: run_pb2.Run, amount_nano_usd: int, windows: Sequence[tuple[datetime, int]]
    ) -> int | None:
        asked_us = now_us()

        async def took(connection: AsyncConnection) -> int | None:
            if not self._sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _SHARE_LOCK})
            mine = {"of_run": run.run_id}
            if (await connection.execute(_SHARE_OF, mine)).one()[0] is not None:
                return None
            for place, (begins, allowed) in enumerate(windows):
                since = {"of_tenant": run.tenant, "since": to_us(begins)}
                already = int((await connection.execute(_TAKEN, since)).one()[0])
                if already and already + amount_nano_usd > allowed:
                    return place
            await connection.execute(_OF_RUN, {**mine, "share_us": asked_us, "share_nano_usd": amount_nano_usd})
            return None

        return await self._tables.change(took)

    def _opened(self, row: Any) -> DeadRun:
        at = None if row.replayed_us is None else from_us(row.replayed_us)
        return DeadRun(self._store.opened(row), row.replayed_as or "", at)


def _again(dead: run_pb2.Run, window_share: float) -> run_pb2.Run:
    """The one run that replays a dead one: its id comes from that one's, so there can be no second."""
    replay = run_pb2.Replay(run_id=dead.run_id, window_share=window_share)
    return new_run(str(uuid.uuid5(uuid.UUID(dead.run_id), "replay")), dead.tenant, dead.spec, replay)


def _fitting(
    tenant: str, wanted: dead_letter_pb2.DeadLetterFilter, *, replayed: bool = False
) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = [runs.c.tenant == tenant, runs.c.died_us.is_not(None)]
    if not (replayed or wanted.include_replayed):
        found.append(runs.c.replayed_as.is_(None))
    if wanted.reason:
        found.append(runs.c.error_reason == wanted.reason)
    if wanted.created.HasField("since"):
        found.append(runs.c.died_us >= to_us(from_timestamp(wanted.created.since, "filter.created.since")))
    if wanted.created.HasField("until"):
        found.append(runs.c.died_us < to_us(from_timestamp(wanted.created.until, "filter.created.until")))
    if wanted.dead_letter_ids:
        found.append(runs.c.run_id.in_([one.lower() for one in wanted.dead_letter_ids]))
    return found
