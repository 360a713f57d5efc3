"""Batches as they are worked off, in the SQL database that has the runs: a row and its run change together."""

from __future__ import annotations

import uuid
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, and_, bindparam, insert, or_, select, update

from djp.database import now_us
from djp.v1 import run_pb2
from djp_gateway.adapters.sql_batches import (
    CANCELLED,
    CAPPED,
    CHECKING,
    FINISHED,
    PAUSED,
    REFUSED,
    RUNNING,
    is_batch,
    is_row,
    place_of,
    stopped,
)
from djp_gateway.adapters.tables import batch_rows, batches, runs
from djp_gateway.batches.ports import BatchKey
from djp_gateway.ports import COMMAND
from djp_gateway.spec import new_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.sql_store import SqlRunStore
    from djp_gateway.adapters.transactions import Transactions
    from djp_gateway.batches.ports import Checked
    from djp_gateway.seal import Seal

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "djp:batch-row")
_RESTING = (PAUSED, CAPPED, CANCELLED, FINISHED)
_PENDING = run_pb2.RUN_STATE_PENDING_APPROVAL
_COUNTERS = {run_pb2.RUN_STATE_PUBLISHED: "published", run_pb2.RUN_STATE_ADVISORY: "advisory"}
# A run has ended, or waits for a person, who may take days: then the next row need not wait, too.
_waits = and_(runs.c.state == _PENDING, batch_rows.c.state != _PENDING)
_changed = and_(batch_rows.c.under_way, or_(runs.c.terminal, _waits))


@dataclass
class _Books:
    """What of a batch changes while it is worked off; the names are those of the columns."""

    state: int
    next_row: int
    working: int
    published: int
    advisory: int
    failed: int
    no_room: bool
    spent_nano_usd: int
    held_nano_usd: int
    last_sequence: int
    finished_us: int | None

    @property
    def under_way(self) -> int:
        """Rows that were started and have not ended."""
        return self.next_row - 1 - self.published - self.advisory - self.failed


