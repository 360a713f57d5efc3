"""Batches as callers see them, in the SQL database that has the runs."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, case, delete, insert, null, or_, select, true, update

from djp.database import from_us, now_us
from djp.mesh.errors import AlreadyExists, FailedPrecondition, NotFound
from djp.mesh.paging import page_token as token_of
from djp.mesh.paging import read_page_token
from djp.mesh.times import to_timestamp
from djp.upserts import insert_if_new
from djp.v1 import batch_pb2, run_pb2
from djp_gateway.adapters.pages import fitting
from djp_gateway.adapters.tables import batch_rows, batches, runs
from djp_gateway.batches.ports import BatchKey, Change

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select, Update
    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions
    from djp_gateway.batches.ports import Terms
    from djp_gateway.seal import Seal

COLLECTING, CHECKING, REFUSED, RUNNING, PAUSED, CAPPED, CANCELLED, FINISHED = (
    batch_pb2.BATCH_STATE_COLLECTING,
    batch_pb2.BATCH_STATE_CHECKING,
    batch_pb2.BATCH_STATE_REFUSED,
    batch_pb2.BATCH_STATE_RUNNING,
    batch_pb2.BATCH_STATE_PAUSED,
    batch_pb2.BATCH_STATE_CAPPED,
    batch_pb2.BATCH_STATE_CANCELLED,
    batch_pb2.BATCH_STATE_FINISHED,
)
_PIECE = 500  # rows that are written in one transaction
_WITH_TEXT = (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY)


class SqlBatches:
    """Batches on SQLAlchemy Core; what is long is done in several transactions."""

    def __init__(self, tables: Transactions, seal: Seal) -> None:
        self._tables = tables
        self._seal = seal

    async def collect(
        self, key: BatchKey, first_row: int, requests: Sequence[run_pb2.RunRequest], terms: Terms, *, more: bool
    ) -> None:
        for start in range(0, len(requests), _PIECE):
            rows = [
                self._row_of(key, number, request)
                for number, request in enumerate(requests[start : start + _PIECE], start=first_row + start)
            ]
            await self._tables.change(partial(self._take, key=key, rows=rows, terms=terms))
        if not more:
            last = first_row + len(requests) - 1
            await self._tables.change(partial(self._take_last, key=key, last=last, terms=terms))

    def _row_of(self, key: BatchKey, number: int, request: run_pb2.RunRequest) -> dict[str, Any]:
        plain = request.SerializeToString(deterministic=True)
        return {
            "tenant": key.tenant,
            "batch_id": key.batch_id,
            "row": number,
            "fingerprint": self._seal.fingerprint(sha256(plain).hexdigest()),
            "sealed_request": self._seal.close(plain, place_of(key, number, "request")),
            "bound_nano_usd": 0,
            "held_nano_usd": 0,
            "under_way": False,
            "state": run_pb2.RUN_STATE_UNSPECIFIED,
            "sequence": 0,
        }

    async def _take(
        self, connection: AsyncConnection, key: BatchKey, rows: Sequence[dict[str, Any]], terms: Terms
    ) -> None:
        """Take rows of a batch of which none was started, or compare them with what it has."""
        fresh = insert_if_new(self._tables.dialect, batches, batches.c.batch_id)
        await connection.execute(fresh, _empty(key, terms))
        batch = (await connection.execute(select(batches).where(is_batch(key)).with_for_update())).one()
        first, last = rows[0]["row"], rows[-1]["row"]
        mine = and_(batch_rows.c.tenant == key.tenant, batch_rows.c.batch_id == key.batch_id)
        anew = first == 1 and batch.next_row == 1 and batch.state in (REFUSED, CANCELLED)
        if anew or batch.state == COLLECTING:
            if first > batch.size + 1:
                raise FailedPrecondition(
                    f"first_row: batch {key.batch_id} has {batch.size} rows, so row {batch.size + 1} comes next; send "
                    "the rows in order, one request after the other",
                    field="first_row",
                )
            await connection.execute(delete(batch_rows).where(mine, batch_rows.c.row >= first))
            await connection.execute(insert(batch_rows), rows)
            kept = {"size": last, "last_sequence": batch.last_sequence, "created_us": batch.created_us}
            values = _empty(key, terms) | kept
            await connection.execute(update(batches).where(is_batch(key)).values(values))
            return
        between = batch_rows.c.row.between(first, last)
        query = select(batch_rows.c.row, batch_rows.c.fingerprint).where(mine, between)
        known = {row.row: row.fingerprint for row in await connection.execute(query)}
        for row in rows:
            if known.get(row["row"]) != row["fingerprint"]:
                raise AlreadyExists(
                    f"batch_id: batch {key.batch_id} has another row {row['row']}, or none; choose another one for "
                    "other rows",
                    field="batch_id",
                )

    async def _take_last(self, connection: AsyncConnection, key: BatchKey, last: int, terms: Terms) -> None:
        batch = (await connection.execute(select(batches).where(is_batch(key)).with_for_update())).one()
        if batch.size != last:
            raise AlreadyExists(
                f"batch_id: batch {key.batch_id} has {batch.size} rows, not {last}; choose another one for other rows",
                field="batch_id",
            )
        if batch.state in (FINISHED, REFUSED):
            return
        values = {
            "state": CHECKING if batch.checked < batch.size else RUNNING,
            "executor": terms.executor,
            "max_cost_nano_usd": terms.max_cost_nano_usd,
            "concurrency": terms.concurrency,
            "no_room": False,
            "finished_us": None,
        }
        await connection.execute(update(batches).where(is_batch(key)).values(values))

    async def get(self, key: BatchKey) -> batch_pb2.Batch:
        for row in await self._tables.rows(select(batches).where(is_batch(key))):
            return _message(row)
        raise _unknown(key)

    async def list(self, tenant: str, *, page_size: int, page_token: str) -> tuple[Sequence[batch_pb2.Batch], str]:
        older: ColumnElement[bool] = true()
        created, name = batches.c.created_us, batches.c.batch_id
        if place := read_page_token(page_token, int, str):
            older = or_(created < place[0], and_(created == place[0], name < place[1]))
        query = select(batches).where(batches.c.tenant == tenant, older).order_by(created.desc(), name.desc())
        found, more = await fitting(self._tables.engine, query, page_size, lambda _: 0)
        token = token_of(found[-1].created_us, found[-1].batch_id) if more else ""
        return [_message(row) for row in found], token

    async def rows(self, key: BatchKey, *, page_size: int, page_token: str) -> tuple[Sequence[batch_pb2.BatchRow], str]:
        place = read_page_token(page_token, int)
        query = _rows(key).where(batch_rows.c.row > (place[0] if place else 0)).order_by(batch_rows.c.row)
        found, more = await fitting(self._tables.engine, query, page_size, lambda row: len(row.sealed_request))
        answers = []
        for row in found:
            answer = self._opened(key, row)
            answer.run.ParseFromString(self._seal.open(row.sealed_request, place_of(key, row.row, "request")))
            answers.append(answer)
        return answers, token_of(found[-1].row) if more else ""

    async def changes(self, key: BatchKey, after_sequence: int, at_most: int) -> Sequence[Change]:
        changed = batch_rows.c.sequence
        query = _rows(key).where(changed > after_sequence).order_by(changed).limit(at_most)
        return [Change(row.sequence, self._opened(key, row)) for row in await self._tables.rows(query)]

    async def pause(self, key: BatchKey) -> None:
        await self._stop(key, PAUSED, (CHECKING, RUNNING))

    async def cancel(self, key: BatchKey) -> None:
        await self._stop(key, CANCELLED, (COLLECTING, CHECKING, RUNNING, PAUSED, CAPPED))

    async def _stop(self, key: BatchKey, state: int, stoppable: Sequence[int]) -> None:
        stop = stopped(state).where(is_batch(key), batches.c.state.in_(stoppable))

        async def done(connection: AsyncConnection) -> None:
            await connection.execute(stop)

        await self._tables.change(done)

    async def resume(self, key: BatchKey, *, executor: str, max_cost_nano_usd: int | None, concurrency: int) -> None:
        async def resumed(connection: AsyncConnection) -> None:
            query = select(batches).where(is_batch(key)).with_for_update()
            batch = (await connection.execute(query)).one_or_none()
            if batch is None:
                raise _unknown(key)
            if batch.state in (COLLECTING, REFUSED, CANCELLED):
                name = batch_pb2.BatchState.Name(batch.state).removeprefix("BATCH_STATE_").lower()
                raise FailedPrecondition(
                    f"batch_id: batch {key.batch_id} is {name} and cannot be resumed; send its rows with StartBatch",
                    field="batch_id",
                )
            values: dict[str, Any] = {"no_room": False}
            if max_cost_nano_usd is not None:
                values["max_cost_nano_usd"] = max_cost_nano_usd
            if concurrency:
                values["concurrency"] = concurrency
            if batch.state in (PAUSED, CAPPED):
                goes_on = CHECKING if batch.checked < batch.size else RUNNING
                values |= {"state": goes_on, "executor": executor, "finished_us": None}
            await connection.execute(update(batches).where(is_batch(key)).values(values))

        await self._tables.change(resumed)

    def _opened(self, key: BatchKey, row: Any) -> batch_pb2.BatchRow:
        found = batch_pb2.BatchRow(
            row=row.row,
            run_id=row.run_id or "",
            state=row.state if row.run_state is None else row.run_state,
            cost_nano_usd=row.cost_nano_usd or 0,
            bound_nano_usd=row.bound_nano_usd,
        )
        if row.sealed_error is not None:
            found.error = self._seal.open(row.sealed_error, place_of(key, row.row, "error")).decode()
        elif row.failed_run is not None:
            found.error = run_pb2.Run.FromString(self._seal.open(row.failed_run, row.run_id)).error.message
        return found


def stopped(state: int) -> Update:
    """Lets batches rest in that state; they are finished with if no row is under way."""
    under_way = batches.c.next_row - 1 - batches.c.published - batches.c.advisory - batches.c.failed
    finished_us = case((under_way == 0, now_us()), else_=batches.c.finished_us)
    return update(batches).values(state=state, finished_us=finished_us)


def is_batch(key: BatchKey) -> ColumnElement[bool]:
    """Whether a row of `batches` is that one."""
    return and_(batches.c.tenant == key.tenant, batches.c.batch_id == key.batch_id)


def is_row(key: BatchKey) -> ColumnElement[bool]:
    """Whether a row of `batch_rows` is that batch's."""
    return and_(batch_rows.c.tenant == key.tenant, batch_rows.c.batch_id == key.batch_id)


