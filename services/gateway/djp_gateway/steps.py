"""The steps of a run, in order: search, project, reserve, debate, cite, judge, publish, redact, store, settle."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from djp.mesh.deadline import deadline_scope
from djp.mesh.errors import DjpError
from djp.v1 import common_pb2, debate_pb2, judge_pb2, run_pb2
from djp_gateway.artifact import RunRecord
from djp_gateway.citing import cite, search
from djp_gateway.ledger import charge, reserve, settle
from djp_gateway.live import count
from djp_gateway.publishing import clean_message, publish, redact, store

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.live import LiveRun

_STEP_S = 120.0  # what redaction, storage and settlement get, each; they call no model


class IncompleteStreamError(DjpError):
    """A leaf's stream ended without its result."""

    code = "INTERNAL"
    reason = "INTERNAL"


async def work(live: LiveRun, leaves: Leaves) -> None:
    """Take a run from its spec to its end.

    Raises:
        DjpError, grpc.RpcError: a step failed; what the run holds is still to be released.
        TimeoutError: search, debate and judgement took longer than the spec's timeout.
    """
    run = live.run
    async with asyncio.timeout(run.spec.timeout.ToTimedelta().total_seconds()):
        passages = await search(live, leaves)
        await project(live, leaves, passages)
        await reserve(live, leaves)
        drafts = await debate(live, leaves, passages)
        candidates, citations = await cite(live, leaves, drafts)
        ballots, verdict = await judge(live, leaves, candidates, passages)
    publication = publish(run.spec, drafts, verdict)
    record = RunRecord(run, passages, drafts, citations, ballots, verdict, publication, live.calls)
    with deadline_scope(_STEP_S):
        await redact(live, leaves, record)
    with deadline_scope(_STEP_S):
        await store(live, leaves, record)
    with deadline_scope(_STEP_S):
        await settle(live, leaves)
    await live.enter(outcome(run.result))


def outcome(result: run_pb2.RunResult) -> run_pb2.RunState.ValueType:
    """The state in which a run with that result ends."""
    if not result.draft_id:
        return run_pb2.RUN_STATE_NO_RESULT
    return run_pb2.RUN_STATE_ADVISORY if result.advisory_reason else run_pb2.RUN_STATE_PUBLISHED


async def project(live: LiveRun, leaves: Leaves, passages: Sequence[common_pb2.Passage]) -> None:
    """Bound the run's cost."""
    async with live.stage(common_pb2.STAGE_PROJECT) as finished:
        projection = await bound(live.run.spec, live.run.run_id, leaves, passages)
        live.run.projection.CopyFrom(projection)
        finished.summary = f"at most {count(projection.total.calls, 'model call')}"


async def bound(
    spec: run_pb2.RunSpec, run_id: str, leaves: Leaves, passages: Sequence[common_pb2.Passage]
) -> run_pb2.Projection:
    """The most that the run's model calls can cost, before any is made."""
    debated, judged = await asyncio.gather(
        leaves.debate.ProjectDebate(
            debate_pb2.ProjectDebateRequest(debate=_debate_request(spec, run_id, passages)),
        ),
        leaves.judge.ProjectJudge(
            judge_pb2.ProjectJudgeRequest(
                jurors=spec.jurors,
                task=spec.task,
                drafts=len(spec.debaters),
                draft_max_tokens=spec.max_tokens,
                passages=passages,
                orders=spec.orders,
            )
        ),
    )
    return run_pb2.Projection(
        debate=debated.bound,
        judge=judged.bound,
        total=common_pb2.CostBound(
            cost_nano_usd=debated.bound.cost_nano_usd + judged.bound.cost_nano_usd,
            tokens=debated.bound.tokens + judged.bound.tokens,
            calls=debated.bound.calls + judged.bound.calls,
        ),
    )


async def debate(live: LiveRun, leaves: Leaves, passages: Sequence[common_pb2.Passage]) -> list[debate_pb2.Draft]:
    """Have the debaters draft; each draft is charged as it arrives."""
    run = live.run
    drafts: list[debate_pb2.Draft] | None = None
    async with live.stage(common_pb2.STAGE_DEBATE) as finished:
        with _stream(leaves.debate.Debate(_debate_request(run.spec, run.run_id, passages))) as responses:
            async for response in responses:
                match response.WhichOneof("event"):
                    case "started":
                        await live.emit(run_pb2.RunEvent(debater_started=response.started))
                    case "draft":
                        event = run_pb2.RunEvent(draft_finished=_summary(response.draft.draft))
                        await charge(live, leaves, response.draft.calls, event)
                    case "failed":
                        event = run_pb2.RunEvent(draft_failed=await _failure(live, leaves, response.failed))
                        await charge(live, leaves, response.failed.calls, event)
                    case "finished":
                        drafts = list(response.finished.drafts)
        if drafts is None:
            raise IncompleteStreamError("the debate ended without a result; start the run again")
        finished.summary = count(len(drafts), "draft")
    return drafts


