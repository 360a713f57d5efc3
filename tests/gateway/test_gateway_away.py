"""What callers are told when a part of the mesh is away: which one; and where it is, only its owner."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any

import grpc
import psycopg
import pytest

from djp.database import database_error
from djp.mesh.channel import open_channel
from djp.mesh.errors import Unavailable
from djp.mesh.identity import OUTSIDE_KEY
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import (
    debate_pb2,
    debate_pb2_grpc,
    governance_pb2,
    governance_pb2_grpc,
    grounding_pb2,
    grounding_pb2_grpc,
    redaction_pb2,
    redaction_pb2_grpc,
    run_pb2,
    run_pb2_grpc,
    storage_pb2,
    storage_pb2_grpc,
)
from djp_gateway.adapters.sql_store import SqlRunStore
from tests.gateway.test_gateway_keys import port

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

URL = "postgresql+psycopg://djp:secret@db.internal:5432/mesh"
PRIVATE = ("unix:", ".sock", "ipv4", "db.internal", "5432", "connect", "psycopg")


async def _project(channel: Any) -> None:
    request = run_pb2.RunRequest(task="Why?", corpus="handbook")
    await run_pb2_grpc.RunServiceStub(channel).ProjectRun(run_pb2.ProjectRunRequest(run=request))


async def _models(channel: Any) -> None:
    await debate_pb2_grpc.DebateServiceStub(channel).ListModels(debate_pb2.ListModelsRequest())


async def _budgets(channel: Any) -> None:
    await governance_pb2_grpc.GovernanceServiceStub(channel).ListBudgets(governance_pb2.ListBudgetsRequest())


async def _watch_events(channel: Any) -> None:
    stub = governance_pb2_grpc.GovernanceServiceStub(channel)
    async for _ in stub.WatchEvents(governance_pb2.WatchEventsRequest()):
        pass


async def _upload(channel: Any) -> None:
    begin = grounding_pb2.CorpusHeader(request_id=str(uuid.uuid4()), corpus="handbook")
    header = grounding_pb2.CreateCorpusRequest(header=begin)
    await grounding_pb2_grpc.GroundingServiceStub(channel).CreateCorpus(iter([header]))


async def _redact_stream(channel: Any) -> None:
    requests = iter([redaction_pb2.RedactStreamRequest(text="x")])
    async for _ in redaction_pb2_grpc.RedactionServiceStub(channel).RedactStream(requests):
        pass


async def _get_artifact(channel: Any) -> None:
    request = storage_pb2.GetArtifactRequest(key=storage_pb2.ArtifactKey(workflow="w", artifact="a"))
    async for _ in storage_pb2_grpc.StorageServiceStub(channel).GetArtifact(request):
        pass


CALLS: dict[str, tuple[str, Callable[[Any], Awaitable[None]]]] = {
    "one call, forwarded": ("debate", _models),
    "another": ("governance", _budgets),
    "a watch": ("governance", _watch_events),
    "an upload": ("grounding", _upload),
    "a stream both ways": ("redaction", _redact_stream),
    "a download": ("storage", _get_artifact),
    "a call of the gateway's own": ("grounding", _project),
}


@pytest.mark.parametrize("kind", CALLS)
async def test_a_stranger_is_told_which_service_is_away_and_not_where_it_is(
    mesh: Any, gateway: Any, leaves: Any, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    leaf, call = CALLS[kind]
    await leaves.stop(leaf)
    async with port(mesh, auth="none") as address, open_channel(address) as channel:
        error = await _refused(call(channel))
        assert error.told == f"the {leaf} service does not answer; try again in a moment"
        _assert_private(error)
    assert f"{leaf}.sock" in caplog.text, "the gateway's log has the details"
    async with open_channel(gateway.server.address, headers={OUTSIDE_KEY: "1"}) as channel:  # as the REST bridge does
        _assert_private(await _refused(call(channel)))
    error = await _refused(call(gateway.channel))
    assert f"{leaf}.sock" in error.message, "the owner's own socket"


async def test_a_stranger_is_told_whose_database_is_away(
    mesh: Any, gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    away = database_error(psycopg.OperationalError('connection to server at "10.0.0.7", port 5432 failed'), URL)
    assert away
    leaves.fail("Search", away, times=2)
    async with port(mesh, auth="none") as address, open_channel(address) as channel:
        error = await _refused(_project(channel))
        assert error.message == "grounding: the database does not answer; try again in a moment"
        _assert_private(error)
        assert "db.internal" in (await _refused(_project(gateway.channel))).message

        async def broken(*_: Any, **__: Any) -> Any:
            raise away

        monkeypatch.setattr(SqlRunStore, "list", broken)
        error = await _refused(run_pb2_grpc.RunServiceStub(channel).ListRuns(run_pb2.ListRunsRequest()))
        assert error.message == "the database does not answer; try again in a moment"
        _assert_private(error)


async def test_an_error_that_a_leaf_explains_itself_is_passed_on_as_it_is(mesh: Any, leaves: Any) -> None:
    leaves.fail("Search", Unavailable("the index is being built; try again", retry_after_s=3.0))
    async with port(mesh, auth="none") as address, open_channel(address) as channel:
        error = await _refused(_project(channel))
    assert (error.message, error.retry_after_s) == ("the index is being built; try again", 3.0)


@pytest.mark.parametrize(
    ("leaf", "gate"),
    [("debate", "Reserve"), ("judge", "VerifyCitations"), ("governance", "Debate")],
)
async def test_a_run_that_fails_for_a_leaf_that_is_away_says_which(
    mesh: Any,
    leaves: Any,
    until: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    leaf: str,
    gate: str,
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.01,))
    gateway = await mesh.gateway()
    run = await _begun_without(gateway, leaves, leaf, gate)
    if leaf == "governance":  # without which a run cannot even be ended
        await until(lambda: "cannot be ended yet" in caplog.text)
        await leaves.start(leaf)
    run = await gateway.finish(run.run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.message == f"the {leaf} service does not answer; try again in a moment"
    events = await gateway.watch(run.run_id)
    assert not [word for word in PRIVATE if word in f"{run.warnings}{events}"]
    assert f"run {run.run_id} fails" in caplog.text
    assert f"{leaf}.sock" in caplog.text


async def test_a_run_whose_storage_is_away_says_so_and_ends_when_it_is_back(
    mesh: Any, leaves: Any, until: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.01,))
    gateway = await mesh.gateway()
    run = await _begun_without(gateway, leaves, "storage", "Redact")
    await until(lambda: "cannot be ended yet" in caplog.text)
    run = await gateway.get(run.run_id)
    assert run.state == run_pb2.RUN_STATE_RUNNING
    away = "the storage service does not answer; try again in a moment"
    assert run.warnings == [f"the artifact cannot be stored yet, trying again: {away}"]
    await leaves.start("storage")
    assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    events = await gateway.watch(run.run_id)
    assert not [word for word in PRIVATE if word in f"{run.warnings}{events}"]


async def test_in_a_mesh_for_one_command_a_run_that_fails_says_where_the_leaf_should_be(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.01,))
    gateway = await mesh.command()
    run = await gateway.finish((await _begun_without(gateway, leaves, "debate", "Reserve")).run_id)
    assert "debate.sock" in run.error.message


async def _begun_without(gateway: Any, leaves: Any, leaf: str, gate: str) -> run_pb2.Run:
    """A run whose leaf goes away for good once that method was called."""
    held = leaves.hold(gate)
    run: run_pb2.Run = await gateway.start(corpus="handbook")
    await held.entered.wait()
    await leaves.stop(leaf)
    held.opened.set()
    return run


async def _refused(call: Awaitable[Any]) -> Any:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call
    return error_from_rpc(refused.value)


def _assert_private(error: Any) -> None:
    whole = f"{error.message} {error.outside} {error.metadata} {error.violations}"
    assert not [word for word in PRIVATE if word in whole], whole
