"""The part of the Python client that looks after corpora: list, look into, search, check, roll back and delete."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from djp.client_pages import PAGE_SIZE, pages
from djp.mesh.rpc_errors import answer_of
from djp.v1 import grounding_pb2, grounding_pb2_grpc

if TYPE_CHECKING:
    from collections.abc import Sequence

    import grpc

_TIMEOUT_S = 60.0


class CorporaClient:
    """Corpora of the caller's tenant. Every method raises DjpError; an empty `version` is the current one."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._grounding = grounding_pb2_grpc.GroundingServiceStub(channel)

    async def list(self) -> Sequence[grounding_pb2.CorpusVersion]:
        """The current versions of all corpora, by name."""
        request = grounding_pb2.ListCorporaRequest(page_size=PAGE_SIZE)
        return [one async for page in pages(self._grounding.ListCorpora, request) for one in page.corpora]

    async def versions(self, corpus: str) -> Sequence[grounding_pb2.CorpusVersion]:
        """The versions of a corpus, the newest first."""
        request = grounding_pb2.ListCorpusVersionsRequest(corpus=corpus, page_size=PAGE_SIZE)
        return [one async for page in pages(self._grounding.ListCorpusVersions, request) for one in page.versions]

    async def get(self, corpus: str, version: str = "") -> grounding_pb2.GetCorpusResponse:
        """The documents of a version, by path, and the files left out."""
        request = grounding_pb2.GetCorpusRequest(corpus=corpus, version=version)
        return await answer_of(self._grounding.GetCorpus(request, timeout=_TIMEOUT_S))

    async def search(
        self, corpus: str, query: str, *, top_k: int = 0, per_document: int = 0, version: str = ""
    ) -> grounding_pb2.SearchResponse:
        """The best passages (0: 8), best first; of one document at most `per_document` as long as others match."""
        request = grounding_pb2.SearchRequest(
            corpus=corpus, version=version, query=query, top_k=top_k, passages_per_document=per_document
        )
        return await answer_of(self._grounding.Search(request, timeout=_TIMEOUT_S))

    async def check(self, corpus: str, text: str, version: str = "") -> grounding_pb2.VerifyCitationsResponse:
        """Every `[Title]` in a text of up to 4 MiB, in order, and how it fared."""
        request = grounding_pb2.VerifyCitationsRequest(corpus=corpus, version=version, text=text)
        return await answer_of(self._grounding.VerifyCitations(request, timeout=_TIMEOUT_S))

    async def rollback(
        self, corpus: str, version: str, *, request_id: str | None = None
    ) -> grounding_pb2.CorpusVersion:
        """Make an earlier version current. Give the same `request_id` again to repeat a call whose answer was lost."""
        request = grounding_pb2.RollbackCorpusRequest(
            request_id=request_id or str(uuid.uuid4()), corpus=corpus, version=version
        )
        return (await answer_of(self._grounding.RollbackCorpus(request, timeout=_TIMEOUT_S))).version

    async def delete(self, corpus: str, *, request_id: str | None = None) -> None:
        """Remove a corpus with all its versions."""
        request = grounding_pb2.DeleteCorpusRequest(request_id=request_id or str(uuid.uuid4()), corpus=corpus)
        await answer_of(self._grounding.DeleteCorpus(request, timeout=_TIMEOUT_S))
