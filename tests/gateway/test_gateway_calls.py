"""Every attempt at a model call is told and paid: as it ends, or at its bound where nobody knows how it ended."""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson

from djp.catalogue_files import validate_against
from djp.mesh.errors import Internal, ResourceExhausted, Unavailable
from djp.v1 import common_pb2, debate_pb2, governance_pb2, judge_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SECRET = "jane.roe@example.com"
LABEL = "[REDACTED:EMAIL]"
BOUND = 4000


def a_call(
    actor: str = "d1",
    attempt: int = 1,
    stage: int = common_pb2.STAGE_DEBATE,
    *,
    bound: int = BOUND,
    error: str = "",
) -> common_pb2.ModelCall:
    """A call as it is told before it is made."""
    call = common_pb2.ModelCall(
        call_id=str(uuid.uuid4()),
        stage=stage,  # type: ignore[arg-type]
        model="openai/gpt-4o",
        usage=common_pb2.TokenUsage(input_tokens=900, output_tokens=100),
        cost_nano_usd=bound,
        bound_nano_usd=bound,
        usage_unknown=True,
        attempt=attempt,
        actor_id=actor,
        error=error,
    )
    call.started_at.GetCurrentTime()
    return call


def ended(call: common_pb2.ModelCall, cost: int, *, error: str = "", unknown: bool = False) -> common_pb2.ModelCall:
    """The same call as it is told again."""
    again = common_pb2.ModelCall()
    again.CopyFrom(call)
    again.cost_nano_usd, again.usage_unknown, again.error = cost, unknown, error
    if not unknown:
        again.usage.CopyFrom(common_pb2.TokenUsage(input_tokens=cost // 10, output_tokens=7))
    return again


def started(call: common_pb2.ModelCall) -> debate_pb2.DebateResponse:
    return debate_pb2.DebateResponse(call_started=call)


def a_draft(debater: str, round_: int = 1, text: str = "Money is reserved.") -> debate_pb2.Draft:
    return debate_pb2.Draft(
        draft_id=f"{debater}-r{round_}", debater_id=debater, model="openai/gpt-4o", round=round_, text=text, tokens=7
    )


def finished(*drafts: debate_pb2.Draft) -> debate_pb2.DebateResponse:
    return debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=drafts, rounds=1))


def charged(leaves: Any) -> dict[str, common_pb2.ModelCall]:
    """What the ledger has of every call, by id."""
    return {call_id: call for one in leaves.reservations.values() for call_id, call in one.calls.items()}


def held(leaves: Any) -> list[Any]:
    return [r for r in leaves.reservations.values() if r.message.state == governance_pb2.RESERVATION_STATE_HELD]


def kinds(events: list[run_pb2.RunEvent]) -> list[str]:
    """What the events tell of calls and drafts, in order."""
    names = [str(event.WhichOneof("event")) for event in events]
    return [name for name in names if name in ("call_started", "call_ended", "draft_finished", "draft_failed")]


def of_debate(events: list[run_pb2.RunEvent]) -> list[run_pb2.RunEvent]:
    end = next(n for n, event in enumerate(events) if event.stage_finished.stage == common_pb2.STAGE_DEBATE)
    return events[:end]


