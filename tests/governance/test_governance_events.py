"""Events: one for each thing that happened, seen by those whom it concerns, in lists, streams and the log."""

from __future__ import annotations

import asyncio
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from djp.mesh.channel import open_channel
from djp.mesh.server import MeshServer
from djp.v1 import common_pb2, governance_pb2, governance_pb2_grpc
from djp_governance.server import open_service
from djp_governance.settings import GovernanceSettings

if TYPE_CHECKING:
    from pathlib import Path

USD = 10**9
THROTTLED, DENIED, OVER, SET, DELETED = (
    governance_pb2.GOVERNANCE_EVENT_KIND_THROTTLED,
    governance_pb2.GOVERNANCE_EVENT_KIND_DENIED,
    governance_pb2.GOVERNANCE_EVENT_KIND_OVER_RESERVATION,
    governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_SET,
    governance_pb2.GOVERNANCE_EVENT_KIND_BUDGET_DELETED,
)


async def test_a_threshold_is_told_once_a_window_however_many_runs_pass_it(governance: Any, make: Any) -> None:
    await governance.start(tenant_daily="1", global_daily="1000")
    acme = governance.client()
    await acme.reserve(USD // 2)
    await asyncio.gather(*(acme.reserve(USD // 20) for _ in range(8)))
    errors = await asyncio.gather(*(acme.refused("Reserve", make.reserve(USD)) for _ in range(8)))
    assert {error.reason for error in errors} == {"BUDGET_EXCEEDED"}
    found = await acme.events()
    assert [(one.kind, one.scope) for one in found] == [(THROTTLED, "tenant:acme"), (DENIED, "tenant:acme")]
    assert found[0].window.limit_nano_usd == USD
    assert found[0].window.reserved_nano_usd >= 8 * USD // 10
    assert found[0].window.period == governance_pb2.BUDGET_PERIOD_DAY
    governance.clock.turn(days=1)  # a window of its own
    await acme.reserve(9 * USD // 10)
    assert [one.kind for one in await acme.events()] == [THROTTLED, DENIED, THROTTLED]
    operator = governance.client("ops", "operator")
    await operator.set_budget("tenant:acme", daily_nano_usd=3 * USD)
    await acme.reserve(2 * USD)  # a higher limit has a threshold of its own
    assert [one.kind for one in await acme.events()][3:] == [SET, THROTTLED]


async def test_a_charge_beyond_its_reservation_is_told_once(governance: Any, make: Any) -> None:
    acme = (await governance.start()).client()
    held = (await acme.reserve(10)).reservation
    for _ in range(3):
        await acme.charge(held.reservation_id, make.model_call(11))
    (event,) = await acme.events()
    assert (event.kind, event.run_id) == (OVER, held.run_id)


async def test_a_tenant_sees_its_own_events_and_an_operator_all(governance: Any, make: Any) -> None:
    await governance.start(tenant_daily="1", global_daily="1.5")
    acme, globex, operator = governance.client(), governance.client("globex"), governance.client("ops", "operator")
    await acme.reserve(USD)
    await globex.refused("Reserve", make.reserve(USD))
    assert {one.scope for one in await acme.events()} == {"tenant:acme"}
    assert await globex.events() == []  # it was the global budget that had no room, and what others spent is not its
    assert {one.scope for one in await operator.events()} == {"tenant:acme", "global"}
    assert {one.scope for one in await operator.events(tenant="acme")} == {"tenant:acme"}
    assert [one.kind for one in await operator.events(kind=DENIED)] == [DENIED]
    error = await globex.refused("ListEvents", governance_pb2.ListEventsRequest(tenant="acme"))
    assert (error.code, error.field) == ("NOT_FOUND", "tenant")
    error = await globex.refused("ListEvents", governance_pb2.ListEventsRequest(tenant="no-such"))
    assert (error.code, error.field) == ("NOT_FOUND", "tenant")


async def test_events_are_filtered_by_time(governance: Any) -> None:
    operator = (await governance.start()).client("ops", "operator")
    moments = []
    for _ in range(4):
        governance.clock.turn(hours=1)
        moments.append(governance.clock.moment)
        await operator.set_budget("global", daily_nano_usd=USD)

    def at(moment: Any) -> Timestamp:
        found = Timestamp()
        found.FromDatetime(moment)
        return found

    middle = common_pb2.TimeRange(since=at(moments[1]), until=at(moments[3]))
    assert [one.at.ToMicroseconds() for one in await operator.events(range=middle)] == [
        at(one).ToMicroseconds() for one in moments[1:3]
    ]
    none = common_pb2.TimeRange(since=at(moments[3] + timedelta(microseconds=1)))
    assert await operator.events(range=none) == []
    bad = governance_pb2.ListEventsRequest(range=common_pb2.TimeRange(since=Timestamp(seconds=2**62)))
    assert (await operator.refused("ListEvents", bad)).code == "INVALID_ARGUMENT"


async def test_a_watcher_sees_every_event_once_and_goes_on_where_it_was(governance: Any) -> None:
    operator = (await governance.start()).client("ops", "operator")

    async def watch(after: int, count: int) -> list[Any]:
        request = governance_pb2.WatchEventsRequest(after_sequence=after)
        call = operator.stub.WatchEvents(request, metadata=operator.metadata)
        found: list[Any] = []
        async with asyncio.timeout(60):
            async for answer in call:
                found.append(answer.event)
                if len(found) == count:
                    call.cancel()
                    return found
        raise AssertionError("the stream ended")

    for _ in range(2):
        await operator.set_budget("global", daily_nano_usd=USD)
    watching = asyncio.create_task(watch(0, 12))
    await asyncio.gather(*(operator.set_budget(f"tenant:t{n}", daily_nano_usd=USD) for n in range(10)))
    seen = await watching
    assert [one.sequence for one in seen] == sorted({one.sequence for one in seen})
    assert seen == await operator.events()
    assert await watch(seen[4].sequence, 7) == seen[5:]


async def test_a_watch_ends_when_its_server_drains_and_goes_on_at_another(governance: Any, short_folder: Path) -> None:
    operator = (await governance.start()).client("ops", "operator")
    async with (
        open_service(GovernanceSettings(database_url=governance.url), governance.clock) as service,
        MeshServer(service, f"unix:{short_folder}/other.sock") as server,
        open_channel(server.address) as channel,
    ):
        stub = governance_pb2_grpc.GovernanceServiceStub(channel)
        watch = stub.WatchEvents(governance_pb2.WatchEventsRequest(), metadata=operator.metadata)
        await operator.set_budget("global", daily_nano_usd=USD)  # at the one replica
        seen = (await watch.read()).event  # and at the other one
        draining = asyncio.create_task(server.drain())
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await watch.read()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "draining" in str(ended.value.details())
        await draining
    await operator.set_budget("global", daily_nano_usd=2 * USD)
    request = governance_pb2.WatchEventsRequest(after_sequence=seen.sequence)
    again = operator.stub.WatchEvents(request, metadata=operator.metadata)
    assert "$2" in (await again.read()).event.message
    again.cancel()


async def test_the_log_has_every_event_once_also_after_half_a_line(governance: Any, tmp_path: Path) -> None:
    if not governance.url.startswith("sqlite"):
        return await _no_log_beside_a_server(governance, tmp_path)
    log = tmp_path / "logs" / "governance_events.jsonl"
    operator = (await governance.start()).client("ops", "operator")
    await operator.set_budget("global", "Grüße 💸\n", daily_nano_usd=USD)
    operator = (await governance.restart()).client("ops", "operator")
    whole = log.read_bytes()
    assert log.stat().st_mode & 0o777 == 0o600
    log.write_bytes(whole + b'{"sequence": 99, "at": "20')  # the machine went down in the middle of a line
    await operator.set_budget("global", daily_nano_usd=2 * USD)
    await operator.delete_budget("global")
    await governance.restart()
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [one["kind"] for one in lines] == ["budget_set", "budget_set", "budget_deleted"]
    assert [one["sequence"] for one in lines] == sorted({one["sequence"] for one in lines})
    assert "Grüße 💸" in lines[0]["message"]
    assert lines[0]["actor"] == "operator of ops"
    return None


async def _no_log_beside_a_server(governance: Any, tmp_path: Path) -> None:
    operator = (await governance.start()).client("ops", "operator")
    await operator.set_budget("global", daily_nano_usd=USD)
    await governance.restart()
    assert not (tmp_path / "logs").exists()


async def test_a_page_token_of_another_list_is_refused(acme: Any) -> None:
    for token in ("x", "WyJhIl0="):
        request = governance_pb2.ListEventsRequest(page_token=token)
        assert (await acme.refused("ListEvents", request)).field == "page_token"
