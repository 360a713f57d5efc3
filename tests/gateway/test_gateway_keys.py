"""API keys: who may call, as whom, how often and how long; guessed, expired, revoked, and a table that is stolen."""

from __future__ import annotations

import asyncio
import sqlite3
import uuid
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp import __version__
from djp.client import connect
from djp.mesh.errors import DjpError, NotFound, PermissionDenied, ResourceExhausted, Unauthenticated
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.server import MeshServer
from djp.mesh.times import to_timestamp
from djp.scaling.settings import ScalingSettings
from djp.v1 import dead_letter_pb2, key_pb2, key_pb2_grpc, run_pb2, run_pb2_grpc
from djp_gateway.server import open_service

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp.client import DjpClient


@asynccontextmanager
async def port(mesh: Any, **settings: Any) -> AsyncIterator[str]:
    """A gateway on a port, where nobody is believed; its address."""
    async with AsyncExitStack() as stack:
        opening = open_service(mesh.settings(**{"auth": "keys", "executor_id": "port", **settings}), ScalingSettings())
        server = MeshServer(await stack.enter_async_context(opening), "localhost:0")
        await server.start()
        stack.push_async_callback(server.drain, 0.0)
        yield server.address


async def made(gateway: Any, role: str = "tenant", tenant: str = "ada", **fields: Any) -> key_pb2.CreateKeyResponse:
    """A key that an admin has made, at the gateway's own socket."""
    fields.setdefault("request_id", str(uuid.uuid4()))
    request = key_pb2.CreateKeyRequest(tenant=tenant, role=key_pb2.Role.Value(f"ROLE_{role.upper()}"), **fields)
    with identity_scope(Identity(role="admin")):
        answer: key_pb2.CreateKeyResponse = await key_pb2_grpc.KeyServiceStub(gateway.channel).CreateKey(request)
    return answer


async def works(client: DjpClient) -> bool:
    try:
        await client.list_runs(run_pb2.ListRunsRequest())
    except Unauthenticated:
        return False
    return True


async def test_a_key_says_who_calls_and_nothing_else_does(mesh: Any, gateway: Any) -> None:
    key = await made(gateway, name="Ada's laptop")
    assert key.secret.startswith("djp_")
    assert len(key.secret) == 47  # 256 bits and the prefix
    async with port(mesh) as address, connect(address, api_key=key.secret) as client:
        with identity_scope(Identity(tenant="grace", role="admin")):  # headers that a caller sends are not believed
            run = await client.start_run(run_pb2.RunRequest(task="Why?"))
            caller = await client.get_caller()
        assert run.tenant == "ada"
        assert (caller.tenant, caller.role, caller.djp_version) == ("ada", key_pb2.ROLE_TENANT, __version__)
        assert "Ada's laptop" in caller.name
        with pytest.raises(PermissionDenied):
            await client.list_keys()
    with identity_scope(Identity(tenant="ada")):
        assert (await gateway.get(run.run_id)).tenant == "ada"


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer djp_", "Basic djp_x", "Bearer djp_" + "A" * 43, "Bearer djp_" + "A" * 4_000],
)
async def test_without_a_key_nothing_is_answered(mesh: Any, gateway: Any, header: str) -> None:
    await made(gateway)
    async with port(mesh) as address, connect(address) as client:
        metadata = (("authorization", header),) if header else None
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await client._runs.ListRuns(run_pb2.ListRunsRequest(), metadata=metadata)
        error = error_from_rpc(refused.value)
        assert error.code == "UNAUTHENTICATED"
        assert "AAAA" not in error.message


async def test_a_gateway_that_asks_for_no_key_takes_one_all_the_same(mesh: Any, gateway: Any) -> None:
    key = await made(gateway)
    async with port(mesh, auth="none") as address:
        async with connect(address) as nobody:
            assert (await nobody.start_run(run_pb2.RunRequest(task="Why?"))).tenant == "default"
        async with connect(address, api_key=key.secret) as client:
            assert (await client.start_run(run_pb2.RunRequest(task="Why?"))).tenant == "ada"
        async with connect(address, api_key="djp_wrong") as client:
            assert not await works(client)


