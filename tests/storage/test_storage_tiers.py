"""Artifacts on their way through the tiers: restored, purged, brought back, held; files, and Postgres with MinIO."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.rpc_errors import error_from_rpc
from djp.v1.common_pb2 import TIER_COLD, TIER_HOT, TIER_TRASH, TIER_WARM
from djp_storage.model import Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from djp.mesh.errors import DjpError


@pytest.fixture(params=["embedded", "cluster"])
def deployment(request: Any) -> Any:
    return request.param


async def refused(call: Any) -> DjpError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


async def objects(whereabouts: dict[str, Any]) -> dict[str, list[str]]:
    """The artifacts' names of the objects that there are, by tier."""
    async with open_parts(StorageSettings(**whereabouts)) as parts:
        return {
            tier.value: sorted([one.path.rpartition("-")[-1] async for one in parts.store.objects(tier)])
            for tier in Tier
        }


@pytest.mark.parametrize("size", [0, 4096, 6 * 2**20])
async def test_an_artifact_goes_through_the_tiers_and_back(serve: Any, whereabouts: Any, size: int) -> None:
    content = bytes(range(256)) * (size // 256)
    async with serve(compress=size > 4096) as client:
        put = await client.put(*(content[at : at + 2**20] for at in range(0, size, 2**20)), tags={"a": "ü"})
        for tier in (TIER_WARM, TIER_COLD, TIER_WARM, TIER_HOT, TIER_COLD):
            moved = (await client.call("RestoreArtifact", artifact="a.json", to_tier=tier)).artifact
            assert moved.tier == tier
            assert await client.get() == (moved, content)
            for field in ("size", "sha256", "created_at", "modified_at", "tags"):
                assert getattr(moved, field) == getattr(put, field)
        purged = (await client.call("PurgeArtifact", artifact="a.json", reason="old")).artifact
        assert purged.tier == TIER_TRASH
        assert (await client.get())[1] == content
        back = (await client.call("UndeleteArtifact", artifact="a.json")).artifact
        assert back.tier == TIER_COLD
        assert await client.get() == (back, content)
        assert await client.actions(artifact="a.json") == [
            "put",
            "promoted_to_warm",
            "promoted_to_cold",
            "restored_from_cold",
            "restored_from_warm",
            "promoted_to_cold",
            "purged_from_cold",
            "undeleted",
        ]
        (event,) = await client.events(action="purged_from_cold")
        assert (event.actor, event.reason, event.from_tier, event.to_tier) == (
            "tenant of acme",
            "old",
            TIER_COLD,
            TIER_TRASH,
        )
    assert await objects(whereabouts) == {"hot": [], "warm": [], "cold": ["a.json"], "trash": []}


async def test_the_same_request_is_answered_as_before(serve: Any) -> None:
    async with serve() as client:
        await client.put(b"text")
        again = {"artifact": "a.json", "request_id": str(uuid.uuid4())}
        answers = await asyncio.gather(*(client.call("PurgeArtifact", **again) for _ in range(6)))
        assert all(answer == answers[0] for answer in answers)
        await client.call("UndeleteArtifact", artifact="a.json")
        assert await client.call("PurgeArtifact", **again) == answers[0]  # told again, not done again
        assert (await client.stat()).tier == TIER_HOT
        assert await client.actions() == ["put", "purged_from_hot", "undeleted"]
        for method, fields in [("PurgeArtifact", {"reason": "other"}), ("UndeleteArtifact", {})]:
            assert (await refused(client.call(method, **again, **fields))).reason == "REQUEST_ID_REUSED"
        assert (await refused(client.put(b"text", request_id=again["request_id"]))).reason == "REQUEST_ID_REUSED"


async def test_restore_says_why_not(serve: Any) -> None:
    async with serve() as client:
        await client.put(b"text")
        call = client.call
        error = await refused(call("RestoreArtifact", artifact="none"))
        assert (error.code, error.field) == ("NOT_FOUND", "key.artifact")
        assert (await refused(client.of("other").call("RestoreArtifact", artifact="a.json"))).code == "NOT_FOUND"
        error = await refused(call("RestoreArtifact", artifact="a.json", from_tier=TIER_COLD, to_tier=TIER_WARM))
        assert "not in cold but in hot" in error.message
        error = await refused(call("RestoreArtifact", artifact="a.json", to_tier=TIER_TRASH))
        assert (error.code, error.field) == ("INVALID_ARGUMENT", "to_tier")
        same = (await call("RestoreArtifact", artifact="a.json", from_tier=TIER_COLD)).artifact
        assert same == await client.stat()  # it is where it was to go
        await call("PurgeArtifact", artifact="a.json")
        error = await refused(call("RestoreArtifact", artifact="a.json"))
        assert (error.code, "UndeleteArtifact" in error.message) == ("FAILED_PRECONDITION", True)
        for name in ("../x", "a\0b", ""):
            error = await refused(call("PurgeArtifact", artifact=name))
            assert (error.code, error.field) == ("INVALID_ARGUMENT", "key.artifact")


async def test_of_all_who_move_one_artifact_at_once_the_last_wins_and_nothing_is_lost(
    serve: Any, whereabouts: Any
) -> None:
    async with serve() as one, serve() as other:
        await one.put(b"text" * 1000)
        calls = [
            ("RestoreArtifact", {"to_tier": TIER_WARM}),
            ("RestoreArtifact", {"to_tier": TIER_COLD}),
            ("PurgeArtifact", {}),
            ("UndeleteArtifact", {}),
        ]
        for _ in range(4):
            answers = await asyncio.gather(
                *(
                    (one, other)[n % 2].call(name, artifact="a.json", **fields)
                    for n, (name, fields) in enumerate(calls)
                ),
                one.get(),
                other.get(),
                return_exceptions=True,
            )
            for answer in answers:
                if isinstance(answer, grpc.aio.AioRpcError):
                    told = error_from_rpc(answer)
                    assert told.code in ("FAILED_PRECONDITION", "UNAVAILABLE"), told.message
                    assert "trash" in told.message or "moved" in told.message
                elif isinstance(answer, BaseException):
                    raise answer
        tier = (await one.stat()).tier
        assert (await other.get())[1] == b"text" * 1000
    there = await objects(whereabouts)
    assert sorted(there.values()) == [[], [], [], ["a.json"]]
    assert there[{TIER_HOT: "hot", TIER_WARM: "warm", TIER_COLD: "cold", TIER_TRASH: "trash"}[tier]]


async def test_of_all_who_come_at_once_each_hears_of_its_own(client: Any) -> None:
    """What they want may share a transaction: new artifacts, known ones, taken keys, moves to everywhere."""
    request_id = str(uuid.uuid4())
    old = [await client.put(b"old", artifact=f"old{n}", request_id=request_id if n == 0 else "") for n in range(6)]
    refusals = {"taken": "ALREADY_EXISTS", "reused": "REQUEST_ID_REUSED", "absent": "NOT_FOUND"}
    for turn in range(3):
        wanted = {
            "new": client.put(b"new", artifact=f"new{turn}"),
            "known": client.put(b"old", artifact="old0"),
            "more": client.put(b"more", artifact=f"more{turn}"),
            "taken": client.put(b"else", artifact="old1"),
            "reused": client.put(b"else", artifact=f"else{turn}", request_id=request_id),
            "moved": client.call("RestoreArtifact", artifact=f"old{2 + turn}", to_tier=TIER_COLD),
            "absent": client.call("RestoreArtifact", artifact="absent", to_tier=TIER_COLD),
            "twice": client.put(b"twice", artifact=f"twice{turn}"),
            "twice more": client.put(b"twice", artifact=f"twice{turn}"),
        }
        answers = dict(zip(wanted, await asyncio.gather(*wanted.values(), return_exceptions=True), strict=True))
        for name, reason in refusals.items():
            assert error_from_rpc(answers[name]).reason == reason
        assert answers["known"] == old[0]
        assert answers["twice"] == answers["twice more"]
        assert answers["moved"].artifact.tier == TIER_COLD
        for name in ("new", "more", "twice"):
            assert await client.get(f"{name}{turn}") == (answers[name], name.encode())
        assert await client.actions(artifact=f"old{2 + turn}") == ["put", "promoted_to_cold"]


async def test_what_is_held_is_neither_purged_nor_erased(serve: Any, clock: Any) -> None:
    async with serve() as client:
        for name in ("held", "free", "trashed"):
            await client.put(b"text", artifact=name)
        await client.call("PurgeArtifact", artifact="trashed")
        for name in ("held", "trashed"):
            await client.call("SetLegalHold", artifact=name, hold=True, reason="case 7")
        info = await client.stat("held")
        assert (info.legal_hold, info.HasField("due_at")) == (True, True)  # it still goes to warm and cold
        assert not (await client.stat("trashed")).HasField("due_at")
        error = await refused(client.call("PurgeArtifact", artifact="held"))
        assert (error.code, error.reason) == ("FAILED_PRECONDITION", "LEGAL_HOLD")
        clock.turn(days=400)
        for _ in range(6):
            await client.lifecycle()
            clock.turn(days=400)
        assert [(await client.stat(name)).tier for name in ("held", "trashed")] == [TIER_COLD, TIER_TRASH]
        assert (await refused(client.stat("free"))).code == "NOT_FOUND"
        await client.call("SetLegalHold", artifact="trashed", hold=False, reason="closed")
        await client.lifecycle()
        assert (await refused(client.stat("trashed"))).code == "NOT_FOUND"
        assert await client.actions(artifact="held") == ["put", "hold_set", "promoted_to_warm", "promoted_to_cold"]


async def test_a_tenant_under_a_hold_loses_nothing(serve: Any, clock: Any) -> None:
    async with serve() as client:
        other = client.of("other")
        for one in (client, other):
            await one.put(b"text")
        await client.call("SetLegalHold", hold=True, reason="case 8")
        await client.put(b"later", artifact="later")
        assert (await client.stat("later")).legal_hold
        assert (await refused(client.call("PurgeArtifact", artifact="later"))).reason == "LEGAL_HOLD"
        for _ in range(5):
            clock.turn(days=400)
            await client.of("ops", "operator").lifecycle()
        assert (await client.stat()).tier == TIER_COLD
        assert (await refused(other.stat())).code == "NOT_FOUND"
        await client.call("SetLegalHold", hold=False, reason="over")
        assert not (await client.stat()).legal_hold
        assert await client.actions(action="hold_lifted") == ["hold_lifted"]


async def test_an_erased_name_stays_taken_by_what_it_named(serve: Any, clock: Any, whereabouts: Any) -> None:
    async with serve() as client:
        request_id = str(uuid.uuid4())
        await client.put(b"text", request_id=request_id)
        await client.call("PurgeArtifact", artifact="a.json")
        clock.turn(days=31)
        (erased, end) = await client.lifecycle()
        assert (erased.artifact.key.artifact, end.so_far.erased, end.so_far.errors) == ("a.json", 1, 0)
        for call in (client.stat(), client.get(), client.call("UndeleteArtifact", artifact="a.json")):
            error = await refused(call)
            assert (error.code, "was erased at" in error.message) == ("NOT_FOUND", True)
        error = await refused(client.put(b"other"))
        assert (error.reason, "erased" in error.message) == ("ALREADY_EXISTS", True)
        assert (await refused(client.put(b"text", request_id=request_id))).code == "NOT_FOUND"  # a late repetition
        assert await client.names() == []
        assert (await client.put(b"text")).tier == TIER_HOT  # from a backup
        assert (await client.get())[1] == b"text"
        assert await client.actions(artifact="a.json") == ["put", "purged_from_hot", "erased", "put"]
    assert await objects(whereabouts) == {"hot": ["a.json"], "warm": [], "cold": [], "trash": []}


async def test_what_is_in_the_trash_comes_back_when_it_is_put_again(serve: Any, whereabouts: Any) -> None:
    async with serve() as client:
        first = await client.put(b"text")
        await client.call("PurgeArtifact", artifact="a.json")
        assert (await refused(client.put(b"other"))).reason == "ALREADY_EXISTS"
        again = await client.put(b"text")
        assert (again.tier, again.created_at) == (TIER_HOT, first.created_at)
        assert (await client.get())[1] == b"text"
        assert await client.actions() == ["put", "purged_from_hot", "undeleted"]
    assert await objects(whereabouts) == {"hot": ["a.json"], "warm": [], "cold": [], "trash": []}
