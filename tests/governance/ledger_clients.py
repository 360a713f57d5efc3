"""Clients of a governance service that spend what they may: they reserve, charge and settle until they are refused."""

from __future__ import annotations

import asyncio
import random
import uuid
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.duration_pb2 import Duration

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, governance_pb2, governance_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

RPC_S = 120
CHANNEL = [
    ("grpc.service_config", '{"loadBalancingConfig": [{"round_robin": {}}]}'),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
]


@dataclass(frozen=True)
class Task:
    """What a crew is to do: spend what `tenants` may, in calls that reserve `amount` nano-dollars and as many tokens.

    A call costs what it reserved if it is `exact`, else less; with a lease it is told by Extend before it is made.
    """

    tenants: Sequence[str]
    amount: int
    exact: bool
    lease_s: float = 0
    clients: int = 1
    seed: int = 0


@dataclass
class Tally:
    """What clients saw. `charged` is in nano-dollars, `cut_off` counts answers that did not come and were asked again,
    `lapsed` the calls that were not made because their lease was over."""

    grants: int = 0
    refusals: int = 0
    charged: int = 0
    cut_off: int = 0
    lapsed: int = 0

    def add(self, other: Tally) -> None:
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


def channel_target(ports: Sequence[int]) -> str:
    """All servers, as gRPC writes several addresses."""
    return "ipv4:" + ",".join(f"127.0.0.1:{port}" for port in ports)


def crew(pipe: Connection, ports: Sequence[int]) -> None:
    """Do the tasks that come through the pipe, one after the other, and answer each with a Tally."""
    asyncio.run(_crew(pipe, ports))


async def _crew(pipe: Connection, ports: Sequence[int]) -> None:
    async with grpc.aio.insecure_channel(channel_target(ports), options=CHANNEL) as channel:
        stub = governance_pb2_grpc.GovernanceServiceStub(channel)
        while True:
            try:
                task: Task = await asyncio.to_thread(pipe.recv)
            except EOFError:
                return
            total = Tally()
            chance = random.Random(task.seed)
            for one in await asyncio.gather(
                *(
                    Client(stub, task, task.tenants[number % len(task.tenants)], random.Random(chance.random())).spend()
                    for number in range(task.clients)
                )
            ):
                total.add(one)
            pipe.send(total)


class Client:
    """Spends as long as it may."""

    def __init__(self, stub: Any, task: Task, tenant: str, chance: random.Random) -> None:
        self._stub = stub
        self._task = task
        self._tenant = tenant
        self._chance = chance
        self.tally = Tally()

    async def spend(self) -> Tally:
        """Reserve, charge and settle until there is no room."""
        while await self._one_call():
            pass
        return self.tally

    async def _one_call(self) -> bool:
        task, tally = self._task, self.tally
        reserve = governance_pb2.ReserveRequest(
            request_id=_id(), run_id=_id(), amount_nano_usd=task.amount, tokens=task.amount
        )
        if task.lease_s:
            reserve.lease.CopyFrom(Duration(nanos=int(task.lease_s * 1e9) % 10**9, seconds=int(task.lease_s)))
        try:
            held = (await self._ask("Reserve", reserve)).reservation.reservation_id
        except grpc.aio.AioRpcError as error:
            if error_from_rpc(error).reason != "BUDGET_EXCEEDED":
                raise
            tally.refusals += 1
            return False
        tally.grants += 1
        cost = task.amount if task.exact else self._chance.randint(task.amount * 3 // 10, task.amount)
        if not task.exact and self._chance.random() < 0.1:  # never got to its call
            await self._ask("Release", governance_pb2.ReleaseRequest(request_id=_id(), reservation_id=held))
            return True
        call = common_pb2.ModelCall(
            call_id=_id(),
            stage=common_pb2.STAGE_DEBATE,
            model="provider/model",
            bound_nano_usd=task.amount,
            usage=common_pb2.TokenUsage(input_tokens=task.amount),
            attempt=1,
        )
        if task.lease_s:
            extend = governance_pb2.ExtendRequest(request_id=_id(), reservation_id=held, open_calls=[call])
            state = (await self._ask("Extend", extend)).reservation.state
            if state != governance_pb2.RESERVATION_STATE_HELD:
                tally.lapsed += 1
                return True
        call.cost_nano_usd = call.usage.input_tokens = cost
        await self._ask("Charge", governance_pb2.ChargeRequest(request_id=_id(), reservation_id=held, calls=[call]))
        tally.charged += cost
        await self._ask("Settle", governance_pb2.SettleRequest(request_id=_id(), reservation_id=held))
        return True

    async def _ask(self, method: str, request: Any) -> Any:
        """The answer. Who is cut off asks the next server the same thing, with the same request_id."""
        while True:
            try:
                return await getattr(self._stub, method)(
                    request, metadata=(("djp-tenant", self._tenant),), timeout=RPC_S, wait_for_ready=True
                )
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                self.tally.cut_off += 1


def _id() -> str:
    return str(uuid.uuid4())
