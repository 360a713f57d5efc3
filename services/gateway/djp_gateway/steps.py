"""The steps of a run, in order: search, project, reserve, debate, cite, judge, publish, redact, store, settle."""

from __future__ import annotations

import asyncio
import json
import uuid
from hashlib import sha256
from typing import TYPE_CHECKING

from google.protobuf.json_format import MessageToDict

from djp.mesh.errors import DjpError
from djp.v1 import common_pb2, debate_pb2, governance_pb2, grounding_pb2, judge_pb2, redaction_pb2, run_pb2, storage_pb2
from djp_gateway.adapters.leaves import Leaves, persistently
from djp_gateway.artifact import RunRecord, build_artifact, build_result, resolved
from djp_gateway.policy import Publication, Ranked, choose

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp_gateway.live import LiveRun

_CHUNK_BYTES = 1 << 20


class IncompleteStreamError(DjpError):
    """A leaf's stream ended without its result."""

    code = "INTERNAL"
    reason = "INTERNAL"


def step_id(run_id: str, step: str) -> str:
    """The request_id of a run's step: the same on every attempt, so that a step counts once."""
    return str(uuid.uuid5(uuid.UUID(run_id), step))


async def work(live: LiveRun, leaves: Leaves) -> None:
    """Take a run from its spec to its end.

    Raises:
        DjpError, grpc.RpcError: a step failed; what the run holds is still to be released.
        TimeoutError: the models took longer than the spec's timeout.
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
    await redact(live, leaves, record)
    await store(live, leaves, record)
    await settle(live, leaves)
    await live.enter(
        {
            "published": run_pb2.RUN_STATE_PUBLISHED,
            "advisory": run_pb2.RUN_STATE_ADVISORY,
            "none": run_pb2.RUN_STATE_NO_RESULT,
        }[publication.status]
    )


async def search(live: LiveRun, leaves: Leaves) -> list[common_pb2.Passage]:
    """Find the passages that the debaters get; none without a corpus."""
    if not live.run.spec.corpus:
        return []
    async with live.stage(common_pb2.STAGE_SEARCH) as finished:
        passages = await find_passages(live.run.spec, leaves)
        documents = len({passage.document_id for passage in passages})
        finished.summary = f"{_count(len(passages), 'passage')} of {_count(documents, 'document')}"
    return passages


async def find_passages(spec: run_pb2.RunSpec, leaves: Leaves) -> list[common_pb2.Passage]:
    """The corpus passages nearest to the task; none without a corpus."""
    if not spec.corpus:
        return []
    found = await leaves.grounding.Search(
        grounding_pb2.SearchRequest(corpus=spec.corpus, version=spec.corpus_version, query=spec.task, top_k=spec.top_k)
    )
    return list(found.passages)


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


async def project(live: LiveRun, leaves: Leaves, passages: Sequence[common_pb2.Passage]) -> None:
    """Bound the run's cost."""
    async with live.stage(common_pb2.STAGE_PROJECT) as finished:
        projection = await bound(live.run.spec, live.run.run_id, leaves, passages)
        live.run.projection.CopyFrom(projection)
        finished.summary = f"at most {_count(projection.total.calls, 'model call')}"


async def reserve(live: LiveRun, leaves: Leaves) -> None:
    """Hold the bound in every budget window that the run falls in."""
    run, spec = live.run, live.run.spec
    async with live.stage(common_pb2.STAGE_RESERVE) as finished:
        request = governance_pb2.ReserveRequest(
            request_id=step_id(run.run_id, "reserve"),
            run_id=run.run_id,
            amount_nano_usd=run.projection.total.cost_nano_usd,
            tokens=run.projection.total.tokens,
            tags={"workflow": spec.workflow, "preset": spec.preset},
        )
        if spec.HasField("budget_nano_usd"):
            request.run_limit_nano_usd = spec.budget_nano_usd
        if spec.HasField("budget_tokens"):
            request.run_limit_tokens = spec.budget_tokens
        answer = await leaves.governance.Reserve(request)
        run.reservation_id = answer.reservation.reservation_id
        for warning in answer.warnings:
            await live.warn(warning)
        finished.summary = "throttled" if answer.outcome == governance_pb2.RESERVE_OUTCOME_THROTTLED else "granted"


