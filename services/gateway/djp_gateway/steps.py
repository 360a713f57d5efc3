"""The steps of a run: search, hide, project, reserve, debate, cite, judge, publish, redact, approve, store, settle."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djp.llm.offline import DEBATER_MODELS
from djp.mesh.deadline import deadline_scope
from djp.mesh.errors import DjpError
from djp.v1 import common_pb2, debate_pb2, judge_pb2, run_pb2
from djp_gateway.asking import Listening, absorbed, listen
from djp_gateway.citing import cite, search
from djp_gateway.hiding import hide
from djp_gateway.leasing import lease
from djp_gateway.ledger import reserve, settle, take_up
from djp_gateway.live import ARTIFACT, DEBATE, JUDGE, count
from djp_gateway.pacing import has_share
from djp_gateway.patience import persistently
from djp_gateway.publishing import artifact_bytes, clean_message, outcome, publish, redact, store
from djp_gateway.record import RunRecord, summary_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.approving import Approvals
    from djp_gateway.asking import Absorbed
    from djp_gateway.hiding import Sent
    from djp_gateway.live import LiveRun
    from djp_gateway.ports import DeadLetters, RunQueue

_DEADLINE_SLACK_S = 1.0
_STEP_S = 120.0  # what redaction, storage and settlement get, each; they call no model


class IncompleteStreamError(DjpError):
    """A leaf's stream ended without its result."""

    code = "INTERNAL"
    reason = "INTERNAL"


@dataclass(frozen=True)
class Gates:
    """What can hold up a run on its way."""

    queue: RunQueue
    approvals: Approvals
    dead: DeadLetters


async def work(live: LiveRun, leaves: Leaves, gates: Gates) -> None:
    """Take a run from its spec to its end, or to where a person has to decide.

    Raises:
        DjpError, grpc.RpcError: a step failed; what the run holds is still to be released.
        TimeoutError: search, debate and judgement took longer than the spec's timeout.
    """
    async with AsyncExitStack() as stack:
        kept = live.kept(ARTIFACT)
        content = kept[-1] if kept else await _answer(live, leaves, gates, stack)
        if content is None:
            return
        if live.run.spec.require_approval:
            if not live.run.approval.HasField("expires_at"):
                with deadline_scope(_STEP_S):
                    await settle(live, leaves)  # no model is called any more, and a decision may take days
            if not await gates.approvals.approved(live):
                return
        if not live.run.result.artifact_sha256:  # or else an earlier attempt has heard that it is stored
            with deadline_scope(_STEP_S):
                await store(live, leaves, content)
        with deadline_scope(_STEP_S):
            await settle(live, leaves)
        await live.enter(outcome(live.run.result))


async def _answer(live: LiveRun, leaves: Leaves, gates: Gates, stack: AsyncExitStack) -> bytes | None:
    """All that models and money are needed for; the artifact, which is kept, or None where the run is parked before.

    From the reservation on, the stack has its lease.
    """
    run = live.run
    ends_at = asyncio.get_running_loop().time() + run.spec.timeout.ToTimedelta().total_seconds()
    async with _until(ends_at):
        sent = await hide(live, leaves, await search(live, leaves))
        if live.resumed:
            await take_up(live, leaves)
        if not run.reservation_id:
            await project(live, leaves, sent)
            if not await has_share(live, leaves, gates.dead):
                return None
            if pace := await reserve(live, leaves):
                await gates.queue.slow(run.tenant, pace)
    await stack.enter_async_context(lease(live, leaves))
    async with _until(ends_at):
        debated = await debate(live, leaves, sent)
        candidates, citations = await cite(live, leaves, sent, debated.drafts)
        ballots, verdict = await judge(live, leaves, sent, candidates)
    publication = publish(run.spec, debated.drafts, verdict)
    record = RunRecord(
        run, sent, debated, list(live.failures.values()), citations, ballots, verdict, publication, live.calls
    )
    with deadline_scope(_STEP_S):
        await redact(live, leaves, record)
    content = artifact_bytes(record)
    live.keep(ARTIFACT, [content])
    return content


@asynccontextmanager
async def _until(ends_at: float) -> AsyncIterator[None]:
    """The block ends at that time of the loop's clock, and the leaves know it, so that none waits for a provider beyond
    it; the timeout is what speaks first."""
    with deadline_scope(max(0.0, ends_at - asyncio.get_running_loop().time()) + _DEADLINE_SLACK_S):
        async with asyncio.timeout_at(ends_at):
            yield


