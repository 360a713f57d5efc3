"""Who calls the gateway: whoever a key or a token says, and nobody where neither is needed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from djp.mesh.identity import TENANT_KEY, Identity
from djp_gateway.keys import PREFIX, KeyCheck
from djp_gateway.refusals import Refusals, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp_gateway.tokens import TokenCheck

AUTHORIZATION = "authorization"
_BEARER = "bearer "


@dataclass(frozen=True)
class SignIn:
    """What a port asks of every call; see djp.mesh.interceptors.Authenticate."""

    keys: KeyCheck
    tokens: TokenCheck | None
    refusals: Refusals
    required: bool
    """Whether a caller from outside has to show something."""

    async def __call__(self, metadata: Mapping[str, str], *, trusted: bool, again: bool = False) -> Identity | None:
        """Who calls; None: nobody says so, and nobody has to. `trusted`: the connection is its owner's own; `again`: it
        is no new call.

        An operator or admin may act for another tenant, which it names in `djp-tenant`.

        Raises:
            RefusedError: there is no key or token where one is needed, or it does not count.
            ResourceExhausted: the key, or the token's subject, calls more often than it may.
            Unavailable: nobody can say now whether the token counts.
        """
        try:
            identity = await self._identify(
                metadata.get(AUTHORIZATION, ""), needed=self.required and not trusted, again=again
            )
        except RefusedError as refused:
            self.refusals.note(refused)
            raise
        if identity and identity.operates and (acting := metadata.get(TENANT_KEY)):
            return replace(identity, tenant=acting)
        return identity

    async def _identify(self, given: str, *, needed: bool, again: bool) -> Identity | None:
        kinds = "a key or token" if self.tokens else "a key"
        if not given:
            if needed:
                raise RefusedError(
                    f"{kinds} is needed: set DJP_API_KEY, or send the metadata `authorization: Bearer …`", why="nothing"
                )
            return None
        shown = given[len(_BEARER) :].strip() if given.lower().startswith(_BEARER) else ""
        if shown.startswith(PREFIX):
            return await self.keys.identify(shown, counted=not again)
        if self.tokens and shown:
            return await self.tokens.identify(shown, counted=not again)
        raise RefusedError(f"the metadata `authorization` holds no key; send `Bearer {PREFIX}…`", why="no key")
