"""Reads what providers send, of which nothing is taken on trust: answers, counts of tokens, lists of models."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from djp.llm.provider import Reply, Stop

MAX_TOKENS_TOLD = 1_000_000_000


class MalformedError(ValueError):
    """The provider's answer does not keep to its format. The message has none of the answer's text."""


class Answer(ABC):
    """An answer as it comes in. `stop` is None until its end was seen."""

    def __init__(self) -> None:
        self.stop: Stop | None = None

    @abstractmethod
    def add(self, event: dict[str, Any]) -> str:
        """The text that a further event of the stream brings."""

    @abstractmethod
    def whole(self, body: dict[str, Any]) -> str:
        """The text of an answer that was not streamed."""

    @abstractmethod
    def reply(self) -> Reply:
        """How it ended, and its usage."""


def as_object(value: Any) -> dict[str, Any]:
    """The value, which must be a JSON object."""
    if not isinstance(value, dict):
        raise MalformedError("it is no object")
    return value


def whole_characters(text: str) -> tuple[str, str]:
    """The text without lone surrogates, and the first half of a pair whose second half the next piece may bring."""
    try:
        text.encode()
    except UnicodeEncodeError:
        half = text[-1] if "\ud800" <= text[-1] <= "\udbff" else ""
        whole = text[: len(text) - len(half)].encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        return whole, half
    return text, ""


def tokens(value: Any) -> int | None:
    """A count of tokens as a provider tells it; None where it is none, or none that can be."""
    return value if type(value) is int and 0 <= value <= MAX_TOKENS_TOLD else None


def model_ids(body: dict[str, Any]) -> list[str]:
    """The ids in a list of models, as OpenAI and Anthropic both word it."""
    data = body.get("data")
    if not isinstance(data, list):
        raise MalformedError("its list of models has no data")
    return [entry["id"] for entry in data if isinstance(entry, dict) and isinstance(entry.get("id"), str)]
