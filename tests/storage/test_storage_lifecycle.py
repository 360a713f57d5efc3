"""Lifecycle runs: what is due moves, once, whoever runs; what must not move stays; every end is told."""

from __future__ import annotations

import asyncio
import json
import uuid
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from djp.mesh.errors import Unavailable
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import storage_pb2
from djp.v1.common_pb2 import TIER_COLD, TIER_HOT, TIER_TRASH, TIER_WARM
from djp_storage.lifecycle import Order
from djp_storage.model import ArtifactHeader, ArtifactKey, Filter, RequestKey, Tier
from djp_storage.server import open_parts
from djp_storage.settings import StorageSettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from djp.mesh.errors import DjpError


@pytest.fixture(params=["embedded", "cluster"])
def deployment(request: Any) -> Any:
    return request.param


async def refused(call: Any) -> DjpError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return error_from_rpc(caught.value)


def counts(summary: storage_pb2.LifecycleSummary) -> tuple[int, int, int, int, int]:
    return summary.to_warm, summary.to_cold, summary.to_trash, summary.erased, summary.errors


async def tiers(client: Any) -> dict[str, int]:
    return {one.key.artifact: one.tier for one in (await client.list(page_size=1000)).artifacts}


async def test_artifacts_age_tier_by_tier_until_they_are_gone(serve: Any, clock: Any) -> None:
    async with serve() as client:
        await client.put(b"text", artifact="old")
        clock.turn(days=6)
        await client.put(b"text", artifact="new")
        told = []
        for days in (1.1, 30.1, 90.1, 30.1, 0):
            clock.turn(days=days)
            dry = await client.lifecycle(live=False)
            live = await client.lifecycle()
            assert [(one.artifact.key, one.action) for one in dry] == [(one.artifact.key, one.action) for one in live]
            assert counts(dry[-1].so_far) == counts(live[-1].so_far)
            assert not dry[-1].so_far.live
            told.append(counts(live[-1].so_far))
            assert (await client.lifecycle())[-1].so_far.bytes_moved == 0  # a second run finds nothing
        assert told == [(1, 0, 0, 0, 0), (1, 1, 0, 0, 0), (0, 1, 1, 0, 0), (0, 0, 0, 1, 0), (0, 0, 0, 0, 0)]
        assert await tiers(client) == {"new": TIER_COLD}


async def test_a_dry_run_changes_nothing(serve: Any, clock: Any) -> None:
    async with serve() as client:
        for n in range(5):
            await client.put(b"text", artifact=str(n))
        before = await client.list()
        clock.turn(days=8)
        told = await client.lifecycle(live=False)
        assert [one.action for one in told[:-1]] == [storage_pb2.LIFECYCLE_ACTION_TO_WARM] * 5
        assert told[-1].so_far.HasField("finished_at")
        assert await client.list() == before
        assert set(await client.actions()) == {"put"}
        assert not (await client.call("GetLifecycleStatus")).HasField("last")


async def test_each_tenant_has_its_own_days(serve: Any, clock: Any, home: Path) -> None:
    file = home / "days.yaml"
    file.write_text("tenants:\n  quick: {hot_days: 1}\n  slow: {hot_days: 3650, kept_days: 20}\n")
    async with serve(retention_file=file) as client:
        for tenant in ("acme", "quick", "slow"):
            await client.of(tenant).put(b"text")
        operator = client.of("ops", "operator")
        moved = []
        for days in (2, 6, 13):
            clock.turn(days=days)
            told = await operator.lifecycle()
            moved.append([(one.artifact.tenant, one.action) for one in told[:-1]])
        warm, trash = storage_pb2.LIFECYCLE_ACTION_TO_WARM, storage_pb2.LIFECYCLE_ACTION_TO_TRASH
        assert moved == [[("quick", warm)], [("acme", warm)], [("slow", trash)]]
        slow = await client.of("slow").stat()
        assert slow.due_at.ToDatetime() == slow.tier_since.ToDatetime() + timedelta(days=30)


