"""`djp keys`: API keys, to make, to list and to revoke, and what became of them."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta

from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected_as_admin
from djp.cli.tables import Column, print_table
from djp.cli.terminal import err, one_line, say
from djp.mesh.errors import InvalidInput
from djp.mesh.times import to_timestamp
from djp.v1 import key_pb2


async def create_key(
    gateway: str | None, *, tenant: str, role: str, name: str, days: int | None, rate_limit: int, as_json: bool
) -> int:
    """Make a key and print its secret, which nobody can see again."""
    request = key_pb2.CreateKeyRequest(
        request_id=str(uuid.uuid4()),
        tenant=tenant,
        role=key_pb2.Role.Value(f"ROLE_{role.upper()}"),
        name=name,
        rate_limit=rate_limit,
    )
    if days is not None:
        request.expires_at.CopyFrom(to_timestamp(datetime.now(UTC) + timedelta(days=days)))
    async with connected_as_admin(gateway) as client:
        made = await client.create_key(request)
    if as_json:
        print(json.dumps({"key": document(made.key), "secret": made.secret}, indent=2))
        return Exit.OK
    print(made.secret)
    told = (
        f"Key {made.key.key_id} of tenant {made.key.tenant}, role {role}. Keep the secret now; it is shown only once."
    )
    err().print(told, soft_wrap=True)
    return Exit.OK


async def list_keys(gateway: str | None, *, tenant: str, as_json: bool) -> int:
    """Print keys, newest first, without their secrets."""
    async with connected_as_admin(gateway) as client:
        keys = await client.list_keys(tenant)
    if as_json:
        print(json.dumps({"keys": [document(key) for key in keys]}, indent=2))
        return Exit.OK
    if not keys:
        say("There is no key; make one with: djp keys create --tenant NAME")
        return Exit.OK
    used = [key.last_used_at.ToDatetime() if key.HasField("last_used_at") else None for key in keys]
    print_table(
        Column("name", [key.name or "-" for key in keys]),
        Column("key", [one_line(key.key_id)[:8] for key in keys], align="left"),
        Column("tenant", [one_line(key.tenant) for key in keys], align="left"),
        Column("role", [key_pb2.Role.Name(key.role).removeprefix("ROLE_").lower() for key in keys], align="left"),
        Column("state", [_state(key) for key in keys], align="left"),
        Column("last used (UTC)", [f"{moment:%Y-%m-%d %H:%M}" if moment else "-" for moment in used], rank=1),
        Column("a minute", [str(key.rate_limit or "-") for key in keys], rank=2),
    )
    return Exit.OK


async def revoke_key(gateway: str | None, wanted: str, *, as_json: bool) -> int:
    """Let a key work no more; `wanted`: its id or the beginning of it.

    Raises InvalidInput when not exactly one key begins so.
    """
    async with connected_as_admin(gateway) as client:
        found = [key for key in await client.list_keys() if key.key_id.startswith(wanted.lower())]
        if len(found) != 1:
            many = "several keys begin" if found else "no key begins"
            raise InvalidInput(f"{many} with {wanted!r}; `djp keys list --json` shows whole ids", field="key_id")
        key = await client.revoke_key(found[0].key_id)
    if as_json:
        print(json.dumps({"key": document(key)}, indent=2))
    else:
        say(f"Key {one_line(key.key_id)[:8]} of tenant {one_line(key.tenant)} works no more.")
    return Exit.OK


async def audit_events(gateway: str | None, *, tenant: str, limit: int, as_json: bool) -> int:
    """Print what is remembered, newest first."""
    request = key_pb2.ListAuditEventsRequest(tenant=tenant, page_size=limit)
    async with connected_as_admin(gateway) as client:
        events = (await client.list_audit_events(request)).events
    if as_json:
        print(json.dumps({"events": [document(event) for event in events]}, indent=2))
        return Exit.OK
    if not events:
        say("Nothing is remembered.")
        return Exit.OK
    kinds = [key_pb2.AuditKind.Name(event.kind).removeprefix("AUDIT_KIND_") for event in events]
    print_table(
        Column("when (UTC)", [f"{event.at.ToDatetime():%Y-%m-%d %H:%M:%S}" for event in events], align="left"),
        Column("what", [kind.lower().replace("_", " ") for kind in kinds], align="left"),
        Column("about", [one_line(event.subject) for event in events], align="left"),
        Column("tenant", [one_line(event.tenant) or "-" for event in events], align="left"),
        Column("by", [one_line(event.actor) or "-" for event in events], rank=1),
        Column("times", [str(event.count) for event in events], rank=2),
    )
    return Exit.OK


def _state(key: key_pb2.Key) -> str:
    if key.HasField("revoked_at"):
        return "revoked"
    if not key.HasField("expires_at"):
        return "valid"
    end = key.expires_at.ToDatetime(UTC)
    return "expired" if end <= datetime.now(UTC) else f"until {end:%Y-%m-%d}"