async def test_a_revoked_key_stops_working_at_every_gateway(mesh: Any, gateway: Any) -> None:
    key, admin = await made(gateway), await made(gateway, "admin")
    async with (
        port(mesh, executor_id="one") as one,
        port(mesh, executor_id="two") as two,
        connect(one, api_key=key.secret) as client,
        connect(two, api_key=key.secret) as other,
        connect(two, api_key=admin.secret) as boss,
    ):
        assert await works(client)
        assert await works(other)
        revoked = await boss.revoke_key(key.key.key_id)
        assert revoked.HasField("revoked_at")
        loop = asyncio.get_running_loop()
        revoked_at = began = loop.time()
        async with asyncio.timeout(30):
            while await works(client) or await works(other):
                assert began - revoked_at < 1  # however slow the machine is, none that began later is answered
                began = loop.time()
        assert (await boss.revoke_key(key.key.key_id)).revoked_at == revoked.revoked_at
        assert await works(boss)
        with pytest.raises(NotFound):
            await boss.revoke_key(str(uuid.uuid4()))


async def test_a_stream_tells_nothing_more_when_its_key_is_revoked(mesh: Any, gateway: Any, leaves: Any) -> None:
    key = await made(gateway)
    gate = leaves.hold("Debate")
    async with port(mesh, heartbeat_s=0.1) as address, connect(address, api_key=key.secret) as client:
        run = await client.start_run(run_pb2.RunRequest(task="Why?"))
        stream = client._runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id))
        await stream.read()
        with identity_scope(Identity(role="admin")):
            request = key_pb2.RevokeKeyRequest(request_id=str(uuid.uuid4()), key_id=key.key.key_id)
            await key_pb2_grpc.KeyServiceStub(gateway.channel).RevokeKey(request)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            while await stream.read() is not grpc.aio.EOF:
                pass
    assert error_from_rpc(ended.value).code == "UNAUTHENTICATED"
    gate.opened.set()


async def test_an_expired_key_works_no_more(mesh: Any, gateway: Any) -> None:
    soon = to_timestamp(datetime.now(UTC) + timedelta(seconds=2))
    key = await made(gateway, expires_at=soon)
    async with port(mesh) as address, connect(address, api_key=key.secret) as client:
        async with asyncio.timeout(30):
            while await works(client):  # noqa: ASYNC110  time passes
                await asyncio.sleep(0.02)
    assert datetime.now(UTC) >= soon.ToDatetime(UTC)


async def test_a_key_is_used_as_often_as_it_may(mesh: Any, gateway: Any) -> None:
    key, free = await made(gateway, rate_limit=5), await made(gateway)
    async with port(mesh) as address, connect(address, api_key=key.secret, retry_waits_s=()) as client:
        with pytest.raises(ResourceExhausted) as refused:
            for _ in range(50):
                await client.list_runs(run_pb2.ListRunsRequest())
        assert refused.value.reason == "RATE_LIMITED"
        assert refused.value.retry_after_s
        async with connect(address, api_key=free.secret) as other:  # another key of the tenant is not held up
            assert await works(other)


async def test_a_limit_holds_at_all_gateways_together(mesh: Any, gateway: Any) -> None:
    key = await made(gateway, rate_limit=240)  # two calls a lot, and four a second come back
    loop = asyncio.get_running_loop()
    begun, answered = loop.time(), 0

    async def use(address: str) -> int:
        done = 0
        async with connect(address, api_key=key.secret, retry_waits_s=()) as client:
            for _ in range(300):
                try:
                    await client.list_runs(run_pb2.ListRunsRequest())
                except ResourceExhausted:
                    break
                done += 1
        return done

    async with port(mesh, executor_id="one") as one, port(mesh, executor_id="two") as two:
        answered = sum(await asyncio.gather(use(one), use(two), use(one), use(two)))
    assert 240 <= answered <= 240 + 4 * (loop.time() - begun) + 1


