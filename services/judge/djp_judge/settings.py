"""What can be set of the judge service: its models."""

from __future__ import annotations

from djp.llm.settings import LlmSettings as JudgeSettings

__all__ = ["JudgeSettings"]
