"""The leaves' public RPCs through the gateway: every kind of call, errors, tenants, and callers that go away."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.channel import open_channel
from djp.mesh.errors import ResourceExhausted, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.mesh.server import MeshServer
from djp.v1 import (
    debate_pb2,
    debate_pb2_grpc,
    governance_pb2,
    governance_pb2_grpc,
    grounding_pb2,
    grounding_pb2_grpc,
    judge_pb2,
    judge_pb2_grpc,
    redaction_pb2,
    redaction_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)
from djp_gateway.forward import is_public

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "jane.roe@example.com"
LABEL = "[REDACTED:EMAIL]"
KEY = storage_pb2.ArtifactKey(workflow="w", artifact="a")
GET = storage_pb2.GetArtifactRequest(key=KEY)


async def test_each_kind_of_call_is_forwarded_under_the_callers_tenant(gateway: Any, leaves: Any) -> None:
    leaves.artifacts["acme", "w", "a"] = b"content"
    redaction = redaction_pb2_grpc.RedactionServiceStub(gateway.channel)
    grounding = grounding_pb2_grpc.GroundingServiceStub(gateway.channel)
    storage = storage_pb2_grpc.StorageServiceStub(gateway.channel)

    async def files() -> AsyncIterator[Any]:
        yield grounding_pb2.CreateCorpusRequest(
            header=grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="c")
        )
        for name in ("a.md", "ü/b.md"):
            yield grounding_pb2.CreateCorpusRequest(
                file=grounding_pb2.CorpusFileChunk(path=name, content=b"\x00\xff" * 500_000)
            )

    with identity_scope(Identity(tenant="acme")):
        answer = await redaction.Redact(redaction_pb2.RedactRequest(text=f"to {SECRET}"))
        assert answer.text == f"to {LABEL}"
        assert (await grounding.CreateCorpus(files())).version.documents == 2
        parts = [part async for part in storage.GetArtifact(GET)]
        assert parts[1].chunk == b"content"
        stream = redaction.RedactStream()
        for text in ("one ", SECRET):
            await stream.write(redaction_pb2.RedactStreamRequest(text=text))
            assert (await stream.read()).text == text.replace(SECRET, LABEL)
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
    assert {tenant for _, tenant, _ in leaves.asked} == {"acme"}
    assert leaves.requests("CreateCorpus") == [["a.md", "ü/b.md"]]


async def test_on_a_port_nobody_can_claim_to_be_another_tenant(mesh: Any, gateway: Any, leaves: Any) -> None:
    """There are no keys yet, so whoever can reach the port is the default tenant, here and at the leaves."""
    leaves.artifacts["acme", "w", "a"] = b"content"
    async with (
        MeshServer(gateway.service, "localhost:0") as server,
        open_channel(server.address) as channel,
    ):
        with identity_scope(Identity(tenant="acme", role="admin")):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                _ = [part async for part in storage_pb2_grpc.StorageServiceStub(channel).GetArtifact(GET)]
            request = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Who am I?"))
            run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(request)).run
        await gateway.finish(run.run_id)  # before the drain, in which the gateway lets go of its runs
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert run.tenant == "default"
    assert {tenant for _, tenant, _ in leaves.asked} == {"default"}


async def test_what_only_the_gateway_may_call_is_not_forwarded(gateway: Any, leaves: Any) -> None:
    governance = governance_pb2_grpc.GovernanceServiceStub(gateway.channel)
    calls = [
        debate_pb2_grpc.DebateServiceStub(gateway.channel).ProjectDebate(debate_pb2.ProjectDebateRequest()),
        judge_pb2_grpc.JudgeServiceStub(gateway.channel).ProjectJudge(judge_pb2.ProjectJudgeRequest()),
        governance.Reserve(governance_pb2.ReserveRequest()),
        governance.Charge(governance_pb2.ChargeRequest()),
        governance.Release(governance_pb2.ReleaseRequest()),
        governance.ListReservations(governance_pb2.ListReservationsRequest()),
    ]
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert not leaves.asked


def test_public_is_what_has_a_route_or_carries_files() -> None:
    modules = (debate_pb2, judge_pb2, redaction_pb2, grounding_pb2, governance_pb2, storage_pb2)
    hidden = {
        method.name
        for module in modules
        for service in module.DESCRIPTOR.services_by_name.values()
        for method in service.methods
        if not is_public(method)
    }
    assert hidden == {
        "Debate", "ProjectDebate", "Judge", "ProjectJudge",
        "Reserve", "Charge", "Settle", "Release", "Extend", "GetReservation", "ListReservations",
    }  # fmt: skip


async def test_a_leafs_error_comes_through_whole(gateway: Any, leaves: Any) -> None:
    leaves.fail("Redact", ResourceExhausted("too much", reason="RATE_LIMITED", retry_after_s=7, metadata={"k": "v"}))
    leaves.fail("GetArtifactRest", Unavailable("gone in the middle"))
    leaves.artifacts["default", "w", "a"] = b"content"
    redaction = redaction_pb2_grpc.RedactionServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await redaction.Redact(redaction_pb2.RedactRequest(text="x"))
    error = error_from_rpc(caught.value)
    assert (error.code, error.reason, error.message) == ("RESOURCE_EXHAUSTED", "RATE_LIMITED", "too much")
    assert (error.retry_after_s, error.metadata) == (7.0, {"k": "v"})
    stream = storage_pb2_grpc.StorageServiceStub(gateway.channel).GetArtifact(GET)
    assert (await stream.read()).HasField("info")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert error_from_rpc(caught.value).message == "gone in the middle"


async def test_what_a_leaf_does_not_offer_is_unimplemented(gateway: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await grounding_pb2_grpc.GroundingServiceStub(gateway.channel).ListCorpora(grounding_pb2.ListCorporaRequest())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_bad_request_is_refused_at_the_gateway(gateway: Any, leaves: Any) -> None:
    grounding = grounding_pb2_grpc.GroundingServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await grounding.Search(grounding_pb2.SearchRequest(query="x", top_k=101))
    assert {v.field for v in error_from_rpc(caught.value).violations} == {"corpus", "top_k"}

    async def files() -> AsyncIterator[Any]:
        yield grounding_pb2.CreateCorpusRequest(header=grounding_pb2.CorpusHeader(request_id="no uuid", corpus="C"))

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await grounding.CreateCorpus(files())
    assert {v.field for v in error_from_rpc(caught.value).violations} == {"header.request_id", "header.corpus"}

    stream = redaction_pb2_grpc.RedactionServiceStub(gateway.channel).RedactStream()
    await stream.write(redaction_pb2.RedactStreamRequest(text="x" * (1 << 21)))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stream.read()
    assert {v.field for v in error_from_rpc(caught.value).violations} == {"text"}
    assert not leaves.requests("Search")
    assert not leaves.requests("CreateCorpus")


async def test_a_leaf_that_is_away_is_unavailable(gateway: Any, leaves: Any) -> None:
    await leaves.stop("redaction")
    redaction = redaction_pb2_grpc.RedactionServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await redaction.Redact(redaction_pb2.RedactRequest(text="x"))
    assert error_from_rpc(caught.value).reason == "UNAVAILABLE"
    await leaves.start("redaction")


@pytest.mark.parametrize("method", ["Redact", "GetArtifact", "GetArtifactRest", "CreateCorpus", "RedactStreamPart"])
async def test_a_caller_that_goes_away_ends_the_leafs_work(gateway: Any, leaves: Any, method: str) -> None:
    leaves.artifacts["default", "w", "a"] = b"content"
    gate = leaves.hold(method)
    call: Any
    match method:
        case "Redact":
            call = redaction_pb2_grpc.RedactionServiceStub(gateway.channel).Redact(
                redaction_pb2.RedactRequest(text="x")
            )
        case "CreateCorpus":

            async def files() -> AsyncIterator[Any]:
                yield grounding_pb2.CreateCorpusRequest(
                    header=grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="c")
                )

            call = grounding_pb2_grpc.GroundingServiceStub(gateway.channel).CreateCorpus(files())
        case "RedactStreamPart":
            call = redaction_pb2_grpc.RedactionServiceStub(gateway.channel).RedactStream()
            await call.write(redaction_pb2.RedactStreamRequest(text="x"))
        case _:
            call = storage_pb2_grpc.StorageServiceStub(gateway.channel).GetArtifact(GET)
            asyncio.ensure_future(call.read()).add_done_callback(lambda done: done.cancelled() or done.exception())
    await asyncio.wait_for(gate.entered.wait(), 30)
    call.cancel()
    await asyncio.wait_for(gate.cancelled.wait(), 30)


async def test_half_an_upload_never_looks_whole_to_the_leaf(gateway: Any, leaves: Any) -> None:
    sent = asyncio.Event()

    async def files() -> AsyncIterator[Any]:
        yield grounding_pb2.CreateCorpusRequest(
            header=grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="c")
        )
        sent.set()
        await asyncio.Event().wait()

    redaction = redaction_pb2_grpc.RedactionServiceStub(gateway.channel)
    for _ in range(5):
        sent.clear()
        call = grounding_pb2_grpc.GroundingServiceStub(gateway.channel).CreateCorpus(files())
        await sent.wait()
        await redaction.Redact(redaction_pb2.RedactRequest(text="the header is on its way"))
        call.cancel()
        for _ in range(5):
            await redaction.Redact(redaction_pb2.RedactRequest(text="time for the leaf to be wrong"))
    assert "CreateCorpus" not in leaves.names()


async def test_the_callers_deadline_is_passed_on(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("Redact")
    redaction = redaction_pb2_grpc.RedactionServiceStub(gateway.channel)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await redaction.Redact(redaction_pb2.RedactRequest(text="x"), timeout=0.3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    if gate.entered.is_set():
        await asyncio.wait_for(gate.cancelled.wait(), 30)
