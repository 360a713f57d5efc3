"""The offline provider: the names of its models, stand-ins that need no key, and how they say that they do not know."""

from __future__ import annotations

DEBATER_MODELS = ("offline/lead", "offline/focus", "offline/survey", "offline/brief", "offline/contrast")
"""Debaters that compose an answer from the passages, each by another strategy."""

JUROR_MODELS = ("offline/rubric",)
"""Jurors that measure drafts against the task and the passages."""

NO_ANSWER = "no_answer"
"""The safety flag of a draft that says itself that it does not answer the task; such a draft is not published."""