async def test_attempts_are_told_and_charged_as_they_end_and_each_once(gateway: Any, leaves: Any) -> None:
    first, second, third = a_call(), a_call(attempt=2), a_call("d2")
    refused = ended(first, 0, error=f"429: {SECRET} is too fast")
    cut = ended(third, BOUND, error="the connection was lost", unknown=True)
    seen_before_the_draft: list[set[str]] = []

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield started(first)
        yield debate_pb2.DebateResponse(call_failed=refused)
        yield started(second)
        yield started(third)
        await leaves.take("Drafting", None)
        draft = debate_pb2.DraftFinished(draft=a_draft("d1"), calls=[refused, ended(second, 1500)])
        yield debate_pb2.DebateResponse(draft=draft)
        await asyncio.wait_for(_charge_came(leaves, second), 60)  # or both would be charged and told together
        failed = debate_pb2.DraftFailed(
            debater_id="d2",
            round=1,
            model="openai/gpt-4o",
            reason=common_pb2.ERROR_REASON_PROVIDER_FAILED,
            message=f"the connection to {SECRET} was lost",
            partial_text=f"Dear {SECRET}, the budget",
            calls=[cut],
        )
        yield debate_pb2.DebateResponse(failed=failed)
        yield finished(a_draft("d1"))

    async def look(_request: Any) -> None:
        await asyncio.wait_for(_charge_came(leaves, first), 60)
        seen_before_the_draft.append(set(charged(leaves)))

    leaves.debate = debate
    leaves.before["Drafting"] = look
    run = await gateway.start()
    events = await gateway.watch(run.run_id)
    assert seen_before_the_draft == [{first.call_id}]
    assert kinds(of_debate(events)) == [
        "call_started", "call_ended", "call_started", "call_started", "call_ended", "draft_finished", "call_ended",
        "draft_failed",
    ]  # fmt: skip
    told = [event.call_ended for event in events if event.HasField("call_ended")]
    assert [call.call_id for call in told[:3]] == [first.call_id, second.call_id, third.call_id]
    assert told[0].error == f"429: {LABEL} is too fast"
    ledger = charged(leaves)
    mine = (first, second, third)
    assert [ledger[call.call_id].cost_nano_usd for call in mine] == [0, 1500, BOUND]
    assert ledger[third.call_id].usage_unknown
    done = await gateway.get(run.run_id)
    assert done.result.total_nano_usd == sum(call.cost_nano_usd for call in ledger.values())
    artifact = leaves.artifact(done)
    assert validate_against("artifact", artifact) == []
    calls = {call["call_id"]: call for call in artifact["provenance"]["calls"]}
    assert set(calls) == set(ledger)
    assert calls[first.call_id]["error"] == f"429: {LABEL} is too fast"
    assert calls[third.call_id]["usage_unknown"]
    (failure,) = artifact["debate"]["failures"]
    assert failure["reason"] == "PROVIDER_FAILED"
    assert failure["partial_text"] == f"Dear {LABEL}, the budget"
    events[-1].state.run.ClearField("spec")
    assert SECRET not in "".join(map(MessageToJson, events))


async def _charge_came(leaves: Any, call: common_pb2.ModelCall) -> None:
    while call.call_id not in charged(leaves):  # noqa: ASYNC110  the ledger rings no bell
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("end", ["error", "timeout", "stop", "cut"])
async def test_calls_in_flight_when_a_stage_ends_badly_are_charged_at_their_bound(
    mesh: Any, leaves: Any, end: str
) -> None:
    done, flying = a_call(), a_call("d2")
    wrong = a_call("d3")  # says that it costs less than it can
    wrong.cost_nano_usd, wrong.usage_unknown = 0, False

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield started(done)
        yield started(flying)
        yield started(wrong)
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=a_draft("d1"), calls=[ended(done, 1500)]))
        await leaves.take("Drafting", None)
        if end == "error":
            raise Internal("something broke")

    leaves.debate = debate
    first = await mesh.command()
    gate = leaves.hold("Drafting") if end in ("timeout", "stop") else None
    run = await first.start(timeout=Duration(seconds=1) if end == "timeout" else None)
    if gate:
        await gate.entered.wait()
        await _charge_came(leaves, done)
    if end == "stop":
        await first.close()
        first = await mesh.command()
    events = await first.watch(run.run_id)
    last = await first.get(run.run_id)
    assert last.state == run_pb2.RUN_STATE_FAILED
    ledger = charged(leaves)
    assert {call_id: call.cost_nano_usd for call_id, call in ledger.items()} == {
        done.call_id: 1500, flying.call_id: BOUND, wrong.call_id: BOUND,
    }  # fmt: skip
    assert ledger[flying.call_id].usage_unknown
    assert ledger[wrong.call_id].usage_unknown
    assert last.result.total_nano_usd == 1500 + 2 * BOUND
    names = leaves.names()
    assert max(n for n, name in enumerate(names) if name == "Charge") < names.index("Release")
    assert not held(leaves)
    assert kinds(events).count("call_ended") == 3
    costs = [event.cost.cost_nano_usd for event in events if event.HasField("cost")]
    assert costs[-1] == 1500 + 2 * BOUND


