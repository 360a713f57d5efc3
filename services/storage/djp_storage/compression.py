"""Contents as objects have them: as they are, or compressed with zstd; streams in bounded memory."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

import zstandard

from djp_storage.errors import HashMismatch
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

ZSTD = "zstd"
_LEVEL = 9
_WINDOW_BYTES = 1 << 23  # what a decompressor may hold, whatever an object says
_IN_BYTES = 1 << 7  # of zstd at once: a block of 128 KiB can be written in 4 bytes
_OUT_BYTES = 1 << 20


async def encoded(chunks: AsyncGenerator[bytes, None], encoding: str) -> AsyncGenerator[bytes, None]:
    """A content's chunks as those of its object."""
    async with aclosing(chunks):
        if not encoding:
            async for chunk in chunks:
                yield chunk
            return
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, window_log=22)
        compressor = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        async for chunk in chunks:
            if out := await in_thread(compressor.compress, chunk):
                yield out
        yield compressor.flush()


async def decoded(chunks: AsyncGenerator[bytes, None], encoding: str) -> AsyncGenerator[bytes, None]:
    """An object's chunks as those of its content. Raises HashMismatch where they are not what they should be."""
    async with aclosing(chunks):
        if not encoding:
            async for chunk in chunks:
                yield chunk
            return
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES).decompressobj()
        try:
            async for chunk in chunks:
                at = 0
                while at < len(chunk):
                    out, at = await in_thread(_some, decompressor, chunk, at)
                    if out:
                        yield out
        except zstandard.ZstdError:
            raise HashMismatch("the object was changed since it was stored: it is no whole zstd any more") from None
        if not decompressor.eof or decompressor.unused_data:
            raise HashMismatch("the object was changed since it was stored: its end is missing, or there is more")


def _some(decompressor: zstandard.ZstdDecompressionObj, chunk: bytes, at: int) -> tuple[bytes, int]:
    """About so much as a chunk should have, and where to go on."""
    out, size = [], 0
    while at < len(chunk) and size < _OUT_BYTES:
        out.append(decompressor.decompress(chunk[at : at + _IN_BYTES]))
        size += len(out[-1])
        at += _IN_BYTES
    return b"".join(out), at