async def test_the_retention_file_is_read_again_when_it_changes(
    serve: Any, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = home / "days.yaml"

    async def days_until_due() -> float:
        info = await client.stat()
        return (info.due_at.ToDatetime() - info.tier_since.ToDatetime()) / timedelta(days=1)

    file.write_text("tenants:\n  acme: {hot_days: 1}\n")
    async with serve(retention_file=file) as client:
        await client.put(b"text")
        assert await days_until_due() == 1
        file.write_text("tenants: [")
        while "the retention of before still counts" not in caplog.text:  # noqa: ASYNC110  a file has no event
            await asyncio.sleep(0.05)
        assert await days_until_due() == 1
        file.write_text("tenants:\n  acme: {hot_days: 2}\n")
        while await days_until_due() != 2:  # noqa: ASYNC110  a file has no event
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tenants: [", "cannot be read"),
        ("", "has to be all there is"),
        ("tenants:\n  UP: {hot_days: 1}", "no name of a tenant"),
        ("tenants:\n  a: {hot: 1}", "tenants.a takes hot_days"),
        ("tenants:\n  a: {hot_days: -1}", "tenants.a.hot_days"),
        ("tenants:\n  a: {hot_days: nan}", "tenants.a.hot_days"),
    ],
)
async def test_a_broken_retention_file_stops_the_start(home: Path, text: str, says: str) -> None:
    (home / "days.yaml").write_text(text)
    settings = StorageSettings(
        database_url=f"sqlite+aiosqlite:///{home}/s.db", data_dir=home / "a", retention_file=home / "days.yaml"
    )
    with pytest.raises(Exception, match="mend it") as caught:
        async with open_parts(settings):
            pass
    assert says in str(caught.value)


async def test_a_purge_of_too_much_needs_to_be_confirmed(serve: Any, clock: Any) -> None:
    async with serve(kept_days=1, purge_share=0.5) as client:
        rich, poor = client.of("rich"), client.of("poor")
        for n in range(12):
            await rich.put(b"text", artifact=str(n))
        for n in range(10):
            await poor.put(b"text", artifact=str(n))
        clock.turn(days=2)
        operator = client.of("ops", "operator")
        for live in (False, True):
            told = await operator.lifecycle(live=live)
            (error,) = [one.error for one in told if one.error]
            assert "tenant rich: all of its 12" in error
            assert "--confirm" in error
            assert counts(told[-1].so_far) == (0, 0, 10, 0, 1)
        assert set((await tiers(rich)).values()) == {TIER_HOT}
        assert set((await tiers(poor)).values()) == {TIER_TRASH}
        assert not (await operator.call("GetLifecycleStatus")).healthy
        for n in range(12):
            await rich.put(b"text", artifact=f"new {n}")
        clock.turn(hours=1)
        assert counts((await operator.lifecycle())[-1].so_far) == (0, 0, 12, 0, 0)  # no more than a half


async def test_two_runners_and_a_restorer_at_once(serve: Any, clock: Any) -> None:
    count = 30
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(serve()) for _ in range(2)]
        contents = {str(n): f"content {n}".encode() * 100 for n in range(count)}
        await asyncio.gather(*(one.put(content, artifact=name) for name, content in contents.items()))
        clock.turn(days=8)
        running = True

        async def restoring() -> None:
            while running:
                for name in list(contents)[::7]:
                    await other.call("RestoreArtifact", artifact=name)

        async def reading() -> None:
            while running:
                for name in list(contents)[::5]:
                    assert (await one.get(name))[1] == contents[name]

        busy = [asyncio.create_task(work()) for work in (restoring, reading)]
        runs = await asyncio.gather(one.lifecycle(), other.lifecycle(), one.lifecycle())
        running = False
        await asyncio.gather(*busy)
        assert not [step.error for run in runs for step in run if step.error]
        moved = [step.artifact.key.artifact for run in runs for step in run if step.HasField("artifact")]
        assert sorted(moved) == sorted(contents)  # each once
        events = await one.events(page_size=1000)
        for name, content in contents.items():
            at = None
            for event in events:
                if event.key.artifact == name:
                    assert at in (None, event.from_tier), "an event begins where the one before ended"
                    at = event.to_tier
            info, got = await other.get(name)
            assert (info.tier, got) == (at, content)


