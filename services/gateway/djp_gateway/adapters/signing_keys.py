"""The public keys of an OIDC issuer (JWKS), from a URL or a file: kept, and read again when they are old or lacking.

Where nobody says where they are, the issuer does (OpenID Connect Discovery 1.0).
"""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import jwt

from djp.mesh.errors import FailedPrecondition, Unavailable
from djp_gateway.settings import is_protected
from djp_gateway.tokens import ALGORITHMS

if TYPE_CHECKING:
    from collections.abc import Sequence

_log = logging.getLogger(__name__)

_FRESH_S = 300.0
_FLOOR_S = 10.0
"""The issuer is asked no more often, whatever ids of keys callers make up."""
_USABLE_S = 86_400.0
"""An issuer that does not answer is believed for so long."""
_PATIENCE_S = 5.0
_MOST_BYTES = 1 << 20
_DISCOVERY = "/.well-known/openid-configuration"
"""Behind the issuer's URL: where it tells of itself (OpenID Connect Discovery 1.0, section 4)."""


class JwksKeys:
    """SigningKeys of a set that is published at `source`: an http(s) URL, or else the path of a file.

    Without a source the set is where `issuer`, a URL, says.
    """

    def __init__(self, source: str, issuer: str = "") -> None:
        self._source = source
        self._issuer = issuer
        self._is_url = not source or source.startswith(("http://", "https://"))
        self._keys: Sequence[jwt.PyJWK] = ()
        self._read_at = float("-inf")
        self._tried_at = float("-inf")
        self._failed = False
        self._reading: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Read the set. An issuer that is away is asked again later.

        Raises:
            FailedPrecondition: it is a file, and it cannot be used.
        """
        self._read_again_if_due()
        await self.close()
        if self._failed and not self._is_url:
            raise FailedPrecondition(
                f"DJP_OIDC_JWKS: {self._source} cannot be read as a JSON Web Key Set with a public key; mend the file"
            )

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        now = asyncio.get_running_loop().time()
        if now - self._read_at > _USABLE_S:
            self._keys = ()
        found = self._pick(key_id, algorithm)
        if found is None or now - self._read_at > _FRESH_S:
            self._read_again_if_due()
        if found is None and self._reading:
            await asyncio.shield(self._reading)
            found = self._pick(key_id, algorithm)
        if found is None and self._failed:
            raise Unavailable(
                "the keys of the tokens' issuer cannot be read now; try again in a moment",
                retry_after_s=max(1.0, self._tried_at + _FLOOR_S - now),
            )
        return found

    async def close(self) -> None:
        """Wait until what is being read is read."""
        if self._reading:
            await self._reading

    def _pick(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        fit = [key for key in self._keys if key.algorithm_name == algorithm and key_id in (None, key.key_id)]
        return fit[0] if len(fit) == 1 else None

    def _read_again_if_due(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._reading is None and now - self._tried_at >= _FLOOR_S:
            self._tried_at = now
            self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                content = await (self._fetch() if self._is_url else asyncio.to_thread(self._content))
            self._keys = _public_keys(content)
            self._read_at, self._failed = self._tried_at, False
        except Exception as error:  # whatever the issuer says
            name = "DJP_OIDC_JWKS" if self._source else "DJP_OIDC_ISSUER"
            _log.warning("the keys of the tokens' issuer cannot be read (%s); see %s", type(error).__name__, name)
            self._failed = True
        finally:
            self._reading = None

    def _content(self) -> bytes:
        with Path(self._source).open("rb") as file:
            return file.read(_MOST_BYTES + 1)

    async def _fetch(self) -> bytes:
        async with httpx2.AsyncClient(timeout=_PATIENCE_S) as client:
            source = self._source or self._named(await _got(client, self._issuer.rstrip("/") + _DISCOVERY))
            return await _got(client, source)

    def _named(self, content: bytes) -> str:
        """Where the issuer says that its keys are. Raises ValueError if it does not, or is another one."""
        told = _json(content)
        if not isinstance(told, dict) or told.get("issuer") != self._issuer:
            raise ValueError("it is not what DJP_OIDC_ISSUER says")
        named = told.get("jwks_uri")
        if not isinstance(named, str) or not is_protected(named):
            raise ValueError("it names no keys behind https")
        return named


async def _got(client: httpx2.AsyncClient, url: str) -> bytes:
    """What is there, as far as it is not too much. Raises httpx2.HTTPError."""
    content = b""
    async with client.stream("GET", url) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_bytes():
            content += chunk
            if len(content) > _MOST_BYTES:
                break
    return content


def _json(content: bytes) -> Any:
    """Raises ValueError if it is none, or too much."""
    if len(content) > _MOST_BYTES:
        raise ValueError("it is too large")
    try:
        return json.loads(content)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _public_keys(content: bytes) -> list[jwt.PyJWK]:
    """Those that sign tokens. Raises ValueError or PyJWTError when there is none."""
    document = _json(content)
    listed = document.get("keys") if isinstance(document, dict) else None
    # A key with its private part is not its owner's alone any more; one for encryption signs nothing.
    fit = [
        one
        for one in (listed if isinstance(listed, list) else [])
        if isinstance(one, dict) and "d" not in one and one.get("use", "sig") == "sig"
    ]
    keys = [key for key in jwt.PyJWKSet(fit).keys if key.algorithm_name in ALGORITHMS]
    if not keys:
        raise ValueError("it has no public key")
    return keys
