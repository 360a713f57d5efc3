"""`djp storage list`, `largest`, `stats` and `show`: which artifacts there are, and what is known of one."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from djp.cli.documents import document
from djp.cli.exits import Exit
from djp.cli.places import place_of
from djp.cli.session import connected
from djp.cli.tables import Column, print_table
from djp.cli.terminal import one_line, say
from djp.mesh.errors import NotFound, PermissionDenied
from djp.mesh.identity import Identity, identity_scope
from djp.v1 import common_pb2, storage_pb2

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence

    from google.protobuf.timestamp_pb2 import Timestamp

    from djp.client import DjpClient
    from djp.storage_client import StorageClient

_PAGE = 1000  # the contract's largest
TIERS = {
    "hot": common_pb2.TIER_HOT,
    "warm": common_pb2.TIER_WARM,
    "cold": common_pb2.TIER_COLD,
    "trash": common_pb2.TIER_TRASH,
    "": common_pb2.TIER_UNSPECIFIED,
}
_UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class Wanted:
    """Which artifacts to list."""

    tenant: str = ""
    workflow: str = ""
    tier: str = ""
    run: str = ""
    limit: int = 100
    largest_first: bool = False


@asynccontextmanager
async def storage_of(gateway: str | None, tenant: str = "") -> AsyncIterator[StorageClient]:
    """A client that works on a tenant's artifacts; on the caller's own without a name.

    Raises PermissionDenied where the caller is not believed to be an operator, which no gateway's port does: there it
    would see its own artifacts under the other's name.
    """
    async with connected(gateway) as client:
        if not tenant:
            with identity_scope(Identity(role="operator")):
                yield client.storage
            return
        await _check_operator(client, tenant)
        with identity_scope(Identity(tenant, "operator")):
            yield client.storage


async def _check_operator(client: DjpClient, tenant: str) -> None:
    try:
        with identity_scope(Identity(role="operator")):
            await client.storage.lifecycle_status(tenant)
    except (NotFound, PermissionDenied) as error:
        raise PermissionDenied(
            f"only an operator may name another tenant than its own, and this gateway takes every caller for a tenant; "
            f"work without --gateway, or give storage's own address ({error.message})"
        ) from error


async def print_artifacts(gateway: str | None, wanted: Wanted, *, as_json: bool) -> int:
    """Print those that fit."""
    async with storage_of(gateway, wanted.tenant) as storage:
        found, more = await _listed(storage, wanted)
    if as_json:
        print(json.dumps({"artifacts": [document(one) for one in found], "more": more}, indent=2))
        return Exit.OK
    if not found:
        say('There are no artifacts like these. Fewer filters show more; a run stores one: djp run --task "…"')
        return Exit.OK
    print_table(
        Column("workflow/artifact", [full_name(one.key) for one in found]),
        Column("tier", [tier_name(one.tier) + (", held" if one.legal_hold else "") for one in found], align="left"),
        Column("size", sizes([one.size for one in found]), rank=1),
        Column("created (UTC)", [moment(one.created_at) for one in found], rank=2, align="left"),
        Column("moves on (UTC)", [moment(one.due_at) if one.HasField("due_at") else "" for one in found], rank=3),
    )
    if more:
        say("There are more; --limit shows more of them.", "dim")
    return Exit.OK


async def _listed(storage: StorageClient, wanted: Wanted) -> tuple[list[storage_pb2.ArtifactInfo], bool]:
    request = storage_pb2.ListArtifactsRequest(
        workflow=wanted.workflow,
        tier=TIERS[wanted.tier],
        run_id=wanted.run,
        largest_first=wanted.largest_first,
    )
    found: list[storage_pb2.ArtifactInfo] = []
    while True:
        request.page_size = min(_PAGE, wanted.limit - len(found))
        page = await storage.list(request)
        found += page.artifacts
        if not page.next_page_token or len(found) >= wanted.limit:
            return found, bool(page.next_page_token)
        request.page_token = page.next_page_token


async def print_stats(gateway: str | None, tenant: str, *, by_workflow: bool, as_json: bool) -> int:
    """Print what each tier holds."""
    async with connected(gateway) as client:
        with identity_scope(Identity(role="operator")):
            stats = await client.storage.stats(tenant, by_workflow=by_workflow)
    if as_json:
        print(json.dumps({"stats": [document(one) for one in stats]}, indent=2))
    else:
        print_stat_table(stats)
    return Exit.OK


def print_stat_table(stats: Sequence[storage_pb2.StorageStat]) -> None:
    """A line for each tenant, tier and workflow; a last one for all, where there are several."""
    if not stats:
        say('There are no artifacts yet; a run stores one: djp run --task "…"')
        return
    lines = sorted(stats, key=lambda one: (one.tenant, one.tier, -one.bytes, one.workflow))
    counts, whole = [one.count for one in lines], [one.bytes for one in lines]
    several = len(lines) > 1
    workflows = [one.workflow for one in lines] + [""] * several
    print_table(
        Column("tenant", [one.tenant for one in lines] + ["all"] * several),
        Column("tier", [tier_name(one.tier) for one in lines] + [""] * several, align="left"),
        *([Column("workflow", [one_line(name, 40) for name in workflows], align="left")] if any(workflows) else []),
        Column("artifacts", [f"{one:,}" for one in counts + [sum(counts)] * several]),
        Column("size", sizes(whole + [sum(whole)] * several)),
        Column("oldest (UTC)", [moment(one.oldest) for one in lines] + [""] * several, rank=1, align="left"),
        bold={len(lines)},
    )


async def show_artifact(gateway: str | None, tenant: str, workflow: str, artifact: str, *, as_json: bool) -> int:
    """Print what is known of an artifact, and its events."""
    async with storage_of(gateway, tenant) as storage:
        info = await storage.stat(workflow, artifact)
        request = storage_pb2.ListStorageEventsRequest(key=info.key, tenant=info.tenant, page_size=_PAGE)
        events = (await storage.list_events(request)).events
    if as_json:
        print(json.dumps({**document(info), "events": [document(one) for one in events]}, indent=2))
        return Exit.OK
    told = {
        "tenant": info.tenant,
        "tier": f"{tier_name(info.tier)} since {moment(info.tier_since)} UTC",
        "legal hold": "yes" if info.legal_hold else "",
        "moves on": f"{moment(info.due_at)} UTC" if info.HasField("due_at") else "never",
        "size": f"{info.size:,} bytes",
        "sha256": info.sha256,
        "type": info.content_type,
        "created": f"{moment(info.created_at)} UTC",
        "run": info.run_id,
        "tags": ", ".join(f"{name}={value}" for name, value in sorted(info.tags.items())),
        "where": place_of(info.location, gateway),
    }
    say(full_name(info.key), "bold")
    for name, value in told.items():
        if value:
            say(f"  {name:<11} {one_line(value, 300)}")
    print_event_lines(events)
    return Exit.OK


def print_event_lines(events: Iterable[storage_pb2.StorageEvent], *, names: bool = False) -> None:
    """A line for each; with `names` it says of what."""
    for event in events:
        what = f" {event.tenant} {full_name(event.key)}" if names and event.key.artifact else ""
        reason = f": {event.reason}" if event.reason else ""
        say(f"  {moment(event.at)} UTC  " + one_line(f"{event.action}{what}, by {event.actor}{reason}"))


def counts_by_tier(stats: Iterable[storage_pb2.StorageStat]) -> dict[str, int]:
    """How many artifacts are in each tier."""
    counts: defaultdict[str, int] = defaultdict(int)
    for one in stats:
        counts[tier_name(one.tier)] += one.count
    return dict(counts)


def full_name(key: storage_pb2.ArtifactKey) -> str:
    """An artifact for people, on one line."""
    return one_line(f"{key.workflow}/{key.artifact}")


def tier_name(tier: common_pb2.Tier.ValueType) -> str:
    """A tier as people write it."""
    return common_pb2.Tier.Name(tier).removeprefix("TIER_").lower()


def moment(stamp: Timestamp) -> str:
    """In UTC, to the minute."""
    return stamp.ToDatetime().strftime("%Y-%m-%d %H:%M")


def sizes(amounts: Sequence[int]) -> list[str]:
    """Bytes in the unit that fits each."""
    return [size(amount) for amount in amounts]


def size(amount: int) -> str:
    """Bytes in the unit that fits."""
    power = max(0, min(len(_UNITS) - 1, (amount.bit_length() - 1) // 10))
    return f"{amount / 1024**power:.1f} {_UNITS[power]}" if power else f"{amount} bytes"
