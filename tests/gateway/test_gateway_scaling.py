"""The gateway scales its places while it works: up when runs wait, down when they are gone, and no run is stopped."""

from __future__ import annotations

import asyncio
import logging
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client import REGISTRY

from djp.client import connect
from djp.mesh.errors import PermissionDenied
from djp.mesh.identity import Identity, identity_scope
from djp.scaling.lately import Lately
from djp.scaling.rule import Rule
from djp.scaling.settings import ScalingSettings
from djp.v1 import run_pb2, scaling_pb2
from djp_gateway.places import Places
from djp_gateway.scaling import Scaler
from djp_gateway.spec import SPEC_VERSION
from tests.gateway.test_gateway_keys import made, port

if TYPE_CHECKING:
    from collections.abc import Sequence

QUICK = ScalingSettings(min_workers=1, max_workers=4, target_queue_depth=1, up_step=2, down_step=1, interval_ms=100)
NEVER = ScalingSettings(min_workers=1, max_workers=3, target_queue_depth=10**6, target_p95_ms=10**9, interval_ms=100)
"""Nothing is ever a reason for more workers."""


async def seen(gateway: Any) -> scaling_pb2.Scaling:
    scaling: scaling_pb2.Scaling = (await gateway.scaling.GetScaling(scaling_pb2.GetScalingRequest())).scaling
    return scaling


async def reached(gateway: Any, workers: int) -> scaling_pb2.Scaling:
    """What is told when there are so many workers."""
    async with asyncio.timeout(60):
        while (scaling := await seen(gateway)).workers != workers:  # noqa: ASYNC110  nothing rings for it
            await asyncio.sleep(0.02)
    return scaling


