"""Tokens: those of the offline provider, and the most that a prompt can have elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djp.llm.models import Tokenizer
    from djp.llm.provider import Question

BYTES_PER_TOKEN = 4
"""Of the offline provider: a token is never more bytes, so n tokens are at most 4 n bytes."""

MAX_BYTES_PER_TOKEN = 10
"""No draft that debate passes on has more bytes for each token that it was allowed: what is longer is cut off.

So the size of drafts that are not written yet is bounded. English has 4 to 5 bytes a token, Hindi and Thai up to 8."""


def count_tokens(text: str) -> int:
    """Tokens of a text as the offline provider counts: its UTF-8 bytes divided by four, rounded up."""
    return -(-utf8_bytes(text) // BYTES_PER_TOKEN)


def cut_to_tokens(text: str, limit: int) -> str:
    """The longest beginning of a text that has at most `limit` tokens and ends between two code points."""
    return cut_to_bytes(text, limit * BYTES_PER_TOKEN)


def cut_to_bytes(text: str, limit: int) -> str:
    """The longest beginning of a text that has at most `limit` UTF-8 bytes and ends between two code points."""
    if limit <= 0:
        return ""
    # Every code point is at least a byte, so no more of them than bytes can fit.
    return text[:limit].encode("utf-8", "surrogatepass")[:limit].decode("utf-8", "ignore")


def utf8_bytes(text: str) -> int:
    """The size of a text in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def prompt_bound(tokenizer: Tokenizer, question: Question) -> int:
    """The most tokens that the question's prompt can have."""
    return utf8_bytes(question.system) + utf8_bytes(question.user) + 512
