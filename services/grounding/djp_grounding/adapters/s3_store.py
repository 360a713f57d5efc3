"""An object store in a bucket of MinIO or any other S3 that has conditional writes."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from djp.s3 import make_bucket
from djp_grounding.ports import ChangedError, Stored

if TYPE_CHECKING:
    from pathlib import Path

    from djp_grounding.adapters.s3_bucket import S3Bucket

_URL_LIFE = timedelta(minutes=5)


class S3Store:
    """An ObjectStore. Makes its bucket if that is missing and may be made."""

    def __init__(self, bucket: S3Bucket) -> None:
        self._client, self._http, self._bucket = bucket.client, bucket.http, bucket.name
        self._errors, self._away = bucket.errors, bucket.away
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
        if not self._ready:
            make_bucket(self._client, self._bucket)
            self._ready = True