async def test_places_come_when_runs_wait_and_go_when_they_are_gone_and_no_run_is_stopped(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "djp.scaling")
    monkeypatch.setattr("djp.scaling.autoscaler.COOL_LOOKS", 5)
    monkeypatch.setenv("DJP_METRICS_PORT", "1")  # which only the target itself opens
    monkeypatch.setattr("djp_gateway.metrics._LOOK_S", 0.05)
    gateway = await mesh.gateway(scaling=QUICK, per_tenant_max_concurrency=9)
    most, last, held = asyncio.Event(), asyncio.Event(), list[str]()

    async def hold(request: Any) -> None:
        await (last if request.run_id in held else most).wait()

    leaves.before["Debate"] = hold
    runs = [await gateway.start()]
    held.append(runs[0].run_id)
    runs += [await gateway.start() for _ in range(5)]
    full = await reached(gateway, 4)
    await until(lambda: len(leaves.requests("Debate")) == 4)
    assert [change.direction for change in full.changes] == [scaling_pb2.SCALE_DIRECTION_UP] * 2
    assert "queue" in full.changes[0].reason
    assert (full.changes[0].workers_before, full.changes[0].workers) == (1, 3)
    assert any(record.getMessage().startswith("Scale decision: up 1 -> 3 (queue") for record in caplog.records)
    await until(lambda: REGISTRY.get_sample_value("djp_workers") == 4)
    assert (REGISTRY.get_sample_value("djp_scale_decisions_total", {"direction": "up"}) or 0) >= 2

    most.set()
    for run in runs[1:]:
        assert (await gateway.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert (await reached(gateway, 2)).working == 1  # one more than is busy, or it would be too busy
    last.set()
    assert (await gateway.finish(runs[0].run_id)).attempt == 1
    idle = await reached(gateway, 1)
    assert (idle.ups, idle.downs, idle.direction_changes) == (2, 3, 1)
    assert "calm" in idle.changes[-1].reason
    assert (idle.working, idle.queue_depth, idle.waiting_for_worker) == (0, 0, 0)
    await until(lambda: REGISTRY.get_sample_value("djp_workers") == 1)


def test_a_place_that_is_taken_away_is_given_back_when_its_run_ends() -> None:
    places = Places(Lately(NEVER.rule(), 0.0), 2, 2)
    for run_id in ("a", "b"):
        places.take(run_id, 0.0)
    places.count = 1
    assert (places.working, places.room(5)) == (2, 0)
    places.give_back("a")
    places.give_back("a")  # which it has no more
    assert (places.working, places.room(5), "b" in places) == (1, 1, True)
    places.give_back("b")
    with places.held("c"):
        assert (places.working, places.room(5), list(places), "c" in places) == (0, 1, ["c"], False)
    assert places.room(5) == 5


async def test_the_first_run_of_a_tenant_waits_for_no_autoscaler(mesh: Any, leaves: Any, until: Any) -> None:
    gateway = await mesh.gateway(scaling=NEVER)
    gate = leaves.hold("Debate")
    flood = [await gateway.start() for _ in range(3)]
    await gate.entered.wait()
    others = []
    for tenant in ("b", "c", "d"):
        with identity_scope(Identity(tenant=tenant)):
            others.append(await gateway.start())
    await until(lambda: len(leaves.requests("Debate")) == 3)
    full = await seen(gateway)
    assert (full.workers, full.working, full.queue_depth) == (1, 3, 3)  # no more than MAX_WORKERS, whoever waits
    working = {request.run_id for request in leaves.requests("Debate")}
    assert working == {flood[0].run_id, others[0].run_id, others[1].run_id}
    gate.opened.set()
    for run in flood:
        await gateway.finish(run.run_id)


async def test_replicas_tell_the_same_queue_and_each_its_own_workers(mesh: Any, leaves: Any, until: Any) -> None:
    first = await mesh.gateway(executor_id="first", max_workers=1)
    gate = leaves.hold("Debate")
    runs = [await first.start()]
    await gate.entered.wait()
    second = await mesh.gateway(executor_id="second", max_workers=2, per_tenant_max_concurrency=2)
    runs += [await first.start() for _ in range(4)]  # the tenant may have five, but two at the second
    await until(lambda: len(leaves.requests("Debate")) == 2)
    told = [await seen(gateway) for gateway in (first, second)]
    assert [one.executor for one in told] == ["first", "second"]
    assert [one.queue_depth for one in told] == [3, 3]
    assert [(one.workers, one.working) for one in told] == [(1, 1), (2, 1)]
    later = [await seen(gateway) for gateway in (first, second)]
    ages = [one.oldest_wait.ToNanoseconds() for one in (*told, *later)]
    assert ages == sorted(ages)  # of the same run, told one after the other
    gate.opened.set()
    for run in runs:
        await first.finish(run.run_id)
    assert [(await seen(gateway)).queue_depth for gateway in (first, second)] == [0, 0]


class Queue:
    """A queue that cannot be looked at for a while."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.looks = 0

    async def newer(self) -> int:
        return 0

    async def ready(self, executor: str, *, per_tenant: int) -> Sequence[float]:
        self.looks += 1
        if self.looks <= self.failures:
            raise OSError("the database is away")
        return [0.0] * 10


async def test_while_the_queue_cannot_be_looked_at_nothing_changes(until: Any) -> None:
    rule, queue = QUICK.rule(), Queue(failures=2)
    places = Places(Lately(rule, 0.0), 1, 4)
    scaler = Scaler(queue, places, rule, executor="a", per_tenant=5, more=lambda: None)  # type: ignore[arg-type]
    watching = asyncio.create_task(scaler.watch())
    await until(lambda: places.count == 4)
    assert queue.looks >= 4
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


@pytest.mark.parametrize("now_s", [0.0, 1e-9, 1e9])
def test_a_look_at_any_time_is_a_share(now_s: float) -> None:
    lately = Lately(Rule(1, 2, 1, 1, 1, 1, 1000), 0.0)
    for _ in range(3):
        lately.began(0.0, 2.0)
    found = lately.look(now_s, [1.0], 2)
    assert (found.queue_depth, found.utilisation) == (1, 1.0)


async def test_where_keys_are_only_operators_see_the_queue(mesh: Any, gateway: Any) -> None:
    operator, tenant = await made(gateway, "operator"), await made(gateway)
    async with port(mesh) as address:
        async with connect(address, api_key=operator.secret) as client:
            scaling = await client.get_scaling()
            assert (scaling.executor, scaling.rule.min_workers, scaling.rule.max_workers) == ("port", 2, 12)
        async with connect(address, api_key=tenant.secret) as client:
            with pytest.raises(PermissionDenied, match="role operator"):
                await client.get_scaling()
    async with port(mesh, auth="none", executor_id="open") as address, connect(address) as client:
        assert (await client.get_scaling()).workers == 2


async def test_runs_that_only_a_newer_release_can_take_are_told_once(
    mesh: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, until: Any
) -> None:
    monkeypatch.setenv("DJP_METRICS_PORT", "1")  # which only the target itself opens
    monkeypatch.setattr("djp_gateway.metrics._LOOK_S", 0.05)
    gateway = await mesh.gateway(scaling=QUICK)
    run = run_pb2.Run(run_id=str(uuid.uuid4()), tenant="default", state=run_pb2.RUN_STATE_QUEUED, attempt=1)
    run.spec.spec_version = SPEC_VERSION + 1
    run.created_at.GetCurrentTime()
    queue = gateway.service.servicers[0][1]._runner._queue
    await queue.add(run, request_id=str(uuid.uuid4()), request_sha256="x", executor="newer")
    await until(lambda: REGISTRY.get_sample_value("djp_queue_waiting_for_newer") == 1)
    told = await seen(gateway)
    assert (told.waiting_for_newer, told.queue_depth) == (1, 1)
    async with asyncio.timeout(60):
        while (await seen(gateway)).decisions < told.decisions + 3:  # noqa: ASYNC110  nothing rings for it
            await asyncio.sleep(0.02)
    assert caplog.text.count("wait for a gateway of a newer release") == 1
