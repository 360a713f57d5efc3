"""The steps that ground a run in its corpus: find the passages, check the citations."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import grpc

from djp.mesh.errors import ResourceExhausted
from djp.v1 import common_pb2, grounding_pb2, judge_pb2, run_pb2
from djp_gateway.hiding import redacted
from djp_gateway.live import count
from djp_gateway.patience import persistently
from djp_gateway.record import resolved

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from djp.v1 import debate_pb2
    from djp_gateway.adapters.leaves import Leaves
    from djp_gateway.hiding import Sent
    from djp_gateway.live import LiveRun
    from djp_gateway.placeholders import Swapped

_ROUND = str.maketrans("[]", "()")

_PASSAGES_PER_DOCUMENT = (
    3  # of eight or more: debaters are to hear several documents, as long as several speak about the task
)


async def search(live: LiveRun, leaves: Leaves) -> list[common_pb2.Passage]:
    """Find the passages that the debaters get; none without a corpus."""
    if not live.run.spec.corpus:
        return []
    async with live.stage(common_pb2.STAGE_SEARCH) as finished:
        passages = await persistently(lambda: find_passages(live.run.spec, leaves), live.waiting_for("grounding"))
        documents = len({passage.document_id for passage in passages})
        finished.summary = f"{count(len(passages), 'passage')} of {count(documents, 'document')}"
    return passages


async def find_passages(spec: run_pb2.RunSpec, leaves: Leaves) -> list[common_pb2.Passage]:
    """The corpus passages nearest to the task; none without a corpus."""
    if not spec.corpus:
        return []
    found = await leaves.grounding.Search(
        grounding_pb2.SearchRequest(
            corpus=spec.corpus,
            version=spec.corpus_version,
            query=spec.task,
            top_k=spec.top_k,
            token_budget=spec.passage_tokens,
            passages_per_document=_PASSAGES_PER_DOCUMENT,
        )
    )
    return list(found.passages)


async def cite(
    live: LiveRun, leaves: Leaves, sent: Sent, drafts: Sequence[debate_pb2.Draft]
) -> tuple[list[judge_pb2.Candidate], dict[str, list[common_pb2.Citation]]]:
    """Check every draft's citations against the corpus; the judge's rules count the resolved ones only."""
    if not sent.spec.corpus:
        return [judge_pb2.Candidate(draft=draft) for draft in drafts], {}
    waiting = live.waiting_for("grounding")

    async def check(draft: debate_pb2.Draft) -> list[common_pb2.Citation] | None:
        return await persistently(lambda: verify(sent, draft.text, leaves), waiting)

    async with live.stage(common_pb2.STAGE_CITE) as finished:
        checked = await asyncio.gather(*map(check, drafts))
        for draft, found in zip(drafts, checked, strict=True):
            if found is None:
                live.warn(f"the citations of draft {draft.draft_id} are too many to be checked; none of them counts")
        citations = {draft.draft_id: found or [] for draft, found in zip(drafts, checked, strict=True)}
        candidates = [
            judge_pb2.Candidate(draft=draft, resolved_citations=len(resolved(citations[draft.draft_id])))
            for draft in drafts
        ]
        total = sum(len(found) for found in citations.values())
        good = sum(candidate.resolved_citations for candidate in candidates)
        finished.summary = f"{good} of {count(total, 'citation')} resolved"
    return candidates, citations


async def verify(sent: Sent, text: str, leaves: Leaves) -> list[common_pb2.Citation] | None:
    """The citations of a text, each resolved against the run's corpus or not; None: they are too many to be checked.

    Hidden values are compared as the documents write them, and told by their placeholders.
    """
    spec = sent.spec
    try:
        # A value that stands alone in brackets is cited if it is a whole title; its own brackets cite nothing.
        plain = {name: value.translate(_ROUND) for name, value in {**sent.placeholders.values, **sent.written}.items()}
        real = sent.placeholders.restored(text, {passage.title for passage in sent.passages}, plain)
        request = grounding_pb2.VerifyCitationsRequest(corpus=spec.corpus, version=spec.corpus_version, text=real.text)
        answer = await leaves.grounding.VerifyCitations(request)
    except ResourceExhausted:
        return None
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
            raise
        return None
    if spec.redaction != run_pb2.REDACTION_MODE_ALL:
        return list(answer.citations)
    return await _covered(answer.citations, text, real, sent, leaves)


async def _covered(
    citations: Iterable[common_pb2.Citation], text: str, real: Swapped, sent: Sent, leaves: Leaves
) -> list[common_pb2.Citation]:
    """Citations of the text with the values, as those of the text with their placeholders."""
    known = {passage.document_id: (passage.title, passage.path) for passage in sent.passages}
    others = {part for found in citations if found.document_id not in known for part in (found.title, found.path)}
    clean = await redacted({part: sent.spec.redaction_options for part in sorted(others) if part}, leaves)
    covered = []
    for found in citations:
        if (origin := real.origin(found.start, found.end)) is None:
            continue
        found.start, found.end = origin
        found.text = text[found.start + 1 : found.end - 1]
        if found.document_id:
            other = (clean[part].text if part else "" for part in (found.title, found.path))
            found.title, found.path = known.get(found.document_id) or other
        if found.status == common_pb2.CITATION_STATUS_AMBIGUOUS:
            found.reason = "equally near to several titles"  # which it would name
        covered.append(found)
    return covered
