"""An object store in a bucket of MinIO or any other S3 that has conditional writes."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition
from djp_grounding.ports import ChangedError, StoreAway, Stored

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CONNECT_S, _READ_S = 3.0, 30.0
_URL_LIFE = timedelta(minutes=5)


class S3Store:
    """An ObjectStore. Makes its bucket if that is missing and may be made. Raises FailedPrecondition without minio."""

    def __init__(self, endpoint: str, bucket: str, access_key: str, secret_key: str, *, secure: bool) -> None:
        try:
            import minio  # here: only with a bucket
            import urllib3
        except ModuleNotFoundError:
            told = "an object store in a bucket needs the extra: pip install 'djp-workflow[minio]'"
            raise FailedPrecondition(told) from None

        self._http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S), retries=urllib3.Retry(total=1, redirect=0)
        )
        # With a region no call asks the server for it first.
        self._client = minio.Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region="us-east-1",
            http_client=self._http,
        )
        self._bucket = bucket
        self._endpoint = endpoint
        self._ready = False

    def read(self, name: str) -> Stored | None:
        """The content with its ETag."""
        from minio.error import S3Error

        with self._errors():
            try:
                response = self._client.get_object(self._bucket, name)
            except S3Error as error:
                if error.code in ("NoSuchKey", "NoSuchBucket"):
                    return None
                raise
            try:
                return Stored(response.data, str(response.headers["ETag"]).strip('"'))
            finally:
                response.close()
                response.release_conn()

    def write(self, name: str, content: bytes, expected: str | None) -> str:
        """With If-Match or If-None-Match, which the client has no argument for: hence a signed address."""
        condition = {"If-None-Match": "*"} if expected is None else {"If-Match": f'"{expected}"'}
        with self._errors():
            self._make_bucket()
            url = self._client.presigned_put_object(self._bucket, name, _URL_LIFE)
            # Not sent again by itself: a first try that was carried out would make the second one fail.
            response = self._http.request("PUT", url, body=content, headers=condition, retries=False)
        if response.status in (404, 409, 412):  # 404: If-Match for what is gone; 409: another write at this moment
            raise ChangedError(name)
        if response.status != 200:
            raise self._away(f"it answered {response.status}")
        return str(response.headers["ETag"]).strip('"')

    def upload(self, name: str, file: Path) -> None:
        """In parts where it is large."""
        with self._errors():
            self._make_bucket()
            self._client.fput_object(self._bucket, name, str(file))

    def download(self, name: str, file: Path) -> bool:
        """Into the file."""
        from minio.error import S3Error

        with self._errors():
            try:
                self._client.fget_object(self._bucket, name, str(file))
            except S3Error as error:
                if error.code in ("NoSuchKey", "NoSuchBucket"):
                    return False
                raise
        return True

    def names(self, prefix: str) -> list[str]:
        """In pages of a thousand."""
        from minio.error import S3Error

        with self._errors():
            try:
                found = self._client.list_objects(self._bucket, prefix=prefix, recursive=True)
                return sorted(str(one.object_name) for one in found)
            except S3Error as error:
                if error.code == "NoSuchBucket":
                    return []
                raise

    def remove(self, name: str) -> None:
        """Removing what is not there succeeds, too."""
        with self._errors():
            self._client.remove_object(self._bucket, name)

    def _make_bucket(self) -> None:
        from minio.error import S3Error

        if self._ready:
            return
        if not self._client.bucket_exists(self._bucket):
            try:
                self._client.make_bucket(self._bucket)
            except S3Error as error:
                if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
                    raise
        self._ready = True

    @contextmanager
    def _errors(self) -> Iterator[None]:
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (MinioException, HTTPError) as error:
            code = getattr(error, "code", "") or type(error).__name__  # never its text: that may hold a signed address
            raise self._away(str(code)) from None

    def _away(self, what: str) -> StoreAway:
        message = f"the object store at {self._endpoint} does not answer as it should ({what}); see DJP_GROUNDING_STORE"
        return StoreAway(message, retry_after_s=5.0)
