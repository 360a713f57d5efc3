"""What is asked of S3 for every artifact: put, get, copy. Sent by the event loop."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING
from xml.etree.ElementTree import ParseError

from djp.s3 import REGION, provider
from djp_storage.adapters.s3_signing import signed_head
from djp_storage.adapters.s3_wire import Connections

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from urllib.parse import SplitResult

    from djp.s3 import S3Account

READ_BYTES = 1 << 20

_NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # the SHA-256 of no bytes


class S3Requests:
    """Raises the errors of the minio client for what S3 refuses, and OSError for what does not get through."""

    def __init__(self, account: S3Account) -> None:
        from minio.helpers import BaseURL

        self._address = BaseURL(account.endpoint, REGION)
        self._provider = provider(account)
        self._connections = Connections(self._address.is_https, account.ca)

    async def put(
        self, bucket: str, path: str, content: bytes, sha256: str, metadata: Mapping[str, str], content_type: str
    ) -> None:
        """Make an object. S3 compares the hash with what arrives."""
        headers = {"content-type": content_type, "content-length": str(len(content)), **_meta(metadata)}
        url, head = self._signed("PUT", bucket, path, headers, sha256)
        status, answer = await self._connections.whole(url, head + content)
        if status != 200:
            raise _refusal(status, answer)

    async def copy(self, origin: tuple[str, str], bucket: str, path: str, metadata: Mapping[str, str]) -> None:
        """Make an object of the bytes of another one, in one request, where the client would ask for the size first."""
        from minio.commonconfig import REPLACE, CopySource

        source = {name.lower(): value for name, value in CopySource(*origin).gen_copy_headers().items()}
        headers = {"content-length": "0", "x-amz-metadata-directive": REPLACE, **source, **_meta(metadata)}
        url, head = self._signed("PUT", bucket, path, headers, _NOTHING)
        status, answer = await self._connections.whole(url, head)
        if status != 200 or b"CopyObjectResult" not in answer:  # it may begin to answer before it knows
            raise _refusal(status, answer)

    async def get(self, bucket: str, path: str) -> AsyncGenerator[bytes, None]:
        """An object in chunks of READ_BYTES or a little more."""
        url, head = self._signed("GET", bucket, path, {}, _NOTHING)
        exchange = await self._connections.begun(url, head)
        try:
            if exchange.status != 200:
                raise _refusal(exchange.status, await exchange.piece(READ_BYTES))
            while chunk := await exchange.piece(READ_BYTES):
                yield chunk
        finally:
            self._connections.done(exchange)

    async def close(self) -> None:
        """Waits for no request under way."""
        await self._connections.close()

    def _signed(
        self, method: str, bucket: str, path: str, headers: Mapping[str, str], sha256: str
    ) -> tuple[SplitResult, bytes]:
        url = self._address.build(method=method, region=REGION, bucket_name=bucket, object_name=path)
        return url, signed_head(method, url, headers, sha256, self._provider.retrieve(), datetime.now(UTC))


def _meta(metadata: Mapping[str, str]) -> dict[str, str]:
    return {f"x-amz-meta-{name}": text for name, text in metadata.items()}


def _refusal(status: int, answer: bytes) -> Exception:
    from minio.error import S3Error, ServerError

    try:
        return S3Error.fromxml(SimpleNamespace(data=answer))  # type: ignore[arg-type]
    except (ParseError, ValueError):
        return ServerError(f"server failed with HTTP status code {status}", status)