async def test_what_was_done_with_keys_and_runs_is_remembered(mesh: Any, gateway: Any, until: Any) -> None:
    ada, grace = await made(gateway, name="Ada\u2019s"), await made(gateway, tenant="grace")
    admin = await made(gateway, "admin", tenant="ops")
    async with port(mesh) as address, AsyncExitStack() as stack:
        boss, client, other, thief = [
            await stack.enter_async_context(connect(address, api_key=one))
            for one in (admin.secret, ada.secret, grace.secret, "djp_guess")
        ]
        run = await client.start_run(run_pb2.RunRequest(task="Why?", require_approval=True))
        async with asyncio.timeout(60):
            while (await client.get_run(run.run_id)).state != run_pb2.RUN_STATE_PENDING_APPROVAL:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await client.approve_run(run.run_id, reason="fine")
        await boss.revoke_key(grace.key.key_id)
        await boss.revoke_key(grace.key.key_id)
        for _ in range(5):
            assert not await works(thief)
        async with asyncio.timeout(30):
            while await works(other):  # noqa: ASYNC110
                await asyncio.sleep(0.02)

        async def told(who: DjpClient, tenant: str = "", size: int = 0) -> list[tuple[str, str, str]]:
            found, token = list[tuple[str, str, str]](), ""
            while True:
                request = key_pb2.ListAuditEventsRequest(tenant=tenant, page_size=size, page_token=token)
                page = await who.list_audit_events(request)
                for event in page.events:
                    assert event.HasField("at")
                    found.append((key_pb2.AuditKind.Name(event.kind)[11:], event.subject, event.actor))
                if not (token := page.next_page_token):
                    return found

        created = ("KEY_CREATED", ada.key.key_id, "an admin as tenant default")
        by_ada = f"tenant ada, key {ada.key.key_id[:8]} (Ada\u2019s)"
        assert await told(client) == [("RUN_APPROVED", run.run_id, by_ada), created]
        assert await told(client, "ada") == await told(client, size=1)
        assert await told(boss, "ada") == await told(client)
        for name in ("grace", "nobody"):
            with pytest.raises(NotFound, match=f"there is no tenant '{name}' that this caller may see"):
                await told(client, name)
        everything = await told(boss)
        revoked = f"an admin as tenant ops, key {admin.key.key_id[:8]}"
        assert [one for one in everything if one[0] == "KEY_REVOKED"] == [("KEY_REVOKED", grace.key.key_id, revoked)]
    # The first refusal is written at once, the others when a minute is over or the gateway ends: one row a reason.
    with identity_scope(Identity(role="admin")):
        page = await key_pb2_grpc.KeyServiceStub(gateway.channel).ListAuditEvents(key_pb2.ListAuditEventsRequest())
    refusals = [one for one in page.events if one.kind == key_pb2.AUDIT_KIND_SIGN_IN_REFUSED]
    assert sum(one.count for one in refusals if one.subject == "unknown key" and not one.tenant) == 5
    assert sum(one.count for one in refusals if one.subject == f"revoked key {grace.key.key_id}") == 1
    assert not any("djp_" in str(one) for one in page.events)


async def test_a_flood_of_refusals_is_a_row_a_reason(mesh: Any, gateway: Any, folder: Path) -> None:
    async with port(mesh) as address:
        for number in range(30):
            async with connect(address, api_key=f"djp_{number}") as thief:
                assert not await works(thief)
    with sqlite3.connect(folder / "gateway.db") as database:
        rows = database.execute("SELECT subject, number FROM audit_events WHERE kind = 'SIGN_IN_REFUSED'").fetchall()
    assert len(rows) <= 2
    assert sum(number for _, number in rows) == 30


async def test_only_hashes_are_kept(mesh: Any, gateway: Any, folder: Path) -> None:
    key = await made(gateway)
    with sqlite3.connect(folder / "gateway.db") as database:
        rows = str(database.execute("SELECT * FROM api_keys").fetchall())
    assert key.key.key_id in rows
    assert key.secret not in rows
    assert not any(key.secret.encode() in file.read_bytes() for file in folder.glob("gateway.db*"))  # noqa: ASYNC240
    (hash_,) = [word for word in rows.replace("'", " ").split() if len(word) == 64]
    async with port(mesh) as address:
        for stolen in (hash_, f"djp_{hash_}"):  # who has the table has no key
            async with connect(address, api_key=stolen) as thief:
                assert not await works(thief)