async def test_what_a_dead_gateway_had_started_is_charged_at_its_bound(mesh: Any, leaves: Any, until: Any) -> None:
    """The first gateway works on when the second takes it for dead: as good as a kill for what is on record."""
    paid, flying = a_call(), a_call("d2")

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield started(paid)
        yield started(flying)
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=a_draft("d1"), calls=[ended(paid, 1500)]))
        await leaves.take("Drafting", None)

    leaves.debate = debate
    gate = leaves.hold("Drafting")
    first = await mesh.command()
    run = await first.start()
    async for answer in first.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        if answer.event.HasField("draft_finished"):
            break
    second = await mesh.command()
    last = await second.finish(run.run_id)
    assert last.error.reason == common_pb2.ERROR_REASON_INTERRUPTED
    assert last.result.total_nano_usd == 1500 + BOUND
    assert {call_id: call.cost_nano_usd for call_id, call in charged(leaves).items()} == {
        paid.call_id: 1500, flying.call_id: BOUND,
    }  # fmt: skip
    assert not held(leaves)
    gate.opened.set()
    await until(lambda: not first.service.servicers[0][1]._runner._tasks)
    assert charged(leaves)[flying.call_id].cost_nano_usd == BOUND
    assert kinds(await second.watch(run.run_id)).count("call_ended") == 2


