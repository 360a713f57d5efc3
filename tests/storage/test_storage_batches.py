"""Batches of names: what a process makes of them is an artifact's or is removed, whoever dies or does not answer."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa

from djp.mesh.errors import AlreadyExists, InvalidInput, Unavailable
from djp_storage import worker
from djp_storage.description import describe
from djp_storage.model import ArtifactHeader, ArtifactKey, Filter, ObjectName, Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(params=["embedded", "cluster"])
def deployment(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def opened(whereabouts: Any, clock: Any) -> AsyncIterator[Any]:
    """Opens the service's parts, any number of times at once."""
    async with AsyncExitStack() as stack:
        yield lambda: stack.enter_async_context(open_parts(StorageSettings(**whereabouts, lease_s=1), clock))


async def text(content: bytes = b"text") -> AsyncIterator[bytes]:
    yield content


async def put(parts: Any, artifact: str, content: bytes = b"text", workflow: str = "w") -> Any:
    header = ArtifactHeader(ArtifactKey("acme", workflow, artifact))
    return await parts.artifacts.put(header, str(uuid.uuid4()), text(content))


async def objects(parts: Any) -> set[str]:
    return {f"{tier}/{one.path}" for tier in Tier async for one in parts.store.objects(tier)}


async def artifacts(parts: Any) -> set[str]:
    page = await parts.artifacts.list("acme", Filter(), size=1000, token="", largest_first=False)
    return {f"{one.tier}/{parts.store.path(one.object_name)}" for one in page.artifacts}


async def quiet(parts: Any) -> None:
    """Wait until it has done what it put off."""
    while parts.worker._later:
        await asyncio.wait(set(parts.worker._later))


async def announced(parts: Any) -> Any:
    return await parts.catalogue.strays_of(parts.worker.id)


async def test_puts_share_a_batch_until_it_is_used_up(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "_OF_A_BATCH", 4)
    parts = await opened()
    first = await put(parts, "0")
    assert await announced(parts) == [first.object_name.batch]
    made = [first, *(await asyncio.gather(*(put(parts, str(n)) for n in range(1, 10))))]
    ids = {one.object_id for one in made}
    assert len(ids) == 10
    assert len({one.object_name.batch for one in made}) == 3
    await parts.worker.sweep()
    (left,) = await announced(parts)
    await put(parts, "another", workflow="other")
    assert {one.key.workflow for one in await announced(parts)} == {"w", "other"}
    for _ in range(2):  # nothing is made of them any more
        await parts.worker.sweep()
    assert await announced(parts) == []
    assert left in {one.object_name.batch for one in made}
    assert len(await objects(parts)) == 11
    assert await objects(parts) == await artifacts(parts)