def place_of(key: BatchKey, row: int, part: str) -> str:
    """What a part of a row is sealed for."""
    return f"{key.tenant}/batch/{key.batch_id}/{row}/{part}"


def _rows(key: BatchKey) -> Select[Any]:
    """A batch's rows, with what is known of their runs."""
    failed = case((runs.c.state.not_in(_WITH_TEXT), runs.c.sealed_run), else_=null())
    return (
        select(batch_rows, runs.c.state.label("run_state"), runs.c.cost_nano_usd, failed.label("failed_run"))
        .select_from(batch_rows.outerjoin(runs, runs.c.run_id == batch_rows.c.run_id))
        .where(is_row(key))
    )


def _empty(key: BatchKey, terms: Terms) -> dict[str, Any]:
    """A batch that has no rows yet."""
    counts = ("size", "checked", "refused", "working", "published", "advisory", "failed")
    return {
        **dict.fromkeys(counts, 0),
        "tenant": key.tenant,
        "batch_id": key.batch_id,
        "state": COLLECTING,
        "executor": terms.executor,
        "next_row": 1,
        "no_room": False,
        "spent_nano_usd": 0,
        "held_nano_usd": 0,
        "max_cost_nano_usd": terms.max_cost_nano_usd,
        "concurrency": terms.concurrency,
        "last_sequence": 0,
        "created_us": now_us(),
        "finished_us": None,
    }


def _unknown(key: BatchKey) -> NotFound:
    return NotFound(f"batch_id: there is no batch {key.batch_id}; ListBatches shows those there are", field="batch_id")


def _message(row: Any) -> batch_pb2.Batch:
    started = row.next_row - 1
    return batch_pb2.Batch(
        batch_id=row.batch_id,
        state=row.state,
        rows=row.size,
        queued=row.size - started,
        running=started - row.published - row.advisory - row.failed,
        published=row.published,
        advisory=row.advisory,
        failed=row.failed,
        cost_nano_usd=row.spent_nano_usd,
        max_cost_nano_usd=row.max_cost_nano_usd or 0,
        concurrency=row.concurrency,
        created_at=to_timestamp(from_us(row.created_us)),
        finished_at=None if row.finished_us is None else to_timestamp(from_us(row.finished_us)),
        checked=row.checked,
        refused=row.refused,
        held_nano_usd=row.held_nano_usd,
        last_sequence=row.last_sequence,
    )
