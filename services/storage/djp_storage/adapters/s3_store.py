"""An object store in MinIO or another S3, a bucket for each tier."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

from djp.s3 import ABSENT, connect, make_bucket, s3_error
from djp_storage.adapters.s3_requests import S3Requests
from djp_storage.adapters.s3_upload import S3Upload
from djp_storage.errors import ObjectMissing
from djp_storage.model import Stored
from djp_storage.names import description_leaf, is_description, object_path
from djp_storage.object_names import names_made
from djp_storage.threads import in_thread_of
from djp_storage.together import Together

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence

    from djp.s3 import S3Account
    from djp_storage.model import ObjectName, Tier

_META = "djp"  # the user metadata that holds a description
_META_BYTES = 1500  # of the 2 KB that S3 allows for all of an object's metadata
_THREADS = 32
_PAGE = 500
_TOO_LARGE = {"EntityTooLarge", "InvalidRequest"}  # for a copy in one request: more than 5 GiB
_SETTING = "DJP_STORAGE_S3_ENDPOINT"

Arguments = TypeVarTuple("Arguments")
Result = TypeVar("Result")


class S3Store:
    """An ObjectStore. A description is in the object's metadata, or, if it was not known or is long, beside it."""

    def __init__(self, account: S3Account, buckets: Mapping[Tier, str]) -> None:
        """Blocks; makes the buckets that are missing. Raises FailedPrecondition, Unavailable."""
        self._account = account
        self._buckets = buckets
        self._client, _ = connect(account, pool=_THREADS)
        self._requests = S3Requests(account)
        self._threads = ThreadPoolExecutor(_THREADS, "djp-s3")
        self._removals: Together[ObjectName, None] = Together(self._remove_all, _PAGE)
        with self.errors():
            for bucket in sorted(set(buckets.values())):
                make_bucket(self._client, bucket)

    @asynccontextmanager
    async def upload(self, name: ObjectName) -> AsyncIterator[S3Upload]:
        """What is small goes in one request when it is placed, what is large in parts on the way."""
        upload = S3Upload(self, name)
        try:
            yield upload
        finally:
            await upload.close()

    async def read(self, name: ObjectName) -> AsyncGenerator[bytes, None]:
        """The object in chunks of about a megabyte."""
        with self.told(name):
            async with aclosing(self._requests.get(*self._place(name))) as chunks:
                async for chunk in chunks:
                    yield chunk

    async def copy(self, source: ObjectName, target: ObjectName, description: str) -> None:
        """Inside the server."""
        from minio.error import S3Error

        with self.told(source):
            metadata = await self._metadata(target, description)
            try:
                await self._requests.copy(self._place(source), *self._place(target), metadata)
            except S3Error as error:
                if error.code not in _TOO_LARGE:
                    raise
                await self.call(self._copy_in_parts, source, target, metadata)

    async def remove(self, name: ObjectName) -> None:
        """The object and its description. Those that wait while others are removed share a request."""
        with self.told(name):
            await self._removals.ask(name)

    async def made(self, batch: ObjectName) -> Sequence[ObjectName]:
        """Lists of what begins as their names do, and as those of what is beside them."""
        with self.told(batch):
            return await self.call(self._made, batch)

    async def abandon(self, name: ObjectName) -> None:
        """The parts of uploads in parts that were not ended: they take room until they are given up."""
        with self.told(name):
            await self.call(self._abandon, name)

    def location(self, name: ObjectName) -> str:
        """As other tools of S3 write it."""
        return f"s3://{self._buckets[name.tier]}/{self.path(name)}"

    def path(self, name: ObjectName) -> str:
        """In the tier's bucket."""
        return "/".join(object_path(name))

    async def objects(self, tier: Tier) -> AsyncGenerator[Stored, None]:
        """In pages of a thousand."""
        after = ""
        while True:
            with self.errors():
                page = await self.call(self._page, tier, after)
            for one in page:
                if not is_description(one.path.rpartition("/")[-1]):
                    yield one
            if len(page) < _PAGE:
                return
            after = page[-1].path

    async def description(self, tier: Tier, path: str) -> str:
        """From the metadata, or the object beside it."""
        with self.errors(f"{self._buckets[tier]}/{path}"):
            return await self.call(self._description, tier, path)

    async def clean(self) -> int:
        """Nothing: what uploads in parts have left is given up by name, when their strays are removed."""
        return 0

    async def close(self) -> None:
        """Waits for no call under way."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self._requests.close()

    async def call(self, function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
        """The result of what blocks, from one of the store's threads."""
        return await in_thread_of(self._threads, function, *arguments)

    async def put(self, name: ObjectName, content: bytes, sha256: str, description: str) -> None:
        """In one request."""
        metadata = await self._metadata(name, description)
        await self._requests.put(*self._place(name), content, sha256, metadata, "application/octet-stream")

    def put_parts(self, name: ObjectName, data: Any, part_bytes: int) -> None:
        """Blocks, until `data` ends. The description is placed by `put_description`."""
        self._client.put_object(*self._place(name), data, -1, part_size=part_bytes, num_parallel_uploads=2)

    async def _metadata(self, name: ObjectName, description: str) -> dict[str, str]:
        """Metadata with the description; one that is too long for them is placed beside the object, before it."""
        if len(description) > _META_BYTES:
            await self.put_description(name, description)
            return {}
        return {_META: description}

    async def put_description(self, name: ObjectName, description: str) -> None:
        """As an object of its own."""
        bucket, path = self._place(name)
        content = description.encode()
        sha256 = hashlib.sha256(content).hexdigest()
        await self._requests.put(bucket, _beside(path), content, sha256, {}, "application/json")

    def _copy_in_parts(self, source: ObjectName, target: ObjectName, metadata: Mapping[str, str]) -> None:
        from minio.commonconfig import REPLACE, CopySource

        origin, told = CopySource(*self._place(source)), dict[str, Any](metadata)
        self._client.copy_object(*self._place(target), origin, metadata=told, metadata_directive=REPLACE)

    def _place(self, name: ObjectName) -> tuple[str, str]:
        return self._buckets[name.tier], self.path(name)

    async def _remove_all(self, names: Sequence[ObjectName]) -> Sequence[Exception | None]:
        """What each of them raises."""
        outcomes: dict[ObjectName, Exception | None] = {}
        for tier in {name.tier for name in names}:
            of_tier = [name for name in names if name.tier is tier]
            try:
                outcomes |= await self.call(self._remove, tier, of_tier)
            except Exception as error:  # raised where it is waited for; other buckets may be well
                outcomes |= dict.fromkeys(of_tier, error)
        return [outcomes[name] for name in names]

    def _remove(self, tier: Tier, names: Sequence[ObjectName]) -> dict[ObjectName, Exception | None]:
        from minio.deleteobjects import DeleteObject
        from minio.error import S3Error

        places = {self.path(name): name for name in names}
        places |= {_beside(path): name for path, name in places.items() if name.object_id}
        outcomes: dict[ObjectName, Exception | None] = dict.fromkeys(names)
        for one in self._client.remove_objects(self._buckets[tier], list(map(DeleteObject, places))):
            if one.code in ABSENT:
                continue
            error = S3Error(None, one.code, one.message, None, None, None)  # type: ignore[arg-type]
            for name in [places[one.name]] if one.name in places else names:
                outcomes[name] = error
        return outcomes

    def _made(self, batch: ObjectName) -> list[ObjectName]:
        folder, bucket = self.path(batch).rpartition("/")[0], self._buckets[batch.tier]
        leaves = [
            str(one.object_name).rpartition("/")[-1]
            for begin in (batch.object_id, f".{batch.object_id}")
            for one in self._client.list_objects(bucket, prefix=f"{folder}/{begin}")
        ]
        return names_made(batch, leaves, lambda leaf: self._described(batch.tier, f"{folder}/{leaf}"))

    def _abandon(self, name: ObjectName) -> None:
        bucket, path = self._place(name)
        for one in self._client._list_multipart_uploads(bucket, prefix=path).uploads:
            if one.object_name == path and one.upload_id:
                self._client._abort_multipart_upload(bucket, path, one.upload_id)

    def _page(self, tier: Tier, after: str) -> list[Stored]:
        found = []
        for one in self._client.list_objects(self._buckets[tier], recursive=True, start_after=after or None):
            found.append(
                Stored(tier, str(one.object_name), one.size or 0, (one.last_modified or _EPOCH).astimezone(UTC))
            )
            if len(found) == _PAGE:
                break
        return found

    def _description(self, tier: Tier, path: str) -> str:
        told = self._client.stat_object(self._buckets[tier], path)
        return _in_metadata(told) or self._beside(tier, _beside(path))

    def _described(self, tier: Tier, path: str) -> str:
        """Of an object, or of what is beside one; empty for what is not there any more."""
        from minio.error import S3Error

        if is_description(path.rpartition("/")[-1]):
            return self._beside(tier, path)
        with suppress_absent(S3Error):
            return self._description(tier, path)
        return ""

    def _beside(self, tier: Tier, path: str) -> str:
        from minio.error import S3Error

        with suppress_absent(S3Error):
            response = self._client.get_object(self._buckets[tier], path)
            try:
                return response.data.decode(errors="replace")
            finally:
                response.close()
                response.release_conn()
        return ""

    @contextmanager
    def told(self, name: ObjectName) -> Iterator[None]:
        """Errors for people; an object that is not there among them."""
        with self.errors(f"{self._buckets[name.tier]}/{self.path(name)}"):
            yield

    @contextmanager
    def errors(self, path: str = "") -> Iterator[None]:
        """Tells what the store refuses, with the remedy."""
        try:
            yield
        except Exception as error:
            if not isinstance(error, _refusals()):
                raise
            if getattr(error, "code", "") in ABSENT:
                raise ObjectMissing(
                    f"s3://{path} is gone, though the catalogue has it; bring the object back from a backup"
                ) from None
            raise s3_error(error, self._account, _SETTING) from None


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _refusals() -> tuple[type[Exception], ...]:
    """What is raised for what S3 refuses, and for what does not get through."""
    from minio.error import MinioException
    from urllib3.exceptions import HTTPError

    return MinioException, HTTPError, OSError


def _beside(path: str) -> str:
    folders, _, leaf = path.rpartition("/")
    return f"{folders}/{description_leaf(leaf)}"


def _in_metadata(told: Any) -> str:
    metadata: Mapping[str, str] = told.metadata or {}
    return metadata.get(f"x-amz-meta-{_META}", "")


@contextmanager
def suppress_absent(kind: type[Exception]) -> Iterator[None]:
    """What is not there is no error."""
    try:
        yield
    except kind as error:
        if getattr(error, "code", "") not in ABSENT:
            raise
