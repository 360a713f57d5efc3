"""A bucket of MinIO or another S3: how it is reached, and what its failures are called."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from djp.s3 import S3Account, connect
from djp_grounding.ports import StoreAway

if TYPE_CHECKING:
    from collections.abc import Iterator


class S3Bucket:
    """A client of one bucket. `setting` is the variable that names the bucket, for errors."""

    def __init__(
        self, endpoint: str, name: str, access_key: str, secret_key: str, *, secure: bool, setting: str
    ) -> None:
        """Raises FailedPrecondition without minio."""
        account = S3Account(f"{'https' if secure else 'http'}://{endpoint}", access_key, secret_key)
        self.client, self.http = connect(account)
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
