"""Governance on a real socket, with a clock to turn, and an auditor who reads the ledger's own tables."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import sqlalchemy as sa

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, governance_pb2, governance_pb2_grpc
from djp_governance.server import open_service
from djp_governance.settings import GovernanceSettings
from tests.governance.ledger_audit import audit
from tests.governance.ledger_postgres import new_database, new_postgres

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from djp.mesh.errors import DjpError

USD = 10**9


@dataclass
class Clock:
    """What the service takes for now."""

    moment: datetime = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.moment

    def turn(self, **by: float) -> None:
        self.moment += timedelta(**by)


@dataclass
class Client:
    """Calls governance as one tenant; what a test does not say is a sensible request."""

    stub: Any
    tenant: str
    role: str = "tenant"

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        return ("djp-tenant", self.tenant), ("djp-role", self.role)

    async def call(self, method: str, request: Any) -> Any:
        return await getattr(self.stub, method)(request, metadata=self.metadata)

    async def refused(self, method: str, request: Any) -> DjpError:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await self.call(method, request)
        return error_from_rpc(error.value)

    async def reserve(self, amount: int, tokens: int = 0, **more: Any) -> Any:
        return await self.call("Reserve", reserve(amount, tokens, **more))

    async def charge(self, reservation_id: str, *calls: Any) -> Any:
        return await self.call("Charge", charge(reservation_id, *calls))

    async def settle(self, reservation_id: str) -> Any:
        return await self.call("Settle", settle(reservation_id))

    async def release(self, reservation_id: str) -> Any:
        return await self.call("Release", release(reservation_id))

    async def extend(self, reservation_id: str, *open_calls: Any) -> Any:
        request = governance_pb2.ExtendRequest(
            request_id=new_id(), reservation_id=reservation_id, open_calls=open_calls
        )
        return (await self.call("Extend", request)).reservation

    async def reservation(self, reservation_id: str) -> Any:
        request = governance_pb2.GetReservationRequest(reservation_id=reservation_id)
        return (await self.call("GetReservation", request)).reservation

    async def set_budget(self, scope: str, reason: str = "because", **limits: Any) -> Any:
        request = governance_pb2.SetBudgetRequest(
            request_id=new_id(), scope=scope, budget=governance_pb2.Budget(**limits), reason=reason
        )
        return (await self.call("SetBudget", request)).budget

    async def delete_budget(self, scope: str) -> Any:
        request = governance_pb2.DeleteBudgetRequest(request_id=new_id(), scope=scope, reason="over")
        return await self.call("DeleteBudget", request)

    async def budget(self, scope: str) -> Any:
        return (await self.call("GetBudget", governance_pb2.GetBudgetRequest(scope=scope))).budget

    async def events(self, **wanted: Any) -> list[Any]:
        """All of them, oldest first."""
        found: list[Any] = []
        token = ""
        while True:
            request = governance_pb2.ListEventsRequest(page_size=3, page_token=token, **wanted)
            page = await self.call("ListEvents", request)
            found += page.events
            token = page.next_page_token
            if not token:
                return found[::-1]

    async def window(self, scope: str = "tenant", period: str = "day") -> Any:
        """A window's reserved and spent."""
        budget = (await self.call("GetBudget", governance_pb2.GetBudgetRequest(scope=scope))).budget
        return budget.windows[0 if period == "day" else 1]


async def until(condition: Callable[[], Awaitable[Any]]) -> Any:
    """Waits until an asynchronous condition holds, and gives what it came to."""
    async with asyncio.timeout(60):
        while not (found := await condition()):  # noqa: ASYNC110  of another process or thread there is no event
            await asyncio.sleep(0.02)
    return found


def new_id() -> str:
    return str(uuid.uuid4())


def reserve(amount: int, tokens: int = 0, **more: Any) -> governance_pb2.ReserveRequest:
    fields = {"request_id": new_id(), "run_id": new_id(), "amount_nano_usd": amount, "tokens": tokens, **more}
    return governance_pb2.ReserveRequest(**fields)


