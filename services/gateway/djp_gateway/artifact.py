"""A run's artifact: its record as a JSON document that fits schemas/artifact.json."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

from google.protobuf.timestamp_pb2 import Timestamp

import djp
from djp.v1 import common_pb2, run_pb2
from djp_gateway.record import resolved

if TYPE_CHECKING:
    from collections.abc import Iterable

    from djp.v1 import debate_pb2, judge_pb2
    from djp_gateway.record import RunRecord

SCHEMA_VERSION = "2.1"


def build_artifact(record: RunRecord) -> dict[str, Any]:
    """The artifact as a JSON document; every text in it is redacted.

    Nothing in it depends on who was quicker, so that a run that repeats another one has the same bytes wherever the
    same was said.
    """
    run, spec, publication = record.run, record.sent.spec, record.publication
    result = run.result
    counts = dict(sorted(record.shown.counts.items()))
    calls = sorted(record.calls, key=_place)
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
            "rounds": record.debated.rounds,
            "stopped_early": record.debated.stopped_early,
            "agreement": record.debated.agreement if record.debated.HasField("agreement") else None,
            "drafts": [_draft(draft, record) for draft in record.drafts],
            "failures": [
                _failure(failed, record)
                for failed in sorted(record.failures, key=lambda one: (one.round, one.debater_id))
            ],
        },
        "judge": {
            "ballots": [_ballot(ballot, record) for ballot in sorted(record.ballots, key=lambda one: one.ballot_id)],
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
                "effective_jurors": record.verdict.effective_jurors,
                "fast_path": record.verdict.fast_path,
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
                for passage in record.sent.passages
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
            "calls": [_call(call, record) for call in calls],
            "model_usage": _model_usage(record.calls),
            "total_cost_nano_usd": sum(call.cost_nano_usd for call in record.calls),
            "total_tokens": sum(call.usage.input_tokens + call.usage.output_tokens for call in record.calls),
            "reservation_id": run.reservation_id,
            "trace_id": run.trace_id,
            "spec_sha256": sha256(run.spec.SerializeToString(deterministic=True)).hexdigest(),
        },
    }


def _draft(draft: debate_pb2.Draft, record: RunRecord) -> dict[str, Any]:
    own_words = set(record.evidence(draft))
    return {
        "draft_id": draft.draft_id,
        "debater_id": draft.debater_id,
        "model": draft.model,
        "round": draft.round,
        "text": record.clean(draft.text),
        "tokens": draft.tokens,
        "resolved_citations": record.resolved_citations(draft.draft_id),
        "confidence": draft.confidence if draft.HasField("confidence") else None,
        "safety_flags": [record.clean(flag) for flag in draft.safety_flags],
        "evidence": [record.clean(found) if found in own_words else found for found in draft.evidence],
    }


def _failure(failed: debate_pb2.DraftFailed, record: RunRecord) -> dict[str, Any]:
    return {
        "debater_id": failed.debater_id,
        "round": failed.round,
        "model": failed.model,
        "reason": common_pb2.ErrorReason.Name(failed.reason).removeprefix("ERROR_REASON_"),
        "message": record.clean(failed.message),
        "partial_text": record.clean(failed.partial_text),
    }


def _ballot(ballot: judge_pb2.Ballot, record: RunRecord) -> dict[str, Any]:
    return {
        "juror_id": ballot.juror_id,
        "model": ballot.model,
        "order": list(ballot.order),
        "recused_draft_ids": list(ballot.recused_draft_ids),
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
        "support": found.support if found.HasField("support") else None,
        "passage_id": found.passage_id or None,
    }


def _call(call: common_pb2.ModelCall, record: RunRecord) -> dict[str, Any]:
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
        "error": record.clean(call.error),
    }


def _place(call: common_pb2.ModelCall) -> tuple[int | str, ...]:
    """Where a call stands among the others, whichever came first."""
    return call.stage, call.actor_id, call.attempt, call.usage.input_tokens, call.usage.output_tokens, call.model


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