async def debate(live: LiveRun, leaves: Leaves, passages: Sequence[common_pb2.Passage]) -> list[debate_pb2.Draft]:
    """Have the debaters draft; each draft is charged as it arrives."""
    run = live.run
    async with live.stage(common_pb2.STAGE_DEBATE) as finished:
        async for response in leaves.debate.Debate(_debate_request(run.spec, run.run_id, passages)):
            match response.WhichOneof("event"):
                case "started":
                    await live.emit(run_pb2.RunEvent(debater_started=response.started))
                case "draft":
                    await _charge(live, leaves, response.draft.calls)
                    await live.emit(run_pb2.RunEvent(draft_finished=_summary(response.draft.draft)))
                case "failed":
                    await _charge(live, leaves, response.failed.calls)
                    failed = debate_pb2.DraftFailed()
                    failed.CopyFrom(response.failed)
                    failed.ClearField("partial_text")  # not redacted
                    await live.emit(run_pb2.RunEvent(draft_failed=failed))
                case "finished":
                    drafts = list(response.finished.drafts)
                    finished.summary = f"{_count(len(drafts), 'draft')}"
                    return drafts
    raise IncompleteStreamError("the debate ended without a result; start the run again")


async def cite(
    live: LiveRun, leaves: Leaves, drafts: Sequence[debate_pb2.Draft]
) -> tuple[list[judge_pb2.Candidate], dict[str, list[common_pb2.Citation]]]:
    """Check every draft's citations against the corpus; the judge's rules count the resolved ones only."""
    spec = live.run.spec
    if not spec.corpus:
        return [judge_pb2.Candidate(draft=draft) for draft in drafts], {}
    async with live.stage(common_pb2.STAGE_CITE) as finished:
        checked = await asyncio.gather(*(verify(spec, draft.text, leaves) for draft in drafts))
        citations = {draft.draft_id: found for draft, found in zip(drafts, checked, strict=True)}
        candidates = [
            judge_pb2.Candidate(draft=draft, resolved_citations=len(resolved(citations[draft.draft_id])))
            for draft in drafts
        ]
        total = sum(len(found) for found in checked)
        good = sum(candidate.resolved_citations for candidate in candidates)
        finished.summary = f"{good} of {_count(total, 'citation')} resolved"
    return candidates, citations


async def judge(
    live: LiveRun,
    leaves: Leaves,
    candidates: Sequence[judge_pb2.Candidate],
    passages: Sequence[common_pb2.Passage],
) -> tuple[list[judge_pb2.Ballot], judge_pb2.Verdict]:
    """Apply the rules and have the jury vote; each ballot is charged as it arrives."""
    run, spec = live.run, live.run.spec
    ballots: list[judge_pb2.Ballot] = []
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
        async for response in leaves.judge.Judge(request):
            match response.WhichOneof("event"):
                case "ballot":
                    ballots.append(response.ballot.ballot)
                    await _charge(live, leaves, response.ballot.calls)
                    await live.emit(run_pb2.RunEvent(ballot=_without_words(response.ballot.ballot)))
                case "verdict":
                    finished.summary = _verdict_line(response.verdict, ballots)
                    return ballots, response.verdict
    raise IncompleteStreamError("the jury ended without a verdict; start the run again")


def publish(spec: run_pb2.RunSpec, drafts: Sequence[debate_pb2.Draft], verdict: judge_pb2.Verdict) -> Publication:
    """Let the policy say what becomes of the ranking."""
    model_of = {draft.draft_id: draft.model for draft in drafts}
    return choose(
        MessageToDict(spec.policy_document),
        [Ranked(entry.draft_id, model_of[entry.draft_id], entry.mean) for entry in verdict.ranking],
        contested=verdict.contested,
        no_winner_reason=verdict.reason,
    )


async def redact(live: LiveRun, leaves: Leaves, record: RunRecord) -> None:
    """Redact everything that leaves the run, and build its result; without redaction there is no publication."""
    spec = live.run.spec
    async with live.stage(common_pb2.STAGE_REDACT) as finished:
        if spec.redaction == run_pb2.REDACTION_MODE_OFF:
            finished.summary = "off"
        else:
            options = redaction_pb2.RedactionOptions()
            options.CopyFrom(spec.redaction_options)
            kept = {citation.text for found in record.citations.values() for citation in resolved(found)}
            options.keep_titles.extend(sorted(kept))
            texts = record.texts()
            answers = await asyncio.gather(
                *(leaves.redaction.Redact(redaction_pb2.RedactRequest(text=text, options=options)) for text in texts)
            )
            record.cleaned = dict(zip(texts, answers, strict=True))
            finished.summary = _count(sum(record.shown.counts.values()), "finding")
        shown = await verify(spec, record.shown.text, leaves) if spec.corpus and record.shown.text else []
        live.run.result.CopyFrom(build_result(record, shown))


