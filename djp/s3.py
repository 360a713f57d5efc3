"""One way to reach MinIO or another S3: its address, its credentials, bounded waits, and what its errors mean."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from djp.mesh.errors import DiskFull, DjpError, FailedPrecondition, Unavailable

if TYPE_CHECKING:
    from pathlib import Path

    import minio
    import urllib3
    from minio.credentials.credentials import Credentials
    from minio.credentials.providers import Provider

_CONNECT_S, _READ_S = 3.0, 60.0
_REFUSED = {
    "AccessDenied",
    "AllAccessDisabled",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidTokenId",
    "SignatureDoesNotMatch",
    "XMinioAdminNoSuchUser",
}
_FULL = {"XMinioStorageFull", "XMinioAdminBucketQuotaExceeded", "QuotaExceeded", "EntityTooLarge"}
REGION = "us-east-1"
"""Given with every call, so that none asks for it first."""
ABSENT = {"NoSuchKey", "NoSuchObject", "NoSuchVersion"}
"""The codes of an object that is not there."""


@dataclass(frozen=True)
class S3Account:
    """Where an S3 is and how it knows us. `endpoint` is http(s)://host:port.

    With a `credentials_file` (in the format of AWS, profile `default`) the keys are read from there, again whenever it
    changes. `ca` is a PEM file of the authority that signed the server's certificate; None: the usual ones.
    """

    endpoint: str
    access_key: str = ""
    secret_key: str = ""
    credentials_file: Path | None = None
    ca: Path | None = None


def checked_endpoint(endpoint: str) -> str:
    """The address without a slash at its end. Raises ValueError for what is none."""
    if not re.fullmatch(r"https?://[^/@\s]+/?", endpoint):
        raise ValueError("not an address; write http://host:port or https://host:port")
    return endpoint.rstrip("/")


def connect(account: S3Account, *, pool: int = 10) -> tuple[minio.Minio, urllib3.PoolManager]:
    """A client, and the connections that it shares. Raises FailedPrecondition without the package.

    Nothing is sent before the first call.
    """
    try:
        import minio
        import urllib3
    except ModuleNotFoundError:
        told = "an object store in a bucket needs the extra: pip install 'djp-workflow[minio]'"
        raise FailedPrecondition(told) from None

    trust: dict[str, Any] = {"cert_reqs": "CERT_REQUIRED", "ca_certs": str(account.ca)} if account.ca else {}
    http = urllib3.PoolManager(
        timeout=urllib3.Timeout(connect=_CONNECT_S, read=_READ_S),
        retries=urllib3.Retry(total=1, redirect=0),
        maxsize=pool,
        **trust,
    )
    scheme, _, host = account.endpoint.partition("://")
    secure = scheme == "https"
    client = minio.Minio(host, credentials=provider(account), secure=secure, region=REGION, http_client=http)
    return client, http


def provider(account: S3Account) -> Provider:
    """Of its credentials, for every request anew. Raises FailedPrecondition if it has none."""
    from minio.credentials.providers import StaticProvider

    if account.credentials_file:
        return _file_provider(account.credentials_file)
    if not (account.access_key and account.secret_key):
        raise FailedPrecondition(f"the object store at {account.endpoint} has no credentials; set both of its keys")
    return StaticProvider(account.access_key, account.secret_key)


def s3_error(error: Exception, account: S3Account, setting: str) -> DjpError:
    """What an error of the client means to an operator. Never has its text, which may hold a signed address."""
    known = _s3_error(error, account, setting)
    known.outside = "the object store is full" if isinstance(known, DiskFull) else "the object store cannot be used now"
    return known


def _s3_error(error: Exception, account: S3Account, setting: str) -> DjpError:
    code = getattr(error, "code", "") or type(error).__name__
    where = f"the object store at {account.endpoint}"
    if code in _FULL or "no space left on device" in str(getattr(error, "message", "")):
        return DiskFull(f"disk full: {where} takes no more ({code}); free some space there and try again")
    if code in _REFUSED:
        return FailedPrecondition(
            f"{where} refuses ({code}): the credentials are wrong, have expired, or may not do this; mend them, see "
            f"{setting}"
        )
    if code == "NoSuchBucket":
        return FailedPrecondition(f"{where} has lost a bucket ({code}); bring it back, or start the service again")
    if code == "IncompleteBody":  # what MinIO says when its disk becomes full in the middle of an object
        told = f"{where} took only a part of what was sent ({code}); see whether its disk is full, and try again"
        return Unavailable(told, retry_after_s=5.0)
    return Unavailable(f"{where} does not answer as it should ({code}); see {setting}", retry_after_s=5.0)


def make_bucket(client: minio.Minio, bucket: str) -> None:
    """Make a bucket if it is missing. Raises the client's errors."""
    from minio.error import S3Error

    if client.bucket_exists(bucket):
        return
    try:
        client.make_bucket(bucket)
    except S3Error as error:
        if error.code not in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            raise


def _file_provider(path: Path) -> Provider:
    from minio.credentials.providers import AWSConfigProvider, Provider

    class FileProvider(Provider):
        """Asked for every request, so the file is read only when it is another one."""

        def __init__(self) -> None:
            self._reader = AWSConfigProvider(str(path), "default")
            self._read: tuple[tuple[int, int], Credentials] | None = None

        def retrieve(self) -> Credentials:
            try:
                stat = os.stat(path)
                version = (stat.st_mtime_ns, stat.st_ino)
                if self._read is None or self._read[0] != version:
                    self._read = (version, self._reader.retrieve())
            except (OSError, ValueError):
                raise FailedPrecondition(
                    f"credentials file {path} cannot be read, or has no aws_access_key_id and aws_secret_access_key "
                    "in its profile default; mend it"
                ) from None
            return self._read[1]

    return FileProvider()
