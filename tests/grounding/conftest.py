"""A library of corpora in a fresh folder, the same one behind RPCs on a Unix socket, and PDFs made on the spot."""

from __future__ import annotations

import io
import uuid
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from pypdf import PdfWriter
from pypdf.generic import DecodedStreamObject, DictionaryObject, NameObject, TextStringObject

from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import grounding_pb2, grounding_pb2_grpc
from djp_grounding.adapters.s3_bucket import S3Bucket
from djp_grounding.adapters.s3_store import S3Store
from djp_grounding.corpora import Corpora
from djp_grounding.model import Skipped
from djp_grounding.server import open_service
from djp_grounding.settings import GroundingSettings
from tests.grounding.minio_server import KEY, SECRET, MinioServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterable, Iterator, Mapping
    from pathlib import Path

    from djp.mesh.errors import DjpError
    from djp_grounding.limits import Limits
    from djp_grounding.model import Created, Hit
    from djp_grounding.resolve import Citation


@dataclass
class Library:
    """Short ways to fill and ask the corpora of one tenant."""

    corpora: Corpora
    tenant: str = "acme"

    def add(
        self,
        files: Mapping[str, str | bytes],
        corpus: str = "docs",
        *,
        request_id: str = "",
        skipped: Iterable[tuple[str, str]] = (),
    ) -> Created:
        with self.corpora.intake() as intake:
            intake.add_all(
                ((path, text.encode() if isinstance(text, str) else text) for path, text in files.items()),
                (Skipped(path, reason) for path, reason in skipped),
            )
            return self.corpora.create(self.tenant, corpus, intake, request_id or str(uuid.uuid4()))

    def search(self, query: str, corpus: str = "docs", **options: Any) -> list[Hit]:
        return self.corpora.search(self.tenant, corpus, query, **options)[1]

    def found(self, query: str, **options: Any) -> list[str]:
        """The titles of the passages found."""
        return [hit.document.title for hit in self.search(query, **options)]

    def titles(self, corpus: str = "docs", version: str = "") -> dict[str, str]:
        """Title by path."""
        _, manifest = self.corpora.get(self.tenant, corpus, version)
        return {document.path: document.title for document in manifest.documents}

    def skipped(self, corpus: str = "docs") -> dict[str, str]:
        """Reason by path."""
        _, manifest = self.corpora.get(self.tenant, corpus)
        return {skipped.path: skipped.reason for skipped in manifest.skipped}

    def check(self, text: str, corpus: str = "docs") -> list[Citation]:
        return self.corpora.check_citations(self.tenant, corpus, text)[1]

    def resolved(self, text: str) -> list[str]:
        """The paths of the documents that the citations of a text resolved to."""
        return [citation.document.path for citation in self.check(text) if citation.document]

    @property
    def folder(self) -> Path:
        """Of the corpus `docs`."""
        return self.corpora.data_dir / self.tenant / "docs"


@pytest.fixture
def make_library(tmp_path: Path) -> Any:
    """A library over the test's folder, with other limits if they are given."""

    def make(limits: Limits | None = None, tenant: str = "acme") -> Library:
        return Library(Corpora(tmp_path / "grounding", limits), tenant)

    return make


@pytest.fixture
def library(make_library: Any) -> Library:
    made: Library = make_library()
    return made


class Client:
    """The service over its socket."""

    def __init__(self, stub: Any) -> None:
        self.stub = stub

    async def create(
        self,
        files: Mapping[str, str | bytes],
        corpus: str = "docs",
        *,
        request_id: str = "",
        skipped: Mapping[str, str] | None = None,
        tenant: str = "acme",
        part: int = 1 << 20,
    ) -> Any:
        """Sends files in parts of so many bytes."""

        def requests() -> Iterator[Any]:
            header = grounding_pb2.CorpusHeader(request_id=request_id or str(uuid.uuid4()), corpus=corpus)
            for path, reason in (skipped or {}).items():
                header.skipped.add(path=path, reason=reason)
            yield grounding_pb2.CreateCorpusRequest(header=header)
            for path, text in files.items():
                content = text.encode() if isinstance(text, str) else text
                for start in range(0, max(1, len(content)), part):
                    chunk = grounding_pb2.CorpusFileChunk(
                        path="" if start else path, content=content[start : start + part]
                    )
                    yield grounding_pb2.CreateCorpusRequest(file=chunk)

        with identity_scope(Identity(tenant)):
            return await self.stub.CreateCorpus(iter(requests()))

    async def call(self, method: str, *, tenant: str = "acme", **fields: Any) -> Any:
        """One unary call; a change gets a request id of its own if it has none."""
        if method in ("RollbackCorpus", "DeleteCorpus"):
            fields.setdefault("request_id", str(uuid.uuid4()))
        with identity_scope(Identity(tenant)):
            return await getattr(self.stub, method)(getattr(grounding_pb2, f"{method}Request")(**fields))


async def refused(call: Awaitable[Any]) -> DjpError:
    """The error of a call that must fail."""
    with pytest.raises(grpc.aio.AioRpcError) as failed:
        await call
    return error_from_rpc(failed.value)


@pytest.fixture
async def serve(tmp_path: Path, serving: Any) -> AsyncIterator[Any]:
    """Starts the service over the test's folder and gives a client; ends all when the test ends."""
    async with AsyncExitStack() as stack:

        async def start(**settings: Any) -> Client:
            settings.setdefault("data_dir", tmp_path / "grounding")
            channel = await stack.enter_async_context(serving(open_service(GroundingSettings(**settings))))
            return Client(grounding_pb2_grpc.GroundingServiceStub(channel))  # type: ignore[no-untyped-call]

        yield start


@pytest.fixture
async def client(serve: Any) -> Client:
    started: Client = await serve()
    return started


def _pdf(*pages: str, title: str = "", password: str = "", javascript: str = "") -> bytes:
    writer = PdfWriter()
    font = DictionaryObject(
        {NameObject(key): NameObject(value) for key, value in [("/Type", "/Font"), ("/Subtype", "/Type1")]}
    )
    font[NameObject("/BaseFont")] = NameObject("/Helvetica")
    for text in pages:
        page = writer.add_blank_page(width=300, height=300)
        stream = DecodedStreamObject()
        stream.set_data(f"BT /F1 12 Tf 20 200 Td ({text}) Tj ET".encode("latin-1"))
        page[NameObject("/Contents")] = writer._add_object(stream)
        page[NameObject("/Resources")] = DictionaryObject(
            {NameObject("/Font"): DictionaryObject({NameObject("/F1"): font})}
        )
    if title:
        writer.add_metadata({"/Title": title})
    if javascript:
        action = DictionaryObject({NameObject("/S"): NameObject("/JavaScript")})
        action[NameObject("/JS")] = TextStringObject(javascript)
        writer._root_object[NameObject("/OpenAction")] = action
    if password:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def pdf() -> Any:
    """Makes a PDF with a line of text on each page."""
    return _pdf


def bucket_of(endpoint: str, name: str, secret: str = SECRET) -> S3Bucket:
    """A bucket of a MinIO of the tests."""
    return S3Bucket(endpoint, name, KEY, secret, secure=False, setting="DJP_GROUNDING_STORE")


@pytest.fixture(scope="session")
def minio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MinioServer]:
    """A MinIO that answers."""
    server = MinioServer(tmp_path_factory.mktemp("minio"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_s3(minio: MinioServer) -> Any:
    """Makes clients of one bucket, which is the test's own."""
    bucket = f"test-{uuid.uuid4().hex[:12]}"
    return lambda: S3Store(bucket_of(minio.endpoint, bucket))
