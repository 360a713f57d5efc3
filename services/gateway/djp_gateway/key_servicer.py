"""The RPCs about API keys, for admins, and about who calls."""

from __future__ import annotations

import logging
import uuid
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import grpc

import djp
from djp.mesh.errors import InvalidInput, NotFound
from djp.mesh.identity import current_identity
from djp.mesh.times import from_timestamp, to_timestamp
from djp.v1 import key_pb2, key_pb2_grpc
from djp_gateway.callers import ApiKey, AuditEvent
from djp_gateway.keys import new_secret

if TYPE_CHECKING:
    from djp_gateway.callers import Audit, KeyStore
    from djp_gateway.ports import Answers

DEFAULT_PAGE_SIZE = 50
_audit = logging.getLogger("djp_gateway.audit")

Context = grpc.aio.ServicerContext[Any, Any]


class KeyServicer(key_pb2_grpc.KeyServiceServicer):
    """Makes keys, lists them and revokes them, and shows the audit. Every change is a line of the audit log, too."""

    def __init__(self, store: KeyStore, answers: Answers, audit: Audit) -> None:
        self._store = store
        self._answers = answers
        self._audit = audit

    async def CreateKey(self, request: key_pb2.CreateKeyRequest, context: Context) -> key_pb2.CreateKeyResponse:
        admin = current_identity().who()
        body = sha256(b"create key" + request.SerializeToString(deterministic=True)).hexdigest()
        tenant = current_identity().tenant
        if (known := await self._answers.earlier(tenant, request.request_id, body)) is not None:
            key = await self._store.get(known.decode())
            return key_pb2.CreateKeyResponse(key=_message(key))  # the secret is kept nowhere
        now = datetime.now(UTC)
        expires_at = from_timestamp(request.expires_at, "expires_at") if request.HasField("expires_at") else None
        if expires_at and expires_at <= now:
            raise InvalidInput("expires_at: is in the past; give a later time, or none", field="expires_at")
        key = ApiKey(
            key_id=str(uuid.uuid4()),
            tenant=request.tenant,
            role=key_pb2.Role.Name(request.role).removeprefix("ROLE_").lower(),
            name=request.name,
            created_at=now,
            expires_at=expires_at,
            revoked_at=None,
            last_used_at=None,
            rate_limit=request.rate_limit,
        )
        secret, secret_sha256 = new_secret()
        kept = await self._answers.keep(tenant, request.request_id, body, key.key_id.encode())
        if kept.decode() != key.key_id:  # the same request at the same time was quicker
            return key_pb2.CreateKeyResponse(key=_message(await self._store.get(kept.decode())))
        await self._store.add(key, secret_sha256, by=admin)
        _audit.info("key %s for tenant %s in role %s was made by %s", key.key_id, key.tenant, key.role, admin)
        return key_pb2.CreateKeyResponse(key=_message(key), secret=secret)

    async def ListKeys(self, request: key_pb2.ListKeysRequest, context: Context) -> key_pb2.ListKeysResponse:
        found, token = await self._store.list(
            request.tenant, page_size=request.page_size or DEFAULT_PAGE_SIZE, page_token=request.page_token
        )
        return key_pb2.ListKeysResponse(keys=[_message(key) for key in found], next_page_token=token)

    async def RevokeKey(self, request: key_pb2.RevokeKeyRequest, context: Context) -> key_pb2.RevokeKeyResponse:
        admin = current_identity().who()
        key = await self._store.revoke(request.key_id, by=admin)
        _audit.info("key %s of tenant %s was revoked by %s", key.key_id, key.tenant, admin)
        return key_pb2.RevokeKeyResponse(key=_message(key))

    async def ListAuditEvents(
        self, request: key_pb2.ListAuditEventsRequest, context: Context
    ) -> key_pb2.ListAuditEventsResponse:
        found, token = await self._audit.list(
            _visible(request.tenant), page_size=request.page_size or DEFAULT_PAGE_SIZE, page_token=request.page_token
        )
        return key_pb2.ListAuditEventsResponse(events=map(_event, found), next_page_token=token)

    async def GetCaller(self, request: key_pb2.GetCallerRequest, context: Context) -> key_pb2.GetCallerResponse:
        caller = current_identity()
        return key_pb2.GetCallerResponse(
            tenant=caller.tenant, role=_role(caller.role), name=caller.caller, djp_version=djp.__version__
        )


def _role(name: str) -> key_pb2.Role.ValueType:
    return key_pb2.Role.Value(f"ROLE_{name.upper()}")


def _visible(asked: str) -> str | None:
    """Whose events the caller is shown; None: everybody's. Raises NotFound for another tenant's, existing or not."""
    identity = current_identity()
    if identity.operates:
        return asked or None
    if asked not in ("", identity.tenant):
        raise NotFound(f"tenant: there is no tenant {asked!r} that this caller may see", field="tenant")
    return identity.tenant


def _event(event: AuditEvent) -> key_pb2.AuditEvent:
    return key_pb2.AuditEvent(
        sequence=event.sequence,
        at=None if event.at is None else to_timestamp(event.at),
        kind=key_pb2.AuditKind.Value(f"AUDIT_KIND_{event.kind}"),
        tenant=event.tenant,
        actor=event.actor,
        subject=event.subject,
        count=event.count,
    )


def _message(key: ApiKey) -> key_pb2.Key:
    return key_pb2.Key(
        key_id=key.key_id,
        tenant=key.tenant,
        role=_role(key.role),
        name=key.name,
        created_at=to_timestamp(key.created_at),
        expires_at=None if key.expires_at is None else to_timestamp(key.expires_at),
        revoked_at=None if key.revoked_at is None else to_timestamp(key.revoked_at),
        last_used_at=None if key.last_used_at is None else to_timestamp(key.last_used_at),
        rate_limit=key.rate_limit,
    )
