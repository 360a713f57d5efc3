"""A gateway that is alone on its data folder is told of all there is to do: nothing waits until it looks."""

from __future__ import annotations

from typing import Any

import pytest

from djp.mesh.errors import InvalidInput
from djp.v1 import batch_pb2, run_pb2
from tests.gateway.batches import listed, rows, start, stub, watched
from tests.gateway.test_gateway_approval import approve, pending, reject
from tests.gateway.test_gateway_cancel import cancel

PUBLISHED = run_pb2.RUN_STATE_PUBLISHED


@pytest.fixture
async def alone(mesh: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One run of a tenant at a time, and it never looks by itself."""
    monkeypatch.setattr("djp_gateway.server._LOOK_ALONE_S", 3600.0)
    return await mesh.gateway(alone=True, executor_id="standalone", per_tenant_max_concurrency=1)


async def test_each_run_begins_when_the_one_before_it_has_ended_however_it_does(alone: Any, leaves: Any) -> None:
    gate, given_back = leaves.hold("Debate"), leaves.hold("Release")
    failing = await alone.start()
    await gate.entered.wait()
    second, third = await alone.start(), await alone.start()
    leaves.fail("Redact", InvalidInput("no"), times=1)
    gate.opened.set()
    await given_back.entered.wait()  # its place is free, and the run has not ended yet
    assert (await alone.get(second.run_id)).state == run_pb2.RUN_STATE_QUEUED
    given_back.opened.set()
    ended = [await alone.finish(run.run_id) for run in (failing, second, third)]
    assert [run.state for run in ended] == [run_pb2.RUN_STATE_FAILED, PUBLISHED, PUBLISHED]

    gate = leaves.hold("Debate")
    in_work = await alone.start()
    await gate.entered.wait()
    waiting, last = await alone.start(), await alone.start()
    assert (await cancel(alone, waiting.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    assert (await cancel(alone, in_work.run_id)).state == run_pb2.RUN_STATE_CANCELLED
    gate.opened.set()
    assert (await alone.finish(last.run_id)).state == PUBLISHED


async def test_a_run_that_waits_for_a_person_holds_nobody_up(alone: Any) -> None:
    first, second = await pending(alone), await pending(alone)
    assert (await approve(alone, first.run_id)).state == PUBLISHED
    assert (await reject(alone, second.run_id)).state == run_pb2.RUN_STATE_REJECTED
    assert (await alone.do()).state == PUBLISHED


async def test_a_batch_is_checked_and_its_rows_follow_one_another(alone: Any, leaves: Any) -> None:
    leaves.fail("Redact", InvalidInput("no"), times=1)
    await start(alone, [*rows(3), *rows(1, require_approval=True), *rows(2)], concurrency=2)
    told = await watched_until_one_is_left(alone)
    assert (told.published, told.failed, told.running) == (4, 1, 1)
    (waiting,) = [row for row in await listed(alone) if row.state == run_pb2.RUN_STATE_PENDING_APPROVAL]
    await approve(alone, waiting.run_id)
    assert (await watched(alone))[-1].batch.state == batch_pb2.BATCH_STATE_FINISHED


async def watched_until_one_is_left(gateway: Any) -> batch_pb2.Batch:
    """The batch when nothing more happens by itself."""
    async for answer in stub(gateway).WatchBatch(batch_pb2.WatchBatchRequest(batch_id="b")):
        batch: batch_pb2.Batch = answer.batch
        if batch.published + batch.failed == batch.rows - 1:
            return batch
    raise AssertionError("it has ended")
