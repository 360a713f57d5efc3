"""An issuer of OIDC tokens for tests: keys, tokens signed by them, and its key set behind HTTP."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import get_default_algorithms

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

ISSUER = "https://issuer.example/realm"
AUDIENCE = "djp"


def private_key(algorithm: str, bits: int = 2048) -> Any:
    if algorithm.startswith("ES"):
        curve = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm]
        return ec.generate_private_key(curve)
    if algorithm == "EdDSA":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, bits)


@dataclass
class Issuer:
    """Signs tokens, and publishes the keys that it signs with."""

    keys: dict[str, tuple[str, Any]] = field(default_factory=dict)
    """By id: the algorithm and the private key."""
    more: list[Any] = field(default_factory=list)
    """What else stands in the set."""
    answer: bytes | None = None
    """What is said in the place of the set."""
    told: dict[str, Any] = field(default_factory=dict)
    """What it says of itself, where it is asked, beside or in the place of what is true."""
    down: bool = False
    asked: int = 0

    def add(self, kid: str, algorithm: str = "ES256", bits: int = 2048) -> None:
        self.keys[kid] = algorithm, private_key(algorithm, bits)

    def token(self, kid: str, headers: dict[str, Any] | None = None, **claims: Any) -> str:
        """A token as an honest issuer signs it; a claim that is None is left out."""
        algorithm, key = self.keys[kid]
        now = int(time.time())
        said = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": "ada@example.org",
            "iat": now,
            "exp": now + 600,
            "djp_tenant": "ada",
            **claims,
        }
        told = {name: value for name, value in said.items() if value is not None}
        payload = json.dumps(told).encode()  # jwt.encode would refuse some that are worth a try
        return jwt.PyJWS().encode(payload, key, algorithm, headers={"kid": kid, **(headers or {})})

    def jwks(self) -> dict[str, Any]:
        listed = []
        for kid, (algorithm, key) in self.keys.items():
            to_jwk = get_default_algorithms()[algorithm].to_jwk
            listed.append({**json.loads(to_jwk(key.public_key())), "kid": kid, "alg": algorithm, "use": "sig"})
        return {"keys": [*listed, *self.more]}

    @asynccontextmanager
    async def served(self) -> AsyncIterator[str]:
        """Publish the set, at `/jwks` of this URL."""

        url = ""

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            known = self.jwks()
            if head.startswith(b"GET /.well-known/openid-configuration "):
                known = {"issuer": url, "jwks_uri": f"{url}/jwks", **self.told}
            body = self.answer if self.answer is not None else json.dumps(known).encode()
            status = b"503 Down" if self.down else b"200 OK"
            writer.write(b"HTTP/1.1 %s\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)) + body)
            await writer.drain()
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            yield url
