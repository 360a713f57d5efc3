"""API keys: who a caller is that presents one, and how often it may call."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING

from djp.mesh.identity import Identity
from djp_gateway.rates import Allowance
from djp_gateway.refusals import RefusedError

if TYPE_CHECKING:
    from djp_gateway.callers import ApiKey, KeyStore

_log = logging.getLogger(__name__)

PREFIX = "djp_"
"""What a secret begins with, so that people and scanners know it for one."""
_FRESH_S = 0.5
"""How long an answer of the store is believed: a revoked key stops working within a second, everywhere."""
_MOST_KNOWN = 10_000
_NOTED_S = 60.0  # the time of a key's last use is right to a minute


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
    noted_at: float = float("-inf")
    allowance: Allowance = field(default_factory=Allowance)


class KeyCheck:
    """Tells who a caller is by the key that it presents, as the gateways share it."""

    def __init__(self, store: KeyStore) -> None:
        self._store = store
        self._known: OrderedDict[str, _Known] = OrderedDict()
        self._noting: set[asyncio.Task[None]] = set()

    async def identify(self, secret: str, *, counted: bool) -> Identity:
        """Whose key it is. `counted`: it is a call against the key's limit.

        Raises:
            RefusedError: it is unknown, expired or revoked. One answer for all: who has only guessed learns nothing.
            ResourceExhausted: it is used more often than it may be.
        """
        known = await self._look_up(fingerprint(secret))
        key = known.key
        if key is None:
            raise _refused("unknown key")
        if key.revoked_at:
            raise _refused(f"revoked key {key.key_id}", key.tenant)
        if key.expires_at and key.expires_at <= datetime.now(UTC):
            raise _refused(f"expired key {key.key_id}", key.tenant)
        if counted:
            await self._count(known, key)
        return Identity(key.tenant, key.role, f"key {key.key_id[:8]}{f' ({key.name})' if key.name else ''}")

    async def _look_up(self, secret_sha256: str) -> _Known:
        now = asyncio.get_running_loop().time()
        known = self._known.get(secret_sha256)
        if known is None or now - known.asked_at > _FRESH_S:
            key = await self._store.find(secret_sha256)
            known = self._known.setdefault(secret_sha256, _Known(key, now))
            if now >= known.asked_at:  # another call may have asked since, and been answered sooner
                known.key, known.asked_at = key, now
        self._known[secret_sha256] = known
        self._known.move_to_end(secret_sha256)
        while len(self._known) > _MOST_KNOWN:
            self._known.popitem(last=False)
        return known

    async def _count(self, known: _Known, key: ApiKey) -> None:
        if key.rate_limit:
            take = partial(self._store.take_calls, key.key_id)
            await known.allowance.call(take, key.rate_limit, "the key")
        now = asyncio.get_running_loop().time()
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


def _refused(why: str, tenant: str = "") -> RefusedError:
    return RefusedError("the key is unknown, expired or revoked; ask an admin for another one", why=why, tenant=tenant)
