"""OIDC tokens: who may call by one, forged ones, and an issuer that is away, changes its keys or talks nonsense."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import grpc
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.utils import base64url_encode
from pydantic import ValidationError

from djp.client import connect
from djp.mesh.errors import FailedPrecondition, PermissionDenied, ResourceExhausted, Unauthenticated, Unavailable
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.rpc_errors import error_from_rpc
from djp.v1 import run_pb2
from djp_gateway import tokens
from djp_gateway.adapters import signing_keys
from djp_gateway.adapters.signing_keys import JwksKeys
from djp_gateway.ports import COMMAND
from djp_gateway.settings import GatewaySettings
from djp_gateway.tokens import ALGORITHMS, Claims, TokenCheck
from tests.gateway.oidc import AUDIENCE, ISSUER, Issuer, private_key
from tests.gateway.test_gateway_keys import made, port, works

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

TENANT_ONLY = Claims("djp_tenant", "", {})


@pytest.fixture
def issuer() -> Issuer:
    issuer = Issuer()
    issuer.add("one")
    return issuer


@asynccontextmanager
async def checking(issuer: Issuer, claims: Claims = TENANT_ONLY) -> AsyncIterator[TokenCheck]:
    async with issuer.served() as url:
        keys = JwksKeys(f"{url}/jwks")
        await keys.begin()
        yield TokenCheck(keys, ISSUER, AUDIENCE, claims)
        await keys.close()


def file_settings(folder: Path, issuer: Issuer, **more: Any) -> dict[str, Any]:
    path = folder / "jwks.json"
    path.write_text(json.dumps(issuer.jwks()))
    return {"auth": "none", "oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks": str(path), **more}


async def test_a_token_says_who_calls_and_keys_go_on_to_count(
    mesh: Any, gateway: Any, folder: Path, issuer: Issuer
) -> None:
    key = await made(gateway, tenant="grace")
    claims = {"oidc_role_claim": "realm_access.roles", "oidc_roles": "mesh-admin=admin, user=tenant"}
    async with port(mesh, **file_settings(folder, issuer, **claims)) as address:
        token = issuer.token("one", realm_access={"roles": ["other", "user"]})
        async with connect(address, api_key=token) as client:
            with identity_scope(Identity(tenant="grace", role="admin")):  # is not believed
                run = await client.start_run(run_pb2.RunRequest(task="Why?"))
            assert run.tenant == "ada"
            with pytest.raises(PermissionDenied):
                await client.list_keys()
        async with connect(address, api_key=key.secret) as client:
            assert (await client.start_run(run_pb2.RunRequest(task="Why?"))).tenant == "grace"
        boss = issuer.token("one", djp_tenant="ops", realm_access={"roles": ["user", "mesh-admin"]})
        async with connect(address, api_key=boss) as client:
            assert [one.key_id for one in await client.list_keys()] == [key.key.key_id]
            with identity_scope(Identity(tenant="ada")):
                assert (await client.get_run(run.run_id)).tenant == "ada"
        async with connect(address, retry_waits_s=()) as nobody:  # DJP_AUTH is none, and somebody has to be known
            assert not await works(nobody)
        for wrong in ("", issuer.token("one", exp=1, realm_access={"roles": ["user"]})):
            metadata = (("authorization", f"Bearer {wrong}"),)
            async with connect(address) as client:
                with pytest.raises(grpc.aio.AioRpcError) as refused:
                    await client._runs.ListRuns(run_pb2.ListRunsRequest(), metadata=metadata)
                error = error_from_rpc(refused.value)
                assert error.code == "UNAUTHENTICATED"
                assert wrong[:20] not in error.message or not wrong


async def test_a_subject_calls_as_often_as_it_may_by_whichever_token_and_gateway(
    mesh: Any, gateway: Any, folder: Path, issuer: Issuer
) -> None:
    settings = file_settings(folder, issuer, oidc_rate_limit=240)  # two calls a lot, and four a second come back
    loop = asyncio.get_running_loop()
    begun = loop.time()

    async def use(address: str, token: str, most: int = 300) -> int:
        async with connect(address, api_key=token, retry_waits_s=()) as client:
            for done in range(most):
                try:
                    await client.list_runs(run_pb2.ListRunsRequest())
                except ResourceExhausted as refused:
                    return done if refused.reason == "RATE_LIMITED" and 0 < (refused.retry_after_s or 0) <= 60 else -999
        return most

    async with (
        port(mesh, executor_id="one", **settings) as one,
        port(mesh, executor_id="two", **settings) as two,
    ):
        tokens_of_ada = [issuer.token("one", jti=str(number)) for number in range(4)]
        answered = sum(await asyncio.gather(*map(use, (one, two, one, two), tokens_of_ada)))
        assert 240 <= answered <= 240 + 4 * (loop.time() - begun) + 4
        long = "x" * 200
        for others in ({"sub": "grace@example.org"}, {"djp_tenant": "grace"}, {"sub": None}, {"sub": long}):
            assert await use(one, issuer.token("one", **others), 20) == 20, "somebody else is not held up"
        assert await use(one, issuer.token("one", sub=f"{long} and more"), 230) == 230, "nor by a long name"
        key = await made(gateway)
        assert await use(one, key.secret, 20) == 20


async def test_a_gateway_without_an_issuer_takes_no_token(mesh: Any, gateway: Any, issuer: Issuer) -> None:
    async with port(mesh) as address, connect(address, api_key=issuer.token("one")) as client:
        assert not await works(client)


async def test_a_stream_ends_with_its_token(
    mesh: Any, leaves: Any, folder: Path, issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "_LEEWAY_S", 0.0)
    gate = leaves.hold("Debate")
    async with port(mesh, heartbeat_s=0.1, **file_settings(folder, issuer)) as address:
        soon = issuer.token("one", exp=int(time.time()) + 3)
        async with connect(address, api_key=soon) as client:
            run = await client.start_run(run_pb2.RunRequest(task="Why?"))
            stream = client._runs.WatchRun(run_pb2.WatchRunRequest(run_id=run.run_id))
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                while await stream.read() is not grpc.aio.EOF:
                    pass
    assert error_from_rpc(ended.value).code == "UNAUTHENTICATED"
    assert "expired" in error_from_rpc(ended.value).message
    gate.opened.set()


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_every_algorithm_with_a_public_key_counts(algorithm: str) -> None:
    issuer = Issuer()
    issuer.add("it", algorithm)
    async with checking(issuer) as check:
        identity = await check.identify(issuer.token("it"))
        assert (identity.tenant, identity.role, identity.caller) == ("ada", "tenant", "token of ada@example.org")
        named = jwt.get_unverified_header(issuer.token("it"))["kid"]
        assert named == "it"


def _parts(*parts: bytes | dict[str, Any]) -> str:
    coded = [base64url_encode(one if isinstance(one, bytes) else json.dumps(one).encode()) for one in parts]
    return b".".join(coded).decode()


def _claims() -> dict[str, Any]:
    return {"iss": ISSUER, "aud": AUDIENCE, "exp": int(time.time()) + 600, "djp_tenant": "ada", "sub": "x"}


def _unsigned(_: Issuer) -> str:
    return _parts({"alg": "none", "kid": "one"}, _claims(), b"")


def _by_its_public_key(issuer: Issuer) -> str:
    """The old trick: HMAC with the public key, which everybody knows, as its secret."""
    pem = issuer.keys["one"][1].public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    head = {"alg": "HS256", "kid": "one", "typ": "JWT"}
    hs256 = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256)
    signed = _parts(head, _claims())
    return f"{signed}.{base64url_encode(hs256.sign(signed.encode(), pem)).decode()}"


def _by_a_secret_of_the_set(issuer: Issuer) -> str:
    secret = b"s" * 64
    issuer.more.append({"kty": "oct", "kid": "secret", "alg": "HS256", "k": base64url_encode(secret).decode()})
    return jwt.encode(_claims(), secret, "HS256", headers={"kid": "secret"})


def _by_another_key_of_that_id(_: Issuer) -> str:
    return jwt.encode(_claims(), private_key("ES256"), "ES256", headers={"kid": "one"})


def _by_the_key_of_another_id(issuer: Issuer) -> str:
    issuer.add("two", "RS256")
    return jwt.encode(_claims(), issuer.keys["two"][1], "RS256", headers={"kid": "one"})


def _by_an_algorithm_that_is_not_the_keys(issuer: Issuer) -> str:
    issuer.add("two", "RS256")
    return jwt.encode(_claims(), issuer.keys["two"][1], "PS256", headers={"kid": "two"})


def _by_a_key_that_it_brings(_: Issuer) -> str:
    brought = Issuer()
    brought.add("one")
    head = {"jwk": brought.jwks()["keys"][0], "jku": "http://127.0.0.1:1/", "x5u": "http://127.0.0.1:1/"}
    return brought.token("one", head)


def _by_a_private_key_that_leaked(issuer: Issuer) -> str:
    issuer.add("leaked", "RS256")
    _, key = issuer.keys.pop("leaked")
    issuer.more.append({**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key)), "kid": "leaked", "alg": "RS256"})
    return jwt.encode(_claims(), key, "RS256", headers={"kid": "leaked"})


def _by_a_key_for_encryption(issuer: Issuer) -> str:
    issuer.add("enc")
    _, key = issuer.keys["enc"]
    (*_, listed) = issuer.jwks()["keys"]
    del issuer.keys["enc"]
    issuer.more.append({**listed, "use": "enc"})
    return jwt.encode(_claims(), key, "ES256", headers={"kid": "enc"})


def _by_a_weak_key(issuer: Issuer) -> str:
    issuer.add("weak", "RS256", bits=1024)
    _, key = issuer.keys["weak"]
    claims = _claims()
    head = _parts({"alg": "RS256", "kid": "weak"}, claims)
    rs256 = jwt.algorithms.RSAAlgorithm(jwt.algorithms.RSAAlgorithm.SHA256)
    return f"{head}.{base64url_encode(rs256.sign(head.encode(), key)).decode()}"


def _of_two_keys_without_an_id(issuer: Issuer) -> str:
    issuer.add("two")
    return jwt.encode(_claims(), issuer.keys["two"][1], "ES256")


def _changed(issuer: Issuer) -> str:
    head, _, signature = issuer.token("one").split(".")
    return f"{head}.{_parts({**_claims(), 'djp_tenant': 'grace'})}.{signature}"


def _with(headers: dict[str, Any] | None = None, **claims: Any) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.token("one", headers, **claims)


def _in(claim: str, seconds: int) -> Callable[[Issuer], str]:
    return lambda issuer: issuer.token("one", **{claim: int(time.time()) + seconds})


FORGED: dict[str, Callable[[Issuer], str]] = {
    "unsigned": _unsigned,
    "hmac by the public key": _by_its_public_key,
    "hmac by a secret of the set": _by_a_secret_of_the_set,
    "another key of that id": _by_another_key_of_that_id,
    "the key of another id": _by_the_key_of_another_id,
    "another algorithm than the key's": _by_an_algorithm_that_is_not_the_keys,
    "a key that it brings": _by_a_key_that_it_brings,
    "a private key that leaked": _by_a_private_key_that_leaked,
    "a key for encryption": _by_a_key_for_encryption,
    "a weak key": _by_a_weak_key,
    "no id, two keys": _of_two_keys_without_an_id,
    "changed": _changed,
    "no dots": lambda _: "x",
    "dots": lambda _: "..",
    "no JSON": lambda _: _parts(b"{", b"{", b"x"),
    "no object": lambda _: _parts(b"[]", b"[]", b"x"),
    "deep": lambda _: _parts(b"[" * 5000, b"{}", b"x"),
    "not ASCII": lambda _: "ünï.ünï.ünï",
    "huge": _with(filler="x" * 8192),
    "expired": _in("exp", -60),
    "not yet": _in("nbf", 600),
    "issued in the future": _in("iat", 600),
    "no end": _with(exp=None),
    "an end that is no time": _with(exp="soon"),
    "an endless end": _with(exp=float("inf")),
    "another issuer": _with(iss=ISSUER + "/"),
    "a part of the issuer": _with(iss=ISSUER[:-1]),
    "issuers": _with(iss=[ISSUER]),
    "no issuer": _with(iss=None),
    "another audience": _with(aud=["others", "djp2"]),
    "no audience": _with(aud=None),
    "for logging out": _with({"typ": "logout+jwt"}),
    "a demand": _with({"crit": ["exp"]}),
    "no tenant": _with(djp_tenant=None),
    "a path": _with(djp_tenant="../ada"),
    "tenants": _with(djp_tenant=["ada"]),
    "a wide tenant": _with(djp_tenant="a" * 64),
}


@pytest.mark.parametrize("kind", FORGED)
async def test_a_token_that_does_not_count(issuer: Issuer, kind: str) -> None:
    token = FORGED[kind](issuer)
    async with checking(issuer) as check:
        assert (await check.identify(issuer.token("one"))).tenant == "ada"
        with pytest.raises(Unauthenticated) as refused:
            await check.identify(token)
        assert token not in refused.value.message or len(token) < 3


@pytest.mark.parametrize(
    ("roles", "said", "role"),
    [
        ({}, "operator", "operator"),
        ({}, ["nothing", "reader", "tenant"], "tenant"),
        ({}, "root", ""),
        ({}, None, ""),
        ({}, {"admin": True}, ""),
        ({}, ["Admin", 7, None], ""),
        ({"boss": "admin", "staff": "reader"}, ["staff", "boss"], "admin"),
        ({"boss": "admin", "staff": "reader"}, ["admin", "staff"], "reader"),
        ({"boss": "admin"}, ["admin"], ""),
    ],
)
async def test_roles(issuer: Issuer, roles: dict[str, str], said: Any, role: str) -> None:
    async with checking(issuer, Claims("https://djp.example/tenant", "djp.roles", roles)) as check:
        token = issuer.token("one", **{"https://djp.example/tenant": "grace"}, djp={"roles": said})
        if role:
            assert await check.identify(token) == Identity("grace", role)
        else:
            with pytest.raises(Unauthenticated, match=r"names no role in the claim djp\.roles"):
                await check.identify(token)


async def test_new_keys_are_fetched_and_made_up_ones_cost_nothing(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with checking(issuer) as check:
        assert issuer.asked == 1
        stranger = Issuer()
        stranger.add("one")
        for number in range(50):
            stranger.keys[f"made up {number}"] = stranger.keys["one"]
            with pytest.raises(Unauthenticated):
                await check.identify(stranger.token(f"made up {number}"))
        assert issuer.asked == 1, "the issuer was asked a moment ago"
        issuer.add("two")
        monkeypatch.setattr(signing_keys, "_FLOOR_S", 0.0)
        found = await asyncio.gather(*(check.identify(issuer.token("two")) for _ in range(20)))
        assert {one.tenant for one in found} == {"ada"}
        assert issuer.asked == 2, "all wait for one answer"
        del issuer.keys["one"], issuer.keys["two"]
        issuer.add("three")
        assert (await check.identify(issuer.token("three"))).tenant == "ada"


async def test_a_key_that_was_taken_back_counts_no_more(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signing_keys, "_FLOOR_S", 0.0)
    monkeypatch.setattr(signing_keys, "_FRESH_S", 0.0)
    async with checking(issuer) as check:
        token = issuer.token("one")
        issuer.add("two")
        del issuer.keys["one"]
        with pytest.raises(Unauthenticated):
            async with asyncio.timeout(30):
                while True:
                    await check.identify(token)
                    await asyncio.sleep(0.01)


@pytest.mark.parametrize("answer", [None, b"", b"[]", b'{"keys": []}', b'{"keys": [{"kty": "RSA"}]}', b"[" * 100_000])
async def test_an_issuer_that_is_away_or_talks_nonsense(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, answer: bytes | None
) -> None:
    monkeypatch.setattr(signing_keys, "_FLOOR_S", 0.0)
    issuer.down, issuer.answer = answer is None, answer
    async with checking(issuer) as check:
        with pytest.raises(Unavailable) as refused:
            await check.identify(issuer.token("one"))
        assert refused.value.retry_after_s
        issuer.down, issuer.answer = False, None
        assert (await check.identify(issuer.token("one"))).tenant == "ada"
        monkeypatch.setattr(signing_keys, "_FRESH_S", 0.0)
        issuer.down, issuer.answer = answer is None, answer
        asked = issuer.asked
        async with asyncio.timeout(30):
            while issuer.asked < asked + 3:  # what it said before goes on to count
                assert (await check.identify(issuer.token("one"))).tenant == "ada"
                await asyncio.sleep(0.005)
        monkeypatch.setattr(signing_keys, "_USABLE_S", 0.0)  # but not for ever
        with pytest.raises(Unavailable):
            await check.identify(issuer.token("one"))


async def test_the_issuer_says_where_its_keys_are(mesh: Any, issuer: Issuer) -> None:
    async with issuer.served() as url:
        settings = {"auth": "none", "oidc_issuer": url, "oidc_audience": AUDIENCE}
        async with port(mesh, **settings) as address:
            for said, counts in ({"iss": url}, True), ({}, False):
                async with connect(address, api_key=issuer.token("one", **said)) as client:
                    assert await works(client) is counts


@pytest.mark.parametrize(
    "told",
    [
        {"issuer": "https://somebody.example"},
        {"issuer": None},
        {"jwks_uri": None},
        {"jwks_uri": "http://elsewhere.example/jwks"},
        {"jwks_uri": "file:///etc/passwd"},
        {"jwks_uri": "/jwks"},
    ],
)
async def test_an_issuer_that_names_no_keys_of_its_own(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any]
) -> None:
    monkeypatch.setattr(signing_keys, "_FLOOR_S", 0.0)
    async with issuer.served() as url:
        issuer.told = told
        keys = JwksKeys("", url)
        await keys.begin()
        check = TokenCheck(keys, url, AUDIENCE, TENANT_ONLY)
        with pytest.raises(Unavailable):
            await check.identify(issuer.token("one", iss=url))
        issuer.told = {}
        assert (await check.identify(issuer.token("one", iss=url))).tenant == "ada"
        await keys.close()


async def test_a_file_that_is_no_key_set_stops_the_start(mesh: Any, folder: Path, issuer: Issuer) -> None:
    settings = file_settings(folder, issuer)
    (folder / "jwks.json").write_text("{}")
    for path in ("jwks.json", "nothing.json"):
        with pytest.raises(FailedPrecondition, match="DJP_OIDC_JWKS"):
            async with port(mesh, **{**settings, "oidc_jwks": str(folder / path)}):
                pass
    command = await mesh.gateway(**{**settings, "executor_id": COMMAND}, alone=True)
    assert (await command.do()).HasField("result"), "a command needs no issuer"


@pytest.mark.parametrize(
    "settings",
    [
        {"oidc_issuer": ISSUER},
        {"oidc_jwks": "jwks.json"},
        {"oidc_issuer": "issuer", "oidc_audience": AUDIENCE},
        {"oidc_issuer": "http://issuer.example", "oidc_audience": AUDIENCE},
        {"oidc_audience": AUDIENCE},
        {"oidc_issuer": ISSUER, "oidc_audience": AUDIENCE, "oidc_jwks": "http://issuer.example/jwks"},
        {"oidc_roles": "boss=king"},
        {"oidc_roles": "boss"},
        {"oidc_roles": "boss=admin,"},
    ],
)
def test_settings_that_are_not_whole(settings: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        GatewaySettings(**settings)
