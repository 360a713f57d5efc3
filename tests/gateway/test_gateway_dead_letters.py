"""Dead letters: kept with their reason, replayed exactly once and paced, forgotten when asked."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.errors import ResourceExhausted
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.times import to_timestamp
from djp.v1 import common_pb2, dead_letter_pb2, dead_letter_pb2_grpc, governance_pb2, run_pb2
from tests.gateway.test_gateway_requests import refused

if TYPE_CHECKING:
    from collections.abc import Sequence

DENIED = common_pb2.ERROR_REASON_BUDGET_EXCEEDED


def letters(gateway: Any) -> Any:
    return dead_letter_pb2_grpc.DeadLetterServiceStub(gateway.channel)


async def listed(gateway: Any, **fields: Any) -> list[dead_letter_pb2.DeadLetter]:
    wanted = dead_letter_pb2.DeadLetterFilter(**fields)
    request = dead_letter_pb2.ListDeadLettersRequest(filter=wanted)
    return list((await letters(gateway).ListDeadLetters(request)).dead_letters)


async def replay(gateway: Any, request_id: str = "", **fields: Any) -> dead_letter_pb2.ReplayDeadLettersResponse:
    wanted = dead_letter_pb2.DeadLetterFilter(**fields)
    request = dead_letter_pb2.ReplayDeadLettersRequest(request_id=request_id or str(uuid.uuid4()), filter=wanted)
    answer: dead_letter_pb2.ReplayDeadLettersResponse = await letters(gateway).ReplayDeadLetters(request)
    return answer


async def denied(gateway: Any, leaves: Any, count: int = 1, **fields: Any) -> list[run_pb2.Run]:
    """Runs that a budget refused."""
    leaves.fail("Reserve", ResourceExhausted("the day is full", reason="BUDGET_EXCEEDED"))
    runs = [await gateway.do(**fields) for _ in range(count)]
    assert {run.state for run in runs} == {run_pb2.RUN_STATE_DENIED}
    del leaves.before["Reserve"]
    return runs


def limit(leaves: Any, nano_usd: int, resets_in: timedelta = timedelta(hours=5)) -> None:
    """The tenant's day has that limit."""
    window = governance_pb2.BudgetWindow(scope="tenant:default", limit_nano_usd=nano_usd)
    window.starts_at.CopyFrom(to_timestamp(datetime.now(UTC) - timedelta(hours=1)))
    window.resets_at.CopyFrom(to_timestamp(datetime.now(UTC) + resets_in))
    leaves.windows = [window]


async def finished(gateway: Any, run_ids: Sequence[str]) -> list[run_pb2.Run]:
    return [await gateway.finish(run_id) for run_id in run_ids]


async def test_a_denied_run_is_kept_with_its_reason_and_replayed_once(gateway: Any, leaves: Any) -> None:
    (dead,) = await denied(gateway, leaves)
    (letter,) = await listed(gateway)
    assert (letter.dead_letter_id, letter.run_id, letter.tenant) == (dead.run_id, dead.run_id, "default")
    assert letter.error == dead.error
    assert letter.created_at == dead.finished_at
    answer = await replay(gateway)
    assert (answer.queued, answer.already_replayed) == (1, 0)
    (again,) = await finished(gateway, answer.run_ids)
    assert again.state == run_pb2.RUN_STATE_PUBLISHED
    assert again.spec == dead.spec
    assert again.replay.run_id == dead.run_id
    assert await listed(gateway) == []
    (letter,) = await listed(gateway, include_replayed=True)
    assert letter.replayed_as == again.run_id
    assert letter.HasField("replayed_at")
    second = await replay(gateway)
    assert (second.queued, second.already_replayed, list(second.run_ids)) == (0, 1, [again.run_id])
    assert await gateway.get(dead.run_id) == dead


async def test_only_what_fits_is_listed_and_replayed(gateway: Any, leaves: Any) -> None:
    first, second = await denied(gateway, leaves, 2)
    leaves.disqualify = {}
    leaves.fail("Search", ResourceExhausted("too much", reason="DISK_FULL"))
    leaves.before["Judge"] = leaves.before.pop("Search")
    failed = await gateway.do()
    del leaves.before["Judge"]
    await gateway.do()  # was published, so it is none
    assert [one.run_id for one in await listed(gateway)] == [failed.run_id, second.run_id, first.run_id]
    assert [one.run_id for one in await listed(gateway, reason=DENIED)] == [second.run_id, first.run_id]
    since = common_pb2.TimeRange(since=second.finished_at)
    assert [one.run_id for one in await listed(gateway, created=since)] == [failed.run_id, second.run_id]
    answer = await replay(gateway, dead_letter_ids=[first.run_id, str(uuid.uuid4())])
    assert answer.queued == 1
    assert (await replay(gateway, reason=DENIED)).queued == 1
    assert [one.run_id for one in await listed(gateway)] == [failed.run_id]


async def test_however_many_replay_at_once_each_is_published_once(mesh: Any, leaves: Any) -> None:
    gateway, other = await mesh.gateway(), await mesh.gateway(executor_id="other")
    dead = await denied(gateway, leaves, 6)
    answers = await asyncio.gather(*(replay(one) for one in (gateway, other) * 4))
    assert sum(answer.queued for answer in answers) == 6
    runs = await finished(gateway, sorted({run_id for answer in answers for run_id in answer.run_ids}))
    assert sorted(run.replay.run_id for run in runs) == sorted(run.run_id for run in dead)
    assert {run.state for run in runs} == {run_pb2.RUN_STATE_PUBLISHED}
    assert len(leaves.artifacts) == 6


