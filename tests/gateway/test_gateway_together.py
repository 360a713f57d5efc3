"""What comes while something else is done is done together, in its order, and watchers are told from memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from djp.database import DatabaseAwayError
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, debate_pb2, governance_pb2, run_pb2
from djp_gateway.adapters.sql_queue import SqlRunQueue
from djp_gateway.adapters.sql_store import SqlRunStore
from djp_gateway.watching import Watchers
from djp_gateway.writing import Group, Writer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def numbered(*sequences: int) -> list[run_pb2.RunEvent]:
    return [run_pb2.RunEvent(sequence=sequence) for sequence in sequences]


async def test_what_comes_while_a_group_is_stored_is_the_next_group() -> None:
    stored: list[Group] = []
    entered, opened = asyncio.Event(), asyncio.Event()

    async def store(group: Group) -> None:
        entered.set()
        await opened.wait()
        stored.append(group)

    writer = Writer(store)
    writer.group().events.extend(numbered(1))
    await entered.wait()
    for sequence in (2, 3):
        writer.group().events.extend(numbered(sequence))
    opened.set()
    await writer.written()
    assert [[event.sequence for event in group.events] for group in stored] == [[1], [2, 3]]
    writer.group().events.extend(numbered(4))
    await writer.written()
    assert len(stored) == 3


async def test_after_one_that_failed_nothing_is_stored() -> None:
    stored = 0

    async def store(_group: Group) -> None:
        nonlocal stored
        stored += 1
        raise DatabaseAwayError("gone")

    writer = Writer(store)
    writer.group().events.extend(numbered(1))
    with pytest.raises(DatabaseAwayError):
        await writer.written()
    with pytest.raises(DatabaseAwayError):
        writer.group()
    await writer.close()
    assert stored == 1


async def test_who_is_cancelled_does_not_stop_what_is_being_stored() -> None:
    entered, opened, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def store(_group: Group) -> None:
        entered.set()
        await opened.wait()
        done.set()

    writer = Writer(store)
    writer.group()
    waiting = asyncio.create_task(writer.written())
    await entered.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    closing = asyncio.create_task(writer.close())
    opened.set()
    await closing
    assert done.is_set()
    with pytest.raises(RuntimeError):
        writer.group()


async def test_a_follower_that_missed_something_or_is_too_slow_is_behind() -> None:
    watchers = Watchers()
    with watchers.follower("run") as follower:
        follower.behind = False
        watchers.tell("run", numbered(1, 2))
        watchers.tell("run", numbered(3))
        assert follower.bell.is_set()
        assert [event.sequence for event in follower.take(1)] == [2, 3]
        assert not follower.take(3)
        assert not follower.behind
        watchers.tell("run", numbered(5))
        assert not follower.take(3)
        assert follower.behind
        follower.behind = False
        for sequence in range(1, 1002):
            watchers.tell("run", numbered(sequence))
        assert not follower.take(0)
        assert follower.behind
        follower.behind = False
        watchers.wake("run")
        assert follower.behind
    assert len(watchers) == 0


async def test_who_watches_a_run_here_reads_its_events_once(gateway: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real, reads = SqlRunStore.events_after, 0

    async def events_after(*args: Any) -> Any:
        nonlocal reads
        reads += 1
        return await real(*args)

    monkeypatch.setattr(SqlRunStore, "events_after", events_after)
    run = await gateway.start()
    events = await gateway.watch(run.run_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert events[-1].state.run.spec == run.spec
    assert reads == 1
    assert await gateway.watch(run.run_id) == events


async def test_what_a_leaf_says_while_a_draft_is_charged_is_kept_and_charged_together(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []
    real, said, charged = SqlRunStore.save, asyncio.Event(), asyncio.Event()

    async def save(
        self: Any, run: Any, events: Any, hidden: Any = None, checkpoints: Any = (), parked: Any = None
    ) -> None:
        if checkpoints:
            kept.append(len(checkpoints))
        await real(self, run, events, hidden, checkpoints, parked)

    async def first_waits(_request: Any) -> None:
        charged.set()
        await said.wait()

    async def debate(request: debate_pb2.DebateRequest) -> AsyncIterator[debate_pb2.DebateResponse]:
        drafts = []
        for place, debater in enumerate(request.debaters):
            draft = debate_pb2.Draft(
                draft_id=f"{debater.debater_id}-r1",
                debater_id=debater.debater_id,
                model=debater.model,
                round=1,
                text="x",
            )
            drafts.append(draft)
            call = common_pb2.ModelCall(
                call_id=f"00000000-0000-0000-0000-00000000000{place}",
                stage=common_pb2.STAGE_DEBATE,
                model=debater.model,
                cost_nano_usd=1,
                bound_nano_usd=2,
                attempt=1,
            )
            yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=draft, calls=[call]))
            await charged.wait()
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=drafts, rounds=1))
        said.set()

    monkeypatch.setattr(SqlRunStore, "save", save)
    leaves.debate, leaves.before["Charge"] = debate, first_waits
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    charges = [len(request.calls) for request in leaves.requests("Charge")]
    assert charges[0] == 1
    assert charges[1] == len(run.spec.debaters) - 1
    assert kept[:2] == [1, len(run.spec.debaters)]  # and that the debate has finished
    reservation = next(iter(leaves.reservations.values()))
    assert reservation.message.state == governance_pb2.RESERVATION_STATE_SETTLED


async def test_a_run_that_finds_a_place_is_claimed_by_nobody(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await mesh.gateway(max_workers=1)
    real, claims = SqlRunQueue.claim, []

    async def claim(*args: Any, **more: Any) -> Any:
        claimed = await real(*args, **more)
        if claimed:
            claims.append(claimed.run_id)
        return claimed

    monkeypatch.setattr(SqlRunQueue, "claim", claim)
    gate = leaves.hold("Debate")
    first = await gateway.start()
    await gate.entered.wait()
    second = await gateway.start()
    gate.opened.set()
    for run in (first, second):
        assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert claims == [second.run_id]


async def test_another_tenant_is_not_behind_a_flood_that_comes_in(
    gateway: Any, until: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, opened, under_way = SqlRunQueue.add, asyncio.Event(), 0

    async def add(self: SqlRunQueue, run: run_pb2.Run, **more: Any) -> Any:
        nonlocal under_way
        if run.tenant == "flood":
            under_way += 1
            await opened.wait()
        return await real(self, run, **more)

    monkeypatch.setattr(SqlRunQueue, "add", add)
    with identity_scope(Identity("flood")):
        flood = [asyncio.create_task(gateway.start()) for _ in range(40)]
    try:
        await until(lambda: under_way)
        with identity_scope(Identity("other")):
            assert (await gateway.do()).state == run_pb2.RUN_STATE_PUBLISHED
        assert under_way == 1
        for given_up in flood[20:]:
            given_up.cancel()
    finally:
        opened.set()
    assert len({run.run_id for run in await asyncio.gather(*flood[:20])}) == 20
