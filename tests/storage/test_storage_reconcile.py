"""Catalogue and objects are compared; every difference is told, and mended where it can be: on both kinds of stores."""

from __future__ import annotations

import asyncio
import os
import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import grpc
import pytest
import sqlalchemy as sa

from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, storage_pb2
from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.adapters.s3_store import S3Store
from djp_storage.description import describe, read_description
from djp_storage.model import ObjectName, Tier
from djp_storage.object_names import id_of, names_of
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from djp_storage.model import Artifact
    from djp_storage.ports import ObjectStore


@pytest.fixture(params=["embedded", "cluster"])
def deployment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def store(whereabouts: dict[str, Any]) -> AsyncIterator[ObjectStore]:
    """The service's objects, behind its back."""
    settings = StorageSettings(**whereabouts)
    found: ObjectStore = (
        S3Store(settings.account, settings.tier_buckets) if settings.buckets else DirectoryStore(settings.data_dir)
    )
    yield found
    await found.close()


@pytest.fixture
def sql(whereabouts: dict[str, Any]) -> Any:
    """The service's database, behind its back."""

    def execute(*statements: str) -> None:
        engine = sa.create_engine(whereabouts["database_url"].replace("+aiosqlite", ""))
        with engine.begin() as connection:
            for statement in statements:
                connection.execute(sa.text(statement))
        engine.dispose()

    return execute


async def compared(client: Any, **how: bool) -> list[storage_pb2.ReconcileResponse]:
    """The differences; the counts of the last message must be theirs."""
    with identity_scope(Identity("ops", "operator")):
        request = storage_pb2.ReconcileRequest(request_id=str(uuid.uuid4()), **how)
        told = [one async for one in client.stub.Reconcile(request)]
    found = [one for one in told if one.difference]
    assert (told[-1].so_far.differences, told[-1].so_far.mended) == (len(found), sum(one.mended for one in found))
    return found


async def kinds(client: Any, **how: bool) -> list[tuple[str, bool]]:
    """What differs, and whether it was mended."""
    return sorted((one.difference, one.mended) for one in await compared(client, **how))


async def stored(store: ObjectStore, *tiers: Tier) -> list[Artifact]:
    """Every object, by what its description says."""
    found = []
    for tier in tiers or Tier:
        async with aclosing(store.objects(tier)) as objects:
            async for one in objects:
                text = await store.description(tier, one.path)
                artifact = read_description(text, tier, id_of(one.path), one.modified_at)
                assert artifact is not None
                found.append(artifact)
    return found


async def copied(store: ObjectStore, artifact: Artifact, tier: Tier) -> ObjectName:
    """Another object of the same artifact."""
    copy = replace(artifact, tier=tier, object_id=uuid.uuid4().hex[:12])
    await store.copy(artifact.object_name, copy.object_name, describe(artifact))
    return copy.object_name


async def overwritten(store: ObjectStore, artifact: Artifact, content: bytes) -> None:
    """The same object with other bytes."""
    text = await store.description(artifact.tier, store.path(artifact.object_name))
    await store.remove(artifact.object_name)
    async with store.upload(artifact.object_name) as upload:
        await upload.write(content)
        await upload.place(text)


NAMES = ["report.json", "Report.json", "%-", "0123456789ab-x", "Ж\u202f😀", "x" * 200, "Ü" * 200, " ", "nul", ".hidden"]


async def test_what_is_in_order_is_no_difference(client: Any) -> None:
    for name in NAMES:
        await client.put(name.encode() * 100, artifact=name, workflow=name)
    await client.call("RestoreArtifact", artifact="nul", workflow="nul", to_tier=common_pb2.TIER_COLD)
    await client.call("PurgeArtifact", artifact=" ", workflow=" ")
    assert await compared(client, mend=True, verify=True) == []


