"""The tokens of the offline provider: four UTF-8 bytes are one token, which is near what English text has elsewhere."""

from __future__ import annotations

BYTES_PER_TOKEN = 4
"""A token is never more bytes: n tokens are at most 4 n bytes, and a text has never more tokens than bytes."""


def count_tokens(text: str) -> int:
    """Tokens of a text: its UTF-8 bytes divided by four, rounded up."""
    return -(-utf8_bytes(text) // BYTES_PER_TOKEN)


def cut_to_tokens(text: str, limit: int) -> str:
    """The longest beginning of a text that has at most `limit` tokens and ends between two code points."""
    if limit <= 0:
        return ""
    # Every code point is at least a byte, so no more of them than bytes can fit.
    head = text[: limit * BYTES_PER_TOKEN].encode("utf-8", "surrogatepass")[: limit * BYTES_PER_TOKEN]
    return head.decode("utf-8", "ignore")


def utf8_bytes(text: str) -> int:
    """The size of a text in UTF-8 bytes."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
