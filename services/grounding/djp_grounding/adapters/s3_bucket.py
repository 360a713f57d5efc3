"""A bucket of MinIO or another S3: how it is reached, and what its failures are called."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.mesh.errors import FailedPrecondition
from djp_grounding.ports import StoreAway

if TYPE_CHECKING:
    from collections.abc import Iterator

_CONNECT_S, _READ_S = 3.0, 30.0


class S3Bucket:
    """A client of one bucket. `setting` is the variable that names the bucket, for errors."""

    def __init__(
        self, endpoint: str, name: str, access_key: str, secret_key: str, *, secure: bool, setting: str
    ) -> None:
        """Raises FailedPrecondition without minio."""
        try:
            import minio  # here: only with a bucket
            import urllib3
        except ModuleNotFoundError:
            told = f"the bucket of {setting} needs the extra: pip install 'djp-workflow[minio]'"
            raise FailedPrecondition(told) from None

        self.http = urllib3.PoolManager(
            timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S), retries=urllib3.Retry(total=1, redirect=0)
        )
        # With a region no call asks the server for it first.
        self.client = minio.Minio(
            endpoint,
            access_key=access_key,
            secret_key=secret_key,
            secure=secure,
            region="us-east-1",
            http_client=self.http,
        )
        self.name = name
        self._endpoint = endpoint
        self._setting = setting

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns what the client raises into StoreAway."""
        from minio.error import MinioException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (MinioException, HTTPError) as error:
            code = getattr(error, "code", "") or type(error).__name__  # never its text: that may hold a signed address
            raise self.away(str(code)) from None

    def away(self, what: str) -> StoreAway:
        """The error that says what the store did."""
        message = f"the object store at {self._endpoint} does not answer as it should ({what}); see {self._setting}"
        return StoreAway(message, retry_after_s=5.0)
