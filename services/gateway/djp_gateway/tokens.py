"""OIDC tokens: who a caller is that presents one of the issuer's JWTs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import jwt

from djp.mesh.errors import InvalidInput
from djp.mesh.identity import Identity
from djp_gateway.refusals import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from djp_gateway.rates import TokenRates

ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA"),
)
"""Those with a public key: who can check a token cannot make one."""
_TYPES = ("jwt", "at+jwt", "application/at+jwt")
"""Of tokens for callers. Others of the same issuer, such as logout tokens, say so and are none."""
_LONGEST = 8192  # as long as gRPC takes metadata
_LEEWAY_S = 30.0
"""By so much clocks may differ."""
_STRONGEST = ("admin", "operator", "tenant", "reader")
_WHY: Mapping[type[jwt.PyJWTError], str] = {
    jwt.ExpiredSignatureError: "has expired",
    jwt.ImmatureSignatureError: "is not valid yet",
    jwt.InvalidAudienceError: "is for another audience than DJP_OIDC_AUDIENCE",
    jwt.InvalidIssuerError: "is of another issuer than DJP_OIDC_ISSUER",
    jwt.MissingRequiredClaimError: "lacks exp, iss or aud",
}


class SigningKeys(Protocol):
    """The issuer's public keys."""

    async def find(self, key_id: str | None, algorithm: str) -> jwt.PyJWK | None:
        """The key of that id for that algorithm; of a token that names none, the only one for it.

        Raises:
            Unavailable: the issuer does not answer, and what it said before does not hold that key or is too old.
        """
        ...


@dataclass(frozen=True)
class Claims:
    """Where a token says tenant and role."""

    tenant: str
    """The name of a claim, or its path, with dots."""
    role: str
    """The same; empty: everybody's role is tenant."""
    roles: Mapping[str, str]
    """From what the claim says to roles; empty: it says roles by their own names."""


@dataclass(frozen=True)
class TokenCheck:
    """Tells who a caller is by its token."""

    keys: SigningKeys
    issuer: str
    audience: str
    claims: Claims
    rates: TokenRates | None = None

    async def identify(self, token: str, *, counted: bool = True) -> Identity:
        """Whose token it is. `counted`: it is a call against the limit of its subject.

        Raises:
            RefusedError: it does not count.
            ResourceExhausted: its subject calls more often than it may.
            Unavailable: as SigningKeys.find.
        """
        claims = await self._read(token)
        tenant = _at(claims, self.claims.tenant)
        caller = "".join(one if one.isprintable() else "?" for one in str(claims.get("sub", "unnamed"))[:100])
        role = self._role(claims)
        try:
            identity = Identity(tenant if isinstance(tenant, str) else "", role, f"token of {caller}")
        except InvalidInput:
            raise _refused(f"names no tenant in the claim {self.claims.tenant}") from None
        if self.rates and counted:
            await self.rates.count(identity.tenant, str(claims.get("sub", "")))
        return identity

    async def _read(self, token: str) -> dict[str, Any]:
        if len(token) > _LONGEST:
            raise _refused(f"is longer than {_LONGEST} characters")
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError:
            raise _refused("is no JWT") from None
        algorithm, kind = header.get("alg"), header.get("typ", "JWT")
        if algorithm not in ALGORITHMS:
            raise _refused(f"is not signed by one of {', '.join(ALGORITHMS)}")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise _refused("is of a type for something else")
        key = await self.keys.find(header.get("kid"), algorithm)
        if key is None:
            raise _refused("is signed by no key of the issuer")
        try:
            return jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self.audience,
                issuer=self.issuer,
                leeway=_LEEWAY_S,
                options={"require": ["exp", "iss", "aud"], "enforce_minimum_key_length": True},
            )
        except jwt.PyJWTError as error:
            raise _refused(_WHY.get(type(error), "is not valid")) from None
        except (OverflowError, ValueError):  # a time that is no time
            raise _refused("is not valid") from None

    def _role(self, claims: Mapping[str, Any]) -> str:
        if not self.claims.role:
            return "tenant"
        said = _at(claims, self.claims.role)
        names = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)]
        found = {self.claims.roles.get(name, "") for name in names} if self.claims.roles else {*names}
        for role in _STRONGEST:
            if role in found:
                return role
        raise _refused(f"names no role in the claim {self.claims.role}")


def _at(claims: Mapping[str, Any], place: str) -> Any:
    """What stands at a place: names of claims may have dots themselves."""
    if place in claims:
        return claims[place]
    found: Any = claims
    for name in place.split("."):
        found = found.get(name) if isinstance(found, dict) else None
    return found


def _refused(why: str) -> RefusedError:
    return RefusedError(f"the token {why}; get another one from the issuer", why=f"token {why}")