def charge(reservation_id: str, *calls: common_pb2.ModelCall, **more: Any) -> governance_pb2.ChargeRequest:
    return governance_pb2.ChargeRequest(
        **{"request_id": new_id(), "reservation_id": reservation_id, "calls": calls, **more}
    )


def settle(reservation_id: str) -> governance_pb2.SettleRequest:
    return governance_pb2.SettleRequest(request_id=new_id(), reservation_id=reservation_id)


def release(reservation_id: str, reason: str = "interrupted") -> governance_pb2.ReleaseRequest:
    return governance_pb2.ReleaseRequest(request_id=new_id(), reservation_id=reservation_id, reason=reason)


def model_call(cost: int, model: str = "openai/gpt-x", tokens: tuple[int, int] = (0, 0), **more: Any) -> Any:
    fields = {
        "call_id": new_id(),
        "stage": common_pb2.STAGE_DEBATE,
        "model": model,
        "cost_nano_usd": cost,
        "usage": common_pb2.TokenUsage(input_tokens=tokens[0], output_tokens=tokens[1]),
        "attempt": 1,
        **more,
    }
    return common_pb2.ModelCall(**fields)


@dataclass
class Governance:
    """Serves governance over one ledger, and again after `restart`."""

    url: str
    stack: AsyncExitStack
    serving: Any
    clock: Clock = field(default_factory=Clock)
    _stub: Any = None

    async def sql(self, statement: str) -> Any:
        """What a statement on a connection of its own finds or changes; the service goes on meanwhile."""
        return await asyncio.to_thread(sql, self.url, statement)

    async def start(self, **limits: Any) -> Governance:
        """Serve with limits in dollars."""
        settings = GovernanceSettings(database_url=self.url, **limits)
        channel = await self.stack.enter_async_context(self.serving(open_service(settings, self.clock)))
        self._stub = governance_pb2_grpc.GovernanceServiceStub(channel)
        return self

    def client(self, tenant: str = "acme", role: str = "tenant") -> Client:
        return Client(self._stub, tenant, role)

    async def restart(self, **limits: Any) -> Governance:
        await self.stack.aclose()
        return await self.start(**limits)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJP_HOME", str(tmp_path))


@pytest.fixture
def make() -> Any:
    """Requests with sensible fields where a test says nothing."""

    async def _sql(url: str, statement: str) -> Any:
        return await asyncio.to_thread(sql, url, statement)

    return SimpleNamespace(
        id=new_id,
        reserve=reserve,
        charge=charge,
        settle=settle,
        release=release,
        model_call=model_call,
        until=until,
        sql=_sql,
    )


@pytest.fixture(name="audit")
def auditor() -> Callable[[str], None]:
    """Checks a ledger by its database's URL."""
    return audit


@pytest.fixture(name="sql")
def sql_fixture() -> Any:
    """Runs a statement on a connection of its own."""
    return sql


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """One Postgres for all tests of the session: the URL of its own database."""
    with new_postgres() as url:
        engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text("ALTER SYSTEM SET fsync = off"))
            connection.execute(sa.text("SELECT pg_reload_conf()"))
        engine.dispose()
        yield url


@pytest.fixture
def postgres_url(postgres: str) -> Iterator[str]:
    """A new, empty database on Postgres."""
    with new_database(postgres, "ledger") as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database; every test that uses it runs on both kinds."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path}/governance.db"
    url: str = request.getfixturevalue("postgres_url")
    return url


@pytest.fixture
async def governance(database_url: str, serving: Any) -> AsyncIterator[Governance]:
    """Not started: a test says with which limits. Whatever it did, the books must balance."""
    async with AsyncExitStack() as stack:
        yield Governance(database_url, stack, serving)
    audit(database_url)


@pytest.fixture
async def acme(governance: Governance) -> Client:
    """The tenant acme, with the guide's limits: 5 dollars a day, 100 a month."""
    return (await governance.start()).client()


def sql(url: str, statement: str) -> Any:
    """The rows of a statement, as mappings, on a connection of its own."""
    engine = sa.create_engine(url.replace("+aiosqlite", ""), poolclass=sa.NullPool)
    try:
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return result.mappings().all() if result.returns_rows else result.rowcount
    finally:
        engine.dispose()