async def test_a_run_that_was_stopped_goes_on(serve: Any, clock: Any) -> None:
    async with serve() as client:
        for n in range(70):
            await client.put(b"text", artifact=f"{n:03}")
        clock.turn(days=8)
        request = storage_pb2.RunLifecycleRequest(request_id=str(uuid.uuid4()), live=True)
        metadata = (("djp-tenant", "acme"),)
        call = client.stub.RunLifecycle(request, metadata=metadata)
        for _ in range(3):
            await call.read()
        call.cancel()
        told = [one async for one in client.stub.RunLifecycle(request, metadata=metadata)]
        assert told[-1].so_far.job_id == request.request_id
        assert set((await tiers(client)).values()) == {TIER_WARM}
        assert (await client.actions(page_size=1000)).count("promoted_to_warm") == 70
        again = [one async for one in client.stub.RunLifecycle(request, metadata=metadata)]
        assert again == [told[-1]]  # it was done: told again
        assert (await client.call("GetLifecycleStatus")).healthy


async def test_a_damaged_artifact_is_told_and_the_others_move(serve: Any, clock: Any, whereabouts: Any) -> None:
    async with serve() as client:
        for n in range(3):
            await client.put(b"text", artifact=str(n))
        async with open_parts(StorageSettings(**whereabouts)) as parts:
            damaged = await parts.catalogue.get(ArtifactKey("acme", "w", "1"))
            async with parts.store.upload(damaged.object_name) as upload:
                await upload.write(b"TEXT")
                await upload.place("")
        clock.turn(days=8)
        told = await client.lifecycle()
        assert counts(told[-1].so_far) == (2, 0, 0, 0, 1)
        (failed,) = [one for one in told if one.error]
        assert (failed.artifact.key.artifact, failed.action) == ("1", storage_pb2.LIFECYCLE_ACTION_FAILED)
        assert await tiers(client) == {"0": TIER_WARM, "1": TIER_HOT, "2": TIER_WARM}
        status = await client.call("GetLifecycleStatus")
        assert (status.healthy, "1 errors" in status.problem) == (False, True)


async def test_health_is_a_run_of_the_last_26_hours_without_errors(serve: Any, clock: Any) -> None:
    async with serve() as client:
        operator = client.of("ops", "operator")
        assert "no lifecycle run" in (await operator.call("GetLifecycleStatus")).problem
        run = await operator.lifecycle()
        clock.turn(hours=25.9)
        status = await operator.call("GetLifecycleStatus")
        assert (status.healthy, status.last) == (True, run[-1].so_far)
        clock.turn(hours=0.2)
        status = await operator.call("GetLifecycleStatus")
        assert (status.healthy, "26 hours ago" in status.problem) == (False, True)
        assert not (await client.call("GetLifecycleStatus")).HasField("last")  # it was not the tenant's own


async def test_who_may_run_what(serve: Any, clock: Any) -> None:
    async with serve() as client:
        other, operator = client.of("other"), client.of("ops", "operator")
        for one in (client, other):
            await one.put(b"text")
        as_of = datetime.now(UTC) + timedelta(days=8)
        assert (await refused(client.lifecycle(as_of=as_of))).code == "PERMISSION_DENIED"
        assert (await refused(client.lifecycle(tenant="other"))).code == "NOT_FOUND"
        assert (await refused(operator.lifecycle(as_of=as_of))).field == "tenant"
        told = await operator.lifecycle(tenant="other", as_of=as_of)
        assert counts(told[-1].so_far) == (1, 0, 0, 0, 0)
        far = await operator.lifecycle(tenant="other", as_of=as_of + timedelta(days=4000))
        assert counts(far[-1].so_far) == (0, 1, 0, 0, 0)  # a tier a run
        clock.turn(days=8)
        assert counts((await client.lifecycle())[-1].so_far) == (1, 0, 0, 0, 0)  # its own only
        assert (await other.stat()).tier == TIER_COLD
        assert {event.tenant for event in await other.events()} == {"other"}
        assert {event.tenant for event in await operator.events()} >= {"other", "acme"}
        assert {one.tenant for one in (await operator.call("GetStorageStats")).stats} == {"acme", "other"}


