"""Runs and their events in a SQL database (SQLite or Postgres)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, and_, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from djp.database import reading, to_us
from djp.mesh.errors import FailedPrecondition, InvalidInput, NotFound, RequestIdReused
from djp.mesh.times import from_timestamp
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2
from djp_gateway.adapters.pages import read_page
from djp_gateway.adapters.tables import checkpoints, events, hidden_values, runs
from djp_gateway.adapters.turn import turn_of
from djp_gateway.ports import Checkpoint, Page

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_gateway.seal import Seal

DEFAULT_PAGE_SIZE = 50
_DEAD = (run_pb2.RUN_STATE_DENIED, run_pb2.RUN_STATE_FAILED)  # such a run is a dead letter


class SqlRunStore:
    """A RunStore on SQLAlchemy Core; one transaction a call. A database that is full, read-only or away says so in the
    errors of djp.database."""

    def __init__(self, engine: AsyncEngine, seal: Seal) -> None:
        self._engine = engine
        self._seal = seal
        self._turn = turn_of(engine)

    async def check_seal(self) -> None:
        """Open one stored run, if there is any, so that a wrong key shows at the start.

        Raises:
            FailedPrecondition: the runs were sealed with another key.
        """
        async with reading(self._engine).connect() as connection:
            row = (await connection.execute(select(runs).limit(1))).one_or_none()
        if row:
            self.opened(row)

    async def earlier(self, tenant: str, request_id: str, request_sha256: str) -> run_pb2.Run | None:
        query = select(runs).where(runs.c.tenant == tenant, runs.c.request_id == request_id)
        async with reading(self._engine).connect() as connection:
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        if row.request_sha256 != self._seal.fingerprint(request_sha256):
            raise RequestIdReused.by(request_id)
        return self.opened(row)

    async def create(self, run: run_pb2.Run, *, request_id: str, request_sha256: str, executor: str) -> run_pb2.Run:
        row = self.row_of(run, request_id=request_id, request_sha256=request_sha256, executor=executor)
        try:
            async with self._turn, self._engine.begin() as connection:
                await connection.execute(insert(runs).values(row))
        except IntegrityError:
            # The same request at the same time was quicker.
            if found := await self.earlier(run.tenant, request_id, request_sha256):
                return found
            raise
        return run

    def row_of(self, run: run_pb2.Run, *, request_id: str, request_sha256: str, executor: str) -> dict[str, Any]:
        """A new run as its row, for who adds some within a transaction of their own."""
        return {
            **self._columns(run),
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
        first = run.last_sequence + 1
        for sequence, event in enumerate(events_, start=first):
            event.sequence = sequence
        last = run.last_sequence + len(events_)
        stored = run_pb2.Run()
        stored.CopyFrom(run)
        stored.last_sequence = last
        fence = and_(
            runs.c.run_id == run.run_id,
            runs.c.attempt == run.attempt,
            runs.c.last_sequence == run.last_sequence,
            runs.c.terminal.is_(False),
        )
        async with self._turn, self._engine.begin() as connection:
            columns = self._columns(stored) | ({"due_us": to_us(parked_until)} if parked_until else {})
            if run.state in _DEAD:
                columns |= {"died_us": run.finished_at.ToMicroseconds(), "error_reason": run.error.reason}
            done = await connection.execute(update(runs).where(fence).values(columns))
            if done.rowcount != 1:
                raise FailedPrecondition(f"run {run.run_id} has ended or was taken over by another attempt")
            if events_:
                rows = [
                    {
                        "run_id": run.run_id,
                        "sequence": event.sequence,
                        "sealed_event": self._seal.close(event.SerializeToString(), _place(run.run_id, event.sequence)),
                    }
                    for event in events_
                ]
                await connection.execute(insert(events), rows)
            if hidden is not None:
                sealed = self._seal.close(json.dumps(hidden).encode(), _place(run.run_id, "hidden"))
                await connection.execute(delete(hidden_values).where(hidden_values.c.run_id == run.run_id))
                await connection.execute(insert(hidden_values).values(run_id=run.run_id, sealed_values=sealed))
            if kept:
                await self._keep(connection, run.run_id, kept)
            if run.state in TERMINAL_STATES:
                await connection.execute(delete(checkpoints).where(checkpoints.c.run_id == run.run_id))
        run.last_sequence = last

    async def _keep(self, connection: AsyncConnection, run_id: str, kept: Sequence[Checkpoint]) -> None:
        query = select(func.coalesce(func.max(checkpoints.c.number), 0)).where(checkpoints.c.run_id == run_id)
        first = (await connection.execute(query)).scalar_one() + 1
        rows = [
            {
                "run_id": run_id,
                "number": number,
                "kind": one.kind,
                "sealed_checkpoint": self._seal.close(one.content, _place(run_id, f"{one.kind}/{number}")),
            }
            for number, one in enumerate(kept, start=first)
        ]
        await connection.execute(insert(checkpoints), rows)

    async def checkpoints(self, run_id: str) -> Sequence[Checkpoint]:
        query = select(checkpoints).where(checkpoints.c.run_id == run_id).order_by(checkpoints.c.number)
        async with reading(self._engine).connect() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Checkpoint(row.kind, self._seal.open(row.sealed_checkpoint, _place(run_id, f"{row.kind}/{row.number}")))
            for row in rows
        ]

    async def get(self, tenant: str, run_id: str) -> run_pb2.Run:
        query = select(runs).where(runs.c.tenant == tenant, _begins(run_id.lower())).limit(2)
        async with reading(self._engine).connect() as connection:
            rows = (await connection.execute(query)).all()
        if not rows:
            raise NotFound(f"there is no run {run_id}; `djp runs list` shows those there are", field="run_id")
        if len(rows) > 1:
            raise InvalidInput(f"several runs begin with {run_id}; give more of the id", field="run_id")
        return self.opened(rows[0])

    async def hidden(self, run_id: str) -> Mapping[str, str] | None:
        query = select(hidden_values.c.sealed_values).where(hidden_values.c.run_id == run_id)
        async with reading(self._engine).connect() as connection:
            sealed = (await connection.execute(query)).scalar_one_or_none()
        if sealed is None:
            return None
        values: dict[str, str] = json.loads(self._seal.open(sealed, _place(run_id, "hidden")))
        return values

    async def list(self, tenant: str, request: run_pb2.ListRunsRequest) -> Page:
        size, where = request.page_size or DEFAULT_PAGE_SIZE, [runs.c.tenant == tenant, *_filters(request)]
        found, token = await read_page(self._engine, where, runs.c.created_us, size=size, token=request.page_token)
        return Page([self.opened(row) for row in found], token)

    async def events_after(self, run_id: str, sequence: int) -> Sequence[run_pb2.RunEvent]:
        query = (
            select(events.c.sequence, events.c.sealed_event)
            .where(events.c.run_id == run_id, events.c.sequence > sequence)
            .order_by(events.c.sequence)
        )
        async with reading(self._engine).connect() as connection:
            rows = (await connection.execute(query)).all()
        return [
            run_pb2.RunEvent.FromString(self._seal.open(row.sealed_event, _place(run_id, row.sequence))) for row in rows
        ]

    def _columns(self, run: run_pb2.Run) -> dict[str, Any]:
        state = run_pb2.Run()
        state.CopyFrom(run)
        state.ClearField("spec")
        return {
            "attempt": run.attempt,
            "state": run.state,
            "terminal": run.state in TERMINAL_STATES,
            "provider": run.result.model.partition("/")[0][:100],
            "cost_nano_usd": run.result.total_nano_usd,
            "last_sequence": run.last_sequence,
            "sealed_run": self._seal.close(state.SerializeToString(), run.run_id),
        }

    def opened(self, row: Row[Any]) -> run_pb2.Run:
        """The run of a whole row."""
        run = run_pb2.Run.FromString(self._seal.open(row.sealed_run, row.run_id))
        run.attempt = row.attempt  # which is raised by who takes the run over, and knows no more of it
        run.spec.ParseFromString(self._seal.open(row.sealed_spec, _place(row.run_id, "spec")))
        return run


def _place(run_id: str, part: int | str) -> str:
    """What a part of a run is sealed for: the run, and an event's number or the part's name."""
    return f"{run_id}/{part}"


def _begins(prefix: str) -> ColumnElement[bool]:
    whole = len(prefix) == 36  # then the index finds it
    return runs.c.run_id == prefix if whole else runs.c.run_id.startswith(prefix, autoescape=True)


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