class SqlBatchWork:
    """BatchWork on SQLAlchemy Core; one transaction a call."""

    def __init__(self, tables: Transactions, seal: Seal, store: SqlRunStore) -> None:
        self._tables = tables
        self._seal = seal
        self._store = store

    async def unchecked(self, executor: str) -> Sequence[tuple[BatchKey, int]]:
        rows = await self._tables.rows(_unchecked(command=executor == COMMAND))
        return [(BatchKey(row.tenant, row.batch_id), row.checked) for row in rows]

    async def rows_to_check(self, key: BatchKey, after_row: int, at_most: int) -> Sequence[run_pb2.RunRequest]:
        query = (
            select(batch_rows.c.row, batch_rows.c.sealed_request)
            .where(is_row(key), batch_rows.c.row > after_row)
            .order_by(batch_rows.c.row)
            .limit(at_most)
        )
        return [
            run_pb2.RunRequest.FromString(self._seal.open(row.sealed_request, place_of(key, row.row, "request")))
            for row in await self._tables.rows(query)
        ]

    async def keep_checked(self, key: BatchKey, after_row: int, found: Sequence[Checked]) -> bool:
        async def kept(connection: AsyncConnection) -> bool:
            batch = (await connection.execute(select(batches).where(is_batch(key)).with_for_update())).one_or_none()
            if batch is None or batch.state != CHECKING or batch.checked != after_row:
                return False
            rows, sequence = [], batch.last_sequence
            for number, one in enumerate(found, start=after_row + 1):
                sequence += one.spec is None  # a good row has not changed for who watches
                rows.append(self._checked(key, number, one, sequence))
            await connection.execute(
                update(batch_rows)
                .where(is_row(key), batch_rows.c.row == bindparam("number"))
                .values({name: bindparam(name) for name in rows[0] if name != "number"}),
                rows,
            )
            checked = after_row + len(found)
            refused = batch.refused + sum(one.spec is None for one in found)
            values = {"checked": checked, "refused": refused, "last_sequence": sequence}
            if checked == batch.size:
                values["state"] = REFUSED if refused else RUNNING
                if refused:
                    values["finished_us"] = now_us()
                    await connection.execute(update(batch_rows).where(is_row(key)).values(sealed_spec=None))
            await connection.execute(update(batches).where(is_batch(key)).values(values))
            return True

        return await self._tables.change(kept)

    def _checked(self, key: BatchKey, number: int, one: Checked, sequence: int) -> dict[str, Any]:
        close = self._seal.close
        spec = None if one.spec is None else close(one.spec.SerializeToString(), place_of(key, number, "spec"))
        error = close(one.error.encode(), place_of(key, number, "error")) if one.spec is None else None
        return {
            "number": number,
            "sealed_spec": spec,
            "sealed_error": error,
            "bound_nano_usd": one.bound_nano_usd,
            "sequence": sequence if one.spec is None else 0,
        }

    async def in_need(self, executor: str) -> Sequence[BatchKey]:
        return [BatchKey(*row) for row in await self._tables.rows(_in_need(command=executor == COMMAND))]

    async def advance(self, key: BatchKey, executor: str) -> bool:
        async def advanced(connection: AsyncConnection) -> bool:
            locked = select(batches).where(is_batch(key)).with_for_update(skip_locked=True)
            batch = (await connection.execute(locked)).one_or_none()
            if batch is None:
                return False  # another gateway is at it
            books = _Books(**{name: getattr(batch, name) for name in _Books.__dataclass_fields__})
            before = books.next_row
            await _book(connection, key, books)
            while books.state == RUNNING and books.working < batch.concurrency and books.next_row <= batch.size:
                if not await self._start(connection, key, batch, books, executor):
                    books.no_room = True
                    break
            _rest(books, batch.size)
            await connection.execute(update(batches).where(is_batch(key)).values(asdict(books)))
            return books.next_row > before

        return await self._tables.change(advanced)

    async def _start(
        self, connection: AsyncConnection, key: BatchKey, batch: Any, books: _Books, executor: str
    ) -> bool:
        """Make the next row's run; False: the cap has no room for it."""
        number = books.next_row
        row = (await connection.execute(select(batch_rows).where(is_row(key), batch_rows.c.row == number))).one()
        spec = run_pb2.RunSpec.FromString(self._seal.open(row.sealed_spec, place_of(key, number, "spec")))
        spec.tags.update({"batch": key.batch_id, "row": str(number)})
        held = row.bound_nano_usd
        if batch.max_cost_nano_usd is not None:
            room = batch.max_cost_nano_usd - books.spent_nano_usd - books.held_nano_usd
            if held > room:
                return False
            # A run that is taken up again after a crash pays the calls that were under way twice. Far from the cap it
            # may, and near it such a run is denied: a cap is never passed.
            if 2 * held * (batch.concurrency - books.working) <= room:
                held *= 2
            own = spec.budget_nano_usd if spec.HasField("budget_nano_usd") else held
            spec.budget_nano_usd = max(1, min(own, held))
        run_id = await self._made(connection, key, row, spec, executor)
        books.next_row += 1
        books.working += 1
        books.held_nano_usd += held
        books.last_sequence += 1
        values = {
            "run_id": run_id,
            "under_way": True,
            "state": run_pb2.RUN_STATE_QUEUED,
            "held_nano_usd": held,
            "sealed_spec": None,
            "sequence": books.last_sequence,
        }
        await connection.execute(update(batch_rows).where(is_row(key), batch_rows.c.row == number).values(values))
        return True

    async def _made(
        self, connection: AsyncConnection, key: BatchKey, row: Any, spec: run_pb2.RunSpec, executor: str
    ) -> str:
        """The id of the row's one run: whoever makes it anew finds it by its request_id."""
        request_id = str(uuid.uuid5(_NAMESPACE, f"{key.tenant}/{key.batch_id}/{row.row}"))
        query = select(runs.c.run_id).where(runs.c.tenant == key.tenant, runs.c.request_id == request_id)
        if found := (await connection.execute(query)).one_or_none():
            return str(found.run_id)
        run = new_run(str(uuid.uuid5(uuid.UUID(request_id), "run")), key.tenant, spec)
        made = self._store.row_of(run, request_id=request_id, request_sha256=row.fingerprint, executor=executor)
        await connection.execute(insert(runs), made)
        return run.run_id

    async def pause_left_over(self) -> None:
        left = and_(batches.c.executor == COMMAND, batches.c.state.in_((CHECKING, RUNNING)))

        async def paused(connection: AsyncConnection) -> None:
            await connection.execute(stopped(PAUSED).where(left))

        await self._tables.change(paused)