async def test_a_lost_catalogue_is_made_again_from_the_objects(client: Any, sql: Any) -> None:
    before = {}
    for number, name in enumerate(NAMES):
        await client.put(
            name.encode() * 1000,
            artifact=name,
            workflow=f"w{number % 3}",
            run_id=f"r{number}",
            content_type="text/plain",
            tags={"näme": name, "many": "x" * 900},
        )
        for action, fields in (
            ("RestoreArtifact", {"to_tier": common_pb2.TIER_WARM} if number % 3 == 1 else None),
            ("PurgeArtifact", {} if number % 5 == 4 else None),
        ):
            if fields is not None:
                await client.call(action, artifact=name, workflow=f"w{number % 3}", **fields)
        before[name, f"w{number % 3}"] = await client.get(name, f"w{number % 3}")
    sql("DELETE FROM artifacts", "DELETE FROM requests", "DELETE FROM events")
    assert await kinds(client) == [("object without an artifact", False)] * len(NAMES)
    assert await client.names() == []
    assert await kinds(client, mend=True) == [("object without an artifact", True)] * len(NAMES)
    for (name, workflow), (info, content) in before.items():
        now, got = await client.get(name, workflow)
        assert got == content
        for same in ("tier", "sha256", "size", "content_type", "run_id", "tags", "created_at", "location"):
            assert getattr(now, same) == getattr(info, same)
        if info.tier == common_pb2.TIER_TRASH:
            back = (await client.call("UndeleteArtifact", artifact=name, workflow=workflow)).artifact
            assert back.tier == common_pb2.TIER_HOT
    assert await compared(client, mend=True, verify=True) == []
    assert {event.action for event in await client.events()} == {"adopted", "undeleted"}


async def test_of_two_copies_the_artifacts_own_stays(client: Any, store: ObjectStore) -> None:
    await client.put(b"text" * 1000)
    [artifact] = await stored(store)
    for tier in Tier:
        await copied(store, artifact, tier)
    assert await kinds(client) == [("second copy", False)] * 4
    assert await kinds(client, mend=True) == [("second copy", True)] * 4
    assert [one.object_name for one in await stored(store)] == [artifact.object_name]
    assert (await client.get())[1] == b"text" * 1000
    assert await compared(client, verify=True) == []


@pytest.mark.parametrize("broken", ["gone", "damaged"])
async def test_an_artifact_follows_its_bytes(client: Any, store: ObjectStore, broken: str) -> None:
    await client.put(b"text" * 1000)
    [artifact] = await stored(store)
    copy = await copied(store, artifact, Tier.COLD)
    if broken == "gone":
        await store.remove(artifact.object_name)
    else:
        await overwritten(store, artifact, b"!" * 4000)
    assert ("artifact at another object", False) in await kinds(client)
    assert await kinds(client, mend=True) == [("artifact at another object", True)]
    info, content = await client.get()
    assert (content, info.tier) == (b"text" * 1000, common_pb2.TIER_COLD)
    assert await compared(client, mend=True, verify=True) == []
    assert [one.object_name for one in await stored(store)] == [copy]
    assert (await client.actions())[-1] == "mended"


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        (None, "artifact without its object"),
        (b"short", "wrong hash"),
        (b"!" * 4000, "wrong hash"),
    ],
)
async def test_what_no_copy_mends_a_backup_does(
    client: Any, store: ObjectStore, damage: bytes | None, found: str
) -> None:
    await client.put(b"text" * 1000, tags={"k": "v"})
    await client.put(b"other", artifact="other")
    with identity_scope(Identity("acme")):
        backup = b"".join([one.chunk async for one in client.stub.ExportTenant(storage_pb2.ExportTenantRequest())])
    [artifact] = [one for one in await stored(store) if one.key.artifact == "a.json"]
    if damage is None:
        await store.remove(artifact.object_name)
    else:
        await overwritten(store, artifact, damage)
    told = await compared(client, mend=True, verify=True)
    assert [(one.difference, one.mended) for one in told] == [(found, False)]
    assert "djp storage import" in told[0].error
    parts = [
        storage_pb2.ImportTenantRequest(request_id=str(uuid.uuid4())),
        storage_pb2.ImportTenantRequest(chunk=backup),
    ]
    with identity_scope(Identity("acme")):
        answer = await client.stub.ImportTenant(iter(parts))
    assert (answer.imported, answer.unchanged, answer.refused) == (1, 1, 0)
    assert (await client.get())[1] == b"text" * 1000
    assert await compared(client, mend=True, verify=True) == []