async def judge(
    live: LiveRun,
    leaves: Leaves,
    candidates: Sequence[judge_pb2.Candidate],
    passages: Sequence[common_pb2.Passage],
) -> tuple[list[judge_pb2.Ballot], judge_pb2.Verdict]:
    """Apply the rules and have the jury vote; each ballot is charged as it arrives."""
    run, spec = live.run, live.run.spec
    ballots: list[judge_pb2.Ballot] = []
    verdict: judge_pb2.Verdict | None = None
    async with live.stage(common_pb2.STAGE_JUDGE) as finished:
        request = judge_pb2.JudgeRequest(
            run_id=run.run_id,
            task=spec.task,
            candidates=candidates,
            jurors=spec.jurors,
            required_citations=spec.grounded_required,
            blocking_safety_flags=spec.blocking_safety_flags,
            passages=passages,
            orders=spec.orders,
            seed=spec.seed,
            min_words=spec.min_words,
            max_words=spec.max_words,
        )
        if spec.HasField("fast_path_margin"):
            request.fast_path_margin = spec.fast_path_margin
        with _stream(leaves.judge.Judge(request)) as responses:
            async for response in responses:
                match response.WhichOneof("event"):
                    case "ballot":
                        ballots.append(response.ballot.ballot)
                        event = run_pb2.RunEvent(ballot=_without_words(response.ballot.ballot))
                        await charge(live, leaves, response.ballot.calls, event)
                    case "verdict":
                        verdict = response.verdict
        if verdict is None:
            raise IncompleteStreamError("the jury ended without a verdict; start the run again")
        finished.summary = _verdict_line(verdict, ballots)
    return ballots, verdict


@contextmanager
def _stream(call: Any) -> Iterator[Any]:
    """A leaf's stream that ends when the gateway stops listening: nobody is to go on spending for a run that failed."""
    try:
        yield call
    finally:
        call.cancel()


def _debate_request(
    spec: run_pb2.RunSpec, run_id: str, passages: Sequence[common_pb2.Passage]
) -> debate_pb2.DebateRequest:
    request = debate_pb2.DebateRequest(
        run_id=run_id,
        task=spec.task,
        debaters=spec.debaters,
        rounds=spec.rounds,
        max_tokens=spec.max_tokens,
        passages=passages,
        required_citations=spec.grounded_required,
    )
    if spec.HasField("agreement_threshold"):
        request.agreement_threshold = spec.agreement_threshold
    return request


def _summary(draft: debate_pb2.Draft) -> run_pb2.DraftSummary:
    return run_pb2.DraftSummary(
        draft_id=draft.draft_id, debater_id=draft.debater_id, model=draft.model, tokens=draft.tokens
    )


async def _failure(live: LiveRun, leaves: Leaves, failed: debate_pb2.DraftFailed) -> debate_pb2.DraftFailed:
    """A draft's failure as it may be shown: without the text so far, and with a redacted message."""
    return debate_pb2.DraftFailed(
        debater_id=failed.debater_id,
        round=failed.round,
        model=failed.model,
        reason=failed.reason,
        message=await clean_message(failed.message, live.run, leaves),
    )


def _without_words(ballot: judge_pb2.Ballot) -> judge_pb2.Ballot:
    """A ballot without the juror's reasons, which are not redacted yet."""
    bare = judge_pb2.Ballot()
    bare.CopyFrom(ballot)
    bare.ClearField("abstain_reason")
    for score in bare.scores:
        score.ClearField("reason")
    return bare


def _verdict_line(verdict: judge_pb2.Verdict, ballots: Sequence[judge_pb2.Ballot]) -> str:
    out = f", {count(len(verdict.disqualified), 'draft')} disqualified" if verdict.disqualified else ""
    if not verdict.winner_draft_id:
        return f"no winner{out}"
    return f"{verdict.winner_draft_id} wins, {count(len(ballots), 'ballot')} cast{out}"
