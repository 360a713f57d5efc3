"""Bytes on their way into S3: held until they are placed while they are few, else sent in parts as they come."""

from __future__ import annotations

import asyncio
import hashlib
import queue
import threading
from typing import TYPE_CHECKING

from djp_storage.description import describe_key
from djp_storage.threads import in_thread

if TYPE_CHECKING:
    from djp_storage.adapters.s3_store import S3Store
    from djp_storage.model import ObjectName

PART_BYTES = 5 << 20
"""The least that S3 takes as a part: what an upload holds in memory is a few of these."""

_WHOLE_BYTES = 2 * PART_BYTES
"""Up to this size an object is one request, which costs S3 and us a fifth less than parts of it."""

_INLINE = 1 << 16  # hashing so little takes less than going to a thread


class S3Upload:
    """An upload of the object `name`."""

    def __init__(self, store: S3Store, name: ObjectName) -> None:
        self._store = store
        self._name = name
        self._hash = hashlib.sha256()
        self._held: list[bytes] = []
        self._parts: _Parts | None = None
        self.size = 0

    @property
    def sha256(self) -> str:
        """Hex, of the bytes written so far."""
        return self._hash.hexdigest()

    async def write(self, chunk: bytes) -> None:
        """Append bytes."""
        if len(chunk) < _INLINE:
            self._hash.update(chunk)
        else:
            await in_thread(self._hash.update, chunk)
        self.size += len(chunk)
        if self._parts:
            await self._parts.write(chunk)
            return
        self._held.append(chunk)
        if self.size > _WHOLE_BYTES:
            with self._store.told(self._name):  # parts are found by the name of their object only
                await self._store.put_description(self._name, describe_key(self._name.key))
            self._parts = _Parts(self._store, self._name)
            held, self._held = self._held, []
            for one in held:
                await self._parts.write(one)

    async def place(self, description: str) -> None:
        """One request, or the end of many: S3 shows the object when the last of them is done."""
        with self._store.told(self._name):
            if self._parts:
                await self._store.put_description(self._name, description)
                await self._parts.end()
                return
            content = b"".join(self._held)
            self._held.clear()
            await self._store.put(self._name, content, self.sha256, description)

    async def close(self) -> None:
        """Give up what was not placed."""
        self._held.clear()
        if self._parts:
            await self._parts.give_up()


class _Parts:
    """A thread that sends parts, and the stream from which it reads them."""

    def __init__(self, store: S3Store, name: ObjectName) -> None:
        self._store = store
        self._name = name
        self._chunks: queue.Queue[bytes | None] = queue.Queue(4)
        self._rest = memoryview(b"")
        self._given_up = False
        self._error: Exception | None = None
        self._loop = asyncio.get_running_loop()
        self._done = asyncio.Event()
        self._room = asyncio.Event()
        threading.Thread(target=self._send, daemon=True, name="djp-s3-upload").start()

    async def write(self, chunk: bytes | None) -> None:
        """Hand a chunk, or None for the end, to the thread as soon as it can take one."""
        while not self._done.is_set():
            self._room.clear()
            try:
                self._chunks.put_nowait(chunk)
            except queue.Full:
                await self._room.wait()
            else:
                return
        if self._error:
            with self._store.told(self._name):
                raise self._error

    async def end(self) -> None:
        """Return when the object is there."""
        await self.write(None)
        await self._done.wait()
        if self._error:
            raise self._error

    async def give_up(self) -> None:
        """Let the thread end without an object, if it has not ended."""
        self._given_up = True
        while not self._done.is_set():
            while not self._chunks.empty():
                self._chunks.get_nowait()
            await self.write(None)
            await self._done.wait()

    def read(self, size: int = -1) -> bytes:
        """What the thread's client asks for; empty at the end."""
        while not self._rest:
            chunk = self._chunks.get()
            self._loop.call_soon_threadsafe(self._room.set)
            if self._given_up:
                raise InterruptedError("the upload was given up")
            if chunk is None:
                self._chunks.put(None)
                return b""
            self._rest = memoryview(chunk)
        taken, self._rest = self._rest[:size], self._rest[size:]
        return bytes(taken)

    def _send(self) -> None:
        try:
            self._store.put_parts(self._name, self, PART_BYTES)
        except Exception as error:  # raised where it is waited for
            self._error = error
        finally:
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        self._done.set()
        self._room.set()