async def project(live: LiveRun, leaves: Leaves, sent: Sent) -> None:
    """Bound the run's cost."""
    async with live.stage(common_pb2.STAGE_PROJECT) as finished:
        projection = await persistently(
            lambda: bound(sent, live.run.run_id, leaves), live.waiting_for("debate or judge")
        )
        live.run.projection.CopyFrom(projection)
        finished.summary = f"at most {count(projection.total.calls, 'model call')}"


async def bound(sent: Sent, run_id: str, leaves: Leaves) -> run_pb2.Projection:
    """The most that the run's model calls can cost, before any is made."""
    spec = sent.spec
    debated, judged = await asyncio.gather(
        leaves.debate.ProjectDebate(
            debate_pb2.ProjectDebateRequest(debate=_debate_request(sent, run_id)),
        ),
        leaves.judge.ProjectJudge(
            judge_pb2.ProjectJudgeRequest(
                jurors=spec.jurors,
                task=spec.task,
                drafts=len(spec.debaters),
                draft_max_tokens=spec.max_tokens,
                passages=sent.passages,
                orders=_orders(spec, len(spec.debaters)),
            )
        ),
    )
    return run_pb2.Projection(
        debate=debated.bound,
        judge=judged.bound,
        total=_sum(debated.bound, judged.bound),
        prices=[*debated.prices, *judged.prices],
    )


async def debate(live: LiveRun, leaves: Leaves, sent: Sent) -> debate_pb2.DebateFinished:
    """Have the debaters draft; each attempt at a draft is charged as it ends."""
    run = live.run
    request = _debate_request(sent, run.run_id)
    shown = None if run.spec.redaction == run_pb2.REDACTION_MODE_OFF else sent.options()
    finished: list[debate_pb2.DebateFinished] = []

    def ask(attempt: int) -> Any:
        request.attempt = attempt
        return leaves.debate.Debate(request)

    def passes(response: debate_pb2.DebateResponse) -> bool:
        match response.WhichOneof("event"):
            case "started":
                live.tell(run_pb2.RunEvent(debater_started=response.started))
            case "delta":
                live.drafting.piece(response.delta, run.run_id, shown, leaves)
            case _:
                return False
        return True

    async def absorb(response: debate_pb2.DebateResponse) -> Absorbed:
        match response.WhichOneof("event"):
            case "draft":
                draft = response.draft.draft
                request.completed_drafts.append(draft)
                live.failures.pop((draft.debater_id, draft.round), None)  # of an attempt before the leaf died
                live.drafting.ended(draft.debater_id, draft.round)
                event = run_pb2.RunEvent(draft_finished=summary_of(draft))
                told = any(one.draft_finished.draft_id == draft.draft_id for one in live.events)
                return response.draft.calls, () if told else (event,)
            case "failed":
                failed = response.failed
                live.failures[failed.debater_id, failed.round] = failed
                live.drafting.ended(failed.debater_id, failed.round)
                event = run_pb2.RunEvent(draft_failed=await _failure(live, leaves, failed))
                told = any(event.draft_failed == one.draft_failed for one in live.events)
                return failed.calls, () if told else (event,)
            case _:
                finished.append(response.finished)
                return (), ()

    async def rest() -> common_pb2.CostBound:
        left = (await leaves.debate.ProjectDebate(debate_pb2.ProjectDebateRequest(debate=request))).bound
        return _sum(left, run.projection.judge)

    async with live.stage(common_pb2.STAGE_DEBATE) as stage:
        await absorbed(live, leaves, map(debate_pb2.DebateResponse.FromString, live.kept(DEBATE)), absorb)
        if not finished:
            try:
                await listen(live, leaves, Listening(DEBATE, ask, passes, absorb, rest))
            finally:
                await live.drafting.close()
        if not finished:
            raise IncompleteStreamError("the debate ended without a result; start the run again")
        stage.summary = _debate_line(finished[-1])
    return finished[-1]