async def test_a_charge_whose_answer_was_lost_is_not_replaced_by_its_bound(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Governance recorded the true cost, and the gateway died before it heard so: the bound changes nothing."""
    call = a_call()

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        yield started(call)
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=a_draft("d1"), calls=[ended(call, 1500)]))

    leaves.debate = debate
    gate = leaves.hold("Charge")
    first = await mesh.command()
    run = await first.start()
    await gate.entered.wait()
    (reservation,) = leaves.reservations.values()
    reservation.calls[call.call_id] = ended(call, 1500)
    reservation.message.charged_nano_usd = 1500
    leaves.before.clear()
    second = await mesh.command()
    assert (await second.finish(run.run_id)).result.total_nano_usd == 1500
    monkeypatch.setattr("djp_gateway.patience._LAST_S", 0.01)
    await first.close()
    assert charged(leaves)[call.call_id].cost_nano_usd == 1500


def dies(times: int) -> Any:
    """A debate of two whose second debater's call is in flight when the leaf goes away, the first `times` times."""
    asked: list[debate_pb2.DebateRequest] = []
    calls: list[common_pb2.ModelCall] = []

    async def debate(request: debate_pb2.DebateRequest) -> AsyncIterator[debate_pb2.DebateResponse]:
        asked.append(request)
        known = {draft.debater_id: draft for draft in request.completed_drafts}
        for debater in ("d1", "d2"):
            if debater in known:
                continue
            call = a_call(debater)
            calls.append(call)
            yield started(call)
            if debater == "d2" and len(asked) <= times:
                raise Unavailable("the leaf is going away")
            known[debater] = a_draft(debater)
            done = debate_pb2.DraftFinished(draft=known[debater], calls=[ended(call, 1500)])
            yield debate_pb2.DebateResponse(draft=done)
        yield finished(*known.values())

    debate.asked, debate.calls = asked, calls  # type: ignore[attr-defined]
    return debate


async def test_a_debate_whose_leaf_dies_goes_on_with_what_is_missing(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 5)
    leaves.debate = debate = dies(2)
    run = await gateway.start()
    events = await gateway.watch(run.run_id)
    done = await gateway.get(run.run_id)
    assert done.state == run_pb2.RUN_STATE_PUBLISHED
    assert [request.attempt for request in debate.asked] == [1, 2, 3]
    assert [[d.draft_id for d in request.completed_drafts] for request in debate.asked] == [[], ["d1-r1"], ["d1-r1"]]
    costs = [charged(leaves)[call.call_id].cost_nano_usd for call in debate.calls]
    assert costs == [1500, BOUND, BOUND, 1500]
    assert done.result.total_nano_usd == sum(call.cost_nano_usd for call in charged(leaves).values())
    assert leaves.artifact(done)["provenance"]["total_cost_nano_usd"] == done.result.total_nano_usd
    assert kinds(of_debate(events)).count("call_ended") == 4
    assert sum("charged at their bound" in warning for warning in done.warnings) == 2
    assert not held(leaves)


async def test_work_that_is_done_again_is_held_before_it_is_done(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of the reservation does not cover the rest: it is settled, and the rest reserved anew."""
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 5)
    leaves.debate = dies(1)
    run = await gateway.do(budget_nano_usd=10**9, budget_tokens=10**6)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    first, second = leaves.reservations.values()
    assert first.message.state == second.message.state == governance_pb2.RESERVATION_STATE_SETTLED
    assert run.reservation_id == second.message.reservation_id
    before, again = leaves.requests("Reserve")
    assert again.amount_nano_usd == run.projection.debate.cost_nano_usd + run.projection.judge.cost_nano_usd
    spent = 1500 + BOUND
    assert (before.run_limit_nano_usd, again.run_limit_nano_usd) == (10**9, 10**9 - spent)
    assert before.run_limit_tokens > again.run_limit_tokens > 0
    for reservation in (first, second):
        assert reservation.message.charged_nano_usd <= reservation.message.reserved_nano_usd
    assert run.result.total_nano_usd == first.message.charged_nano_usd + second.message.charged_nano_usd
    assert sum(total.cost_nano_usd for total in run.result.totals) == run.result.total_nano_usd
    assert sum(total.usage_unknown_calls for total in run.result.totals) == 1


async def test_without_room_for_doing_it_again_the_run_fails_with_what_stopped_it(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 5)
    leaves.debate = dies(1)

    async def full(request: governance_pb2.ReserveRequest) -> None:
        if leaves.reservations:
            raise ResourceExhausted("the day's budget is empty until tomorrow", reason="BUDGET_EXCEEDED")

    leaves.before["Reserve"] = full
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED  # not denied: something was called
    assert run.error.reason == common_pb2.ERROR_REASON_UNAVAILABLE
    assert any("the day's budget is empty" in warning for warning in run.warnings)
    assert run.result.total_nano_usd == 1500 + BOUND
    assert not held(leaves)


async def test_a_leaf_that_dies_again_and_again_is_given_up(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 20)
    leaves.debate = debate = dies(100)
    run = await gateway.do()
    assert run.error.reason == common_pb2.ERROR_REASON_UNAVAILABLE
    assert len(debate.asked) == 4
    assert run.result.total_nano_usd == 1500 + 4 * BOUND
    assert not held(leaves)


async def test_a_leaf_that_is_away_before_any_call_costs_nothing(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 6)
    leaves.fail("Debate", Unavailable("starting"), times=5)
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert run.result.total_nano_usd == 3506
    assert len(leaves.reservations) == 1
    assert not run.warnings


async def test_a_leaf_that_stays_away_ends_with_the_runs_time(gateway: Any, leaves: Any) -> None:
    leaves.fail("Debate", Unavailable("gone"))
    run = await gateway.do(timeout=Duration(seconds=1))
    assert run.error.reason == common_pb2.ERROR_REASON_DEADLINE_EXCEEDED
    assert not held(leaves)


async def test_a_judgement_whose_leaf_dies_goes_on_with_the_ballots_so_far(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 3)
    asked: list[judge_pb2.JudgeRequest] = []

    async def judge(request: judge_pb2.JudgeRequest) -> AsyncIterator[judge_pb2.JudgeResponse]:
        asked.append(request)
        ids = [candidate.draft.draft_id for candidate in request.candidates]
        for juror in ("j1", "j2"):
            if any(ballot.juror_id == juror for ballot in request.completed_ballots):
                continue
            call = a_call(juror, stage=common_pb2.STAGE_JUDGE)
            yield judge_pb2.JudgeResponse(call_started=call)
            failed = ended(call, 10, error="500")
            yield judge_pb2.JudgeResponse(call_failed=failed)
            if juror == "j2" and len(asked) == 1:
                yield judge_pb2.JudgeResponse(call_started=a_call(juror, 2, stage=common_pb2.STAGE_JUDGE))
                raise Unavailable("the leaf is going away")
            scores = [judge_pb2.Score(draft_id=i, task_fit=4, support=4, clarity=2, total=10) for i in ids]
            ballot = judge_pb2.Ballot(ballot_id=juror, juror_id=juror, model="a/b", order=ids, scores=scores[1:])
            ballot.recused_draft_ids.append(ids[0])
            yield judge_pb2.JudgeResponse(ballot=judge_pb2.BallotCast(ballot=ballot, calls=[failed]))
        verdict = judge_pb2.Verdict(winner_draft_id=ids[1], effective_jurors=2, fast_path=True, agreement=1)
        verdict.ranking.add(draft_id=ids[1], task_fit=4, support=4, clarity=2, mean=10)
        yield judge_pb2.JudgeResponse(verdict=verdict)

    leaves.judge = judge
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert [request.attempt for request in asked] == [1, 2]
    assert [len(request.completed_ballots) for request in asked] == [0, 1]
    assert asked[0].orders == 2
    of_jury = sorted(c.cost_nano_usd for c in charged(leaves).values() if c.stage == common_pb2.STAGE_JUDGE)
    assert of_jury == [10, 10, 10, BOUND]
    artifact = leaves.artifact(run)
    assert validate_against("artifact", artifact) == []
    assert [ballot["recused_draft_ids"] for ballot in artifact["judge"]["ballots"]] == [["d1-r1"]] * 2
    assert artifact["judge"]["verdict"]["effective_jurors"] == 2
    assert artifact["judge"]["verdict"]["fast_path"]


async def test_why_a_juror_abstained_is_told_redacted(gateway: Any, leaves: Any) -> None:
    async def judge(_request: Any) -> AsyncIterator[judge_pb2.JudgeResponse]:
        ballot = judge_pb2.Ballot(ballot_id="j1-1", juror_id="j1", model="a/b", abstained=True)
        ballot.abstain_reason = f"the provider says that {SECRET} is out"
        yield judge_pb2.JudgeResponse(ballot=judge_pb2.BallotCast(ballot=ballot))
        yield judge_pb2.JudgeResponse(verdict=judge_pb2.Verdict(abstentions=1, reason="no juror voted"))

    leaves.judge = judge
    run = await gateway.start()
    events = await gateway.watch(run.run_id)
    (told,) = (event.ballot for event in events if event.HasField("ballot"))
    assert told.abstain_reason == f"the provider says that {LABEL} is out"
    assert (await gateway.get(run.run_id)).state == run_pb2.RUN_STATE_NO_RESULT


async def test_one_draft_is_shown_in_one_order(gateway: Any, leaves: Any) -> None:
    call = a_call()

    async def debate(request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        assert request.attempt == 1
        yield started(call)
        yield debate_pb2.DebateResponse(draft=debate_pb2.DraftFinished(draft=a_draft("d1"), calls=[ended(call, 9)]))
        yield finished(a_draft("d1"))

    leaves.debate = debate
    await gateway.do()
    (judged,) = leaves.requests("Judge")
    assert judged.orders == 1
    (projected,) = leaves.requests("ProjectJudge")
    assert projected.orders == 2


async def test_a_run_that_costs_more_than_was_held_says_so_once(gateway: Any, leaves: Any) -> None:
    calls = [a_call(debater) for debater in ("d1", "d2", "d3")]

    async def debate(_request: Any) -> AsyncIterator[debate_pb2.DebateResponse]:
        for call in calls:
            yield started(call)
            done = debate_pb2.DraftFinished(draft=a_draft(call.actor_id), calls=[ended(call, 8000)])
            yield debate_pb2.DebateResponse(draft=done)
        yield finished(*(a_draft(call.actor_id) for call in calls))

    leaves.debate = debate
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert run.result.total_nano_usd > 24_000 > run.projection.total.cost_nano_usd
    assert sum("more than was reserved" in warning for warning in run.warnings) == 1


@pytest.mark.parametrize("seed", range(12))
async def test_whatever_dies_when_the_ledger_has_the_truth(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """A leaf dies and calls fail at random moments; in the end every call that was told stands in the ledger, once."""
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,) * 20)
    chance = random.Random(seed)
    truth: dict[str, int] = {}
    written: list[str] = []

    async def debate(request: debate_pb2.DebateRequest) -> AsyncIterator[debate_pb2.DebateResponse]:
        known = {(draft.debater_id, draft.round): draft for draft in request.completed_drafts}
        for round_ in (1, 2):
            calls: dict[str, list[common_pb2.ModelCall]] = {}
            for debater in ("d1", "d2", "d3"):
                if (debater, round_) not in known:
                    call = a_call(debater)
                    calls[debater] = [call]
                    truth[call.call_id] = BOUND
                    yield started(call)
            for debater in sorted(calls, key=lambda _: chance.random()):
                while chance.random() < 0.3:
                    if chance.random() < 0.25:
                        raise Unavailable("killed")
                    cost = chance.choice((0, 700, BOUND))
                    failed = ended(calls[debater][-1], cost, error="503", unknown=cost == BOUND)
                    truth[failed.call_id] = cost
                    calls[debater][-1] = failed
                    yield debate_pb2.DebateResponse(call_failed=failed)
                    again = a_call(debater, len(calls[debater]) + 1)
                    truth[again.call_id] = BOUND
                    calls[debater].append(again)
                    yield started(again)
                last = ended(calls[debater][-1], chance.randrange(1, BOUND))
                truth[last.call_id] = last.cost_nano_usd
                known[debater, round_] = a_draft(debater, round_)
                written.append(f"{debater}-r{round_}")
                done = debate_pb2.DraftFinished(draft=known[debater, round_], calls=[*calls[debater][:-1], last])
                yield debate_pb2.DebateResponse(draft=done)
        yield finished(*(known[debater, 2] for debater in ("d1", "d2", "d3")))

    leaves.debate = debate
    gateway = await mesh.gateway()
    run = await gateway.start(rounds=2)
    events = await gateway.watch(run.run_id)
    last = await gateway.get(run.run_id)
    of_debate_ = {i: c.cost_nano_usd for i, c in charged(leaves).items() if c.stage == common_pb2.STAGE_DEBATE}
    assert of_debate_ == truth
    assert last.result.total_nano_usd == sum(c.cost_nano_usd for c in charged(leaves).values())
    assert len(written) == len(set(written))
    told = [event.call_ended for event in events if event.HasField("call_ended")]
    assert sorted(call.call_id for call in told) == sorted(charged(leaves))
    assert not held(leaves)
    assert last.state in (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_FAILED)
    for reservation in leaves.reservations.values():
        assert reservation.message.state != governance_pb2.RESERVATION_STATE_HELD
