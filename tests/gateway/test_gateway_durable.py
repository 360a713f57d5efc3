"""Runs outlive the gateways that work on them: taken up where they stood, paid once, and ended once."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections import Counter
from typing import TYPE_CHECKING, Any

import pytest

from djp.mesh.channel import open_channel
from djp.scaling.settings import ScalingSettings
from djp.v1 import common_pb2, governance_pb2, run_pb2, run_pb2_grpc
from tests.gateway.test_gateway_cancel import cancel
from tests.gateway.test_gateway_crash import METHODS, held

if TYPE_CHECKING:
    from pathlib import Path

    from djp_gateway.adapters.sql_store import SqlRunStore

SILENCE_S = 1.0


def assert_whole(run: run_pb2.Run, leaves: Any) -> None:
    """It was published, every draft and ballot was paid once, and ledger, artifact and run agree."""
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    mine = [one for one in leaves.reservations.values() if one.message.run_id == run.run_id]
    assert {one.message.state for one in mine} == {governance_pb2.RESERVATION_STATE_SETTLED}
    calls = [call for one in mine for call in one.calls.values()]
    known = [call for call in calls if not call.usage_unknown]
    assert Counter(call.actor_id for call in known) == {"d1": 1, "d2": 1, "d3": 1, "j1": 1}
    assert run.result.total_nano_usd == sum(call.cost_nano_usd for call in calls)
    artifact = leaves.artifact(run)
    assert artifact["publish"]["text"] == run.result.text
    assert artifact["provenance"]["total_cost_nano_usd"] == run.result.total_nano_usd
    assert len(artifact["debate"]["drafts"]) == 3


async def told(gateway: Any, run_id: str) -> Counter[str]:
    """How often what was told of the run, which is numbered without a gap."""
    events = await gateway.watch(run_id)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert [event.state.state for event in events if event.state.HasField("run")] == [run_pb2.RUN_STATE_PUBLISHED]
    counts = Counter(event.draft_finished.draft_id for event in events if event.HasField("draft_finished"))
    return counts + Counter(event.ballot.ballot_id for event in events if event.HasField("ballot"))


@pytest.mark.parametrize("method", METHODS)
async def test_a_run_goes_on_at_the_next_gateway_where_it_stood(mesh: Any, leaves: Any, method: str) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold(method)
    run = await first.start(corpus="handbook") if method != "Search" else None
    if not run:  # the first search pins the version, before there is a run
        del leaves.before["Search"]
        searched: list[Any] = []

        async def second_only(request: Any) -> None:
            searched.append(request)
            if len(searched) > 1:
                await gate(request)

        leaves.before["Search"] = second_only
        run = await first.start(corpus="handbook")
    await gate.entered.wait()
    await first.close()
    leaves.before.pop(method, None)
    second = await mesh.gateway(executor_id="second")
    ended = await second.finish(run.run_id)
    assert_whole(ended, leaves)
    assert ended.attempt == 2
    assert set((await told(second, run.run_id)).values()) == {1}


async def test_a_gateway_of_the_same_name_takes_over_and_the_slow_one_writes_nothing_more(
    mesh: Any, leaves: Any, until: Any
) -> None:
    first = await mesh.gateway()
    gate = leaves.hold("DebateEnd")
    run = await first.start()
    drafts = 0
    async for answer in first.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        drafts += answer.event.HasField("draft_finished")
        if drafts == 3:
            break
    del leaves.before["DebateEnd"]
    second = await mesh.gateway()  # of the same executor: it takes the first for dead
    ended = await second.finish(run.run_id)
    assert_whole(ended, leaves)
    gate.opened.set()
    await until(lambda: not first.service.servicers[0][1]._runner._tasks)
    assert await second.get(run.run_id) == ended
    assert len(leaves.requests("PutArtifact")) == 1


async def test_the_runs_of_a_gateway_that_shows_no_life_are_taken_over(mesh: Any, leaves: Any) -> None:
    address = f"unix:{mesh.folder}/killed.sock"
    gates = {method: leaves.hold(method) for method in ("Debate", "Judge")}
    gates["Debate"].opened.set()
    process = await killable(leaves, address)
    async with open_channel(address) as channel:
        request = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Go on."))
        run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(request, wait_for_ready=True)).run
        await gates["Judge"].entered.wait()
    lively = await mesh.gateway(executor_id="lively", executor_silence_s=SILENCE_S)  # a quick one could take the run
    process.send_signal(signal.SIGKILL)
    await process.wait()
    del leaves.before["Judge"]
    ended = await lively.finish(run.run_id)
    assert_whole(ended, leaves)
    assert len(leaves.requests("Debate")) == 1
    assert any("it goes on with 3 drafts" in warning for warning in ended.warnings)


async def test_a_run_that_is_taken_over_waits_for_no_autoscaler(mesh: Any, leaves: Any) -> None:
    """The only place is taken by a run of the same tenant."""
    never = ScalingSettings(min_workers=1, max_workers=2, interval_ms=3_600_000)
    lively = await mesh.gateway(executor_id="lively", executor_silence_s=SILENCE_S, scaling=never)
    debate, judge = leaves.hold("Debate"), leaves.hold("Judge")
    busy = await lively.start()
    await debate.entered.wait()
    del leaves.before["Debate"]
    address = f"unix:{mesh.folder}/killed.sock"
    process = await killable(leaves, address)
    async with open_channel(address) as channel:
        request = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Go on."))
        run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(request, wait_for_ready=True)).run
        await judge.entered.wait()
    del leaves.before["Judge"]
    process.send_signal(signal.SIGKILL)
    await process.wait()
    assert_whole(await lively.finish(run.run_id), leaves)
    debate.opened.set()
    assert (await lively.finish(busy.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_a_gateway_that_is_told_to_stop_hands_its_runs_over_and_takes_no_more(mesh: Any, leaves: Any) -> None:
    address = f"unix:{mesh.folder}/stopped.sock"
    gate = leaves.hold("Judge")
    process = await killable(leaves, address, MAX_WORKERS="2", MIN_WORKERS="2")
    async with open_channel(address) as channel:
        runs = run_pb2_grpc.RunServiceStub(channel)

        async def start() -> str:
            request = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Go on."))
            return str((await runs.StartRun(request, wait_for_ready=True)).run.run_id)

        in_work = [await start(), await start()]
        async with asyncio.timeout(60):
            while len(leaves.requests("Judge")) < 2:  # noqa: ASYNC110  of other gateways there is no event
                await asyncio.sleep(0.01)
        waiting = await start()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    del leaves.before["Judge"]
    gate.opened.set()
    # So long that nothing is taken over for silence: what goes on here was handed over.
    other = await mesh.gateway(executor_id="other", executor_silence_s=600.0)
    for run_id in (*in_work, waiting):
        ended = await other.finish(run_id)
        assert_whole(ended, leaves)
        assert set((await told(other, run_id)).values()) == {1}
        assert ended.attempt == (2 if run_id in in_work else 1)
    assert len(leaves.requests("Debate")) == 3, "no draft was asked for twice"


async def test_a_frozen_gateway_that_comes_back_finds_its_run_taken_over(mesh: Any, leaves: Any, until: Any) -> None:
    address = f"unix:{mesh.folder}/frozen.sock"
    gate = leaves.hold("Judge")
    process = await killable(leaves, address)
    async with open_channel(address) as channel:
        request = run_pb2.StartRunRequest(request_id=str(uuid.uuid4()), run=run_pb2.RunRequest(task="Go on."))
        run = (await run_pb2_grpc.RunServiceStub(channel).StartRun(request, wait_for_ready=True)).run
        await gate.entered.wait()
        process.send_signal(signal.SIGSTOP)
        lively = await mesh.gateway(executor_id="lively", executor_silence_s=SILENCE_S)
        leaves.before["Judge"] = second = type(gate)()
        await second.entered.wait()
        process.send_signal(signal.SIGCONT)
        gate.opened.set()  # what the frozen one had asked for is answered
        second.opened.set()
        ended = await lively.finish(run.run_id)
        assert_whole(ended, leaves)
        seen = [answer.event async for answer in run_pb2_grpc.RunServiceStub(channel).WatchRun(watch(run.run_id))]
    assert seen[-1].state.run.state == run_pb2.RUN_STATE_PUBLISHED
    process.terminate()
    await process.wait()


async def test_a_draft_that_was_kept_and_not_charged_is_charged_and_not_written_again(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("Charge")
    run = await first.start()
    await gate.entered.wait()
    monkeypatch.setattr("djp_gateway.patience._LAST_S", 0.01)  # as if it had died
    await first.close()
    del leaves.before["Charge"]
    second = await mesh.gateway(executor_id="second")
    assert_whole(await second.finish(run.run_id), leaves)
    first_debate, second_debate = leaves.requests("Debate")
    assert not first_debate.completed_drafts
    assert [draft.debater_id for draft in second_debate.completed_drafts] == ["d1"]


async def test_what_was_hidden_keeps_its_names(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("Judge")
    run = await first.start(task="Ask jane.roe@example.com.", redaction=run_pb2.REDACTION_MODE_ALL)
    await gate.entered.wait()
    await first.close()
    del leaves.before["Judge"]
    second = await mesh.gateway(executor_id="second")
    assert (await second.finish(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED
    assert [request.task for request in leaves.requests("Judge")] == ["Ask [EMAIL_1]."] * 2


async def test_a_run_that_lost_its_money_reserves_what_it_still_needs(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("Judge")
    run = await first.start()
    await gate.entered.wait()
    await first.close()
    (reservation,) = leaves.reservations.values()
    reservation.message.state = governance_pb2.RESERVATION_STATE_LAPSED
    del leaves.before["Judge"]
    second = await mesh.gateway(executor_id="second")
    assert_whole(await second.finish(run.run_id), leaves)
    whole, rest = leaves.requests("Reserve")
    assert (whole.amount_nano_usd, rest.amount_nano_usd) == (9000, 3000)


async def test_a_run_that_kills_its_gateways_is_given_up(mesh: Any, leaves: Any) -> None:
    leaves.hold("Debate")
    for number in range(7):
        gateway = await mesh.gateway()  # each takes the one before for dead
        if not number:
            run = await gateway.start()
        await until_asked(leaves, min(number + 1, 6))
    ended = await gateway.finish(run.run_id)
    assert ended.state == run_pb2.RUN_STATE_FAILED
    assert ended.error.reason == common_pb2.ERROR_REASON_INTERRUPTED
    assert "6 processes died" in ended.error.message
    assert not held(leaves)


async def test_a_cancelled_run_of_a_dead_gateway_ends_cancelled(mesh: Any, leaves: Any) -> None:
    first = await mesh.gateway(executor_id="first")
    gate = leaves.hold("Debate")
    run = await first.start()
    await gate.entered.wait()
    await first.close()  # its run waits for another one
    second = await mesh.gateway(executor_id="second", max_workers=1)
    ended = await cancel(second, run.run_id)
    assert ended.state == run_pb2.RUN_STATE_CANCELLED
    assert not held(leaves)


async def test_a_run_that_is_cancelled_while_it_is_taken_up_again_pays_what_was_made_before(
    mesh: Any, leaves: Any
) -> None:
    first = await mesh.gateway(executor_id="first")
    drafted = leaves.hold("DebateEnd")
    run = await first.start(corpus="handbook")
    await drafted.entered.wait()
    searching = leaves.hold("Search")
    await first.close()
    second = await mesh.gateway(executor_id="second")
    await searching.entered.wait()  # once more, before it is known what the first one held
    ended = await cancel(second, run.run_id)
    assert ended.state == run_pb2.RUN_STATE_CANCELLED
    assert not held(leaves)
    (reservation,) = leaves.reservations.values()
    assert ended.result.total_nano_usd == reservation.message.charged_nano_usd > 0


async def test_nothing_is_kept_of_a_run_that_has_ended(gateway: Any) -> None:
    run = await gateway.do()
    store: SqlRunStore = gateway.service.servicers[0][1]._store
    assert await store.checkpoints(run.run_id) == []


async def killable(
    leaves: Any, address: str, executor: str = "killed", spans: Path | None = None, **settings: str
) -> asyncio.subprocess.Process:
    """A gateway in a process of its own, which works on runs at once; its spans go to that folder."""
    record = (
        f"from pathlib import Path; telemetry.setup('gateway', spans_dir=Path({str(spans)!r}))" if spans else "pass"
    )
    environment = {
        **os.environ,
        **{f"DJP_{name.upper()}_ADDRESS": leaves.address(name) for name in leaves.servers},
        "DJP_EXECUTOR_ID": executor,
        "DJP_EXECUTOR_SILENCE_S": str(SILENCE_S),
        "DJP_DRAIN_DELAY_S": "0",
        **settings,
    }
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        f"from djp.mesh import telemetry; from djp.standalone import serve_one; {record}; "
        f"raise SystemExit(serve_one('gateway', {address!r}))",
        env=environment,
        stderr=asyncio.subprocess.DEVNULL,
    )


def watch(run_id: str) -> run_pb2.WatchRunRequest:
    return run_pb2.WatchRunRequest(run_id=run_id)


async def until_asked(leaves: Any, times: int) -> None:
    async with asyncio.timeout(60):
        while len(leaves.requests("Debate")) < times:  # noqa: ASYNC110  of other gateways there is no event
            await asyncio.sleep(0.01)
