"""The record of a run: what it knows when it has been judged, redacted, and what the caller gets of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.v1 import common_pb2, debate_pb2, judge_pb2, redaction_pb2, run_pb2
from djp_gateway.placeholders import Swapped

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from djp_gateway.hiding import Sent
    from djp_gateway.policy import Publication


@dataclass
class RunRecord:
    """Everything that a judged run knows; `cleaned` maps its texts to their redacted forms; None: redaction off."""

    run: run_pb2.Run
    sent: Sent
    debated: debate_pb2.DebateFinished
    failures: Sequence[debate_pb2.DraftFailed]
    citations: Mapping[str, Sequence[common_pb2.Citation]]
    """By draft id."""
    ballots: Sequence[judge_pb2.Ballot]
    verdict: judge_pb2.Verdict
    publication: Publication
    calls: Sequence[common_pb2.ModelCall]
    cleaned: Mapping[str, redaction_pb2.RedactResponse] | None = None

    @property
    def drafts(self) -> Sequence[debate_pb2.Draft]:
        """The drafts that were judged: each debater's last."""
        return self.debated.drafts

    def texts(self) -> list[str]:
        """Every text that could carry what redaction looks for, each once."""
        spec = self.sent.spec
        texts = [spec.task, spec.trace_name, *self.run.warnings, self.publication.reason, self.verdict.reason]
        texts += [debater.role for debater in spec.debaters]
        for draft in self.drafts:
            texts += [draft.text, *self.evidence(draft), *draft.safety_flags]
        for failed in self.failures:
            texts += [failed.message, failed.partial_text]
        texts += [score.reason for ballot in self.ballots for score in ballot.scores]
        texts += [ballot.abstain_reason for ballot in self.ballots]
        texts += [found.reason for found in self.verdict.disqualified]
        texts += [call.error for call in self.calls]
        return [text for text in dict.fromkeys(texts) if text]

    def evidence(self, draft: debate_pb2.Draft) -> list[str]:
        """What a draft rests on in its writer's own words: the ids of passages are left out."""
        passages = {passage.passage_id for passage in self.sent.passages}
        return [evidence for evidence in draft.evidence if evidence not in passages]

    def titles(self) -> list[str]:
        """The titles that the drafts cite, each once; those of the draft that is shown come first.

        Where values are hidden, only titles as the models were told them: one that they knew by themselves has a value.
        """
        drafts = sorted(self.citations, key=lambda draft_id: (draft_id != self.publication.draft_id, draft_id))
        cited = dict.fromkeys(found.text for draft_id in drafts for found in resolved(self.citations[draft_id]))
        if self.sent.spec.redaction != run_pb2.REDACTION_MODE_ALL:
            return list(cited)
        told = {passage.title for passage in self.sent.passages}
        return [title for title in cited if title in told]

    def clean(self, text: str) -> str:
        """The text as it may leave the run.

        Raises:
            KeyError: it was never redacted, so it may not leave.
        """
        return text if self.cleaned is None or not text else self.cleaned[text].text

    @property
    def shown(self) -> redaction_pb2.RedactResponse:
        """The published or advisory text, redacted, with its counts."""
        text = self._chosen()
        return redaction_pb2.RedactResponse(text=text) if self.cleaned is None or not text else self.cleaned[text]

    def _chosen(self) -> str:
        return next((draft.text for draft in self.drafts if draft.draft_id == self.publication.draft_id), "")

    def shown_citations(self) -> list[common_pb2.Citation]:
        """The citations in the published or advisory text, at their places in it, as they were found in the draft.

        What redaction took out of a sentence cannot be looked for in a document any more, so they are not checked anew.
        """
        shown = Swapped(self._chosen(), ((one.start, one.end, one.replacement) for one in self.shown.findings))
        citations = []
        for found in self.citations.get(self.publication.draft_id, ()):
            if place := shown.place(found.start, found.end):
                moved = common_pb2.Citation()
                moved.CopyFrom(found)
                moved.start, moved.end = place
                moved.text = shown.text[moved.start + 1 : moved.end - 1]
                citations.append(moved)
        return citations

    def resolved_citations(self, draft_id: str) -> int:
        """Citations of a draft that name a document of the corpus."""
        return len(resolved(self.citations.get(draft_id, ())))

    def grounded_fail_reason(self) -> str:
        """Why no draft has the citations that the run requires; empty if one has, or none are required."""
        required = self.run.spec.grounded_required
        best = max((self.resolved_citations(draft.draft_id) for draft in self.drafts), default=0)
        if best >= required:
            return ""
        citations = f"{required} citations that resolve" if required > 1 else "a citation that resolves"
        return f"no draft has {citations}; the best has {best}"


def resolved(citations: Iterable[common_pb2.Citation]) -> list[common_pb2.Citation]:
    """The citations that name a document of the corpus."""
    return [citation for citation in citations if citation.status == common_pb2.CITATION_STATUS_RESOLVED]


def build_result(record: RunRecord) -> run_pb2.RunResult:
    """The result for the caller; cost and artifact are filled in when they are known."""
    publication = record.publication
    verdict = judge_pb2.Verdict()
    verdict.CopyFrom(record.verdict)
    verdict.reason = record.clean(verdict.reason)
    for disqualified in verdict.disqualified:
        disqualified.reason = record.clean(disqualified.reason)
    result = run_pb2.RunResult(
        text=record.shown.text,
        draft_id=publication.draft_id,
        model=next((d.model for d in record.drafts if d.draft_id == publication.draft_id), ""),
        advisory_reason=record.clean(publication.reason) if publication.status != "published" else "",
        verdict=verdict,
        citations=record.shown_citations(),
        redaction_counts=record.shown.counts,
        drafts=[
            summary_of(draft, resolved_citations=record.resolved_citations(draft.draft_id)) for draft in record.drafts
        ],
        grounded_fail_reason=record.grounded_fail_reason(),
        rounds=record.debated.rounds,
        stopped_early=record.debated.stopped_early,
    )
    if record.debated.HasField("agreement"):
        result.agreement = record.debated.agreement
    return result


def summary_of(draft: debate_pb2.Draft, *, resolved_citations: int = 0) -> run_pb2.DraftSummary:
    """Who wrote a draft, without its text."""
    return run_pb2.DraftSummary(
        draft_id=draft.draft_id,
        debater_id=draft.debater_id,
        model=draft.model,
        tokens=draft.tokens,
        resolved_citations=resolved_citations,
        round=draft.round,
    )
