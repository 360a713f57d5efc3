"""Two servers of one ledger in this process, whose clock and background work are the test's."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import grpc

from djp.mesh.channel import open_channel
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.server import MeshServer
from djp.v1 import governance_pb2_grpc
from djp_governance.server import open_service
from djp_governance.settings import GovernanceSettings

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from tests.governance.ledger_words import Caller, Rules


@dataclass
class Pair:
    """Two servers of one ledger, whose clock and whose background work are the program's."""

    url: str
    folder: Path
    rules: Rules
    now: datetime
    stubs: list[Any] = field(default_factory=lambda: [None, None])
    upkeeps: list[Any] = field(default_factory=lambda: [None, None])
    serving: list[AsyncExitStack] = field(default_factory=lambda: [AsyncExitStack(), AsyncExitStack()])
    starts: int = 0

    async def start(self, place: int) -> None:
        """Serve, in place of the server that was there."""
        await self.stop(place)
        self.starts += 1
        settings = GovernanceSettings(
            database_url=self.url,
            global_daily="0.000000200",
            global_monthly="0.000000500",
            tenant_daily="0.000000100",
            tenant_monthly="0.000000260",
            zone=str(self.rules.zone),
            lease_s=self.rules.lease_s,
            retention_days=self.rules.retention_days,
            request_retention_days=self.rules.request_days,
            anomaly_sigma=self.rules.sigma,
            anomaly_min_dollars="0.000000020",
            anomaly_min_events=self.rules.least_calls,
        )
        stack = self.serving[place] = AsyncExitStack()
        service = await stack.enter_async_context(open_service(settings, lambda: self.now))
        run: Any = service.background[0]
        self.upkeeps[place] = run.__self__
        server = MeshServer(replace(service, background=()), f"unix:{self.folder}/{self.starts}.sock")
        await stack.enter_async_context(server)
        channel = await stack.enter_async_context(open_channel(server.address))
        self.stubs[place] = governance_pb2_grpc.GovernanceServiceStub(channel)

    async def stop(self, place: int) -> None:
        await self.serving[place].aclose()

    async def ask(self, place: int, caller: Caller, request: Any) -> Any:
        """The answer, or the error."""
        method = getattr(self.stubs[place], type(request).__name__.removesuffix("Request"))
        try:
            return await method(request, metadata=metadata(caller))
        except grpc.aio.AioRpcError as error:
            return error_from_rpc(error)

    async def pages(self, caller: Caller, request: Any, of: str, size: int = 1000) -> list[Any]:
        """All entries of a list, so many at a time, from either server."""
        found: list[Any] = []
        request.page_size = size
        while True:
            page = await self.ask(len(found) % 2, caller, request)
            found += getattr(page, of)
            request.page_token = page.next_page_token
            if not page.next_page_token:
                return found


def metadata(caller: Caller) -> tuple[tuple[str, str], ...]:
    return ("djp-tenant", caller.tenant), ("djp-role", caller.role)
