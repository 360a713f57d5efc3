"""A run artifact of schema 1.1, as the older system wrote them."""

from __future__ import annotations

import json
from typing import Any

ANSWER = "Refunds take ten days [Handbook]."


def older_run(**changes: Any) -> dict[str, Any]:
    """The document; `changes` are by path, as in publish__status."""
    draft = {
        "provider": "openai/gpt-4o",
        "answer": ANSWER,
        "evidence": ["[Handbook]"],
        "confidence": 0.8,
        "safety_flags": [],
    }
    other = {**draft, "provider": "anthropic/claude-3-5-sonnet-20240620", "answer": "Ten days.", "confidence": 0.5}
    document: dict[str, Any] = {
        "schema_version": "1.1",
        "run_metadata": {
            "timestamp": "2025-10-02T12:34:56.789012",
            "task": "How long do refunds take?",
            "trace_name": "djp-run",
            "parameters": {
                "max_tokens": 1000,
                "temperature": 0.3,
                "allowed_models": ["openai/gpt-4o"],
                "seed": 7,
                "preset_name": "research",
                "grounded_corpus": "./handbook",
                "grounded_required": 1,
                "redact": True,
            },
        },
        "debate": {"drafts": [draft, other], "total_drafts": 2},
        "judge": {
            "ranked_drafts": [
                {
                    **draft,
                    "score": 8.5,
                    "reasons": "cites",
                    "subscores": {"task_fit": 3.5, "support": 3.0, "clarity": 2.0},
                },
                {**other, "score": 5.0, "reasons": "no citation"},
            ],
            "winner_provider": "openai/gpt-4o",
            "total_ranked": 2,
        },
        "publish": {
            "status": "published",
            "provider": "openai/gpt-4o",
            "text": ANSWER,
            "text_length": len(ANSWER),
            "redacted": True,
            "redaction_events": [{"type": "email", "count": 2, "rule_name": "email"}, {"type": "phone", "count": 0}],
        },
        "grounding": {
            "enabled": True,
            "corpus_loaded": True,
            "corpus_docs": 3,
            "required_citations": 1,
            "citations": [{"doc_id": "d7", "title": "Handbook", "path": "handbook/handbook.md"}],
            "grounded_fail_reason": None,
        },
        "provenance": {
            "git_sha": "3eef82c",
            "python_version": "3.11.4",
            "sdk_version": "unknown",
            "model_usage": {"openai/gpt-4o": {"calls": 2, "tokens_in": 150, "tokens_out": 80}},
            "estimated_costs": {"openai/gpt-4o": 0.0021},
            "duration_seconds": 10.5,
        },
    }
    for path, value in changes.items():
        *parts, last = path.split("__")
        target = document
        for part in parts:
            target = target[part]
        if value is ...:
            del target[last]
        else:
            target[last] = value
    return document


def older_file(**changes: Any) -> bytes:
    """The document as its file."""
    return json.dumps(older_run(**changes)).encode()
