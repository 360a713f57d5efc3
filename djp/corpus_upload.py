"""Sends the files of a corpus: their hashes first, then the content of those that the service has not got."""

from __future__ import annotations

import asyncio
import uuid
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.corpus_files import SkippedFile
from djp.mesh.rpc_errors import answer_of
from djp.v1 import grounding_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from djp.corpus_files import CorpusFile
    from djp.v1.grounding_pb2_grpc import GroundingServiceAsyncStub

UPLOAD_TIMEOUT_S = 3600.0
"""A corpus upload's deadline: as long as a server lets an old connection live on."""
_CHUNK_BYTES = 1 << 20
_HASHES = 1000  # in one message: some 100 kB
_OFFERS = 2  # the second names what the first was told to send; whoever misses more then gets everything


class Upload:
    """An upload of files as the corpus `name`; `sent` is told the bytes sent so far, and all there are to send."""

    def __init__(
        self,
        stub: GroundingServiceAsyncStub,
        name: str,
        files: Sequence[CorpusFile],
        skipped: Sequence[SkippedFile],
        sent: Callable[[int, int], None] | None,
    ) -> None:
        self._stub = stub
        self._files = files
        self._sent = sent
        self._hashes: dict[str, grounding_pb2.CorpusFileHash] = {}
        self._needed: set[str] = set()  # paths of the files whose content is sent
        self._header = grounding_pb2.CorpusHeader(
            request_id=str(uuid.uuid4()),
            corpus=name,
            skipped=[grounding_pb2.SkippedFile(path=one.path, reason=one.reason) for one in skipped],
        )
        self._unread: dict[str, SkippedFile] = {}

    @property
    def unread(self) -> Sequence[SkippedFile]:
        """Files that could not be read, though they could be listed."""
        return list(self._unread.values())

    async def run(self) -> grounding_pb2.CreateCorpusResponse:
        """The service's answer. Raises DjpError."""
        self._hashes = await asyncio.to_thread(self._hashed)
        for _ in range(_OFFERS):
            answer = await self._ask()
            if not answer.missing:
                return answer
            self._needed.update(answer.missing)
        self._needed.update(self._hashes)
        return await self._ask()

    async def _ask(self) -> grounding_pb2.CreateCorpusResponse:
        return await answer_of(self._stub.CreateCorpus(self._parts(), timeout=UPLOAD_TIMEOUT_S))

    def _hashed(self) -> dict[str, grounding_pb2.CorpusFileHash]:
        found = {}
        for file in self._files:
            if (content := self._read(file)) is not None:
                digest = sha256(content).digest()
                found[file.path] = grounding_pb2.CorpusFileHash(path=file.path, sha256=digest, bytes=len(content))
        return found

    def _read(self, file: CorpusFile) -> bytes | None:
        try:
            return file.read()
        except OSError as error:  # it was there when the folder was listed
            self._unread[file.path] = SkippedFile(file.path, f"cannot be read: {error.strerror}")
            return None

    async def _parts(self) -> AsyncIterator[grounding_pb2.CreateCorpusRequest]:
        yield grounding_pb2.CreateCorpusRequest(header=self._header)
        known = [one for path, one in self._hashes.items() if path not in self._needed]
        for start in range(0, len(known), _HASHES):
            hashes = grounding_pb2.CorpusFileHashes(files=known[start : start + _HASHES])
            yield grounding_pb2.CreateCorpusRequest(hashes=hashes)
        whole, done = sum(self._hashes[path].bytes for path in self._needed if path in self._hashes), 0
        for file in self._files:
            if file.path not in self._needed or (content := await asyncio.to_thread(self._read, file)) is None:
                continue
            for start in range(0, max(len(content), 1), _CHUNK_BYTES):
                path = "" if start else file.path
                chunk = grounding_pb2.CorpusFileChunk(path=path, content=content[start : start + _CHUNK_BYTES])
                yield grounding_pb2.CreateCorpusRequest(file=chunk)
            done += len(content)
            if self._sent:
                self._sent(done, max(done, whole))