async def test_the_same_request_makes_one_key_and_tells_its_secret_once(gateway: Any) -> None:
    request_id = str(uuid.uuid4())
    answers = [await made(gateway, request_id=request_id) for _ in range(3)]
    assert len({answer.key.key_id for answer in answers}) == 1
    assert [bool(answer.secret) for answer in answers] == [True, False, False]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await made(gateway, request_id=request_id, name="another")
    assert error_from_rpc(refused.value).reason == "REQUEST_ID_REUSED"


async def test_a_date_in_the_past_is_refused(gateway: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await made(gateway, expires_at=to_timestamp(datetime.now(UTC) - timedelta(days=1)))
    assert error_from_rpc(refused.value).field == "expires_at"


async def test_keys_are_listed_with_their_last_use_and_without_secrets(mesh: Any, gateway: Any, until: Any) -> None:
    keys = [await made(gateway, tenant=tenant) for tenant in ("ada", "grace", "ada")]
    admin = await made(gateway, "admin", tenant="ops")
    async with port(mesh) as address, connect(address, api_key=admin.secret) as boss:
        async with connect(address, api_key=keys[0].secret) as client:
            assert await works(client)
        listed = await boss.list_keys()
        assert [key.key_id for key in listed] == [one.key.key_id for one in (admin, keys[2], keys[1], keys[0])]
        assert [key.key_id for key in await boss.list_keys("ada")] == [keys[2].key.key_id, keys[0].key.key_id]
        async with asyncio.timeout(30):
            while not (await boss.list_keys("ada"))[1].HasField("last_used_at"):  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert not listed[1].HasField("last_used_at")


async def test_an_operator_acts_for_a_tenant_that_it_names(mesh: Any, gateway: Any) -> None:
    operator, tenant = await made(gateway, "operator", tenant="ops"), await made(gateway)
    async with (
        port(mesh) as address,
        connect(address, api_key=operator.secret) as client,
        connect(address, api_key=tenant.secret) as owner,
    ):
        run = await owner.start_run(run_pb2.RunRequest(task="Why?"))
        with pytest.raises(NotFound):
            await client.get_run(run.run_id)
        with identity_scope(Identity(tenant="ada")):
            assert (await client.get_run(run.run_id)).tenant == "ada"
            with pytest.raises(PermissionDenied):
                await client.list_keys()


async def test_another_tenants_ids_are_not_found_by_any_rpc_about_runs(mesh: Any, gateway: Any, leaves: Any) -> None:
    mine, stranger = await made(gateway), await made(gateway, tenant="grace")
    async with port(mesh) as address:
        async with connect(address, api_key=mine.secret) as client:
            run = await client.start_run(run_pb2.RunRequest(task="Why?"))
            async for _ in client.watch(run.run_id):
                pass
        async with connect(address, api_key=stranger.secret) as other:
            request_id = str(uuid.uuid4())
            stub: run_pb2_grpc.RunServiceStub = other._runs
            calls = [
                stub.GetRun(run_pb2.GetRunRequest(run_id=run.run_id)),
                stub.GetRun(run_pb2.GetRunRequest(run_id=run.run_id[:8], restore_values=True)),
                stub.CancelRun(run_pb2.CancelRunRequest(request_id=request_id, run_id=run.run_id)),
                stub.ApproveRun(run_pb2.ApproveRunRequest(request_id=request_id, run_id=run.run_id)),
                stub.RejectRun(run_pb2.RejectRunRequest(request_id=request_id, run_id=run.run_id, reason="x")),
                stub.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)).read(),
                other._dead_letters.GetDeadLetter(dead_letter_pb2.GetDeadLetterRequest(dead_letter_id=run.run_id)),
            ]
            for call in calls:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await call
                error: DjpError = error_from_rpc(refused.value)
                assert error.code == "NOT_FOUND"
                assert "ada" not in error.message.replace(run.run_id, "").replace(run.run_id[:8], "")
            assert (await other.list_runs(run_pb2.ListRunsRequest())).runs == []