async def judge(
    live: LiveRun, leaves: Leaves, sent: Sent, candidates: Sequence[judge_pb2.Candidate]
) -> tuple[list[judge_pb2.Ballot], judge_pb2.Verdict]:
    """Apply the rules and have the jury vote; each attempt at a ballot is charged as it ends."""
    run, spec = live.run, sent.spec
    request = judge_pb2.JudgeRequest(
        run_id=run.run_id,
        task=spec.task,
        candidates=candidates,
        jurors=spec.jurors,
        required_citations=spec.grounded_required,
        blocking_safety_flags=spec.blocking_safety_flags,
        passages=sent.passages,
        orders=_orders(spec, len(candidates)),
        seed=spec.seed,
    )
    if all(debater.model in DEBATER_MODELS and not debater.fallback_models for debater in spec.debaters):
        if spec.min_words or spec.max_words:
            live.warn(f"the offline debaters cannot write to length: {_words(spec)} were asked for")
    else:
        request.min_words, request.max_words = spec.min_words, spec.max_words
    if spec.HasField("fast_path_margin"):
        request.fast_path_margin = spec.fast_path_margin
    verdict: list[judge_pb2.Verdict] = []

    def ask(attempt: int) -> Any:
        request.attempt = attempt
        return leaves.judge.Judge(request)

    async def absorb(response: judge_pb2.JudgeResponse) -> Absorbed:
        if response.HasField("verdict"):
            verdict.append(response.verdict)
            return (), ()
        ballot = response.ballot.ballot
        request.completed_ballots.append(ballot)
        event = run_pb2.RunEvent(ballot=await _shown(ballot, live, leaves))
        told = any(one.ballot.ballot_id == ballot.ballot_id for one in live.events)
        return response.ballot.calls, () if told else (event,)

    async def rest() -> common_pb2.CostBound:
        return run.projection.judge

    async with live.stage(common_pb2.STAGE_JUDGE) as stage:
        await absorbed(live, leaves, map(judge_pb2.JudgeResponse.FromString, live.kept(JUDGE)), absorb)
        if not verdict:
            await listen(live, leaves, Listening(JUDGE, ask, lambda _: False, absorb, rest))
        if not verdict:
            raise IncompleteStreamError("the jury ended without a verdict; start the run again")
        stage.summary = _verdict_line(verdict[-1], request.completed_ballots)
    return list(request.completed_ballots), verdict[-1]


def _words(spec: run_pb2.RunSpec) -> str:
    if not spec.min_words:
        return f"at most {spec.max_words} words"
    return f"{spec.min_words} to {spec.max_words} words" if spec.max_words else f"at least {spec.min_words} words"


def _orders(spec: run_pb2.RunSpec, drafts: int) -> int:
    """How many orders each juror sees: more than there are drafts would only show the same again."""
    return max(1, min(spec.orders, drafts))


def _sum(*bounds: common_pb2.CostBound) -> common_pb2.CostBound:
    return common_pb2.CostBound(
        cost_nano_usd=sum(bound.cost_nano_usd for bound in bounds),
        tokens=sum(bound.tokens for bound in bounds),
        calls=sum(bound.calls for bound in bounds),
    )


def _debate_request(sent: Sent, run_id: str) -> debate_pb2.DebateRequest:
    spec = sent.spec
    request = debate_pb2.DebateRequest(
        run_id=run_id,
        task=spec.task,
        debaters=spec.debaters,
        rounds=spec.rounds,
        max_tokens=spec.max_tokens,
        passages=sent.passages,
        required_citations=spec.grounded_required,
    )
    if spec.HasField("agreement_threshold"):
        request.agreement_threshold = spec.agreement_threshold
    return request


async def _failure(live: LiveRun, leaves: Leaves, failed: debate_pb2.DraftFailed) -> debate_pb2.DraftFailed:
    """A draft's failure as it may be shown: without the text so far, and with a redacted message."""
    return debate_pb2.DraftFailed(
        debater_id=failed.debater_id,
        round=failed.round,
        model=failed.model,
        reason=failed.reason,
        message=await clean_message(failed.message, live.run, leaves),
    )


async def _shown(ballot: judge_pb2.Ballot, live: LiveRun, leaves: Leaves) -> judge_pb2.Ballot:
    """A ballot as it may be shown: without the juror's reasons, which are not redacted yet."""
    bare = judge_pb2.Ballot()
    bare.CopyFrom(ballot)
    bare.abstain_reason = await clean_message(ballot.abstain_reason, live.run, leaves)
    for score in bare.scores:
        score.ClearField("reason")
    return bare


def _debate_line(debated: debate_pb2.DebateFinished) -> str:
    drafts = count(len(debated.drafts), "draft")
    if debated.stopped_early:
        return f"{drafts}; {count(debated.rounds, 'round')}, for they agree ({debated.agreement:.2f})"
    return f"{drafts} in {count(debated.rounds, 'round')}" if debated.rounds > 1 else drafts


def _verdict_line(verdict: judge_pb2.Verdict, ballots: Sequence[judge_pb2.Ballot]) -> str:
    out = f", {count(len(verdict.disqualified), 'draft')} disqualified" if verdict.disqualified else ""
    if not verdict.winner_draft_id:
        return f"no winner{out}"
    contested = ", contested" if verdict.contested else ""
    return f"{verdict.winner_draft_id} wins{contested}, {count(len(ballots), 'ballot')} cast{out}"
