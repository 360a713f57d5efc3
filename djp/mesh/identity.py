"""Who a call is for: the tenant and the role, carried in request metadata and kept in a context variable."""

from __future__ import annotations

import re
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from djp.mesh.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

TENANT_KEY = "djp-tenant"
ROLE_KEY = "djp-role"
OUTSIDE_KEY = "djp-outside"
"""Set by what stands before the gateway and lets everybody in: of such a call nothing is believed, whatever it is sent
through."""
ROLES = ("tenant", "operator", "admin", "reader")
"""A stored key has its role's place in here. What each may do stands in the gateway."""

_TENANT = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


@dataclass(frozen=True)
class Identity:
    """A tenant's name and a role (one of `ROLES`). Raises InvalidInput when either is malformed."""

    tenant: str = "default"
    role: str = "tenant"
    caller: str = field(default="", compare=False)
    """Whose key or token it was, for people. Only the server knows it that it was shown to."""

    def __post_init__(self) -> None:
        if not _TENANT.fullmatch(self.tenant):
            raise InvalidInput(
                f"tenant {self.tenant[:80]!r} is not a tenant name: use 1 to 63 of a-z, 0-9, '_' and '-', "
                "starting with a letter or a digit",
                field=TENANT_KEY,
            )
        if self.role not in ROLES:
            raise InvalidInput(f"role {self.role[:80]!r} is unknown: use one of {', '.join(ROLES)}", field=ROLE_KEY)

    def who(self) -> str:
        """Who it is, as it is kept with what it does."""
        role = {"tenant": "", "reader": "a reader of "}.get(self.role, f"an {self.role} as ")
        return f"{role}tenant {self.tenant}{f', {self.caller}' if self.caller else ''}"

    @property
    def operates(self) -> bool:
        """Whether it looks after the deployment, not only after one tenant."""
        return self.role in ("operator", "admin")


_DEFAULT = Identity()
_identity: ContextVar[Identity | None] = ContextVar("djp_identity", default=None)


def current_identity() -> Identity:
    """The identity of the call being served, or the one a caller set with `identity_scope`; else tenant `default`."""
    return _identity.get() or _DEFAULT


@contextmanager
def identity_scope(identity: Identity) -> Iterator[None]:
    """Serve, or make outgoing calls, as `identity` inside the block."""
    token = _identity.set(identity)
    try:
        yield
    finally:
        _identity.reset(token)


def identity_from_metadata(metadata: Mapping[str, str]) -> Identity:
    """The identity a request's metadata states. Raises InvalidInput when it is malformed."""
    return Identity(metadata.get(TENANT_KEY, _DEFAULT.tenant), metadata.get(ROLE_KEY, _DEFAULT.role))


def identity_metadata() -> dict[str, str]:
    """The metadata that states the current identity to the next server; empty when nobody set one."""
    identity = _identity.get()
    return {TENANT_KEY: identity.tenant, ROLE_KEY: identity.role} if identity else {}
