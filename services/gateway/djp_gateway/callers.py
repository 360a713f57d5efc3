"""What the gateway keeps about who calls: API keys, and what is remembered for an audit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True)
class ApiKey:
    """A key without its secret."""

    key_id: str
    tenant: str
    role: str
    """One of djp.mesh.identity.ROLES."""
    name: str
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rate_limit: int
    """Calls a minute; 0: as many as it likes."""


class KeyStore(Protocol):
    """API keys, of which only hashes of the secrets are kept. Who made or revoked one is remembered with it."""

    async def add(self, key: ApiKey, secret_sha256: str, *, by: str) -> None:
        """Keep a new key; `by`: who made it, for people."""
        ...

    async def find(self, secret_sha256: str) -> ApiKey | None:
        """The key with that secret."""
        ...

    async def get(self, key_id: str) -> ApiKey:
        """The key of that id.

        Raises:
            NotFound: there is none.
        """
        ...

    async def list(self, tenant: str, *, page_size: int, page_token: str) -> tuple[Sequence[ApiKey], str]:
        """A tenant's keys, or all, newest first; and the token of the next page.

        Raises:
            InvalidInput: the page token is not from this list.
        """
        ...

    async def revoke(self, key_id: str, *, by: str) -> ApiKey:
        """Let the key work no more; done again, it changes nothing.

        Raises:
            NotFound: there is none.
        """
        ...

    async def used(self, key_id: str) -> None:
        """Note that the key was used now."""
        ...

    async def take_calls(self, key_id: str, calls: int, a_minute: int) -> float:
        """Count calls of the key against its limit, which all gateways share: 0 if there was room, else how many
        seconds it takes until there is some for one. A key that was not used for a minute has room for a minute's.
        """
        ...


class RateStore(Protocol):
    """Calls of callers without a key, counted for all gateways."""

    async def take(self, caller: str, calls: int, a_minute: int) -> float:
        """As KeyStore.take_calls, for a caller that is named by a hash; one that is heard of for the first time has
        room for a minute's calls, as one has that has not called for a minute, of which nothing is kept."""
        ...


@dataclass(frozen=True)
class AuditEvent:
    """Something that somebody did, or was refused."""

    kind: str
    """KEY_CREATED, KEY_REVOKED, SIGN_IN_REFUSED, RUN_APPROVED or RUN_REJECTED."""
    tenant: str
    """Whose thing it is about; empty: of a caller that nobody knows."""
    actor: str
    """Who, for people; may be empty."""
    subject: str
    """The key's or the run's id; of a refusal also why."""
    count: int = 1
    """How often."""
    at: datetime | None = None
    """When; filled in by who keeps it."""
    sequence: int = 0
    """Its place among all; filled in by who keeps it."""


class Audit(Protocol):
    """What is remembered. What is about a key or a run is written together with the change itself."""

    async def refused(self, refusals: Mapping[tuple[str, str], int]) -> None:
        """Remember refused sign-ins, how many by tenant and subject; those that are too old are forgotten."""
        ...

    async def list(self, tenant: str | None, *, page_size: int, page_token: str) -> tuple[Sequence[AuditEvent], str]:
        """A tenant's events, or everybody's, newest first; and the token of the next page.

        Raises:
            InvalidInput: the page token is not from this list.
        """
        ...
