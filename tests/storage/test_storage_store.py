"""What every object store must do. A further adapter joins by one line in STORES."""

from __future__ import annotations

import asyncio
import hashlib
import os
import tracemalloc
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import pytest

from djp_storage.adapters.directory_store import DirectoryStore
from djp_storage.errors import ObjectMissing
from djp_storage.model import ArtifactKey, ObjectName, Tier

if TYPE_CHECKING:
    from pathlib import Path

    from djp_storage.ports import ObjectStore

STORES = {"directory": DirectoryStore}

NAME = ObjectName(Tier.HOT, ArtifactKey("acme", "w", "a.json"))


@pytest.fixture(params=STORES)
def store(request: Any, tmp_path: Path) -> ObjectStore:
    made: ObjectStore = STORES[request.param](tmp_path / "objects")
    return made


async def put(store: ObjectStore, content: bytes, name: ObjectName = NAME) -> None:
    async with store.upload() as upload:
        await upload.write(content)
        await upload.flush()
        await upload.place(name)


async def get(store: ObjectStore, name: ObjectName = NAME) -> bytes:
    async with aclosing(store.read(name)) as chunks:
        return b"".join([chunk async for chunk in chunks])


async def missing(store: ObjectStore, name: ObjectName = NAME) -> bool:
    try:
        await get(store, name)
    except ObjectMissing:
        return True
    return False


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1, 3 * 2**20])
async def test_bytes_come_back(store: ObjectStore, size: int) -> None:
    content = os.urandom(size)
    async with store.upload() as upload:
        for at in range(0, size, 700_000):
            await upload.write(content[at : at + 700_000])
        assert upload.size == size
        assert upload.sha256 == hashlib.sha256(content).hexdigest()
        await upload.flush()
        assert await missing(store)
        await upload.place(NAME)
        assert await get(store) == content
    assert await get(store) == content


async def test_an_upload_that_was_not_placed_is_gone(store: ObjectStore) -> None:
    with pytest.raises(ZeroDivisionError):
        async with store.upload() as upload:
            await upload.write(b"x")
            await upload.flush()
            raise ZeroDivisionError
    assert await missing(store)
    assert await store.clean() == 0


async def test_what_is_not_there_is_told_with_its_place(store: ObjectStore) -> None:
    with pytest.raises(ObjectMissing) as caught:
        await get(store)
    assert store.location(NAME) in caught.value.message


async def test_names_are_apart(store: ObjectStore) -> None:
    names = [
        ObjectName(tier, ArtifactKey(tenant, workflow, artifact))
        for tier in Tier
        for tenant in ("t", "u")
        for workflow in ("w", "W", "a.json")
        for artifact in ("a.json", "A.json", "w")
    ]
    for name in names:
        await put(store, repr(name).encode(), name)
    for name in names:
        assert await get(store, name) == repr(name).encode()
    assert len({store.location(name).lower() for name in names}) == len(names)


async def test_an_object_is_replaced_whole_or_not_at_all(store: ObjectStore) -> None:
    await put(store, b"old" * 10**6)
    async with aclosing(store.read(NAME)) as chunks:
        first = await anext(chunks)
        await put(store, b"new" * 10**6)
        rest = [chunk async for chunk in chunks]
    assert b"".join([first, *rest]) == b"old" * 10**6
    assert await get(store) == b"new" * 10**6


async def test_placing_the_same_bytes_again_changes_nothing(store: ObjectStore) -> None:
    await put(store, b"same")
    await put(store, b"same")
    assert await get(store) == b"same"


async def test_many_at_once(store: ObjectStore) -> None:
    names = [ObjectName(Tier.HOT, ArtifactKey("t", "w", str(n))) for n in range(40)]
    await asyncio.gather(*(put(store, name.key.artifact.encode() * 1000, name) for name in names))
    got = await asyncio.gather(*(get(store, name) for name in names))
    assert got == [name.key.artifact.encode() * 1000 for name in names]


async def test_clean_leaves_the_living_alone(store: ObjectStore) -> None:
    async with store.upload() as upload:
        await upload.write(b"text")
        assert await store.clean() == 0
        await upload.flush()
        await upload.place(NAME)
    assert await store.clean() == 0
    assert await get(store) == b"text"


@pytest.mark.parametrize("step", ["upload", "write", "flush", "place"])
async def test_a_cancelled_step_leaves_all_or_nothing(store: ObjectStore, step: str) -> None:
    reached = asyncio.Event()

    def reach(now: str) -> None:
        if now == step:
            reached.set()

    async def put_slowly() -> None:
        reach("upload")
        async with store.upload() as upload:
            reach("write")
            await upload.write(b"x" * 10**6)
            reach("flush")
            await upload.flush()
            reach("place")
            await upload.place(NAME)

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
        async with store.upload() as upload:
            for _ in range(64):
                await upload.write(chunk)
            await upload.flush()
            await upload.place(NAME)
        size = 0
        async with aclosing(store.read(NAME)) as chunks:
            async for part in chunks:
                size += len(part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 64 * 2**20
    assert peak < 8 * 2**20