async def test_a_name_that_another_process_has_announced_is_not_taken(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = iter(["aaaaaa", "aaaaaa", "aaaaaa", "bbbbbb"])
    monkeypatch.setattr(worker.secrets, "token_hex", lambda _: next(tokens))
    one, other = await opened(), await opened()
    assert (await put(one, "a")).object_id.startswith("aaaaaa")
    assert (await put(other, "b")).object_id.startswith("bbbbbb")
    assert [name.object_id for name in await announced(one)] == ["aaaaaa"]


@pytest.mark.parametrize("counts", [True, False])
@pytest.mark.parametrize("error", [Unavailable("no answer"), ZeroDivisionError(), asyncio.CancelledError()])
async def test_what_the_catalogue_did_not_answer_counts(
    opened: Any, monkeypatch: pytest.MonkeyPatch, error: BaseException, counts: bool
) -> None:
    parts = await opened()
    before = await put(parts, "before")
    add = parts.catalogue.add

    async def unanswered(*given: Any) -> Any:
        if counts:
            await add(*given)
        raise error

    with monkeypatch.context() as patched, pytest.raises(type(error)):
        patched.setattr(parts.catalogue, "add", unanswered)
        await put(parts, "doubtful")
    await quiet(parts)
    assert len(await objects(parts)) == 2
    assert await objects(parts) == await artifacts(parts)
    assert (await put(parts, "doubtful")).key.artifact == "doubtful"
    await parts.worker.sweep()
    assert not await parts.catalogue.known([before.object_name]), "its batch has ended"
    after = await put(parts, "after")
    assert after.object_name.batch != before.object_name.batch
    assert await objects(parts) == await artifacts(parts)


async def test_others_of_a_doubtful_batch_are_finished_first(opened: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = await opened()
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slowly() -> AsyncIterator[bytes]:
        begun.set()
        await go_on.wait()
        yield b"text"

    header = ArtifactHeader(ArtifactKey("acme", "w", "slow"))
    slow = asyncio.create_task(parts.artifacts.put(header, str(uuid.uuid4()), slowly()))
    await begun.wait()

    async def unanswered(*_: Any) -> Any:
        raise Unavailable("no answer")

    with monkeypatch.context() as patched, pytest.raises(Unavailable):
        patched.setattr(parts.catalogue, "add", unanswered)
        await put(parts, "doubtful")
    await parts.worker.sweep()
    assert len(await objects(parts)) == 1
    assert await artifacts(parts) == set()
    go_on.set()
    await slow
    await quiet(parts)
    assert len(await objects(parts)) == 2
    assert await objects(parts) == await artifacts(parts)


async def test_what_was_refused_is_removed_and_its_batch_goes_on(opened: Any) -> None:
    parts = await opened()
    batch = (await put(parts, "a")).object_name.batch
    with pytest.raises(AlreadyExists):
        await put(parts, "a", b"other")
    with pytest.raises(InvalidInput):
        await parts.artifacts.put(ArtifactHeader(ArtifactKey("acme", "w", "b"), sha256=""), "x", too_much(parts))
    assert (await put(parts, "a")).object_name.batch == batch  # the same again: its object is not needed
    await quiet(parts)
    assert len(await objects(parts)) == 1
    assert (await put(parts, "c")).object_name.batch == batch


async def too_much(parts: Any) -> AsyncIterator[bytes]:
    parts.artifacts._max_bytes = 10
    yield b"text"
    yield b"more than that"


async def test_what_a_dead_process_left_of_a_batch_is_removed_and_its_artifacts_stay(opened: Any, clock: Any) -> None:
    dead, other = await opened(), await opened()
    kept = [await put(dead, str(n)) for n in range(3)]
    moved = await dead.moves.move(kept[0], Tier.WARM, "promoted_to_warm", dead.artifacts.by(""))
    await dead.worker.forget()
    async with dead.worker.making(Tier.WARM, kept[1].key) as making:
        copy = replace(kept[1], tier=Tier.WARM, object_id=making.name.object_id)
        await dead.store.copy(kept[1].object_name, making.name, describe(copy))
        assert await other.worker.sweep() == 0
        assert len(await objects(other)) == 4
        assert await other.catalogue.known([making.name])
        clock.turn(seconds=10)
        await other.worker.beat()
        assert await other.worker.sweep() == 2  # in the hot tier and in the warm one
        assert await objects(other) == await artifacts(other)
        assert len(await objects(other)) == 3
        assert f"warm/{other.store.path(moved.object_name)}" in await objects(other)
        making.kept = True  # so that the dead does nothing more
    with pytest.raises(Unavailable, match="so long"):
        await put(dead, "late")
    await put(dead, "late")  # it has announced that it lives, and another batch
    await quiet(dead)
    assert await objects(other) == await artifacts(other)
    assert len(await objects(other)) == 4


async def test_a_store_that_refuses_does_not_let_a_left_over_be_forgotten(
    opened: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = await opened()

    async def refuses(*_: Any) -> Any:
        raise Unavailable("no")

    with monkeypatch.context() as patched, pytest.raises(AlreadyExists):
        await put(parts, "a")
        patched.setattr(parts.store, "remove", refuses)
        await put(parts, "a", b"other")
        pytest.fail("it was taken")
    with monkeypatch.context() as patched:
        patched.setattr(parts.store, "remove", refuses)
        await quiet(parts)
        await parts.worker.sweep()
    assert len(await objects(parts)) == 2
    await parts.worker.sweep()
    assert await objects(parts) == await artifacts(parts)


@pytest.mark.parametrize("artifact", ["a", "\u00dc" * 200])
async def test_a_catalogue_of_before_gets_back_what_was_put_and_moved_after(
    opened: Any, clock: Any, whereabouts: Any, artifact: str
) -> None:
    """As after a restore: the batches of a process that worked then are known, what it made of them later is not."""
    dead = await opened()
    before = [await put(dead, f"{n}") for n in range(3)]
    put_later = await put(dead, artifact)
    copies = [await dead.moves.move(one, Tier.WARM, "promoted_to_warm", dead.artifacts.by("")) for one in before]
    await put(dead, "other", workflow="other")
    await dead.worker.forget()
    engine = sa.create_engine(whereabouts["database_url"].replace("+aiosqlite", ""))
    with engine.begin() as connection:
        connection.execute(sa.text("DELETE FROM artifacts WHERE artifact = :name"), {"name": artifact})
        for was in before:
            values = {"object_id": was.object_id, "artifact": was.key.artifact}
            connection.execute(
                sa.text("UPDATE artifacts SET tier = 'hot', object_id = :object_id WHERE artifact = :artifact"), values
            )
    engine.dispose()
    other = await opened()
    clock.turn(seconds=10)
    await other.worker.beat()
    await other.worker.sweep()
    assert await objects(other) == await artifacts(other)
    for one in [*copies, put_later]:
        assert (await other.artifacts.stat(one.key)).object_name == one.object_name
    assert [chunk async for chunk in other.artifacts.read(await other.artifacts.stat(put_later.key))] == [b"text"]


async def test_a_copy_that_comes_after_others_have_looked_is_removed_whatever_fails_first(
    opened: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, other = await opened(), await opened()
    artifact = await put(slow, "a")

    async def refuses(*_: Any) -> Any:
        raise Unavailable("no")

    copy = slow.store.copy

    async def copy_late(*given: Any) -> None:
        clock.turn(seconds=10)
        await other.worker.beat()
        await other.worker.sweep()
        await copy(*given)

    with monkeypatch.context() as patched:
        patched.setattr(slow.store, "copy", copy_late)
        patched.setattr(slow.store, "made", refuses)
        with pytest.raises(Unavailable, match="so long"):
            await slow.moves.move(artifact, Tier.WARM, "promoted_to_warm", slow.artifacts.by(""))
        await quiet(slow)
        assert len(await objects(other)) == 2
    await slow.worker.sweep()
    assert await objects(other) == await artifacts(other)
    assert len(await objects(other)) == 1
    for name in (ObjectName(Tier.WARM, artifact.key), artifact.object_name):
        assert not await other.catalogue.known([name])
