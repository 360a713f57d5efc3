"""Contents and zstd: what went in comes out, whatever comes is bounded in memory, and damage is told."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from djp_storage.compression import ZSTD, decoded, encoded
from djp_storage.errors import HashMismatch

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator


async def chunks(content: bytes, size: int = 1 << 20) -> AsyncGenerator[bytes, None]:
    for at in range(0, len(content), size):
        yield content[at : at + size]


async def compressed(content: bytes) -> bytes:
    return b"".join([chunk async for chunk in encoded(chunks(content), ZSTD)])


@pytest.mark.parametrize("content", [b"", b"x", os.urandom(3 << 20), b"text " * 10**6], ids=["0", "1", "any", "text"])
@pytest.mark.parametrize("size", [1000, 1 << 20])
async def test_what_went_in_comes_out(content: bytes, size: int) -> None:
    stored = await compressed(content)
    assert b"".join([chunk async for chunk in decoded(chunks(stored, size), ZSTD)]) == content
    assert b"".join([chunk async for chunk in decoded(chunks(content), "")]) == content


async def test_a_little_that_becomes_much_is_taken_bit_by_bit() -> None:
    stored = await compressed(bytes(256 << 20))
    assert len(stored) < 100_000
    tracemalloc.start()
    try:
        size = 0
        async for chunk in decoded(chunks(stored), ZSTD):
            size += len(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert size == 256 << 20
    assert peak < 40 << 20


@pytest.mark.parametrize("damage", ["cut", "changed", "no zstd", "more behind it", "empty"])
async def test_damage_is_told(damage: str) -> None:
    stored = await compressed(os.urandom(10_000))
    told = {
        "cut": stored[:-1],
        "changed": stored[:4] + b"\xff\xff" + stored[6:],
        "no zstd": b"text" * 1000,
        "more behind it": stored + b"more",
        "empty": b"",
    }[damage]
    with pytest.raises(HashMismatch, match="changed since it was stored"):
        async for _ in decoded(chunks(told, 1000), ZSTD):
            pass
