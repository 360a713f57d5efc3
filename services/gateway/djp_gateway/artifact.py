"""The record of a run: what it becomes as an artifact (schemas/artifact.json) and as a result for the caller."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

import djp
from djp.v1 import common_pb2, debate_pb2, judge_pb2, redaction_pb2, run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from djp_gateway.policy import Publication

SCHEMA_VERSION = "2.0"


@dataclass
class RunRecord:
    """Everything that a judged run knows; `cleaned` maps its texts to their redacted forms; None: redaction off."""

    run: run_pb2.Run
    passages: Sequence[common_pb2.Passage]
    drafts: Sequence[debate_pb2.Draft]
    citations: Mapping[str, Sequence[common_pb2.Citation]]
    """By draft id."""
    ballots: Sequence[judge_pb2.Ballot]
    verdict: judge_pb2.Verdict
    publication: Publication
    calls: Sequence[common_pb2.ModelCall]
    cleaned: Mapping[str, redaction_pb2.RedactResponse] | None = None

    def texts(self) -> list[str]:
        """Every text that could carry what redaction looks for, each once."""
        spec = self.run.spec
        texts = [spec.task, spec.trace_name, *self.run.warnings, self.publication.reason, self.verdict.reason]
        texts += [debater.role for debater in spec.debaters]
        texts += [draft.text for draft in self.drafts]
        texts += [score.reason for ballot in self.ballots for score in ballot.scores]
        texts += [ballot.abstain_reason for ballot in self.ballots]
        texts += [found.reason for found in self.verdict.disqualified]
        return [text for text in dict.fromkeys(texts) if text]

    def titles(self) -> list[str]:
        """The titles that the drafts cite, each once; those of the draft that is shown come first."""
        drafts = sorted(self.citations, key=lambda draft_id: (draft_id != self.publication.draft_id, draft_id))
        return list(dict.fromkeys(found.text for draft_id in drafts for found in resolved(self.citations[draft_id])))

    def clean(self, text: str) -> str:
        """The text as it may leave the run.

        Raises:
            KeyError: it was never redacted, so it may not leave.
        """
        return text if self.cleaned is None or not text else self.cleaned[text].text

    @property
    def shown(self) -> redaction_pb2.RedactResponse:
        """The published or advisory text, redacted, with its counts."""
        text = next((draft.text for draft in self.drafts if draft.draft_id == self.publication.draft_id), "")
        return redaction_pb2.RedactResponse(text=text) if self.cleaned is None or not text else self.cleaned[text]

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


def build_result(record: RunRecord, shown_citations: Sequence[common_pb2.Citation]) -> run_pb2.RunResult:
    """The result for the caller; cost and artifact are filled in when they are known."""
    publication = record.publication
    verdict = judge_pb2.Verdict()
    verdict.CopyFrom(record.verdict)
    verdict.reason = record.clean(verdict.reason)
    for disqualified in verdict.disqualified:
        disqualified.reason = record.clean(disqualified.reason)
    return run_pb2.RunResult(
        text=record.shown.text,
        draft_id=publication.draft_id,
        model=next((d.model for d in record.drafts if d.draft_id == publication.draft_id), ""),
        advisory_reason=record.clean(publication.reason) if publication.status != "published" else "",
        verdict=verdict,
        citations=shown_citations,
        redaction_counts=record.shown.counts,
        drafts=[
            run_pb2.DraftSummary(
                draft_id=draft.draft_id,
                debater_id=draft.debater_id,
                model=draft.model,
                tokens=draft.tokens,
                resolved_citations=record.resolved_citations(draft.draft_id),
            )
            for draft in record.drafts
        ],
        grounded_fail_reason=record.grounded_fail_reason(),
    )


def build_artifact(record: RunRecord) -> dict[str, Any]:
    """The artifact as a JSON document; every text in it is redacted."""
    run, spec, publication = record.run, record.run.spec, record.publication
    result = run.result
    counts = dict(record.shown.counts)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_metadata": {
            "run_id": run.run_id,
            "tenant": run.tenant,
            "workflow": spec.workflow,
            "task": record.clean(spec.task),
            "preset": spec.preset,
            "policy": spec.policy,
            "trace_name": record.clean(spec.trace_name),
            "seed": spec.seed,
            "temperature": spec.temperature,
            "max_tokens": spec.max_tokens,
            "started_at": _time(run.started_at),
            "finished_at": _now(),
            "offline": run.offline,
            "budget_nano_usd": spec.budget_nano_usd if spec.HasField("budget_nano_usd") else None,
            "budget_tokens": spec.budget_tokens if spec.HasField("budget_tokens") else None,
            "warnings": [record.clean(warning) for warning in run.warnings],
        },
        "debate": {
            "debaters": [
                {"debater_id": debater.debater_id, "model": debater.model, "role": record.clean(debater.role)}
                for debater in spec.debaters
            ],
            "drafts": [
                {
                    "draft_id": draft.draft_id,
                    "debater_id": draft.debater_id,
                    "model": draft.model,
                    "round": draft.round,
                    "text": record.clean(draft.text),
                    "tokens": draft.tokens,
                    "resolved_citations": record.resolved_citations(draft.draft_id),
                }
                for draft in record.drafts
            ],
        },
        "judge": {
            "ballots": [_ballot(ballot, record) for ballot in record.ballots],
            "verdict": {
                "winner_draft_id": record.verdict.winner_draft_id or None,
                "ranking": [
                    {
                        "draft_id": standing.draft_id,
                        "task_fit": standing.task_fit,
                        "support": standing.support,
                        "clarity": standing.clarity,
                        "mean": standing.mean,
                        "spread": standing.spread,
                    }
                    for standing in record.verdict.ranking
                ],
                "disqualified": [
                    {"draft_id": found.draft_id, "rule": found.rule, "reason": record.clean(found.reason)}
                    for found in record.verdict.disqualified
                ],
                "contested": record.verdict.contested,
                "agreement": record.verdict.agreement,
                "tie_break": record.verdict.tie_break,
            },
        },
        "publish": {
            "status": publication.status,
            "text": result.text,
            "draft_id": publication.draft_id or None,
            "model": result.model or None,
            "reason": record.clean(publication.reason),
        },
        "grounding": {
            "enabled": bool(spec.corpus),
            "corpus": spec.corpus,
            "version": spec.corpus_version,
            "required": spec.grounded_required,
            "citations_count": len(resolved(result.citations)),
            "citations": [_citation(found) for found in result.citations],
            "passages": [
                {
                    "passage_id": passage.passage_id,
                    "document_id": passage.document_id,
                    "title": passage.title,
                    "path": passage.path,
                    "page": passage.page,
                }
                for passage in record.passages
            ],
            "fail_reason": result.grounded_fail_reason or None,
        },
        "redaction": {
            "enabled": spec.redaction != run_pb2.REDACTION_MODE_OFF,
            "redacted": bool(counts),
            "redaction_count": sum(counts.values()),
            "redaction_types": sorted(counts),
            "counts": counts,
        },
        "provenance": {
            "djp_version": djp.__version__,
            "calls": [_call(call) for call in record.calls],
            "model_usage": _model_usage(record.calls),
            "total_cost_nano_usd": sum(call.cost_nano_usd for call in record.calls),
            "total_tokens": sum(call.usage.input_tokens + call.usage.output_tokens for call in record.calls),
            "reservation_id": run.reservation_id,
            "trace_id": run.trace_id,
            "spec_sha256": sha256(spec.SerializeToString(deterministic=True)).hexdigest(),
        },
    }


def _ballot(ballot: judge_pb2.Ballot, record: RunRecord) -> dict[str, Any]:
    return {
        "juror_id": ballot.juror_id,
        "model": ballot.model,
        "order": list(ballot.order),
        "abstained": ballot.abstained,
        "abstain_reason": record.clean(ballot.abstain_reason),
        "scores": [
            {
                "draft_id": score.draft_id,
                "task_fit": score.task_fit,
                "support": score.support,
                "clarity": score.clarity,
                "total": score.total,
                "reason": record.clean(score.reason),
            }
            for score in ballot.scores
        ],
    }


def _citation(found: common_pb2.Citation) -> dict[str, Any]:
    return {
        "text": found.text,
        "start": found.start,
        "end": found.end,
        "status": common_pb2.CitationStatus.Name(found.status).removeprefix("CITATION_STATUS_").lower(),
        "document_id": found.document_id or None,
        "title": found.title or None,
        "path": found.path or None,
    }


def _call(call: common_pb2.ModelCall) -> dict[str, Any]:
    return {
        "call_id": call.call_id,
        "stage": common_pb2.Stage.Name(call.stage).removeprefix("STAGE_").lower(),
        "actor_id": call.actor_id,
        "model": call.model,
        "attempt": call.attempt,
        "input_tokens": call.usage.input_tokens,
        "cached_input_tokens": call.usage.cached_input_tokens,
        "output_tokens": call.usage.output_tokens,
        "reasoning_tokens": call.usage.reasoning_tokens,
        "cost_nano_usd": call.cost_nano_usd,
        "bound_nano_usd": call.bound_nano_usd,
        "usage_unknown": call.usage_unknown,
        "offline": call.offline,
        "started_at": _time(call.started_at),
        "duration_ms": call.duration.ToMilliseconds(),
    }


def _model_usage(calls: Iterable[common_pb2.ModelCall]) -> list[dict[str, Any]]:
    usage: dict[str, dict[str, Any]] = {}
    for call in calls:
        row = usage.setdefault(
            call.model, {"model": call.model, "calls": 0, "input_tokens": 0, "output_tokens": 0, "cost_nano_usd": 0}
        )
        row["calls"] += 1
        row["input_tokens"] += call.usage.input_tokens
        row["output_tokens"] += call.usage.output_tokens
        row["cost_nano_usd"] += call.cost_nano_usd
    return [usage[model] for model in sorted(usage)]


def _time(stamp: Timestamp) -> str:
    return stamp.ToJsonString()


def _now() -> str:
    stamp = Timestamp()
    stamp.GetCurrentTime()
    return stamp.ToJsonString()
