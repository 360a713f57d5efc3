"""Signs requests to S3, version 4, without query: as the minio client does, in a quarter of its time.

https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html
"""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import sha256
from hmac import digest
from typing import TYPE_CHECKING

from djp.s3 import REGION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from urllib.parse import SplitResult

    from minio.credentials.credentials import Credentials

_SPACES = re.compile("  +")


def signed_head(
    method: str, url: SplitResult, headers: Mapping[str, str], sha256_hex: str, credentials: Credentials, now: datetime
) -> bytes:
    """The head of the request, with all that S3 wants to see in it.

    `headers` have names in lower case, and `sha256_hex` is the hash of the body. `now` is a time in UTC.
    """
    time = now.strftime("%Y%m%dT%H%M%SZ")
    told = {**headers, "host": url.netloc, "x-amz-content-sha256": sha256_hex, "x-amz-date": time}
    if credentials.session_token:
        told["x-amz-security-token"] = credentials.session_token
    names = sorted(told)
    signed = ";".join(names)
    lines = "".join([f"{name}:{_SPACES.sub(' ', told[name]).strip()}\n" for name in names])
    request = f"{method}\n{url.path}\n\n{lines}\n{signed}\n{sha256_hex}"
    scope = f"{time[:8]}/{REGION}/s3/aws4_request"
    wanted = f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    signature = digest(_key(credentials.secret_key, time[:8]), wanted.encode(), "sha256").hex()
    told["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
    )
    lines = "".join([f"{name}: {value}\r\n" for name, value in told.items()])
    return f"{method} {url.path} HTTP/1.1\r\n{lines}\r\n".encode("ascii")


@lru_cache(1)
def _key(secret: str, day: str) -> bytes:
    """Of a day, for all its requests."""
    key = f"AWS4{secret}".encode()
    for one in (day, REGION, "s3", "aws4_request"):
        key = digest(key, one.encode(), "sha256")
    return key