async def store(live: LiveRun, leaves: Leaves, record: RunRecord) -> None:
    """Store the artifact; it holds redacted text only."""
    run = live.run
    async with live.stage(common_pb2.STAGE_STORE) as finished:
        content = json.dumps(build_artifact(record), ensure_ascii=False, indent=2).encode() + b"\n"
        key = storage_pb2.ArtifactKey(workflow=run.spec.workflow, artifact=f"{run.run_id}.json")
        header = storage_pb2.ArtifactHeader(
            request_id=step_id(run.run_id, "store"),
            key=key,
            content_type="application/json",
            sha256=sha256(content).hexdigest(),
            run_id=run.run_id,
            tags={"preset": run.spec.preset, "status": record.publication.status},
        )

        def parts() -> Iterable[storage_pb2.PutArtifactRequest]:
            yield storage_pb2.PutArtifactRequest(header=header)
            for start in range(0, len(content), _CHUNK_BYTES):
                yield storage_pb2.PutArtifactRequest(chunk=content[start : start + _CHUNK_BYTES])

        async def put() -> storage_pb2.PutArtifactResponse:
            return await leaves.storage.PutArtifact(iter(parts()))

        stored = (await persistently(put)).artifact
        run.result.artifact_workflow = key.workflow
        run.result.artifact_name = key.artifact
        run.result.artifact_location = stored.location
        run.result.artifact_sha256 = stored.sha256
        finished.summary = f"{stored.size} bytes"


async def settle(live: LiveRun, leaves: Leaves) -> None:
    """Give back what was held and not spent; the run's cost is what the ledger says."""
    run = live.run
    async with live.stage(common_pb2.STAGE_SETTLE) as finished:
        request = governance_pb2.SettleRequest(
            request_id=step_id(run.run_id, "settle"), reservation_id=run.reservation_id
        )

        async def close() -> governance_pb2.SettleResponse:
            return await leaves.governance.Settle(request)

        settled = await persistently(close)
        del run.result.totals[:]
        run.result.totals.extend(settled.totals)
        run.result.total_nano_usd = settled.total_nano_usd
        run.result.total_tokens = sum(total.input_tokens + total.output_tokens for total in settled.totals)
        finished.summary = f"{_count(len(live.calls), 'model call')} paid, the rest given back"


async def release(run: run_pb2.Run, leaves: Leaves, reason: str) -> None:
    """Give back whatever a run that did not get to its end still holds; charges so far stand."""
    held = await leaves.governance.ListReservations(
        governance_pb2.ListReservationsRequest(run_id=run.run_id, state=governance_pb2.RESERVATION_STATE_HELD)
    )
    for reservation in held.reservations:
        released = await leaves.governance.Release(
            governance_pb2.ReleaseRequest(
                request_id=step_id(run.run_id, f"release {reservation.reservation_id}"),
                reservation_id=reservation.reservation_id,
                reason=reason,
            )
        )
        run.result.total_nano_usd = released.total_nano_usd


async def verify(spec: run_pb2.RunSpec, text: str, leaves: Leaves) -> list[common_pb2.Citation]:
    """The citations of a text, each resolved against the run's corpus or not."""
    answer = await leaves.grounding.VerifyCitations(
        grounding_pb2.VerifyCitationsRequest(corpus=spec.corpus, version=spec.corpus_version, text=text)
    )
    return list(answer.citations)


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


async def _charge(live: LiveRun, leaves: Leaves, calls: Sequence[common_pb2.ModelCall]) -> None:
    if not calls:
        return
    request = governance_pb2.ChargeRequest(
        request_id=step_id(live.run.run_id, "charge " + " ".join(call.call_id for call in calls)),
        reservation_id=live.run.reservation_id,
        calls=calls,
    )

    async def charge() -> governance_pb2.ChargeResponse:
        return await leaves.governance.Charge(request)

    answer = await persistently(charge)
    live.run.offline = all(call.offline for call in [*live.calls, *calls])
    await live.charged(list(calls))
    if answer.over_reservation:
        await live.warn("the run has cost more than was reserved for it; the ledger has the true cost")


def _summary(draft: debate_pb2.Draft) -> run_pb2.DraftSummary:
    return run_pb2.DraftSummary(
        draft_id=draft.draft_id, debater_id=draft.debater_id, model=draft.model, tokens=draft.tokens
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
    out = f", {_count(len(verdict.disqualified), 'draft')} disqualified" if verdict.disqualified else ""
    if not verdict.winner_draft_id:
        return f"no winner{out}"
    return f"{verdict.winner_draft_id} wins by {_count(len(ballots), 'ballot')}{out}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