@pytest.mark.parametrize("damage", [None, b"short", b"!" * 4000])
async def test_what_is_lost_is_given_up_only_when_asked_to(
    client: Any, store: ObjectStore, damage: bytes | None
) -> None:
    for name in ("lost", "copied", "held"):
        await client.put(b"text" * 1000, artifact=name)
    await client.call("SetLegalHold", artifact="held", hold=True, reason="case 7")
    for artifact in await stored(store):
        if artifact.key.artifact == "copied":
            await copied(store, artifact, Tier.COLD)
        if damage is None:
            await store.remove(artifact.object_name)
        else:
            await overwritten(store, artifact, damage)
    told = await compared(client, mend=True, verify=damage != b"short", forget_lost=True)
    assert [one.mended for one in told if "copied" in one.location] == [True]
    assert [one.mended for one in told if "lost" in one.location] == [True]
    [held] = [one for one in told if "held" in one.location]
    assert held.difference in ("artifact without its object", "wrong hash")
    assert "legal hold" in held.error
    assert sorted(await client.names()) == ["copied", "held"]
    assert (await client.get("copied"))[1] == b"text" * 1000
    assert "lost" in await client.actions()
    await client.put(b"text" * 1000, artifact="lost")
    assert len(await compared(client, mend=True, verify=True, forget_lost=True)) == 1


async def test_what_an_erased_artifact_left_behind_goes(client: Any, store: ObjectStore, clock: Any) -> None:
    await client.put(b"text")
    [artifact] = await stored(store)
    copy = await copied(store, artifact, Tier.COLD)
    operator = client.of("acme", "operator")
    await client.call("PurgeArtifact", artifact="a.json")
    clock.turn(days=31)
    await operator.lifecycle()
    assert [one.object_name for one in await stored(store)] == [copy]
    assert await kinds(client) == [("object of an erased artifact", False)]
    assert await kinds(client, mend=True) == [("object of an erased artifact", True)]
    assert await stored(store) == []


async def test_bytes_that_nobody_else_may_have_are_left_alone(client: Any, store: ObjectStore, sql: Any) -> None:
    await client.put(b"old")
    sql("DELETE FROM artifacts", "DELETE FROM requests")
    await client.put(b"new")
    before = {one.object_name for one in await stored(store)}
    assert await kinds(client, mend=True) == [("other content under an artifact's name", False)]
    assert {one.object_name for one in await stored(store)} == before
    assert (await client.get())[1] == b"new"


async def test_a_damaged_object_is_not_entered(client: Any, store: ObjectStore, sql: Any) -> None:
    await client.put(b"text")
    [artifact] = await stored(store)
    await overwritten(store, artifact, b"!!!!")
    sql("DELETE FROM artifacts", "DELETE FROM requests")
    [told] = await compared(client, mend=True)
    assert (told.difference, told.mended, told.error) == (
        "object without an artifact",
        False,
        "its bytes are damaged",
    )
    assert await client.names() == []
    assert await kinds(client, mend=True, forget_lost=True) == [("object without an artifact", True)]
    assert await stored(store) == []


async def test_comparing_disturbs_nobody_and_finds_nothing_that_is_only_on_its_way(client: Any, clock: Any) -> None:
    contents = {f"a{number}": os.urandom(100) for number in range(15)}
    operator = client.of("acme", "operator")
    over = asyncio.Event()

    async def work(part: int) -> None:
        for number, (name, content) in enumerate(contents.items()):
            if number % 3 == part:
                await client.put(content, artifact=name)
                await client.call("RestoreArtifact", artifact=name, to_tier=common_pb2.TIER_COLD)
                await client.call("PurgeArtifact", artifact=name)
                await client.call("UndeleteArtifact", artifact=name)
                await client.call("RestoreArtifact", artifact=name, to_tier=common_pb2.TIER_HOT)

    async def compare() -> list[storage_pb2.ReconcileResponse]:
        found = []
        while not over.is_set():
            found += await compared(client, mend=True, verify=True)
        return found

    async with asyncio.TaskGroup() as group:
        comparing = [group.create_task(compare()) for _ in range(2)]
        async with asyncio.TaskGroup() as working:
            for part in range(3):
                working.create_task(work(part))
            working.create_task(operator.lifecycle())
        over.set()
    assert [one for task in comparing for one in task.result()] == []
    for name, content in contents.items():
        assert (await client.get(name))[1] == content


async def test_a_tenant_may_not_compare(client: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught, identity_scope(Identity("acme")):
        request = storage_pb2.ReconcileRequest(request_id=str(uuid.uuid4()), mend=True)
        async for _ in client.stub.Reconcile(request):
            pass
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "path", ["", "a", "a/b", "a/b/c/d", "a/b/%-0123", "a/b/%ff", "..//", "a/b/0123456789ab-c", "%2f/%2e%2e/%00"]
)
def test_paths_of_others_name_no_object_twice(path: str) -> None:
    for name in names_of(Tier.HOT, path):
        assert name.tier is Tier.HOT
    assert len(names_of(Tier.HOT, path)) <= 2