async def test_tiers_above_their_thresholds_are_told_once(serve: Any, whereabouts: Any) -> None:
    async with serve() as client:
        await client.put(b"x" * 2000)
        await client.put(b"x", artifact="small")
        for threshold, actions in [(1000, 1), (1000, 1), (3000, 2), (1000, 3)]:
            settings = StorageSettings(**whereabouts, hot_threshold_gib=threshold / 2**30)
            async with open_parts(settings) as parts:
                await parts.upkeep.tidy()
                await parts.upkeep.tidy()
            told = [one for one in await client.of("ops", "operator").events() if "threshold" in one.action]
            assert len(told) == actions
        assert [one.action for one in told] == [
            "tier_over_threshold:hot",
            "tier_under_threshold:hot",
            "tier_over_threshold:hot",
        ]
        assert "2001 bytes" in told[0].reason


async def test_events_are_lines_of_a_file_when_embedded(serve: Any, home: Path, deployment: str, clock: Any) -> None:
    async with serve() as client:
        await client.put(b"text", artifact="ü.json")
        clock.turn(days=8)
        await client.lifecycle()
    path = home / "logs" / "lifecycle_events.jsonl"
    if deployment == "cluster":
        assert not path.exists()
        return
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event_type"] for line in lines] == ["put", "promoted_to_warm", "lifecycle_finished"]
    assert lines[1] | {"sequence": 0, "timestamp": "", "reason": ""} == {
        "sequence": 0,
        "timestamp": "",
        "event_type": "promoted_to_warm",
        "actor": "tenant of acme",
        "tenant_id": "acme",
        "workflow_id": "w",
        "artifact_id": "ü.json",
        "from_tier": "hot",
        "to_tier": "warm",
        "reason": "",
    }
    async with serve() as client:
        await client.put(b"text", artifact="second")
    assert len(path.read_text().splitlines()) == 4


async def test_what_a_dead_process_left_is_removed_and_finished_by_the_next_run(
    serve: Any, clock: Any, whereabouts: Any
) -> None:
    """A worker that claimed and announced, and was never heard of again; as if it was killed in the middle."""
    async with serve(lease_s=1) as client:
        for n in range(3):
            await client.put(b"text", artifact=str(n))
        clock.turn(days=8)
        async with open_parts(StorageSettings(**whereabouts, lease_s=1), clock) as dead:
            artifact = await dead.catalogue.get((await _keys(dead))[0])
            half = replace(artifact, tier=Tier.WARM, object_id="feedfeedfeed")
            assert await dead.catalogue.announce(dead.worker.id, half.object_name.batch, clock())
            await dead.store.copy(artifact.object_name, half.object_name, "")
            branch = dead.retention.branches(clock(), "")[-1]
            await dead.lifecycle._store.claim(dead.worker.id, branch, None, 100)
            dead.worker.close = _nothing  # type: ignore[method-assign]
        told = await client.lifecycle()
        assert counts(told[-1].so_far) == (3, 0, 0, 0, 0)
        async with open_parts(StorageSettings(**whereabouts)) as parts:
            names = []
            for tier in Tier:
                names += [one.path async for one in parts.store.objects(tier)]
            assert len(names) == 3
            assert not [name for name in names if "feedfeedfeed" in name]


async def _keys(parts: Any) -> list[Any]:
    page = await parts.artifacts.list("acme", Filter(), size=10, token="", largest_first=False)
    return [one.key for one in page.artifacts]


async def _nothing() -> None:
    return None


