"""Batches: every row is checked before the first is run, each is run once, and a cap is never passed."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.client import connect
from djp.mesh.errors import Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import batch_pb2, run_pb2
from tests.gateway import batches
from tests.gateway.batches import BOUND, COST, all_runs, get, listed, order, refused, rested, rows, start, stub, watched
from tests.gateway.test_gateway_durable import killable
from tests.governance.ledger_postgres import new_postgres

if TYPE_CHECKING:
    from collections.abc import Callable

    from djp.client import DjpClient

PUBLISHED = run_pb2.RUN_STATE_PUBLISHED


async def test_every_row_is_a_run_and_a_watcher_hears_of_each(gateway: Any) -> None:
    begun = await start(gateway, rows(7), concurrency=2)
    assert begun.state == batch_pb2.BATCH_STATE_CHECKING
    assert (begun.rows, begun.queued, begun.concurrency) == (7, 7, 2)
    told = await watched(gateway)
    batch = told[-1].batch
    assert batch.state == batch_pb2.BATCH_STATE_FINISHED
    assert (batch.published, batch.queued, batch.running, batch.held_nano_usd) == (7, 0, 0, 0)
    assert batch.cost_nano_usd == 7 * COST
    assert batch.HasField("finished_at")
    numbers = [answer.sequence for answer in told if answer.HasField("row")]
    assert numbers == sorted(set(numbers))
    last = {answer.row.row: answer.row for answer in told if answer.HasField("row")}
    assert {number: row.state for number, row in last.items()} == dict.fromkeys(range(1, 8), PUBLISHED)
    assert [answer.sequence for answer in await watched(gateway, after=numbers[-2])] == [numbers[-1], 0]
    found = await listed(gateway)
    assert [row.run.task for row in found] == [request.task for request in rows(7)]
    assert [(row.run_id, row.cost_nano_usd, row.bound_nano_usd) for row in found] == [
        (last[row.row].run_id, COST, BOUND) for row in found
    ]
    run = await gateway.get(found[2].run_id)
    assert dict(run.spec.tags) == {"batch": "b", "row": "3"}
    assert len(await all_runs(gateway)) == 7


async def test_no_more_rows_run_at_once_than_ordered(gateway: Any, leaves: Any, until: Callable[..., Any]) -> None:
    gate = leaves.hold("Debate")
    await start(gateway, rows(6), concurrency=2)
    await until(lambda: len(leaves.requests("Debate")) == 2)
    batch = await get(gateway)
    assert (batch.running, batch.queued, batch.held_nano_usd) == (2, 4, 2 * BOUND)
    gate.opened.set()
    assert (await rested(gateway)).published == 6


async def test_bad_rows_are_told_each_and_nothing_is_started(gateway: Any) -> None:
    bad = [*rows(2), run_pb2.RunRequest(task="x", preset="nothing"), run_pb2.RunRequest(), *rows(40)]
    await start(gateway, bad)
    told = await watched(gateway)
    assert told[-1].batch.state == batch_pb2.BATCH_STATE_REFUSED
    assert (told[-1].batch.checked, told[-1].batch.refused, told[-1].batch.queued) == (44, 2, 44)
    errors = {answer.row.row: answer.row.error for answer in told if answer.HasField("row")}
    assert list(errors) == [3, 4]
    assert "nothing" in errors[3]
    assert "run.task" in errors[4]
    assert [row.error for row in await listed(gateway)] == ["", "", errors[3], errors[4], *[""] * 40]
    assert await all_runs(gateway) == []
    await refused(order(gateway, "Resume"), "FAILED_PRECONDITION", "batch_id")
    await start(gateway, rows(3))  # mended
    assert (await rested(gateway)).published == 3


async def test_a_cap_is_never_passed_and_a_higher_one_goes_on(gateway: Any, leaves: Any) -> None:
    cap = BOUND + 2 * COST  # there is room for a third row once two have ended, and for no fourth
    await start(gateway, rows(5), max_cost_nano_usd=cap, concurrency=3)
    batch = await rested(gateway)
    assert batch.state == batch_pb2.BATCH_STATE_CAPPED
    assert (batch.published, batch.queued) == (3, 2)
    assert batch.cost_nano_usd == 3 * COST <= cap
    for request in leaves.requests("Reserve"):
        assert BOUND <= request.run_limit_nano_usd <= cap
    again = await order(gateway, "Resume", max_cost_nano_usd=100 * BOUND)
    assert again.state in (batch_pb2.BATCH_STATE_RUNNING, batch_pb2.BATCH_STATE_FINISHED)
    batch = await rested(gateway)
    assert (batch.state, batch.published) == (batch_pb2.BATCH_STATE_FINISHED, 5)
    # Far from the cap a run may pay twice for what was under way when its gateway died.
    assert leaves.requests("Reserve")[-1].run_limit_nano_usd == 2 * BOUND


async def test_a_row_that_could_cost_more_than_the_cap_is_not_begun(gateway: Any, leaves: Any) -> None:
    await start(gateway, rows(2), max_cost_nano_usd=BOUND - 1)
    batch = await rested(gateway)
    assert (batch.state, batch.queued, batch.cost_nano_usd) == (batch_pb2.BATCH_STATE_CAPPED, 2, 0)
    assert "Reserve" not in leaves.names()


async def test_a_batch_is_paused_resumed_and_cancelled(gateway: Any, leaves: Any, until: Callable[..., Any]) -> None:
    gate = leaves.hold("Debate")
    await start(gateway, rows(4), concurrency=1)
    await until(lambda: leaves.requests("Debate"))
    request_id = str(uuid.uuid4())
    paused = await order(gateway, "Pause", request_id=request_id)
    assert (paused.state, paused.running) == (batch_pb2.BATCH_STATE_PAUSED, 1)
    assert not paused.HasField("finished_at")
    gate.opened.set()
    batch = await rested(gateway)
    assert (batch.state, batch.published, batch.queued) == (batch_pb2.BATCH_STATE_PAUSED, 1, 3)
    assert batch.HasField("finished_at")
    gate = leaves.hold("Debate")
    resumed = await order(gateway, "Resume", concurrency=2)
    assert (resumed.state, resumed.concurrency) == (batch_pb2.BATCH_STATE_RUNNING, 2)
    await until(lambda: len(leaves.requests("Debate")) == 3)
    assert (await order(gateway, "Pause", request_id=request_id)).state == batch_pb2.BATCH_STATE_RUNNING  # was answered
    await order(gateway, "Cancel")
    gate.opened.set()
    batch = await rested(gateway)
    assert (batch.state, batch.published, batch.queued) == (batch_pb2.BATCH_STATE_CANCELLED, 3, 1)
    await refused(order(gateway, "Resume"), "FAILED_PRECONDITION", "batch_id")
    await start(gateway, rows(4))  # who sends the rows again means it
    batch = await rested(gateway)
    assert (batch.state, batch.published) == (batch_pb2.BATCH_STATE_FINISHED, 4)
    assert (await order(gateway, "Cancel")).state == batch_pb2.BATCH_STATE_FINISHED
    assert len(await all_runs(gateway)) == 4


async def test_the_same_rows_go_on_and_other_rows_are_refused(gateway: Any) -> None:
    request_id = str(uuid.uuid4())
    await start(gateway, rows(3), request_id=request_id)
    await rested(gateway)
    assert (await start(gateway, rows(3), request_id=request_id)).state == batch_pb2.BATCH_STATE_FINISHED
    assert (await start(gateway, rows(3))).published == 3
    await refused(start(gateway, rows(2), request_id=request_id), "REQUEST_ID_REUSED", "request_id")
    for other in (rows(2), rows(4), [*rows(2), run_pb2.RunRequest(task="other")]):
        await refused(start(gateway, other), "ALREADY_EXISTS", "batch_id")
    assert len(await all_runs(gateway)) == 3


async def test_rows_come_in_several_requests_and_again_when_an_answer_was_lost(gateway: Any) -> None:
    many = rows(1203)
    for first in (1, 601, 601):
        batch = await start(gateway, many[first - 1 : first + 599], first_row=first, more=True)
        assert batch.state == batch_pb2.BATCH_STATE_COLLECTING
        assert batch.rows == first + 599
    await refused(start(gateway, rows(1), first_row=1202, more=True), "FAILED_PRECONDITION", "first_row")
    await start(gateway, many[600:1100], first_row=601, more=True)  # begun anew at that row
    batch = await start(gateway, many[1100:], first_row=1101)
    assert (batch.rows, batch.state) == (1203, batch_pb2.BATCH_STATE_CHECKING)
    await order(gateway, "Cancel")
    found = await listed(gateway)
    assert [row.run.task for row in found] == [request.task for request in many]


async def test_too_many_rows_are_refused_with_the_limit(gateway: Any) -> None:
    error = await refused(start(gateway, rows(2), first_row=100_000), "INVALID_INPUT", "runs")
    assert "at most 100000 rows" in error.message


async def test_a_batch_without_a_name_gets_one_from_its_request(gateway: Any) -> None:
    request_id = str(uuid.uuid4())
    one = await start(gateway, rows(1), "", request_id)
    assert (await start(gateway, rows(1), "", request_id)).batch_id == one.batch_id
    await rested(gateway, one.batch_id)
    other = await start(gateway, rows(1), "")
    assert other.batch_id != one.batch_id
    await rested(gateway, other.batch_id)
    page = await stub(gateway).ListBatches(batch_pb2.ListBatchesRequest(page_size=1))
    assert [batch.batch_id for batch in page.batches] == [other.batch_id]
    request = batch_pb2.ListBatchesRequest(page_token=page.next_page_token)
    assert [batch.batch_id for batch in (await stub(gateway).ListBatches(request)).batches] == [one.batch_id]


async def test_a_tenant_sees_and_changes_its_own_batches_only(gateway: Any) -> None:
    await start(gateway, rows(2))
    await rested(gateway)
    with identity_scope(Identity(tenant="other")):
        assert not (await stub(gateway).ListBatches(batch_pb2.ListBatchesRequest())).batches
        for call in (
            get(gateway),
            listed(gateway),
            watched(gateway),
            order(gateway, "Pause"),
            order(gateway, "Resume"),
            order(gateway, "Cancel"),
        ):
            await refused(call, "NOT_FOUND", "batch_id")
        await start(gateway, rows(1))
        assert (await rested(gateway)).published == 1
        (row,) = await listed(gateway)
        assert (await gateway.get(row.run_id)).tenant == "other"
    assert (await get(gateway)).rows == 2


async def test_what_ends_without_a_text_says_why_and_the_others_go_on(gateway: Any, leaves: Any) -> None:
    leaves.fail("Debate", batches.broken(), times=1)
    await start(gateway, rows(3), concurrency=1)
    batch = await rested(gateway)
    assert (batch.state, batch.failed, batch.published) == (batch_pb2.BATCH_STATE_FINISHED, 1, 2)
    states = [(row.state, bool(row.error)) for row in await listed(gateway)]
    assert states == [(run_pb2.RUN_STATE_FAILED, True), (PUBLISHED, False), (PUBLISHED, False)]


async def test_rows_that_wait_for_approval_take_no_place(gateway: Any) -> None:
    await start(gateway, rows(3, require_approval=True), concurrency=1, max_cost_nano_usd=10 * BOUND)
    stream = stub(gateway).WatchBatch(batch_pb2.WatchBatchRequest(batch_id="b"))
    waiting: set[str] = set()
    async for answer in stream:
        if answer.row.state == run_pb2.RUN_STATE_PENDING_APPROVAL:
            waiting.add(answer.row.run_id)
        if len(waiting) == 3:
            break
    stream.cancel()
    batch = await get(gateway)
    assert (batch.running, batch.held_nano_usd, batch.state) == (3, 3 * COST, batch_pb2.BATCH_STATE_RUNNING)
    first, *others = sorted(waiting)
    await gateway.runs.RejectRun(run_pb2.RejectRunRequest(request_id=str(uuid.uuid4()), run_id=first, reason="no"))
    for run_id in others:
        await gateway.runs.ApproveRun(run_pb2.ApproveRunRequest(request_id=str(uuid.uuid4()), run_id=run_id))
    batch = await rested(gateway)
    assert (batch.published, batch.failed, batch.cost_nano_usd) == (2, 1, 3 * COST)


async def test_a_leaf_that_is_away_is_waited_for(gateway: Any, leaves: Any) -> None:
    leaves.fail("Search", Unavailable("not yet"), times=1)
    await start(gateway, rows(2, corpus="docs"))
    assert (await rested(gateway)).published == 2


async def test_two_gateways_work_a_batch_off_and_either_may_go(
    mesh: Any, leaves: Any, until: Callable[..., Any]
) -> None:
    one = await mesh.gateway(executor_id="one", max_workers=2, executor_silence_s=0.5)
    two = await mesh.gateway(executor_id="two", max_workers=2, executor_silence_s=0.5)
    await start(one, rows(12), concurrency=4)
    watching = asyncio.create_task(watched(two))
    await until(lambda: len(leaves.requests("Debate")) >= 4)
    await one.close()
    told = await watching
    assert (told[-1].batch.published, told[-1].batch.cost_nano_usd) == (12, 12 * COST)
    assert len(await all_runs(two)) == 12


@pytest.mark.parametrize("database", ["sqlite", "postgres"])
async def test_each_row_is_run_once_when_gateways_are_killed_in_the_middle(
    mesh: Any, leaves: Any, until: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    with ExitStack() as stack:
        if database == "postgres":
            monkeypatch.setenv("DJP_GATEWAY_DATABASE_URL", stack.enter_context(new_postgres()))
        addresses = {name: f"unix:{mesh.folder}/{name}.sock" for name in ("one", "two")}
        processes = {name: await killable(leaves, address, name) for name, address in addresses.items()}
        async with connect(addresses["one"]) as one, connect(addresses["two"]) as two:
            for client in (one, two):
                await up(client)
            runs, cap = rows(14), 15 * BOUND
            await one.batches.start(runs, batch_id="b", max_cost_nano_usd=cap, concurrency=4)
            await until(lambda: len(leaves.requests("Debate")) >= 4)
            processes["one"].kill()
            await processes["one"].wait()
            await until(lambda: len(leaves.requests("Debate")) >= 8)
            processes["one"] = await killable(leaves, addresses["one"], "one")
            await up(one)
            processes["two"].kill()
            await processes["two"].wait()
            batch = [answer async for answer in one.batches.watch("b")][-1].batch
            found = [row async for row in one.batches.rows("b")]
            listed = (await one.list_runs(run_pb2.ListRunsRequest(page_size=1000))).runs
            assert (batch.state, batch.published + batch.failed) == (batch_pb2.BATCH_STATE_FINISHED, 14)
            assert {row.run_id for row in found} == {run.run_id for run in listed}
            assert sorted(run.spec.task for run in listed) == sorted(request.task for request in runs)
            assert sum(run.result.total_nano_usd for run in listed) == batch.cost_nano_usd <= cap
            assert all(row.state == PUBLISHED or "budget" in row.error for row in found)
        processes["one"].terminate()
        await processes["one"].wait()


async def up(client: DjpClient) -> None:
    """Wait until the gateway answers."""
    async with asyncio.timeout(60):
        while True:
            try:
                await client.batches.list()
                return
            except Unavailable:
                await asyncio.sleep(0.05)


async def test_rows_that_a_gateway_left_unchecked_are_checked_by_another(
    mesh: Any, leaves: Any, until: Callable[..., Any]
) -> None:
    gate = leaves.hold("ProjectJudge")
    one = await mesh.gateway(executor_id="one", executor_silence_s=0.5)
    await start(one, rows(5))
    await until(lambda: leaves.requests("ProjectJudge"))
    two = await mesh.gateway(executor_id="two", executor_silence_s=0.5)
    await one.close()
    gate.opened.set()
    assert (await rested(two)).published == 5


async def test_a_batch_of_a_command_ends_with_it_and_goes_on_only_when_asked(mesh: Any, leaves: Any) -> None:
    command = await mesh.command()
    await start(command, rows(4), max_cost_nano_usd=BOUND + COST, concurrency=1)
    assert (await rested(command)).published == 2
    gate = leaves.hold("Debate")
    await order(command, "Resume", max_cost_nano_usd=100 * BOUND)
    await asyncio.wait_for(gate.entered.wait(), 60)
    await command.close()
    gate.opened.set()
    later = await mesh.command()
    batch = await rested(later)
    assert (batch.state, batch.published, batch.queued) == (batch_pb2.BATCH_STATE_PAUSED, 2, 1)
    assert [row.state for row in await listed(later)][2] == run_pb2.RUN_STATE_FAILED
    await start(later, rows(4))
    batch = await rested(later)
    assert (batch.published, batch.failed) == (3, 1)
    assert len(await all_runs(later)) == 4


async def test_a_watcher_of_a_gateway_that_stops_goes_on_elsewhere(gateway: Any, leaves: Any) -> None:
    leaves.hold("Debate")
    await start(gateway, rows(1))
    stream = stub(gateway).WatchBatch(batch_pb2.WatchBatchRequest(batch_id="b"))
    await stream.read()
    draining = asyncio.create_task(gateway.server.drain(30))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while True:
            assert await stream.read() is not grpc.aio.EOF
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await draining
