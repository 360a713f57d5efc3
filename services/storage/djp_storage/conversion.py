"""Makes run artifacts of today's schema of those of schema 1.1: every fact that has a place, and no invented one."""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from djp.catalogue_files import validate_against
from djp.mesh.errors import InvalidInput
from djp_storage.older_artifacts import OLDER_VERSION, read_older

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from decimal import Decimal

    from djp_storage.older_artifacts import OlderArtifact, OlderDraft, OlderRankedDraft

MAX_OLDER_BYTES = 16 * 2**20
"""A larger file is no run artifact of the older system: its texts come to a few hundred kilobytes."""

_SCHEMA_VERSION = "2.1"
_RUNS = uuid.UUID("5d0c3a0e-3f0b-5c1e-9a55-1f6a1f0e7d11")  # the namespace of converted runs; any fixed one will do
_UNKNOWN = "unknown"
_MODEL = re.compile(r"[^/\s]+/\S+")
_TOKENS = (16, 200_000)  # what today's schema allows
_LARGEST_SEED = 2**63 - 1
_NANO = 10**9


class Converted(NamedTuple):
    """A run's artifact as JSON, with its id, when it was made, and whether it was published."""

    run_id: str
    content: bytes
    created_at: datetime
    status: str


def convert(content: bytes, *, tenant: str, workflow: str) -> Converted:
    """An older file as ours. The same file of the same tenant gives the same id and the same bytes.

    Raises InvalidInput with what is wrong with the file, without its name.
    """
    older = read_older(content)
    run_id = str(uuid.uuid5(_RUNS, f"{tenant}/{hashlib.sha256(content).hexdigest()}"))
    try:
        document = _Conversion(older).document(run_id, tenant, workflow)
    except OverflowError:
        raise InvalidInput("run_metadata.timestamp: out of range") from None
    if problems := validate_against("artifact", document):
        raise InvalidInput(f"does not fit today's schema: {'; '.join(problems[:3])}")
    text = json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False)
    try:
        raw = text.encode() + b"\n"
    except UnicodeEncodeError:
        raise InvalidInput("holds half a character (an unpaired surrogate), which is no text") from None
    return Converted(run_id, raw, _utc(older.run_metadata.timestamp), document["publish"]["status"])


