"""A tenant whose runs wait already comes in slowly; nobody else does, and nobody waits at the door for ever."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from djp.mesh.errors import DjpError, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import run_pb2
from djp_gateway import door as door_module
from djp_gateway.door import Door


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pause of a flood lasts longer than any test."""
    monkeypatch.setattr(door_module, "_PAUSES", float("inf"))
    monkeypatch.setattr(door_module, "_MOST_S", 3600.0)


async def enter(door: Door, tenant: str, *, waits: bool) -> None:
    async with door.entered(tenant) as entry:
        entry.waits = waits


async def standing(door: Door, tenant: str, count: int = 1) -> list[asyncio.Task[None]]:
    """So many who wait in the tenant's line."""
    tasks = [asyncio.create_task(enter(door, tenant, waits=True)) for _ in range(count)]
    for _ in range(5):
        await asyncio.sleep(0)
    assert not any(task.done() for task in tasks)
    return tasks


@pytest.mark.usefixtures("held")
async def test_whose_runs_begin_at_once_is_never_kept() -> None:
    door = Door()
    for _ in range(100):
        await enter(door, "quiet", waits=False)
    await asyncio.gather(*(enter(door, "quiet", waits=False) for _ in range(100)))


@pytest.mark.usefixtures("held")
async def test_one_whose_run_waits_is_kept_and_others_are_not() -> None:
    door = Door()
    await enter(door, "flood", waits=True)
    (task,) = await standing(door, "flood")
    for tenant in ("other", "another"):
        await enter(door, tenant, waits=False)
    door.close()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(task, 60)


@pytest.mark.usefixtures("held")
async def test_once_a_run_has_begun_at_once_the_next_is_not_kept() -> None:
    door = Door()
    async with door.entered("t") as early:
        await enter(door, "t", waits=True)
        early.waits = False
    await enter(door, "t", waits=False)


@pytest.mark.usefixtures("held")
async def test_once_a_run_has_begun_at_once_all_who_stand_in_line_come_in() -> None:
    door = Door()
    async with door.entered("t") as early:
        await enter(door, "t", waits=True)
        tasks = await standing(door, "t", 5)
        early.waits = False
    await asyncio.wait_for(asyncio.gather(*tasks), 60)
    (task,) = await standing(door, "t")  # for theirs wait again
    task.cancel()


@pytest.mark.usefixtures("held")
async def test_a_run_that_is_refused_says_nothing_of_the_queue() -> None:
    door = Door()
    with pytest.raises(ValueError, match="bad"):
        async with door.entered("t"):
            raise ValueError("bad")
    await enter(door, "t", waits=True)  # which is not kept
    (task,) = await standing(door, "t")
    task.cancel()


async def test_all_who_wait_come_in_one_after_the_other_and_who_gives_up_leaves_the_line() -> None:
    door, came = Door(), []

    async def come(number: int) -> None:
        async with door.entered("flood") as entry:
            entry.waits = True
            came.append(number)

    await come(0)
    tasks = [asyncio.create_task(come(number)) for number in range(1, 30)]
    await asyncio.sleep(0)
    for task in tasks[::3]:  # the first of them included, which has its turn already
        task.cancel()
    await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 60)
    assert came == [0, *(number for number in range(1, 30) if number % 3 != 1)]


@pytest.mark.usefixtures("held")
async def test_who_stands_in_line_is_sent_away_when_the_gateway_stops() -> None:
    door = Door()
    await enter(door, "flood", waits=True)
    first, *others = await standing(door, "flood", 10)
    first.cancel()  # the one whose turn it was
    door.close()
    outcomes = await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 60)
    assert [type(one) for one in outcomes] == [Unavailable] * 9
    assert all(isinstance(one, DjpError) and one.retry_after_s for one in outcomes)


@pytest.mark.usefixtures("held")
async def test_another_tenants_run_begins_while_a_floods_line_is_held(mesh: Any, leaves: Any, until: Any) -> None:
    gateway = await mesh.gateway(per_tenant_max_concurrency=1)
    gate = leaves.hold("Debate")
    with identity_scope(Identity("flood")):
        assert (await gateway.start()).state == run_pb2.RUN_STATE_QUEUED
        await gate.entered.wait()
        await gateway.start()  # waits in the queue
        kept = [asyncio.create_task(gateway.start()) for _ in range(5)]
    with identity_scope(Identity("other")):
        run = await gateway.start()
        await until(lambda: len(leaves.requests("Debate")) == 2)
    assert {tenant for name, tenant, _ in leaves.asked if name == "Debate"} == {"flood", "other"}
    assert not any(task.done() for task in kept)
    for task in kept:
        task.cancel()
    gate.opened.set()
    with identity_scope(Identity("other")):
        assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
