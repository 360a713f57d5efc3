"""GroundingService on the wire: protobuf to domain and back. Whatever blocks runs in a thread."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple

from djp.mesh.errors import InvalidInput
from djp.mesh.identity import current_identity
from djp.mesh.paging import bad_page_token, page_token, read_page_token
from djp.mesh.streams import unless_silent
from djp.mesh.times import to_timestamp
from djp.v1 import common_pb2, grounding_pb2, grounding_pb2_grpc
from djp_grounding.corpora import DEFAULT_TOP_K
from djp_grounding.errors import ContentMissing
from djp_grounding.model import Hit, Skipped, Version
from djp_grounding.resolve import Citation, CitationStatus

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable
    from concurrent.futures import Executor

    import grpc

    from djp_grounding.corpora import Corpora
    from djp_grounding.intake import Intake

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")

_PAGE_SIZE = 100
_SHA256_BYTES = 32
_AT_ONCE, _PASSAGE_EFFORT = 2_500, 100
# A query of so many code points at most, each passage asked for counted as a hundred, takes half a millisecond: less
# than handing it to a thread and back.
_INLINE_BYTES = 256 * 1024  # hashing and storing a smaller part takes less than a hop to a thread and back

_STATUS = {
    CitationStatus.RESOLVED: common_pb2.CITATION_STATUS_RESOLVED,
    CitationStatus.UNRESOLVED: common_pb2.CITATION_STATUS_UNRESOLVED,
    CitationStatus.AMBIGUOUS: common_pb2.CITATION_STATUS_AMBIGUOUS,
    CitationStatus.UNSUPPORTED: common_pb2.CITATION_STATUS_UNSUPPORTED,
}


class GroundingServicer(grounding_pb2_grpc.GroundingServiceServicer):
    """Serves the corpora of the calling tenant.

    `builders` has threads of its own: no search waits behind a build. An upload that is silent for `idle_s` seconds is
    given up.
    """

    def __init__(self, corpora: Corpora, builders: Executor, *, idle_s: float) -> None:
        self._corpora = corpora
        self._builders = builders
        self._idle_s = idle_s

    async def _change(self, change: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._builders, change, *arguments)

    async def CreateCorpus(
        self,
        request_iterator: AsyncIterator[grounding_pb2.CreateCorpusRequest],
        context: grpc.aio.ServicerContext[grounding_pb2.CreateCorpusRequest, grounding_pb2.CreateCorpusResponse],
    ) -> grounding_pb2.CreateCorpusResponse:
        """The header, then the files in parts; a path starts the next file."""
        tenant = current_identity().tenant
        async with aclosing(unless_silent(request_iterator, self._idle_s)) as requests:
            first = await anext(requests, None)
            if first is None or first.WhichOneof("part") != "header":
                raise InvalidInput("header: missing; the first message names the corpus", field="header")
            header = first.header
            self._corpora.check_request(tenant, header.corpus, header.request_id)
            with self._corpora.intake() as intake:
                for skipped in header.skipped:
                    intake.skip(Skipped(skipped.path, skipped.reason))
                async for request in requests:
                    await _take_in(intake, request)
                intake.finish()
                # A call cancelled from here on closes the intake, and a build that still reads from it ends there.
                try:
                    created = await self._change(self._corpora.create, tenant, header.corpus, intake, header.request_id)
                except ContentMissing as missing:
                    return grounding_pb2.CreateCorpusResponse(missing=missing.paths)
        return grounding_pb2.CreateCorpusResponse(
            version=_version(created.version), skipped=_skipped(created.skipped), reused=created.reused
        )

    async def ImportCorpus(
        self,
        request: grounding_pb2.ImportCorpusRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.ImportCorpusRequest, grounding_pb2.ImportCorpusResponse],
    ) -> grounding_pb2.ImportCorpusResponse:
        """Reads the files from the source of the service."""
        tenant = current_identity().tenant
        self._corpora.check_request(tenant, request.corpus, request.request_id)
        with self._corpora.intake() as intake:
            created = await self._change(
                self._corpora.import_prefix, tenant, request.corpus, request.prefix, intake, request.request_id
            )
        return grounding_pb2.ImportCorpusResponse(
            version=_version(created.version), skipped=_skipped(created.skipped), reused=created.reused
        )

    async def ListCorpora(
        self,
        request: grounding_pb2.ListCorporaRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.ListCorporaRequest, grounding_pb2.ListCorporaResponse],
    ) -> grounding_pb2.ListCorporaResponse:
        """By name."""
        size, (after,) = request.page_size or _PAGE_SIZE, read_page_token(request.page_token, str) or ("",)
        found = await asyncio.to_thread(self._corpora.list_corpora, current_identity().tenant, after, size + 1)
        more = page_token(found[size - 1].corpus) if len(found) > size else ""
        return grounding_pb2.ListCorporaResponse(corpora=[_version(one) for one in found[:size]], next_page_token=more)

    async def GetCorpus(
        self,
        request: grounding_pb2.GetCorpusRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.GetCorpusRequest, grounding_pb2.GetCorpusResponse],
    ) -> grounding_pb2.GetCorpusResponse:
        """The documents of a version, by path, and what its build left out."""
        tenant = current_identity().tenant
        version, manifest = await asyncio.to_thread(self._corpora.get, tenant, request.corpus, request.version)
        return grounding_pb2.GetCorpusResponse(
            version=_version(version),
            documents=[
                grounding_pb2.Document(
                    document_id=document.document_id,
                    title=document.title,
                    path=document.path,
                    passages=document.passages,
                    bytes=document.bytes,
                    pages=document.pages,
                )
                for document in manifest.documents
            ],
            skipped=_skipped(manifest.skipped),
        )

    async def ListCorpusVersions(
        self,
        request: grounding_pb2.ListCorpusVersionsRequest,
        context: grpc.aio.ServicerContext[
            grounding_pb2.ListCorpusVersionsRequest, grounding_pb2.ListCorpusVersionsResponse
        ],
    ) -> grounding_pb2.ListCorpusVersionsResponse:
        """The newest first."""
        size, (after,) = request.page_size or _PAGE_SIZE, read_page_token(request.page_token, str) or ("",)
        found = await asyncio.to_thread(self._corpora.versions, current_identity().tenant, request.corpus)
        names = [one.version for one in found]
        if after and after not in names:
            raise bad_page_token()
        start = names.index(after) + 1 if after else 0
        page = found[start : start + size]
        more = page_token(page[-1].version) if len(found) > start + size else ""
        return grounding_pb2.ListCorpusVersionsResponse(versions=[_version(one) for one in page], next_page_token=more)

    async def RollbackCorpus(
        self,
        request: grounding_pb2.RollbackCorpusRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.RollbackCorpusRequest, grounding_pb2.RollbackCorpusResponse],
    ) -> grounding_pb2.RollbackCorpusResponse:
        """The version is current when this returns."""
        version = await self._change(
            self._corpora.rollback, current_identity().tenant, request.corpus, request.version, request.request_id
        )
        return grounding_pb2.RollbackCorpusResponse(version=_version(version))

    async def DeleteCorpus(
        self,
        request: grounding_pb2.DeleteCorpusRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.DeleteCorpusRequest, grounding_pb2.DeleteCorpusResponse],
    ) -> grounding_pb2.DeleteCorpusResponse:
        """The corpus is gone when this returns."""
        await self._change(self._corpora.delete, current_identity().tenant, request.corpus, request.request_id)
        return grounding_pb2.DeleteCorpusResponse()

    async def Search(
        self,
        request: grounding_pb2.SearchRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.SearchRequest, grounding_pb2.SearchResponse],
    ) -> grounding_pb2.SearchResponse:
        """The best passages first."""
        tenant, top_k = current_identity().tenant, request.top_k or DEFAULT_TOP_K
        options = {"token_budget": request.token_budget, "per_document": request.passages_per_document}
        small = len(request.query) + _PASSAGE_EFFORT * top_k <= _AT_ONCE
        snapshot = self._corpora.at_hand(tenant, request.corpus, request.version) if small else None
        if snapshot:
            version, hits = snapshot.version, snapshot.search(request.query, top_k, **options)
        else:
            version, hits = await asyncio.to_thread(
                self._corpora.search,
                tenant,
                request.corpus,
                request.query,
                top_k=top_k,
                version=request.version,
                **options,
            )
        return grounding_pb2.SearchResponse(passages=[_passage(hit) for hit in hits], version=version)

    async def VerifyCitations(
        self,
        request: grounding_pb2.VerifyCitationsRequest,
        context: grpc.aio.ServicerContext[grounding_pb2.VerifyCitationsRequest, grounding_pb2.VerifyCitationsResponse],
    ) -> grounding_pb2.VerifyCitationsResponse:
        """Every citation, in the order of the text."""
        tenant = current_identity().tenant
        version, citations = await asyncio.to_thread(
            self._corpora.check_citations, tenant, request.corpus, request.text, request.version
        )
        return grounding_pb2.VerifyCitationsResponse(
            citations=[_citation(one) for one in citations],
            resolved_documents=len(
                {one.document for one in citations if one.document and one.status is CitationStatus.RESOLVED}
            ),
            version=version,
        )


async def _take_in(intake: Intake, request: grounding_pb2.CreateCorpusRequest) -> None:
    match request.WhichOneof("part"):
        case "file":
            await _take_part(intake, request.file)
        case "hashes":
            for place, one in enumerate(request.hashes.files):
                if len(one.sha256) != _SHA256_BYTES or one.bytes < 0:
                    field = f"hashes.files[{place}]"
                    raise InvalidInput(f"{field}: needs a SHA-256 of 32 bytes and the file's size", field=field)
                intake.offer(one.path, one.sha256.hex(), one.bytes)
        case _:
            message = "file: missing; after the header every message carries a part of a file, or hashes"
            raise InvalidInput(message, field="file")


async def _take_part(intake: Intake, part: grounding_pb2.CorpusFileChunk) -> None:
    if part.path:
        intake.begin(part.path)
    elif not intake.begun:
        raise InvalidInput("file.path: empty; the first part of a file carries its path", field="file.path")
    if len(part.content) < _INLINE_BYTES:
        intake.write(part.content)
    else:
        await asyncio.to_thread(intake.write, part.content)


def _version(version: Version) -> grounding_pb2.CorpusVersion:
    return grounding_pb2.CorpusVersion(
        corpus=version.corpus,
        version=version.version,
        documents=version.documents,
        passages=version.passages,
        bytes=version.bytes,
        created_at=to_timestamp(version.created_at),
        current=version.current,
    )


def _skipped(skipped: Iterable[Skipped]) -> list[grounding_pb2.SkippedFile]:
    return [grounding_pb2.SkippedFile(path=one.path, reason=one.reason) for one in skipped]


def _passage(hit: Hit) -> common_pb2.Passage:
    return common_pb2.Passage(
        passage_id=hit.passage_id,
        document_id=hit.document.document_id,
        title=hit.document.title,
        path=hit.document.path,
        page=hit.passage.page,
        start=hit.passage.start,
        end=hit.passage.end,
        text=hit.passage.text,
        score=hit.score,
    )


def _citation(citation: Citation) -> common_pb2.Citation:
    document = citation.document
    return common_pb2.Citation(
        text=citation.mention.text,
        start=citation.mention.start,
        end=citation.mention.end,
        status=_STATUS[citation.status],
        document_id=document.document_id if document else "",
        title=document.title if document else "",
        path=document.path if document else "",
        reason=citation.reason,
        support=citation.support,
        passage_id=citation.passage_id,
    )