async def test_a_service_that_stops_ends_its_runs_and_finishes_what_it_had_begun(whereabouts: Any, clock: Any) -> None:
    async with open_parts(StorageSettings(**whereabouts, lease_s=1), clock) as parts:
        for n in range(70):
            header = ArtifactHeader(ArtifactKey("acme", "w", str(n)))
            await parts.artifacts.put(header, str(uuid.uuid4()), _text())
        clock.turn(days=8)
        order, asked = Order("", live=True, confirm=False), RequestKey("acme", str(uuid.uuid4()), "0" * 64)
        steps = parts.lifecycle.run(order, parts.artifacts.by(""), asked)
        await anext(steps)
        parts.lifecycle.stop()
        with pytest.raises(Unavailable, match="same request"):
            async for _ in steps:
                pass
    async with open_parts(StorageSettings(**whereabouts, lease_s=1), clock) as parts:
        (job, done) = await parts.lifecycle._store.last_jobs("")
        assert (job.stopped, done) == (True, None)
        last = [step async for step in parts.lifecycle.run(order, parts.artifacts.by(""), asked)][-1].so_far
        assert (last.stopped, last.errors) == (False, 0)
        page = await parts.artifacts.list("acme", Filter(), size=100, token="", largest_first=False)
        assert {one.tier for one in page.artifacts} == {Tier.WARM}


async def _text() -> AsyncIterator[bytes]:
    yield b"text"


async def test_a_worker_taken_for_dead_cannot_take_in_what_others_may_be_removing(whereabouts: Any, clock: Any) -> None:
    async with AsyncExitStack() as stack:
        settings = StorageSettings(**whereabouts, lease_s=1)
        slow, other = [await stack.enter_async_context(open_parts(settings, clock)) for _ in range(2)]
        header = ArtifactHeader(ArtifactKey("acme", "w", "a"))
        artifact = await slow.artifacts.put(header, str(uuid.uuid4()), _text())
        async with slow.worker.making(Tier.WARM, artifact.key) as making:
            copy = replace(artifact, tier=Tier.WARM, object_id=making.name.object_id)
            await slow.store.copy(artifact.object_name, copy.object_name, "")
            clock.turn(hours=1)
            await other.worker.beat()
            lost = {artifact.object_name.batch, copy.object_name.batch}
            assert set(await other.catalogue.strays(10)) == lost  # and it is about to remove the copy
            with pytest.raises(Unavailable, match="so long"):
                await slow.catalogue.move(artifact, copy, "promoted_to_warm", slow.artifacts.by(""), None)
        assert await slow.catalogue.get(artifact.key) == artifact
        await other.worker.sweep()
        assert [chunk async for chunk in slow.artifacts.read(artifact)] == [b"text"]


async def test_a_copy_that_others_took_for_left_over_is_made_again(
    whereabouts: Any, clock: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        settings = StorageSettings(**whereabouts, lease_s=1)
        slow, other = [await stack.enter_async_context(open_parts(settings, clock)) for _ in range(2)]
        header = ArtifactHeader(ArtifactKey("acme", "w", "a"))
        artifact = await slow.artifacts.put(header, str(uuid.uuid4()), _text())
        copy = slow.store.copy

        async def copy_slowly(*given: Any) -> None:
            await copy(*given)
            clock.turn(hours=1)
            await other.worker.beat()  # who finds the slow one silent
            assert await other.worker.sweep() == 2  # batches: of the artifact, which stays, and of its copy

        def restored() -> Any:
            request = RequestKey("acme", str(uuid.uuid4()), "0" * 64)
            return slow.moves.restore(artifact.key, None, Tier.WARM, slow.artifacts.by(""), request)

        with monkeypatch.context() as patched, pytest.raises(Unavailable, match="taken for left over"):
            patched.setattr(slow.store, "copy", copy_slowly)
            await restored()
        assert await slow.artifacts.stat(artifact.key) == artifact
        assert b"".join([chunk async for chunk in slow.artifacts.read(await restored())]) == b"text"