class _Conversion:
    """One artifact on its way."""

    def __init__(self, older: OlderArtifact) -> None:
        self._older = older
        self._warnings = [
            f"converted from schema {OLDER_VERSION}: what that did not record is empty, zero or 'unknown'"
        ]
        self._ids = [f"d{number}" for number in range(1, len(older.debate.drafts) + 1)]

    def document(self, run_id: str, tenant: str, workflow: str) -> dict[str, Any]:
        """The whole. Warnings come last: every block may add some."""
        blocks = {
            "debate": self._debate(),
            "judge": self._judge(),
            "publish": self._publish(),
            "grounding": self._grounding(),
            "redaction": self._redaction(),
            "provenance": self._provenance(),
        }
        return {
            "schema_version": _SCHEMA_VERSION,
            "run_metadata": self._metadata(run_id, tenant, workflow),
            **blocks,
        }

    def _metadata(self, run_id: str, tenant: str, workflow: str) -> dict[str, Any]:
        told = self._older.run_metadata
        given = told.parameters
        least, most = _TOKENS
        if not least <= given.max_tokens <= most:
            self._warnings.append(f"max_tokens was {given.max_tokens}")
        if given.seed is not None and abs(given.seed) > _LARGEST_SEED:
            self._warnings.append(f"the seed was {str(given.seed)[:100]}")
        finished = told.timestamp
        if finished.tzinfo is None:
            self._warnings.append("its times had no zone and are taken for UTC")
        return {
            "run_id": run_id,
            "tenant": tenant,
            "workflow": workflow,
            "task": told.task,
            "preset": given.preset_name or "",
            "policy": given.policy or _UNKNOWN,
            "trace_name": told.trace_name,
            "seed": given.seed if given.seed is not None and abs(given.seed) <= _LARGEST_SEED else 0,
            "temperature": given.temperature,
            "max_tokens": min(max(given.max_tokens, least), most),
            "started_at": _time(finished, before_s=self._older.provenance.duration_seconds),
            "finished_at": _time(finished),
            "offline": False,
            "budget_nano_usd": None,
            "budget_tokens": None,
            "warnings": self._warnings,
        }

    def _debate(self) -> dict[str, Any]:
        drafts = self._older.debate.drafts
        return {
            "debaters": [
                {"debater_id": name, "model": _model(draft.provider), "role": ""}
                for name, draft in zip(self._ids, drafts, strict=True)
            ],
            "rounds": 1,
            "stopped_early": False,
            "agreement": None,
            "drafts": [
                {
                    "draft_id": _draft_id(name),
                    "debater_id": name,
                    "model": _model(draft.provider),
                    "round": 1,
                    "text": draft.answer,
                    "tokens": 0,
                    "resolved_citations": self._cited(draft.answer),
                    "confidence": draft.confidence,
                    "safety_flags": draft.safety_flags,
                    "evidence": draft.evidence,
                }
                for name, draft in zip(self._ids, drafts, strict=True)
            ],
            "failures": [],
        }

    def _judge(self) -> dict[str, Any]:
        places = list(self._places())
        if any(one.subscores is None or None in one.subscores.model_dump().values() for _, one in places):
            self._warnings.append("parts of scores that were not kept are estimated from their sums")
        winner = next((name for name, one in places if one.provider == self._older.judge.winner_provider), None)
        ballot = {
            "juror_id": "judge",
            "model": f"{_UNKNOWN}/{_UNKNOWN}",
            "order": [_draft_id(name) for name in self._ids],
            "recused_draft_ids": [],
            "abstained": False,
            "abstain_reason": "",
            "scores": [
                {"draft_id": _draft_id(name), **_marks(one), "total": one.score, "reason": one.reasons}
                for name, one in places
            ],
        }
        return {
            "ballots": [ballot] if places else [],
            "verdict": {
                "winner_draft_id": _draft_id(winner) if winner else None,
                "ranking": [
                    {"draft_id": _draft_id(name), **_marks(one), "mean": one.score, "spread": 0} for name, one in places
                ],
                "disqualified": [],
                "contested": False,
                "agreement": 1 if winner else 0,
                "tie_break": "",
                "effective_jurors": 1 if places else 0,
                "fast_path": False,
            },
        }

    def _places(self) -> Iterator[tuple[str, OlderRankedDraft]]:
        """The ranked drafts with the ids of those they are; a ranked one that nobody wrote is left out."""
        left: dict[str, OlderDraft] = dict(zip(self._ids, self._older.debate.drafts, strict=True))
        for ranked in self._older.judge.ranked_drafts:
            of_model = [name for name, draft in left.items() if draft.provider == ranked.provider]
            same = [name for name in of_model if left[name].answer == ranked.answer]
            if not of_model:
                self._warnings.append(f"the ranking had a draft of {ranked.provider[:100]} that is not in the debate")
                continue
            name = (same or of_model)[0]
            del left[name]
            yield name, ranked

    def _publish(self) -> dict[str, Any]:
        told = self._older.publish
        if told.status == "none" or not told.text:
            if told.text:
                self._warnings.append("its text, which was not published, is left out")
            reason = told.reason or "the older system gave no reason"
            return {"status": "none", "text": "", "draft_id": None, "model": None, "reason": reason}
        written = [
            name
            for name, draft in zip(self._ids, self._older.debate.drafts, strict=True)
            if draft.provider == told.provider
        ]
        if not written:
            raise InvalidInput(f"publish.provider: {told.provider[:100]!r} has no draft in the debate")
        whole = [name for name in written if self._text_of(name) == told.text]
        advisory = told.status == "advisory_only"
        return {
            "status": "advisory" if advisory else "published",
            "text": told.text,
            "draft_id": _draft_id((whole or written)[0]),
            "model": _model(told.provider),
            "reason": told.reason or ("the older system gave no reason" if advisory else ""),
        }

    def _text_of(self, name: str) -> str:
        return self._older.debate.drafts[self._ids.index(name)].answer

    def _cited(self, text: str) -> int:
        grounding = self._older.grounding
        return sum(bool(one.title) and f"[{one.title}]" in text for one in grounding.citations if grounding.enabled)

    def _grounding(self) -> dict[str, Any]:
        told = self._older.grounding
        citations = [
            {
                "text": cited.title,
                "start": max(start, 0),
                "end": start + len(cited.title) + 2 if start >= 0 else 0,
                "status": "resolved",
                "document_id": cited.doc_id or cited.path or cited.title,
                "title": cited.title,
                "path": cited.path or None,
                "support": None,
                "passage_id": None,
            }
            for cited in told.citations
            if told.enabled and cited.title
            for start in [self._older.publish.text.find(f"[{cited.title}]")]
        ]
        return {
            "enabled": told.enabled,
            "corpus": (self._older.run_metadata.parameters.grounded_corpus or _UNKNOWN) if told.enabled else "",
            "version": _UNKNOWN if told.enabled else "",
            "required": told.required_citations if told.enabled else 0,
            "citations_count": len(citations),
            "citations": citations,
            "passages": [],
            "fail_reason": (told.grounded_fail_reason or None) if told.enabled else None,
        }

    def _redaction(self) -> dict[str, Any]:
        told = self._older.publish
        counts: dict[str, int] = {}
        for event in told.redaction_events:
            if event.count:
                kind = event.type or _UNKNOWN
                counts[kind] = counts.get(kind, 0) + event.count
        if told.redacted and not counts:
            counts = {_UNKNOWN: 1}
        return {
            "enabled": self._older.run_metadata.parameters.redact or bool(counts),
            "redacted": bool(counts),
            "redaction_count": sum(counts.values()),
            "redaction_types": sorted(counts),
            "counts": counts,
        }

    def _provenance(self) -> dict[str, Any]:
        told = self._older.provenance
        usage = [
            {
                "model": name,
                "calls": max(1, used.calls),
                "input_tokens": used.tokens_in,
                "output_tokens": used.tokens_out,
                "cost_nano_usd": _nano(told.estimated_costs.get(given)),
            }
            for name, given, used in sorted((_model(given), given, used) for given, used in told.model_usage.items())
        ]
        parameters = json.dumps(self._older.run_metadata.parameters.model_dump(mode="json"), sort_keys=True)
        return {
            "djp_version": f"older system, commit {told.git_sha[:40]}",
            "calls": [],
            "model_usage": usage,
            "total_cost_nano_usd": sum(map(_nano, told.estimated_costs.values())),
            "total_tokens": sum(used.tokens_in + used.tokens_out for used in told.model_usage.values()),
            "reservation_id": "none",
            "trace_id": "",
            "spec_sha256": hashlib.sha256(parameters.encode()).hexdigest(),
        }


def _marks(ranked: OlderRankedDraft) -> Mapping[str, float]:
    """The parts of a score; those that were not kept share what is left of it as their ranges are: 4, 4 and 2."""
    ranges = {"task_fit": 4, "support": 4, "clarity": 2}
    given = ranked.subscores.model_dump(exclude_none=True) if ranked.subscores else {}
    room = sum(most for part, most in ranges.items() if part not in given)
    share = min(1.0, max(0.0, (ranked.score - sum(given.values())) / room)) if room else 0
    return {part: given.get(part, round(most * share, 4)) for part, most in ranges.items()}


def _draft_id(debater_id: str) -> str:
    return f"{debater_id}-r1"


def _model(provider: str) -> str:
    """A provider as today's provider/model."""
    name = "-".join(provider.split())
    return name if _MODEL.fullmatch(name) else f"{_UNKNOWN}/{name or _UNKNOWN}"


def _nano(dollars: Decimal | None) -> int:
    return int(dollars * _NANO) if dollars else 0


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def _time(moment: datetime, *, before_s: float = 0) -> str:
    return f"{_utc(moment) - timedelta(seconds=before_s):%Y-%m-%dT%H:%M:%S.%f}Z"
