"""What every object store must do: a folder, and a real MinIO."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tracemalloc
import uuid
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.errors import ObjectMissing
from djp_storage.model import ArtifactKey, ObjectName, Tier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp_storage.ports import ObjectStore

KEY = ArtifactKey("acme", "w", "a.json")
NAME = ObjectName(Tier.HOT, KEY, "0123456789ab")
DESCRIPTION = '{"tags":{"a":"\\u00fc  of  two"}}'


@pytest.fixture(params=["directory", "s3"])
async def store(request: Any, tmp_path: Path) -> AsyncIterator[ObjectStore]:
    made: ObjectStore = (
        DirectoryStore(tmp_path / "objects")
        if request.param == "directory"
        else request.getfixturevalue("make_s3_store")()
    )
    yield made
    await made.close()


def another(tier: Tier = Tier.HOT, key: ArtifactKey = KEY) -> ObjectName:
    return ObjectName(tier, key, uuid.uuid4().hex[:12])


async def put(store: ObjectStore, content: bytes, name: ObjectName = NAME, description: str = DESCRIPTION) -> None:
    async with store.upload(name) as upload:
        for at in range(0, len(content), 700_000):
            await upload.write(content[at : at + 700_000])
        await upload.place(description)


async def listed(store: ObjectStore, tier: Tier = Tier.HOT) -> list[tuple[str, int]]:
    return [(one.path, one.size) async for one in store.objects(tier)]


async def get(store: ObjectStore, name: ObjectName = NAME) -> bytes:
    async with aclosing(store.read(name)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def missing(store: ObjectStore, name: ObjectName = NAME) -> bool:
    try:
        await get(store, name)
    except ObjectMissing:
        return True
    return False


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 5 * 2**20, 5 * 2**20 + 1, 12 * 2**20])
async def test_bytes_come_back(store: ObjectStore, size: int) -> None:
    content = os.urandom(size)
    async with store.upload(NAME) as upload:
        for at in range(0, size, 700_000):
            await upload.write(content[at : at + 700_000])
        assert upload.size == size
        assert upload.sha256 == hashlib.sha256(content).hexdigest()
        assert await missing(store)
        await upload.place(DESCRIPTION)
        assert await get(store) == content
    assert await get(store) == content


@pytest.mark.parametrize("size", [1, 17])
async def test_an_upload_that_was_not_placed_is_gone(store: ObjectStore, size: int) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.upload(NAME) as upload:
            for _ in range(size):
                await upload.write(b"x" * 2**20)
            raise ZeroDivisionError
    assert await missing(store)
    assert await store.clean() == 0


async def test_what_is_not_there_is_told_with_its_place(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing) as caught:
        await get(store)
    assert store.location(NAME) in caught.value.message


async def test_names_are_apart(store: ObjectStore) -> None:
    names = [
        ObjectName(tier, ArtifactKey(tenant, workflow, artifact), object_id)
        for tier in Tier
        for tenant in ("t", "u")
        for workflow in ("w", "W", "a.json")
        for artifact in ("a.json", "A.json", "w")
        for object_id in ("", "0123456789ab")
    ]
    for name in names:
        await put(store, repr(name).encode(), name)
    for name in names:
        assert await get(store, name) == repr(name).encode()
    assert len({store.location(name).lower() for name in names}) == len(names)


async def test_a_copy_is_the_same_and_lives_alone(store: ObjectStore) -> None:
    for size in (0, 10, 6 * 2**20):
        content, source = os.urandom(size), another()
        await put(store, content, source)
        await store.copy(source, long := another(), "d" * 5000)
        assert await store.description(Tier.HOT, store.path(long)) == "d" * 5000
        for tier in Tier:
            copy = another(tier)
            await store.copy(source, copy, DESCRIPTION)
            await store.copy(source, copy, DESCRIPTION)  # as after a crash
            assert await get(store, copy) == content
            assert await store.description(tier, store.path(copy)) == DESCRIPTION
        await store.remove(source)
        assert await get(store, copy) == content
        assert await store.description(copy.tier, store.path(copy)) == DESCRIPTION


async def test_what_is_not_there_cannot_be_copied(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing):
        await store.copy(NAME, missing := another(), DESCRIPTION)
    await store.remove(missing)
    assert await listed(store) == []


async def test_removing_leaves_nothing_and_may_be_done_again(store: ObjectStore) -> None:
    await put(store, b"text")
    await put(store, b"text", long := another(), "x" * 5000)
    for name in (NAME, long, NAME, another(Tier.COLD)):
        await store.remove(name)
    assert await missing(store)
    assert await listed(store) == []
    with pytest.raises(ObjectMissing):
        await store.description(Tier.HOT, store.path(NAME))


async def test_objects_are_listed_without_their_descriptions(store: ObjectStore) -> None:
    names = [another(key=ArtifactKey("t", f"w{n % 3}", f"Ü {n}")) for n in range(9)]
    for n, name in enumerate(names):
        await put(store, b"x" * n, name, "d" * (5000 if n % 2 else 10))
    await put(store, b"x" * 3, another(Tier.WARM))
    assert sorted(await listed(store)) == sorted((store.path(name), n) for n, name in enumerate(names))
    assert len(await listed(store, Tier.WARM)) == 1
    assert await listed(store, Tier.TRASH) == []
    for n, name in enumerate(names):
        assert await store.description(Tier.HOT, store.path(name)) == "d" * (5000 if n % 2 else 10)


async def test_many_at_once(store: ObjectStore) -> None:
    names = [another(key=ArtifactKey("t", "w", str(n))) for n in range(40)]
    await asyncio.gather(*(put(store, name.key.artifact.encode() * 1000, name) for name in names))
    got = await asyncio.gather(*(get(store, name) for name in names))
    assert got == [name.key.artifact.encode() * 1000 for name in names]


async def test_clean_leaves_the_living_alone(store: ObjectStore) -> None:
    async with store.upload(NAME) as upload:
        await upload.write(b"text")
        assert await store.clean() == 0
        await upload.place(DESCRIPTION)
    assert await store.clean() == 0
    assert await get(store) == b"text"


@pytest.mark.parametrize("step", ["upload", "write", "place"])
async def test_a_cancelled_step_leaves_all_or_nothing(store: ObjectStore, step: str) -> None:
    reached = asyncio.Event()

    def reach(now: str) -> None:
        if now == step:
            reached.set()

    async def put_slowly() -> None:
        reach("upload")
        async with store.upload(NAME) as upload:
            reach("write")
            await upload.write(b"x" * 10**6)
            reach("place")
            await upload.place(DESCRIPTION)

    task = asyncio.create_task(put_slowly())
    await reached.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await store.clean() == 0
    if not await missing(store):
        assert step == "place"
        assert await get(store) == b"x" * 10**6


async def test_memory_does_not_grow_with_the_object(store: ObjectStore) -> None:
    chunk = os.urandom(2**20)
    tracemalloc.start()
    try:
        async with store.upload(NAME) as upload:
            for _ in range(64):
                await upload.write(chunk)
            await upload.place(DESCRIPTION)
        size = 0
        async with aclosing(store.read(NAME)) as chunks:
            async for part in chunks:
                size += len(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 * 2**20
    assert peak < (8 if isinstance(store, DirectoryStore) else 32) * 2**20


async def test_a_batch_has_the_objects_whose_ids_begin_like_it(store: ObjectStore) -> None:
    keys = [ArtifactKey("t\u00e4", "w", artifact) for artifact in ("a.json", "\u00dc" * 200, "0123450123ab-x", ".dot")]
    names = [ObjectName(Tier.HOT, key, f"0123450000{n:02x}") for n, key in enumerate(keys)]
    for name in names:
        artifact = {"tenant": name.key.tenant, "workflow": name.key.workflow, "artifact": name.key.artifact}
        await put(store, b"text", name, json.dumps(artifact | {"tags": "d" * (5000 if name is names[0] else 0)}))
    await put(store, b"text", replace(names[0], object_id="012346000000"))
    await put(store, b"text", replace(names[0], tier=Tier.WARM))
    await put(store, b"text", replace(names[0], key=ArtifactKey("t\u00e4", "w2", "a.json")))
    await put(store, b"text", replace(names[0], key=ArtifactKey("t\u00e4", "w", "012345.json"), object_id=""))
    assert set(await store.made(names[0].batch)) == set(names)
    for name in names:
        await store.remove(name)
    assert await store.made(names[0].batch) == []
    assert len(await listed(store)) == 3
