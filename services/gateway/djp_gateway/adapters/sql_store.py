"""Runs and their events in a SQL database (SQLite or Postgres)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, bindparam, delete, func, insert, select, update

from djp.database import now_us, to_us
from djp.mesh.errors import FailedPrecondition, InvalidInput, NotFound, RequestIdReused
from djp.mesh.times import from_timestamp
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2
from djp_gateway.adapters.pages import read_page
from djp_gateway.adapters.tables import checkpoints, events, hidden_values, orders, runs
from djp_gateway.ports import Checkpoint, Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions
    from djp_gateway.seal import Seal

DEFAULT_PAGE_SIZE = 50
_DEAD = (run_pb2.RUN_STATE_DENIED, run_pb2.RUN_STATE_FAILED)  # such a run is a dead letter

# Statements are built once: building one costs as much as running it.
_OF_TENANT = runs.c.tenant == bindparam("of_tenant")
_BY_REQUEST = select(runs).where(_OF_TENANT, runs.c.request_id == bindparam("by_request"))
_BY_ID = select(runs).where(_OF_TENANT, runs.c.run_id == bindparam("of_run"))
_SAVE = update(runs).where(
    runs.c.run_id == bindparam("of_run"),
    runs.c.attempt == bindparam("by_attempt"),
    runs.c.last_sequence == bindparam("after"),
    runs.c.terminal.is_(False),
)
_ordered = select(orders.c.run_id).where(orders.c.run_id == bindparam("of_run")).exists()
_NOT_PARKED = update(runs).where(runs.c.run_id == bindparam("of_run"), _ordered).values(due_us=bindparam("now"))
_EVENTS = (
    select(events.c.sequence, events.c.sealed_event)
    .where(events.c.run_id == bindparam("of_run"), events.c.sequence > bindparam("after"))
    .order_by(events.c.sequence)
)
_ADD_EVENT, _ADD_CHECKPOINT = insert(events), insert(checkpoints)
_CHECKPOINTS = select(checkpoints).where(checkpoints.c.run_id == bindparam("of_run")).order_by(checkpoints.c.number)
_LAST_CHECKPOINT = select(func.coalesce(func.max(checkpoints.c.number), 0)).where(
    checkpoints.c.run_id == bindparam("of_run")
)
_FORGET_CHECKPOINTS = delete(checkpoints).where(checkpoints.c.run_id == bindparam("of_run"))
_HIDDEN = select(hidden_values.c.sealed_values).where(hidden_values.c.run_id == bindparam("of_run"))
_FORGET_HIDDEN = delete(hidden_values).where(hidden_values.c.run_id == bindparam("of_run"))


class SqlRunStore:
    """A RunStore on SQLAlchemy Core; one transaction a call. A database that is full, read-only or away says so in the
    errors of djp.database."""

    def __init__(self, tables: Transactions, seal: Seal) -> None:
        self._tables = tables
        self._seal = seal

    async def check_seal(self) -> None:
        """Open one stored run, if there is any, so that a wrong key shows at the start.

        Raises:
            FailedPrecondition: the runs were sealed with another key.
        """
        for row in await self._tables.rows(select(runs).limit(1)):
            self.opened(row)

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> run_pb2.Run | None:
        for row in await self._tables.rows(_BY_REQUEST, {"of_tenant": tenant, "by_request": request_id}):
            if row.request_sha256 != self._seal.fingerprint(request_sha256):
                raise RequestIdReused.by(request_id)
            return self.opened(row)
        return None

    def row_of(self, run: run_pb2.Run, *, request_id: str, request_sha256: str, executor: str) -> dict[str, Any]:
        """A new run as its row, for who adds some within a transaction of their own."""
        return {
            **self._columns(run, run.last_sequence),
            "run_id": run.run_id,
            "tenant": run.tenant,
            "request_id": request_id,
            "request_sha256": self._seal.fingerprint(request_sha256),
            "executor": executor,
            "waiting": True,
            "queued_us": run.created_at.ToMicroseconds(),
            "urgency": -run.spec.priority,
            "spec_version": max(run.spec.spec_version, 1),
            "created_us": run.created_at.ToMicroseconds(),
            "preset": run.spec.preset,
            "workflow": run.spec.workflow,
            "grounded": bool(run.spec.corpus),
            "sealed_spec": self._seal.close(run.spec.SerializeToString(), _place(run.run_id, "spec")),
        }

    async def save(
        self,
        run: run_pb2.Run,
        events_: Sequence[run_pb2.RunEvent],
        hidden: Mapping[str, str] | None = None,
        kept: Sequence[Checkpoint] = (),
        parked_until: datetime | None = None,
    ) -> None:
        run_id, last = run.run_id, run.last_sequence + len(events_)
        mine = {"of_run": run_id}
        # All of it is made here and not in the transaction's thread, for the run may change meanwhile.
        columns = {
            **self._columns(run, last),
            **mine,
            "by_attempt": run.attempt,
            "after": run.last_sequence,
        }
        if parked_until:
            columns["due_us"] = to_us(parked_until)
        if run.state in _DEAD:
            columns |= {"died_us": run.finished_at.ToMicroseconds(), "error_reason": run.error.reason}
        rows = []
        for sequence, event in enumerate(events_, start=run.last_sequence + 1):
            event.sequence = sequence
            sealed_event = self._seal.close(event.SerializeToString(), _place(run_id, sequence))
            rows.append({"run_id": run_id, "sequence": sequence, "sealed_event": sealed_event})
        ended = run.state in TERMINAL_STATES

        async def saved(connection: AsyncConnection) -> None:
            if (await connection.execute(_SAVE, columns)).rowcount != 1:
                raise FailedPrecondition(f"run {run_id} has ended or was taken over by another attempt")
            await connection.execute(_ADD_EVENT, rows)
            if parked_until:  # what was ordered before need not wait
                await connection.execute(_NOT_PARKED, {**mine, "now": now_us()})
            if hidden is not None:
                sealed = self._seal.close(json.dumps(hidden).encode(), _place(run_id, "hidden"))
                await connection.execute(_FORGET_HIDDEN, mine)
                await connection.execute(insert(hidden_values), {"run_id": run_id, "sealed_values": sealed})
            if kept:
                await self._keep(connection, run_id, kept)
            if ended:
                await connection.execute(_FORGET_CHECKPOINTS, mine)

        await self._tables.change(saved)
        run.last_sequence = last

    async def _keep(self, connection: AsyncConnection, run_id: str, kept: Sequence[Checkpoint]) -> None:
        first = (await connection.execute(_LAST_CHECKPOINT, {"of_run": run_id})).one()[0] + 1
        rows = [
            {
                "run_id": run_id,
                "number": number,
                "kind": one.kind,
                "sealed_checkpoint": self._seal.close(one.content, _place(run_id, f"{one.kind}/{number}")),
            }
            for number, one in enumerate(kept, start=first)
        ]
        await connection.execute(_ADD_CHECKPOINT, rows)

    async def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        return [
            Checkpoint(row.kind, self._seal.open(row.sealed_checkpoint, _place(run_id, f"{row.kind}/{row.number}")))
            for row in await self._tables.rows(_CHECKPOINTS, {"of_run": run_id})
        ]

    async def get(self, tenant: str, run_id: str) -> run_pb2.Run:
        prefix = run_id.lower()
        if len(prefix) == 36:  # a whole id, which the index finds
            rows = await self._tables.rows(_BY_ID, {"of_tenant": tenant, "of_run": prefix})
        else:
            begins = runs.c.run_id.startswith(prefix, autoescape=True)
            rows = await self._tables.rows(select(runs).where(runs.c.tenant == tenant, begins).limit(2))
        if not rows:
            raise NotFound(f"there is no run {run_id}; `djp runs list` shows those there are", field="run_id")
        if len(rows) > 1:
            raise InvalidInput(f"several runs begin with {run_id}; give more of the id", field="run_id")
        return self.opened(rows[0])

    async def hidden(self, run_id: str) -> Mapping[str, str] | None:
        for row in await self._tables.rows(_HIDDEN, {"of_run": run_id}):
            values: dict[str, str] = json.loads(self._seal.open(row.sealed_values, _place(run_id, "hidden")))
            return values
        return None

    async def list(self, tenant: str, request: run_pb2.ListRunsRequest) -> Page:
        size, where = request.page_size or DEFAULT_PAGE_SIZE, [runs.c.tenant == tenant, *_filters(request)]
        found, token = await read_page(
            self._tables.engine, where, runs.c.created_us, size=size, token=request.page_token
        )
        return Page([self.opened(row) for row in found], token)

    async def events_after(self, run_id: str, sequence: int) -> Sequence[run_pb2.RunEvent]:
        return [
            run_pb2.RunEvent.FromString(self._seal.open(row.sealed_event, _place(run_id, row.sequence)))
            for row in await self._tables.rows(_EVENTS, {"of_run": run_id, "after": sequence})
        ]

    def _columns(self, run: run_pb2.Run, last_sequence: int) -> dict[str, Any]:
        state = run_pb2.Run()
        state.CopyFrom(run)
        state.ClearField("spec")
        state.last_sequence = last_sequence
        return {
            "attempt": run.attempt,
            "state": run.state,
            "terminal": run.state in TERMINAL_STATES,
            "provider": run.result.model.partition("/")[0][:100],
            "cost_nano_usd": run.result.total_nano_usd,
            "last_sequence": last_sequence,
            "sealed_run": self._seal.close(state.SerializeToString(), run.run_id),
        }

    def opened(self, row: Any) -> run_pb2.Run:
        """The run of a whole row."""
        run = run_pb2.Run.FromString(self._seal.open(row.sealed_run, row.run_id))
        run.attempt = row.attempt  # which is raised by who takes the run over, and knows no more of it
        run.spec.ParseFromString(self._seal.open(row.sealed_spec, _place(row.run_id, "spec")))
        return run


def _place(run_id: str, part: int | str) -> str:
    """What a part of a run is sealed for: the run, and an event's number or the part's name."""
    return f"{run_id}/{part}"


def _filters(request: run_pb2.ListRunsRequest) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if request.states:
        found.append(runs.c.state.in_(list(request.states)))
    if request.created.HasField("since"):
        found.append(runs.c.created_us >= to_us(from_timestamp(request.created.since, "created.since")))
    if request.created.HasField("until"):
        found.append(runs.c.created_us < to_us(from_timestamp(request.created.until, "created.until")))
    if request.preset:
        found.append(runs.c.preset == request.preset)
    if request.workflow:
        found.append(runs.c.workflow == request.workflow)
    if request.provider:
        found.append(runs.c.provider == request.provider)
    if request.HasField("grounded"):
        found.append(runs.c.grounded.is_(request.grounded))
    if request.HasField("min_cost_nano_usd"):
        found.append(runs.c.cost_nano_usd >= request.min_cost_nano_usd)
    if request.HasField("max_cost_nano_usd"):
        found.append(runs.c.cost_nano_usd <= request.max_cost_nano_usd)
    return found
