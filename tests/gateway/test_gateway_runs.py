"""A run through the gateway: every end that it can have, and what is left behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.json_format import MessageToJson

from djp.catalogue_files import validate_against
from djp.mesh.errors import (
    DataLoss,
    DjpError,
    FailedPrecondition,
    Internal,
    InvalidInput,
    ResourceExhausted,
    Unavailable,
)
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import common_pb2, debate_pb2, governance_pb2, judge_pb2, redaction_pb2, run_pb2

SECRET = "jane.roe@example.com"
LABEL = "[REDACTED:EMAIL]"
WITHHELD = "the details are withheld, for they could not be redacted; the log of the service that failed has more"


def kinds(events: list[run_pb2.RunEvent]) -> list[str]:
    return [str(event.WhichOneof("event")) for event in events]


def held(leaves: Any) -> list[Any]:
    return [r for r in leaves.reservations.values() if r.message.state == governance_pb2.RESERVATION_STATE_HELD]


async def test_a_run_is_published(gateway: Any, leaves: Any) -> None:
    run = await gateway.start(corpus="handbook", grounded_required=1, passage_tokens=800, seed=7)
    assert run.state == run_pb2.RUN_STATE_QUEUED
    events = await gateway.watch(run.run_id)
    done = await gateway.get(run.run_id)

    assert done.state == run_pb2.RUN_STATE_PUBLISHED
    assert done.result.text == "Money is reserved first [Budgets]."
    assert done.result.model == "offline/lead"
    assert [c.title for c in done.result.citations] == ["Budgets"]
    assert done.result.advisory_reason == ""
    assert done.spec.corpus_version == "version-1"
    assert [(one.token_budget, one.top_k) for one in leaves.requests("Search")][-1] == (800, 10)
    assert done.offline
    assert not held(leaves)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert done.last_sequence == len(events)
    stages = [event.stage_started.stage for event in events if event.HasField("stage_started")]
    assert [common_pb2.Stage.Name(stage).removeprefix("STAGE_").lower() for stage in stages] == [
        "search", "project", "reserve", "debate", "cite", "judge", "redact", "store", "settle"
    ]  # fmt: skip
    assert kinds(events).count("draft_finished") == 3
    assert events[-1].state.run.result == done.result
    first_model_call = leaves.names().index("Debate")
    assert leaves.names().index("Reserve") < first_model_call


async def test_the_run_costs_what_settlement_says(gateway: Any, leaves: Any) -> None:
    run = await gateway.do()
    (reservation,) = leaves.reservations.values()
    assert run.result.total_nano_usd == reservation.message.charged_nano_usd == 1001 + 1002 + 1003 + 500
    assert sum(total.cost_nano_usd for total in run.result.totals) == run.result.total_nano_usd
    assert run.result.total_tokens == 4 * 140
    assert {total.model for total in run.result.totals} == {
        "offline/lead", "offline/focus", "offline/survey", "offline/rubric"
    }  # fmt: skip
    artifact = leaves.artifact(run)
    assert artifact["provenance"]["total_cost_nano_usd"] == run.result.total_nano_usd
    assert sum(row["cost_nano_usd"] for row in artifact["provenance"]["model_usage"]) == run.result.total_nano_usd
    assert reservation.message.reserved_nano_usd == run.projection.total.cost_nano_usd == 3 * 2000 + 3000


async def test_a_model_that_may_not_publish_is_shown_as_advice(gateway: Any, leaves: Any) -> None:
    run = await gateway.do(policy="openai_only")
    assert run.state == run_pb2.RUN_STATE_ADVISORY
    assert run.result.text
    assert "offline/lead" in run.result.advisory_reason
    artifact = leaves.artifact(run)
    assert artifact["publish"]["status"] == "advisory"
    assert validate_against("artifact", artifact) == []


async def test_a_fallback_that_may_not_publish_does_not_publish(gateway: Any, leaves: Any) -> None:
    """What counts is who wrote the draft, not who should have."""
    drafts = [
        debate_pb2.Draft(draft_id=f"d{n}-r1", debater_id=f"d{n}", model=model, round=1, text=f"Answer {n}.", tokens=3)
        for n, model in enumerate(("acme/large", "openai/gpt-4o"), start=1)
    ]
    drafts[1].safety_flags.append("truncated")

    async def debate(_request: Any) -> Any:
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=drafts, rounds=1))

    leaves.debate = debate
    debaters = [
        debate_pb2.Debater(debater_id=f"d{n}", model="openai/gpt-4o", fallback_models=["acme/large"]) for n in (1, 2)
    ]
    run = await gateway.do(policy="openai_only", debaters=debaters)
    assert run.result.verdict.winner_draft_id == "d1-r1"
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert (run.result.draft_id, run.result.model) == ("d2-r1", "openai/gpt-4o")
    del drafts[1]
    run = await gateway.do(policy="openai_only", debaters=debaters)
    assert run.state == run_pb2.RUN_STATE_ADVISORY
    assert "does not let acme/large publish" in run.result.advisory_reason


async def test_a_contested_verdict_is_advice(gateway: Any, leaves: Any) -> None:
    leaves.contested = True
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_ADVISORY
    assert "contested" in run.result.advisory_reason


async def test_without_a_draft_left_there_is_no_result(gateway: Any, leaves: Any) -> None:
    leaves.disqualify = {f"d{n}-r1": f"too few, see {SECRET}" for n in (1, 2, 3)}
    leaves.no_winner_reason = f"every draft is disqualified; ask {SECRET}"
    run = await gateway.do(corpus="handbook", grounded_required=2)
    assert run.state == run_pb2.RUN_STATE_NO_RESULT
    assert run.result.text == ""
    assert run.result.advisory_reason == f"every draft is disqualified; ask {LABEL}"
    assert run.result.grounded_fail_reason == "no draft has 2 citations that resolve; the best has 1"
    artifact = leaves.artifact(run)
    assert validate_against("artifact", artifact) == []
    assert artifact["publish"] == {
        "status": "none", "text": "", "draft_id": None, "model": None,
        "reason": f"every draft is disqualified; ask {LABEL}",
    }  # fmt: skip
    assert SECRET not in MessageToJson(run.result)
    assert not held(leaves)


@pytest.mark.parametrize(
    "error",
    [
        FailedPrecondition("the run could cost $2 and its limit is $1", reason="RUN_BUDGET_EXCEEDED"),
        ResourceExhausted("tenant:default has no room today", reason="BUDGET_EXCEEDED"),
    ],
)
async def test_a_run_without_budget_is_denied_and_nothing_is_called(gateway: Any, leaves: Any, error: DjpError) -> None:
    leaves.fail("Reserve", error)
    run = await gateway.do(budget_nano_usd=1)
    assert run.state == run_pb2.RUN_STATE_DENIED
    assert common_pb2.ErrorReason.Name(run.error.reason) == f"ERROR_REASON_{error.reason}"
    assert run.error.message == error.message
    assert run.error.stage == common_pb2.STAGE_RESERVE
    assert not run.error.retryable
    assert leaves.names()[-1] == "Reserve"
    assert leaves.requests("Reserve")[0].run_limit_nano_usd == 1


# The method that fails, the stage that the run is then in, and what it has cost by then.
FAILURES = [
    ("Search", common_pb2.STAGE_SEARCH, 0),
    ("ProjectDebate", common_pb2.STAGE_PROJECT, 0),
    ("ProjectJudge", common_pb2.STAGE_PROJECT, 0),
    ("Reserve", common_pb2.STAGE_RESERVE, 0),
    ("Debate", common_pb2.STAGE_DEBATE, 0),
    ("Charge", common_pb2.STAGE_DEBATE, 0),
    ("DebateEnd", common_pb2.STAGE_DEBATE, 3006),
    ("VerifyCitations", common_pb2.STAGE_CITE, 3006),
    ("Judge", common_pb2.STAGE_JUDGE, 3006),
    ("Redact", common_pb2.STAGE_REDACT, 3506),
]


@pytest.mark.parametrize(("method", "stage", "cost"), FAILURES, ids=[method for method, _, _ in FAILURES])
async def test_a_leaf_that_fails_fails_the_run(gateway: Any, leaves: Any, method: str, stage: int, cost: int) -> None:
    error = FailedPrecondition(f"broken for {SECRET}", reason="PROVIDER_FAILED")
    if method == "Search":  # the first one pins the corpus version, before there is a run
        seen: list[Any] = []

        async def second_fails(request: Any) -> None:
            seen.append(request)
            if len(seen) > 1:
                raise error

        leaves.before["Search"] = second_fails
    else:
        leaves.fail(method, error)
    run = await gateway.do(corpus="handbook")
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.stage == stage
    assert run.error.reason == common_pb2.ERROR_REASON_PROVIDER_FAILED
    sees_texts = method != "Reserve"
    assert run.error.message == (WITHHELD if method == "Redact" else f"broken for {LABEL if sees_texts else SECRET}")
    assert run.result.total_nano_usd == cost
    assert not held(leaves)
    assert all(reservation.releases == 1 for reservation in leaves.reservations.values())
    asked = leaves.names()
    assert ("Release" in asked) == (method not in ("Search", "ProjectDebate", "ProjectJudge", "Reserve"))
    for request in leaves.requests("Release"):
        assert request.reason == "ERROR_REASON_PROVIDER_FAILED"


async def test_a_failed_redaction_publishes_nothing(gateway: Any, leaves: Any, folder: Any) -> None:
    leaves.drafts = [f"The answer is known to {SECRET} alone"] * 3
    leaves.fail("Redact", Internal(f"cannot redact: The answer is known to {SECRET}"))
    run = await gateway.start(task=f"What does {SECRET} know?")
    events = await gateway.watch(run.run_id)
    done = await gateway.get(run.run_id)
    assert done.state == run_pb2.RUN_STATE_FAILED
    assert done.error.stage == common_pb2.STAGE_REDACT
    assert "withheld" in done.error.message
    assert not done.result.text
    assert not leaves.artifacts
    events[-1].state.run.ClearField("spec")
    everything = "".join(MessageToJson(event) for event in events) + MessageToJson(done.result) + str(done.error)
    assert SECRET not in everything
    assert "is known to" not in everything
    assert done.spec.task == f"What does {SECRET} know?"  # the owner's own words, for the owner


async def test_everything_that_leaves_is_redacted(gateway: Any, leaves: Any) -> None:
    leaves.warnings = [f"90 % of the limit, says {SECRET}"]
    leaves.call_error = f"once failed on {SECRET}"
    leaves.disqualify = {"d3-r1": f"quotes {SECRET}"}
    debaters = [
        debate_pb2.Debater(debater_id=f"d{n}", model="offline/lead", role=f"You are {SECRET}") for n in (1, 2, 3)
    ]
    leaves.drafts[0] = f"Write to {SECRET} or {SECRET} [Budgets]."
    run = await gateway.start(
        task=f"Who is {SECRET}?", corpus="handbook", debaters=debaters, trace_name=f"for {SECRET}"
    )
    events = await gateway.watch(run.run_id)
    done = await gateway.get(run.run_id)
    assert done.result.text == f"Write to {LABEL} or {LABEL} [Budgets]."
    assert dict(done.result.redaction_counts) == {"EMAIL": 2}
    (content,) = leaves.artifacts.values()
    assert SECRET.encode() not in content
    artifact = json.loads(content)
    assert validate_against("artifact", artifact) == []
    assert artifact["run_metadata"]["task"] == f"Who is {LABEL}?"
    assert artifact["redaction"] == {
        "enabled": True, "redacted": True, "redaction_count": 2, "redaction_types": ["EMAIL"], "counts": {"EMAIL": 2}
    }  # fmt: skip
    assert SECRET not in MessageToJson(done.result)
    assert events[-1].state.run.spec == done.spec  # for the owner, and not kept with the event
    events[-1].state.run.ClearField("spec")
    assert all("Who is" not in MessageToJson(event) for event in events)
    ended = [event.call_ended for event in events if event.HasField("call_ended")]
    assert [call.error for call in ended] == [f"once failed on {LABEL}"] * sum(
        len(request.calls) for request in leaves.requests("Charge")
    )
    # Citations are those of the text that is shown: their offsets fit it.
    (citation,) = done.result.citations
    assert done.result.text[citation.start : citation.end] == "[Budgets]"
    texts = [request for request in leaves.requests("Redact") if "once failed" not in request.text]
    assert all(list(request.options.keep_titles) == ["Budgets"] for request in texts)
    # The ledger learns what was called and what it cost, and no provider's words.
    assert all(not call.error for request in leaves.requests("Charge") for call in request.calls)


async def test_without_redaction_the_artifact_says_so(gateway: Any, leaves: Any) -> None:
    leaves.drafts[0] = f"Ask {SECRET}."
    run = await gateway.do(task=f"Who is {SECRET}?", redaction=run_pb2.REDACTION_MODE_OFF)
    assert run.result.text == f"Ask {SECRET}."
    artifact = leaves.artifact(run)
    assert validate_against("artifact", artifact) == []
    assert artifact["redaction"]["enabled"] is False
    assert artifact["run_metadata"]["task"] == f"Who is {SECRET}?"
    assert "Redact" not in leaves.names()


async def test_a_debater_that_fails_is_told_without_its_words(gateway: Any, leaves: Any) -> None:
    async def failing(_request: Any) -> Any:
        yield debate_pb2.DebateResponse(
            failed=debate_pb2.DraftFailed(
                debater_id="d1",
                round=1,
                model="offline/lead",
                reason=common_pb2.ERROR_REASON_PROVIDER_FAILED,
                message=f"refused the prompt of {SECRET}",
                partial_text=f"dear {SECRET}",
                calls=[],
            )
        )
        draft = debate_pb2.Draft(draft_id="d2-r1", debater_id="d2", model="offline/focus", round=1, text="Yes.")
        yield debate_pb2.DebateResponse(finished=debate_pb2.DebateFinished(drafts=[draft], rounds=1))

    leaves.debate = failing
    run = await gateway.start()
    events = await gateway.watch(run.run_id)
    (failed,) = (event.draft_failed for event in events if event.HasField("draft_failed"))
    assert failed.message == f"refused the prompt of {LABEL}"
    assert failed.reason == common_pb2.ERROR_REASON_PROVIDER_FAILED
    assert SECRET not in "".join(MessageToJson(event) for event in events)
    assert (await gateway.get(run.run_id)).state == run_pb2.RUN_STATE_PUBLISHED


async def test_rounds_that_were_skipped_are_told(gateway: Any, leaves: Any) -> None:
    draft = debate_pb2.Draft(draft_id="d1-r1", debater_id="d1", model="offline/lead", round=1, text="Yes.")

    async def debate(request: debate_pb2.DebateRequest) -> Any:
        assert (request.rounds, request.agreement_threshold) == (2, 0.95)
        yield debate_pb2.DebateResponse(
            finished=debate_pb2.DebateFinished(drafts=[draft], rounds=1, stopped_early=True, agreement=0.95)
        )

    leaves.debate = debate
    run = await gateway.start(preset="quick")
    events = await gateway.watch(run.run_id)
    done = await gateway.get(run.run_id)
    assert (done.result.rounds, done.result.stopped_early, done.result.agreement) == (1, True, 0.95)
    told = leaves.artifact(done)["debate"]
    assert (told["rounds"], told["stopped_early"], told["agreement"]) == (1, True, 0.95)
    summaries = [event.stage_finished.summary for event in events if event.HasField("stage_finished")]
    assert "1 draft; 1 round, for they agree (0.95)" in summaries


async def test_a_stream_without_a_result_fails_the_run(gateway: Any, leaves: Any) -> None:
    async def empty(_request: Any) -> Any:
        for _ in ():
            yield judge_pb2.JudgeResponse()

    leaves.judge = empty
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.message == "the jury ended without a verdict; start the run again"
    assert not held(leaves)


@pytest.mark.parametrize(
    "error",
    [
        ResourceExhausted("disk full: no room; free some space", reason="DISK_FULL"),
        DataLoss("the bytes are not those that were announced", reason="HASH_MISMATCH"),
    ],
)
async def test_a_store_that_cannot_now_is_asked_again_and_the_watcher_told(
    gateway: Any, leaves: Any, error: DjpError
) -> None:
    leaves.fail("PutArtifact", error, times=2)
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert len(leaves.requests("PutArtifact")) == 3
    assert list(run.warnings) == [f"the artifact cannot be stored yet, trying again: {error.message}"]


async def test_a_text_that_cannot_be_stored_is_kept_with_the_failed_run(
    gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("djp_gateway.patience.RETRY_DELAYS_S", (0.0,))
    leaves.fail("PutArtifact", ResourceExhausted("disk full: no room; free some space", reason="DISK_FULL"))
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.reason == common_pb2.ERROR_REASON_DISK_FULL
    assert run.result.text == "Money is reserved first [Budgets]."
    assert run.result.total_nano_usd == 3506
    assert not held(leaves)


async def test_a_draft_whose_citations_are_too_many_suffers_alone(gateway: Any, leaves: Any) -> None:
    async def refuse(request: Any) -> None:
        if "The jury is blind" in request.text:
            raise InvalidInput("text: more than 20000 citations; check it in parts", field="text")

    leaves.before["VerifyCitations"] = refuse
    run = await gateway.do(corpus="handbook", grounded_required=1)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert list(run.warnings) == ["the citations of draft d3-r1 are too many to be checked; none of them counts"]
    (judged,) = leaves.requests("Judge")
    assert [candidate.resolved_citations for candidate in judged.candidates] == [1, 1, 0]
    leaves.drafts = ["The jury is blind [Budgets]."] * 3
    run = await gateway.do(corpus="handbook", grounded_required=0)
    assert run.state == run_pb2.RUN_STATE_PUBLISHED
    assert not run.result.citations  # nobody has checked them


async def test_texts_are_redacted_a_few_at_a_time(gateway: Any, leaves: Any) -> None:
    now, most = [0], [0]

    async def together(_request: Any) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])
        for _ in range(500):  # long enough for all of them to be here, if they came at once
            await asyncio.sleep(0)
        now[0] -= 1

    leaves.before["Redact"] = together
    jurors = [judge_pb2.Juror(juror_id=f"j{n}", model="offline/rubric") for n in range(16)]
    debaters = [debate_pb2.Debater(debater_id=f"d{n}", model="offline/lead", role=f"You are {n}") for n in range(16)]
    leaves.drafts = [f"Draft {n}." for n in range(16)]
    leaves.means = [9.0 - n / 4 for n in range(16)]
    assert (await gateway.do(debaters=debaters, jurors=jurors)).state == run_pb2.RUN_STATE_PUBLISHED
    assert len(leaves.requests("Redact")) > 30
    assert most[0] <= 8


async def test_of_too_many_titles_those_of_the_shown_draft_are_kept(gateway: Any, leaves: Any) -> None:
    """Redaction takes a thousand; the draft that is shown must keep its own, whatever the others cite."""
    leaves.titles = {f"Title {n:04}" for n in range(1500)}
    leaves.drafts = [
        "Mine [Title 1499].",
        " ".join(f"[Title {n:04}]" for n in range(900)),
        " ".join(f"[Title {n:04}]" for n in range(700, 1400)),
    ]
    run = await gateway.do(corpus="handbook")
    assert run.result.text == "Mine [Title 1499]."
    kept = leaves.requests("Redact")[0].options.keep_titles
    assert kept[0] == "Title 1499"
    assert len(kept) == len(set(kept)) == 1000


@pytest.mark.parametrize(
    "method",
    ["ProjectDebate", "ProjectJudge", "Reserve", "VerifyCitations", "Charge", "PutArtifact", "Settle"],
)
async def test_a_leaf_that_is_away_for_a_moment_is_asked_again(gateway: Any, leaves: Any, method: str) -> None:
    leaves.fail(method, Unavailable("back in a moment"), times=2)
    run = await gateway.do(corpus="handbook")
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    first, *others = leaves.requests(method)
    assert first in others  # with its request_id, if it has one
    assert run.result.total_nano_usd == 3506
    told = [event.warning for event in await gateway.watch(run.run_id) if event.HasField("warning")]
    assert len(told) == (method not in ("Charge", "Settle"))
    assert not run.warnings or method == "PutArtifact"


async def test_a_search_is_made_again_once_the_run_was_accepted(gateway: Any, leaves: Any) -> None:
    async def search(_request: Any) -> None:
        if len(leaves.requests("Search")) in (2, 3):  # the first one pins the corpus's version
            raise Unavailable("back in a moment")

    leaves.before["Search"] = search
    run = await gateway.do(corpus="handbook")
    assert run.state == run_pb2.RUN_STATE_PUBLISHED, run.error
    assert len(leaves.requests("Search")) == 4


async def test_a_leaf_that_restarts_is_waited_for(gateway: Any, leaves: Any) -> None:
    gate = leaves.hold("PutArtifact")
    run = await gateway.start()
    await gate.entered.wait()
    await leaves.stop("governance")
    gate.opened.set()
    events = []
    async for answer in gateway.runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id)):
        events.append(answer.event)
        if answer.event.stage_started.stage == common_pb2.STAGE_SETTLE:
            await leaves.start("governance")
    assert events[-1].state.state == run_pb2.RUN_STATE_PUBLISHED


async def test_a_run_that_takes_too_long_is_stopped(gateway: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = leaves.hold("DebateEnd")
    clocks: list[asyncio.Timeout] = []
    real_timeout_at = asyncio.timeout_at

    def timeout_at(ends_at: float | None) -> asyncio.Timeout:
        clocks.append(real_timeout_at(ends_at))
        return clocks[-1]

    monkeypatch.setattr("djp_gateway.steps.asyncio.timeout_at", timeout_at)
    run = await gateway.start(timeout=Duration(seconds=3600, nanos=500_000_000))
    await gate.entered.wait()
    assert len({clock.when() for clock in clocks}) == 1  # before the reservation and after it, one end
    clocks[-1].reschedule(asyncio.get_running_loop().time())  # the hour is over
    run = await gateway.finish(run.run_id)
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.reason == common_pb2.ERROR_REASON_DEADLINE_EXCEEDED
    assert "3600.5 s" in run.error.message
    assert run.error.retryable
    await gate.cancelled.wait()  # the debate stops spending
    assert run.result.total_nano_usd == sum(r.message.charged_nano_usd for r in leaves.reservations.values())
    assert not held(leaves)


@pytest.mark.parametrize("method", ["Reserve", "Charge"])
async def test_money_under_way_arrives_although_the_run_is_stopped(
    mesh: Any, leaves: Any, until: Any, method: str
) -> None:
    gateway = await mesh.command()
    gate = leaves.hold(method)
    run = await gateway.start()
    await gate.entered.wait()
    (working,) = gateway.service.servicers[0][1]._runner._tasks
    closing = asyncio.create_task(gateway.close())
    await until(working.cancelling)  # the gateway stops
    gate.opened.set()
    await closing
    assert not gate.cancelled.is_set()
    (reservation,) = leaves.reservations.values()
    assert reservation.releases == 1
    assert bool(reservation.calls) == (method == "Charge")
    again = await mesh.command()
    ended = await again.finish(run.run_id)
    assert ended.error.reason == common_pb2.ERROR_REASON_INTERRUPTED
    assert ended.result.total_nano_usd == reservation.message.charged_nano_usd


async def test_a_stream_that_is_paid_for_no_more_is_cancelled(gateway: Any, leaves: Any) -> None:
    leaves.fail("Charge", FailedPrecondition("the ledger is closed"))
    gate = leaves.hold("DebateEnd")
    run = await gateway.do()
    assert run.state == run_pb2.RUN_STATE_FAILED
    if gate.entered.is_set():
        await asyncio.wait_for(gate.cancelled.wait(), 10)


async def test_warnings_reach_the_watcher_and_the_run(gateway: Any, leaves: Any) -> None:
    leaves.warnings = ["90 % of the run's limit is used"]
    run = await gateway.start()
    events = await gateway.watch(run.run_id)
    assert [event.warning for event in events if event.HasField("warning")] == leaves.warnings
    assert list((await gateway.get(run.run_id)).warnings) == leaves.warnings


async def test_many_runs_share_few_workers(mesh: Any, leaves: Any, until: Any) -> None:
    gateway = await mesh.gateway(max_workers=2)
    now, most = [0], [0]

    async def count(_request: Any) -> None:
        now[0] += 1
        most[0] = max(most[0], now[0])

    async def uncount(_request: Any) -> None:
        now[0] -= 1

    leaves.before["Debate"], leaves.before["DebateEnd"] = count, uncount
    runs = await asyncio.gather(*(gateway.start(task=f"Question {n}?") for n in range(50)))
    await until(lambda: len(leaves.artifacts) == 50)
    done = [await gateway.finish(run.run_id) for run in runs]
    assert {run.state for run in done} == {run_pb2.RUN_STATE_PUBLISHED}
    assert most[0] <= 2
    assert len(leaves.artifacts) == 50
    assert not held(leaves)


async def test_a_step_that_breaks_inside_is_an_internal_error(gateway: Any, leaves: Any, caplog: Any) -> None:
    leaves.means = []  # the verdict names nothing, and its winner is not ranked

    async def stranger(request: Any, context: Any) -> Any:
        yield judge_pb2.JudgeResponse(
            verdict=judge_pb2.Verdict(winner_draft_id="x", ranking=[judge_pb2.Standing(draft_id="x", mean=5)])
        )

    await leaves.stop("judge")
    services = leaves.services()
    services["judge"].servicers[0][1].Judge = stranger
    leaves.services = lambda: services
    await leaves.start("judge")
    run = await gateway.do(task=f"Tell {SECRET}")
    assert run.state == run_pb2.RUN_STATE_FAILED
    assert run.error.reason == common_pb2.ERROR_REASON_INTERNAL
    assert run.run_id in caplog.text
    assert SECRET not in caplog.text
    assert not held(leaves)


async def test_a_projection_asks_for_nothing_else_and_stores_nothing(gateway: Any, leaves: Any) -> None:
    request = run_pb2.ProjectRunRequest(run=run_pb2.RunRequest(task="Why?", corpus="handbook", preset="thorough"))
    answer = await gateway.runs.ProjectRun(request)
    assert answer.projection.total.cost_nano_usd == 4 * 2000 + 3000
    assert answer.projection.total.calls == 5
    assert answer.spec.max_tokens == 1500
    assert answer.spec.grounded_required == 2
    assert sorted(leaves.names()) == ["ProjectDebate", "ProjectJudge", "Search", "Search"]
    assert not (await gateway.runs.ListRuns(run_pb2.ListRunsRequest())).runs


async def test_options_that_redaction_refuses_are_refused_before_any_money(gateway: Any, leaves: Any) -> None:
    leaves.fail("Redact", InvalidInput("custom rules are not available yet", field="options.custom_rules"))
    options = redaction_pb2.RedactionOptions(
        custom_rules=[redaction_pb2.RedactionRule(name="a", type="A", pattern="a+")]
    )
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await gateway.start(redaction_options=options)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(caught.value).field == "run.redaction_options.custom_rules"
    assert leaves.names() == ["Redact"]