@cache
def _unchecked(*, command: bool) -> Select[str, str, int]:
    """The batches with rows that nobody has checked."""
    return select(batches.c.tenant, batches.c.batch_id, batches.c.checked).where(
        batches.c.finished_us.is_(None), batches.c.state == CHECKING, _of(command=command)
    )


@cache
def _in_need(*, command: bool) -> Select[str, str]:
    """The batches that have something to do."""
    changed = (
        select(batch_rows.c.row)
        .select_from(batch_rows.join(runs, runs.c.run_id == batch_rows.c.run_id))
        .where(batch_rows.c.tenant == batches.c.tenant, batch_rows.c.batch_id == batches.c.batch_id, _changed)
        .exists()
    )
    has_place = and_(
        batches.c.state == RUNNING,
        batches.c.working < batches.c.concurrency,
        batches.c.next_row <= batches.c.size,
        batches.c.no_room.is_(False),
    )
    return select(batches.c.tenant, batches.c.batch_id).where(
        batches.c.finished_us.is_(None),
        batches.c.state.in_((RUNNING, *_RESTING)),
        _of(command=command),
        or_(has_place, changed),
    )


async def _book(connection: AsyncConnection, key: BatchKey, books: _Books) -> None:
    """Book the rows whose runs have ended, or wait for a person: what those cost is settled."""
    query = (
        select(batch_rows.c.row, batch_rows.c.held_nano_usd, batch_rows.c.state)
        .add_columns(runs.c.state.label("run_state"), runs.c.terminal, runs.c.cost_nano_usd)
        .select_from(batch_rows.join(runs, runs.c.run_id == batch_rows.c.run_id))
        .where(is_row(key), _changed)
        .order_by(batch_rows.c.row)
    )
    for row in (await connection.execute(query)).all():
        books.working -= row.state != _PENDING
        books.no_room = False
        books.last_sequence += 1
        books.held_nano_usd -= row.held_nano_usd
        if row.terminal:
            books.spent_nano_usd += row.cost_nano_usd
            counter = _COUNTERS.get(row.run_state, "failed")
            setattr(books, counter, getattr(books, counter) + 1)
        else:
            books.held_nano_usd += row.cost_nano_usd
        values = {
            "under_way": not row.terminal,
            "state": row.run_state,
            "held_nano_usd": 0 if row.terminal else row.cost_nano_usd,
            "sequence": books.last_sequence,
        }
        await connection.execute(update(batch_rows).where(is_row(key), batch_rows.c.row == row.row).values(values))


def _rest(books: _Books, size: int) -> None:
    """Let a batch rest of which no row can be started any more."""
    if books.state == RUNNING and books.no_room and not books.working:
        books.state = CAPPED
    if books.under_way:
        return
    if books.state in (RUNNING, PAUSED) and books.next_row > size:
        books.state = FINISHED
    if books.state in _RESTING:
        books.finished_us = now_us()


def _of(*, command: bool) -> ColumnElement[bool]:
    """Whether a batch is for a command to work off, which works off its own only, or for other executors."""
    return batches.c.executor == COMMAND if command else batches.c.executor != COMMAND
