"""The gateway's database goes away in the middle of anything, before or after a commit: runs go on where they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from djp.database import DatabaseAwayError
from djp.mesh.errors import Unavailable
from djp.run_states import TERMINAL_STATES
from djp.v1 import governance_pb2, run_pb2
from djp_gateway.adapters.sql_queue import SqlRunQueue
from djp_gateway.adapters.sql_store import SqlRunStore

if TYPE_CHECKING:
    from collections.abc import Collection

FULL_COST = 3506
"""Of a run of the small leaves, in nano-dollars."""


class Outage:
    """Breaks the given calls of a method, the first one being 1; `committed`: only the answer is lost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: Any, method: str, *, committed: bool) -> None:
        self.calls = 0
        self.broken: Collection[int] = ()
        real = getattr(owner, method)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            broken = self.calls in self.broken
            if broken and not committed:
                raise DatabaseAwayError("the connection broke")
            answer = await real(*args, **kwargs)
            if broken:
                raise DatabaseAwayError("the connection broke")
            return answer

        monkeypatch.setattr(owner, method, call)


@pytest.mark.parametrize("committed", [False, True])
async def test_a_run_survives_an_outage_at_each_of_its_writes(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    saves = Outage(monkeypatch, SqlRunStore, "save", committed=committed)
    await gateway.do()
    writes, paid_calls = saves.calls, len(calls_of(leaves))
    assert writes > 8
    for number in range(1, writes + 1):
        leaves.reservations.clear()
        saves.calls, saves.broken = 0, {number}
        run = await gateway.start()
        events = await gateway.watch(run.run_id)
        run = await gateway.get(run.run_id)
        assert run.state == run_pb2.RUN_STATE_PUBLISHED, (number, run.error)
        assert [event.sequence for event in events] == list(range(1, len(events) + 1))
        assert [event.state.state in TERMINAL_STATES for event in events if event.HasField("state")].count(True) == 1
        paid = calls_of(leaves)
        assert run.result.total_nano_usd == sum(call.cost_nano_usd for call in paid)
        assert leaves.artifact(run)["provenance"]["total_cost_nano_usd"] == run.result.total_nano_usd
        assert sum(not call.usage_unknown for call in paid) == paid_calls, number
        states = {one.message.state for one in leaves.reservations.values()}
        assert states == {governance_pb2.RESERVATION_STATE_SETTLED}


async def test_a_run_that_goes_on_waits_for_the_debate_service(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def project(_request: Any) -> None:
        if len(leaves.requests("ProjectDebate")) in (2, 3):  # the first one was for the reservation
            raise Unavailable("starting")

    leaves.before["ProjectDebate"] = project
    keeps = Outage(monkeypatch, SqlRunStore, "_keep", committed=False)
    keeps.broken = {2}
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    assert len(leaves.requests("ProjectDebate")) == 4


@pytest.mark.parametrize("committed", [False, True])
async def test_a_claim_whose_answer_is_lost_is_made_again(
    gateway: Any, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    claims = Outage(monkeypatch, SqlRunQueue, "claim", committed=committed)
    claims.broken = range(1, 4)
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert run.result.total_nano_usd == FULL_COST


@pytest.mark.parametrize("committed", [False, True])
async def test_a_cancelled_run_ends_though_the_claim_for_it_broke(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, committed: bool
) -> None:
    gateway = await mesh.gateway(max_workers=1)
    gate = leaves.hold("Debate")
    await gateway.start()
    await gate.entered.wait()
    waiting = await gateway.start()
    claims = Outage(monkeypatch, SqlRunQueue, "claim_one", committed=committed)
    claims.broken = {1}
    request = run_pb2.CancelRunRequest(request_id="8a53ba1c-7f0e-4b7e-9f0c-2f9d61d6a1c7", run_id=waiting.run_id)
    with pytest.raises(Exception, match="the connection broke"):
        await gateway.runs.CancelRun(request)
    assert (await gateway.runs.CancelRun(request)).run.state in (
        run_pb2.RUN_STATE_CANCELLED,
        run_pb2.RUN_STATE_QUEUED,
    )
    gate.opened.set()
    assert (await gateway.finish(waiting.run_id)).state == run_pb2.RUN_STATE_CANCELLED


def calls_of(leaves: Any) -> list[Any]:
    """What the ledger has recorded."""
    return [call for one in leaves.reservations.values() for call in one.calls.values()]
