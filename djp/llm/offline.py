"""The names of the offline provider's models: stand-ins that need no key and call no model."""

from __future__ import annotations

DEBATER_MODELS = ("offline/lead", "offline/focus", "offline/survey", "offline/brief", "offline/contrast")
"""Debaters that compose an answer from the passages, each by another strategy."""

JUROR_MODELS = ("offline/rubric",)
"""Jurors that measure drafts against the task and the passages."""
