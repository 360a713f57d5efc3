"""`djp storage restore`, `purge`, `undelete`, `hold`, `events` and `reconcile`: what is done to artifacts, and was."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from datetime import UTC, datetime

from rich.text import Text

from djp.cli.bars import doing
from djp.cli.budgets import span_of
from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.storage import TIERS, full_name, moment, print_event_lines, storage_of, tier_name
from djp.cli.terminal import one_line, say
from djp.mesh.identity import Identity, identity_scope
from djp.mesh.times import to_timestamp
from djp.v1 import storage_pb2

_PAGE = 1000  # the contract's largest


async def restore_artifact(
    gateway: str | None,
    tenant: str,
    workflow: str,
    artifact: str,
    *,
    from_tier: str,
    to_tier: str,
    reason: str,
    as_json: bool,
) -> int:
    """Move an artifact to a warmer tier."""
    async with storage_of(gateway, tenant) as storage:
        info = await storage.restore(
            workflow, artifact, from_tier=TIERS[from_tier], to_tier=TIERS[to_tier], reason=reason
        )
    return _print_changed(info, f"restored from {from_tier} to {tier_name(info.tier)}", as_json=as_json)


async def purge_artifact(
    gateway: str | None, tenant: str, workflow: str, artifact: str, *, reason: str, as_json: bool
) -> int:
    """Move an artifact to the trash."""
    async with storage_of(gateway, tenant) as storage:
        info = await storage.purge(workflow, artifact, reason=reason)
    until = f" until {moment(info.due_at)} UTC" if info.HasField("due_at") else ""
    return _print_changed(info, f"in the trash; djp storage undelete brings it back{until}", as_json=as_json)


async def undelete_artifact(
    gateway: str | None, tenant: str, workflow: str, artifact: str, *, reason: str, as_json: bool
) -> int:
    """Bring an artifact back."""
    async with storage_of(gateway, tenant) as storage:
        info = await storage.undelete(workflow, artifact, reason=reason)
    return _print_changed(info, f"back in the {tier_name(info.tier)} tier", as_json=as_json)


async def hold_artifact(
    gateway: str | None, tenant: str, workflow: str, artifact: str, *, hold: bool, reason: str, as_json: bool
) -> int:
    """Set or lift a hold."""
    async with storage_of(gateway, tenant) as storage:
        await storage.hold(workflow, artifact, hold=hold, reason=reason)
    if as_json:
        print(json.dumps({"workflow": workflow, "artifact": artifact, "hold": hold}, indent=2))
        return Exit.OK
    what = full_name(storage_pb2.ArtifactKey(workflow=workflow, artifact=artifact)) if artifact else "the whole tenant"
    say(f"{what}: {'held, nothing of it is purged' if hold else 'no longer held'}")
    return Exit.OK


async def print_events(
    gateway: str | None,
    tenant: str,
    *,
    since: str,
    action: str,
    workflow: str,
    artifact: str,
    limit: int,
    as_json: bool,
) -> int:
    """Print what happened, newest first."""
    request = storage_pb2.ListStorageEventsRequest(tenant=tenant, action=action)
    if since:
        request.range.since.CopyFrom(to_timestamp(datetime.now(UTC) - span_of(since)))
    if artifact:
        request.key.workflow, request.key.artifact = workflow, artifact
    found: list[storage_pb2.StorageEvent] = []
    more = True
    async with connected(gateway) as client:
        with identity_scope(Identity(role="operator")):
            while more and len(found) < limit:
                request.page_size = min(_PAGE, limit - len(found))
                page = await client.storage.list_events(request)
                found += page.events
                request.page_token = page.next_page_token
                more = bool(page.next_page_token)
    if as_json:
        print(json.dumps({"events": [document(one) for one in found], "more": more}, indent=2))
        return Exit.OK
    print_event_lines(found, names=True)
    if not found:
        say("Nothing happened; a longer --since and fewer filters show more.")
    if more:
        say("There are more; --limit shows more of them.", "dim")
    return Exit.OK


async def reconcile(gateway: str | None, *, mend: bool, verify: bool, as_json: bool, forget_lost: bool = False) -> int:
    """Print every difference between catalogue and objects; PROBLEM when one is left."""
    differences: list[storage_pb2.ReconcileResponse] = []
    so_far = storage_pb2.ReconcileSummary()
    with doing("comparing", silent=as_json) as progress:
        try:
            async with connected(gateway) as client:
                with identity_scope(Identity(role="operator")):
                    stream = client.storage.reconcile(mend=mend, verify=verify, forget_lost=forget_lost)
                    async with aclosing(stream) as found:
                        async for one in found:
                            so_far.CopyFrom(one.so_far)
                            progress.tell(f"{so_far.objects:,} objects, {so_far.artifacts:,} artifacts compared")
                            if one.difference and as_json:
                                differences.append(one)
                            elif one.difference:
                                progress.say(_difference_line(one))
        except asyncio.CancelledError:
            if not as_json:
                progress.say(f"Stopped. {_compared(so_far, 'no difference so far')}")
            raise
    if as_json:
        told = [document(one) for one in differences]
        print(json.dumps({"differences": told, "summary": document(so_far)}, indent=2))
    else:
        say(_compared(so_far))
        if so_far.differences and not mend:
            say("djp storage reconcile --mend mends what can be mended.", "dim")
    return Exit.PROBLEM if so_far.mended < so_far.differences else Exit.OK


def _compared(so_far: storage_pb2.ReconcileSummary, nothing: str = "all is well") -> str:
    found = f"{so_far.differences:,} differences, {so_far.mended:,} mended" if so_far.differences else nothing
    return f"{so_far.objects:,} objects and {so_far.artifacts:,} artifacts compared: {found}"


def _difference_line(one: storage_pb2.ReconcileResponse) -> Text:
    ended = "mended" if one.mended else one.error or "not mended"
    style = "green" if one.mended else "red" if one.error else "yellow"
    return Text(one_line(f"{one.difference}: {one.location} ({ended})"), style=style)


def _print_changed(info: storage_pb2.ArtifactInfo, told: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps(document(info), indent=2))
    else:
        say(f"{full_name(info.key)}: {told}")
    return Exit.OK