async def test_a_gateway_that_stops_in_between_loses_and_doubles_nothing(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    dead = await denied(first, leaves, 4)
    gate = leaves.hold("Debate")
    answer = await replay(first)
    await gate.entered.wait()
    await first.close()
    del leaves.before["Debate"]
    second = await mesh.gateway(executor_id="second")
    assert (await replay(second)).queued == 0
    runs = await finished(second, answer.run_ids)
    assert {run.state for run in runs} == {run_pb2.RUN_STATE_PUBLISHED}
    assert len(leaves.artifacts) == len(dead)


async def test_replays_use_half_of_a_window_and_the_rest_waits_for_the_next(mesh: Any, leaves: Any) -> None:
    gateway = await mesh.gateway(per_tenant_max_concurrency=1)
    await denied(gateway, leaves, 4)
    limit(leaves, 30_000, timedelta(hours=5))  # a run is projected at 9,000 and costs 3,506: half of it takes two
    answer = await replay(gateway)
    parked = []
    for run_id in answer.run_ids:
        states = []
        async for told in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run_id)):
            states.append(told.event.state.state)
            if states[-1] in (run_pb2.RUN_STATE_QUEUED, run_pb2.RUN_STATE_PUBLISHED):
                break
        parked.append(states[-1] == run_pb2.RUN_STATE_QUEUED)
    assert parked == [False, False, True, True]
    waiting = await gateway.get(answer.run_ids[2])
    assert any("have used their share of the budget" in warning for warning in waiting.warnings)
    assert len(leaves.reservations) == 2
    assert (await gateway.do()).state == run_pb2.RUN_STATE_PUBLISHED  # who is new is not held up
    limit(leaves, 1, timedelta(hours=-1))


async def test_a_parked_replay_starts_when_the_window_resets(mesh: Any, leaves: Any) -> None:
    gateway = await mesh.gateway(per_tenant_max_concurrency=1)
    await denied(gateway, leaves, 2)
    limit(leaves, 10_000, timedelta(seconds=0.3))
    answer = await replay(gateway)
    first = await gateway.finish(answer.run_ids[0])
    assert first.state == run_pb2.RUN_STATE_PUBLISHED
    leaves.windows[0].starts_at.CopyFrom(to_timestamp(datetime.now(UTC)))  # the next window
    assert (await gateway.finish(answer.run_ids[1])).state == run_pb2.RUN_STATE_PUBLISHED


async def test_purged_letters_are_gone_and_their_runs_stay(gateway: Any, leaves: Any) -> None:
    first, second = await denied(gateway, leaves, 2)
    wanted = dead_letter_pb2.DeadLetterFilter(dead_letter_ids=[first.run_id])
    request = dead_letter_pb2.PurgeDeadLettersRequest(request_id=str(uuid.uuid4()), filter=wanted)
    for _ in range(2):
        assert (await letters(gateway).PurgeDeadLetters(request)).purged == 1  # the first answer
    assert [one.run_id for one in await listed(gateway)] == [second.run_id]
    async with refused("NOT_FOUND"):
        await letters(gateway).GetDeadLetter(dead_letter_pb2.GetDeadLetterRequest(dead_letter_id=first.run_id))
    assert await gateway.get(first.run_id) == first
    request.filter.CopyFrom(dead_letter_pb2.DeadLetterFilter())
    async with refused("ALREADY_EXISTS"):
        await letters(gateway).PurgeDeadLetters(request)


async def test_the_same_request_gets_the_first_answer(gateway: Any, leaves: Any) -> None:
    await denied(gateway, leaves)
    request_id = str(uuid.uuid4())
    first = await replay(gateway, request_id)
    assert await replay(gateway, request_id) == first
    assert first.queued == 1
    async with refused("ALREADY_EXISTS"):
        await replay(gateway, request_id, reason=DENIED)


async def test_another_tenants_letters_are_not_there(gateway: Any, leaves: Any) -> None:
    (dead,) = await denied(gateway, leaves)
    with identity_scope(Identity(tenant="other")):
        assert await listed(gateway) == []
        assert (await replay(gateway)).queued == 0
        assert (await replay(gateway, dead_letter_ids=[dead.run_id])).queued == 0
        async with refused("NOT_FOUND"):
            await letters(gateway).GetDeadLetter(dead_letter_pb2.GetDeadLetterRequest(dead_letter_id=dead.run_id))
        purge = dead_letter_pb2.PurgeDeadLettersRequest(request_id=str(uuid.uuid4()))
        assert (await letters(gateway).PurgeDeadLetters(purge)).purged == 0
    found = await letters(gateway).GetDeadLetter(dead_letter_pb2.GetDeadLetterRequest(dead_letter_id=dead.run_id))
    assert found.run == dead


async def test_pages_hold_every_letter_once(gateway: Any, leaves: Any) -> None:
    dead = await denied(gateway, leaves, 5)
    seen: list[str] = []
    token = ""
    while True:
        page = await letters(gateway).ListDeadLetters(
            dead_letter_pb2.ListDeadLettersRequest(page_size=2, page_token=token)
        )
        seen += [one.run_id for one in page.dead_letters]
        token = page.next_page_token
        if not token:
            break
    assert seen == [run.run_id for run in reversed(dead)]
    async with refused("INVALID_ARGUMENT"):
        await letters(gateway).ListDeadLetters(dead_letter_pb2.ListDeadLettersRequest(page_token="no token"))


@pytest.mark.parametrize("state", ["published", "cancelled"])
async def test_what_ended_otherwise_is_no_dead_letter(gateway: Any, leaves: Any, state: str) -> None:
    run = await gateway.start()
    if state == "cancelled":
        await gateway.runs.CancelRun(run_pb2.CancelRunRequest(request_id=str(uuid.uuid4()), run_id=run.run_id))
    await gateway.finish(run.run_id)
    assert await listed(gateway, include_replayed=True) == []
