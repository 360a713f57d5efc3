"""API keys: who a caller is that presents one, and how often it may call."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.mesh.errors import ResourceExhausted, Unauthenticated
from djp.mesh.identity import TENANT_KEY, Identity

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp_gateway.ports import ApiKey, KeyStore

_log = logging.getLogger(__name__)

PREFIX = "djp_"
"""What a secret begins with, so that people and scanners know it for one."""
AUTHORIZATION = "authorization"
_BEARER = "bearer "
_FRESH_S = 0.5
"""How long an answer of the store is believed: a revoked key stops working within a second, everywhere."""
_MOST_KNOWN = 10_000
_NOTED_S = 60.0  # the time of a key's last use is right to a minute
_MINUTE_S = 60.0


def new_secret() -> tuple[str, str]:
    """A secret of 256 random bits, and what is kept of it."""
    secret = PREFIX + secrets.token_urlsafe(32)
    return secret, fingerprint(secret)


def fingerprint(secret: str) -> str:
    """What is kept of a secret. It is looked up by this hash, so no time tells how much of a guess was right."""
    return sha256(secret.encode()).hexdigest()


@dataclass
class _Known:
    """What the store said of a secret, and how the key is used since."""

    key: ApiKey | None
    asked_at: float
    left: float = 0.0
    """Calls that its limit allows at once."""
    filled_at: float = 0.0
    noted_at: float = float("-inf")


class KeyCheck:
    """Tells who a caller is by the key that it presents, as the gateways share it."""

    def __init__(self, store: KeyStore, *, required: bool) -> None:
        self._store = store
        self._required = required
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._noting: set[asyncio.Task[None]] = set()

    async def __call__(self, metadata: Mapping[str, str], *, trusted: bool, again: bool = False) -> Identity | None:
        """Who calls; None: nobody says so, and nobody has to. `trusted`: the connection is its owner's own; `again`: it
        is no new call.

        An operator or admin may act for another tenant, which it names in `djp-tenant`.

        Raises:
            Unauthenticated: there is no key where one is needed, or it is unknown, expired or revoked.
            ResourceExhausted: the key is used more often than it may be.
        """
        given = metadata.get(AUTHORIZATION, "")
        if not given:
            if self._required and not trusted:
                raise Unauthenticated(
                    "a key is needed: set DJP_API_KEY, or send the metadata `authorization: Bearer djp_…`"
                )
            return None
        secret = given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""
        if not secret.startswith(PREFIX):
            raise Unauthenticated("the metadata `authorization` holds no key; send `Bearer djp_…`")
        known = await self._look_up(fingerprint(secret))
        key = known.key
        if key is None or key.revoked_at or (key.expires_at and key.expires_at <= datetime.now(UTC)):
            # One answer for all: who has only guessed learns nothing.
            raise Unauthenticated("the key is unknown, expired or revoked; ask an admin for another one")
        if not again:
            self._count(known, key)
        acting = metadata.get(TENANT_KEY, key.tenant) if key.role != "tenant" else key.tenant
        return Identity(tenant=acting, role=key.role)

    async def _look_up(self, secret_sha256: str) -> _Known:
        now = asyncio.get_running_loop().time()
        known = self._known.get(secret_sha256)
        if known is None or now - known.asked_at > _FRESH_S:
            key = await self._store.find(secret_sha256)
            if known is None:
                known = _Known(key, now, left=float(key.rate_limit) if key else 0.0, filled_at=now)
            known.key, known.asked_at = key, now
        self._known[secret_sha256] = known
        self._known.move_to_end(secret_sha256)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    def _count(self, known: _Known, key: ApiKey) -> None:
        now = asyncio.get_running_loop().time()
        if key.rate_limit:
            a_second = key.rate_limit / _MINUTE_S
            known.left = min(float(key.rate_limit), known.left + (now - known.filled_at) * a_second)
            known.filled_at = now
            if known.left < 1:
                raise ResourceExhausted(
                    f"the key may be used {key.rate_limit} times a minute; wait, or ask an admin for more",
                    reason="RATE_LIMITED",
                    retry_after_s=(1 - known.left) / a_second,
                )
            known.left -= 1
        if now - known.noted_at >= _NOTED_S:
            known.noted_at = now
            task = asyncio.create_task(self._note(key.key_id))
            self._noting.add(task)
            task.add_done_callback(self._noting.discard)

    async def _note(self, key_id: str) -> None:
        try:
            await self._store.used(key_id)
        except Exception as error:
            _log.warning("the use of key %s cannot be noted (%s)", key_id, type(error).__name__)

    async def close(self) -> None:
        """Wait until what is noted is noted."""
        await asyncio.gather(*self._noting, return_exceptions=True)
