"""Reads a model's answer as a draft: tolerant of its form, but never an empty answer, and never a guess."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import jiter

from djp.llm.text import sendable
from djp.llm.tokens import cut_draft

if TYPE_CHECKING:
    from djp.llm.provider import Stop

TRUNCATED = "truncated"
"""The safety flag of a draft whose end is missing: the model reached its limit, or wrote more than a draft may have."""
_MAX_STARTS = 50
"""At so many braces of an answer a draft is looked for."""
_MAX_EVIDENCE, _MAX_FLAGS = 100, 50  # of the contract
_EVIDENCE_CHARS, _FLAG_CHARS = 1000, 100
_THOUGHT, _THOUGHT_END = "<think>", "</think>"
_FENCE = re.compile(r"```[A-Za-z]*[ \t]*\n")
_TRAILING_COMMA = re.compile(r",\s*(?=[}\]])")


@dataclass(frozen=True)
class ReadDraft:
    """What a model's answer says."""

    text: str
    evidence: tuple[str, ...] = ()
    confidence: float | None = None
    safety_flags: tuple[str, ...] = ()


class UnreadableDraftError(Exception):
    """There is no draft in the answer; the message says why, without a word of it."""


def read_draft(answer: str, stop: Stop, max_tokens: int) -> ReadDraft:
    """The draft in an answer: a JSON object with an `answer`, in a code fence or between other words if need be.

    An answer without any JSON is a draft as a whole. One that was cut off by its limit is kept as far as it goes. What
    is longer than a draft of `max_tokens` may be is cut at a space. Both are flagged `TRUNCATED`.

    Raises UnreadableDraftError: the model refused, or there is no answer in what it wrote.
    """
    if stop == "refusal":
        raise UnreadableDraftError("the model refused to answer")
    text = without_thoughts(answer)
    if not text.strip():
        raise UnreadableDraftError("the answer is empty")
    found = _object(text)
    if found is None:
        if _looks_like_json(text):
            raise UnreadableDraftError("the answer is JSON without an `answer` in it")
        found = {"answer": text}
    said = sendable(found["answer"]).strip()  # JSON can hold half a character
    if not any(char.isalnum() for char in said):
        raise UnreadableDraftError("its `answer` is empty")
    flags = list(dict.fromkeys(map(_flag, _texts(found.get("safety_flags"), _MAX_FLAGS, _FLAG_CHARS))))
    kept = _cut(said, max_tokens)
    if (stop == "length" or kept != said) and TRUNCATED not in flags:
        flags = [*flags[: _MAX_FLAGS - 1], TRUNCATED]
    return ReadDraft(
        text=kept,
        evidence=tuple(_texts(found.get("evidence"), _MAX_EVIDENCE, _EVIDENCE_CHARS)),
        confidence=_confidence(found.get("confidence")),
        safety_flags=tuple(flags),
    )


def without_thoughts(answer: str) -> str:
    """The answer without the thoughts that some served models write before it. Empty if they never end."""
    if not answer.lstrip().startswith(_THOUGHT):
        return answer
    return answer.partition(_THOUGHT_END)[2]


def answer_so_far(text: str) -> str:
    """The beginning of the draft in an answer that is not whole yet; empty while nothing can be said."""
    text = without_thoughts(text).lstrip()
    if not _looks_like_json(text):
        return "" if "```".startswith(text[:3]) else text
    begun = _partial(text[max(0, text.find("{")) :])
    answer = begun.get("answer") if begun else None
    return answer.encode("utf-8", "ignore").decode() if isinstance(answer, str) else ""


def _looks_like_json(text: str) -> bool:
    begins = text.lstrip()
    fence = _FENCE.match(begins)
    return begins[fence.end() if fence else 0 :].startswith("{")


def _object(text: str) -> dict[str, Any] | None:
    """The first JSON object with an answer, whole or mended or as far as it goes; None if there is none."""
    decoder = json.JSONDecoder()
    for whole in (text, _TRAILING_COMMA.sub("", text)):
        at = -1
        for _ in range(_MAX_STARTS):
            at = whole.find("{", at + 1)
            if at < 0:
                break
            try:
                value = decoder.raw_decode(whole, at)[0]
            except (ValueError, RecursionError):
                continue
            if isinstance(value, dict) and isinstance(value.get("answer"), str):
                return value
    if _looks_like_json(text):
        value = _partial(text[text.find("{") :])
        if value and isinstance(value.get("answer"), str):
            return value
    return None


def _partial(text: str) -> dict[str, Any] | None:
    """The object that a text begins, as far as it goes."""
    try:
        value = jiter.from_json(text.encode("utf-8", "replace"), partial_mode="trailing-strings")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _cut(text: str, max_tokens: int) -> str:
    kept = cut_draft(text, max_tokens)
    if len(kept) == len(text):
        return text
    at = max((gap.start() for gap in re.finditer(r"\s", kept)), default=0)
    return kept[:at].rstrip() if at > len(kept) // 2 else kept


def _texts(value: Any, most: int, most_chars: int) -> list[str]:
    """The texts among the first `most` values of a list, each cut to its beginning."""
    if not isinstance(value, list):
        return []
    begun = [one[:most_chars] for one in value[:most] if isinstance(one, str)]
    return [text for one in begun if (text := sendable(one).strip())]


def _flag(flag: str) -> str:
    """Flags are names: "No answer" and "no_answer" are the same one."""
    return "_".join(flag.casefold().replace("-", " ").split())


def _confidence(value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        return None
    return float(value)
