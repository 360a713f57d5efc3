"""`djp scale status` and `djp scale watch`: a gateway's workers, its queue, and what its autoscaler decided and why."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from djp.cli.exits import Exit
from djp.cli.session import connected_as_operator
from djp.cli.terminal import say
from djp.mesh.errors import InvalidInput, Unavailable
from djp.v1 import scaling_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

    from djp.client import DjpClient
    from djp.v1.scaling_pb2 import ScaleDecision, Scaling

_RETRY_S = 2.0


async def print_status(gateway: str | None, *, as_json: bool) -> int:
    """Look once. Raises InvalidInput without a gateway, PermissionDenied for a tenant's key."""
    async with connected_as_operator(_named(gateway)) as client:
        scaling = await client.get_scaling()
    if as_json:
        print(json.dumps(_document(scaling), indent=2))
        return Exit.OK
    for line in _lines(scaling):
        say(line)
    return Exit.OK


async def watch_status(gateway: str | None) -> int:
    """Tell every change, and every interval how it stands, until cancelled; a gateway that is away for a while, too."""
    gateway, told_ns = _named(gateway), 0
    while True:
        try:
            async with connected_as_operator(gateway) as client:
                while True:
                    told_ns = await _tell_news(client, told_ns)
        except Unavailable as error:
            _say_now(error.message)
            await asyncio.sleep(_RETRY_S)


async def _tell_news(client: DjpClient, told_ns: int) -> int:
    """Look, tell what is newer than that, and wait for the next decision; what is told by then."""
    scaling = await client.get_scaling()
    for change in scaling.changes:
        if change.decided_at.ToNanoseconds() > told_ns:
            _say_now(_change(change), change.decided_at.ToDatetime(UTC))
            told_ns = change.decided_at.ToNanoseconds()
    _say_now(f"{_workers(scaling)}; {_queue(scaling)}; {_last(scaling)}")
    await asyncio.sleep(scaling.rule.interval.ToTimedelta().total_seconds())
    return told_ns


def _named(gateway: str | None) -> str:
    if not gateway:
        raise InvalidInput("name the gateway whose workers you want to see, or set DJP_GATEWAY", field="gateway")
    return gateway


def _say_now(told: str, at: datetime | None = None) -> None:
    say(f"{at or datetime.now(UTC):%H:%M:%S} {told}")


def _lines(scaling: Scaling) -> Sequence[str]:
    rule, changes = scaling.rule, list(scaling.changes)
    target_s = rule.target_p95_wait.ToTimedelta().total_seconds()
    lines = [
        f"gateway {scaling.executor}: {_workers(scaling)}, {scaling.utilisation:.0%} lately; "
        f"{rule.min_workers:,} to {rule.max_workers:,} are allowed",
        f"queue: {_queue(scaling)}, the first for {_seconds(scaling.oldest_wait)} s; targets: "
        f"{rule.target_queue_depth:,} runs, p95 {target_s:.1f} s",
        f"last decision: {_last(scaling)}",
        f"decisions since the start: {scaling.decisions:,}, of which {scaling.ups:,} up and {scaling.downs:,} down; "
        f"changes of direction: {scaling.direction_changes:,}",
    ]
    if scaling.waiting_for_newer:
        lines.insert(2, f"{scaling.waiting_for_newer:,} of them wait for a gateway of a newer release")
    if changes:
        at = changes[-1].decided_at.ToDatetime(UTC)
        lines.insert(3, f"last change: {at:%Y-%m-%d %H:%M:%S} UTC, {_change(changes[-1])}")
    return lines


def _workers(scaling: Scaling) -> str:
    return f"{scaling.workers:,} workers, {scaling.working:,} busy"


def _queue(scaling: Scaling) -> str:
    return (
        f"{scaling.queue_depth:,} runs wait, {scaling.waiting_for_worker:,} of them for a worker, p95 "
        f"{_seconds(scaling.p95_wait)} s"
    )


def _last(scaling: Scaling) -> str:
    if not scaling.HasField("last_decision"):
        return "none yet"
    return f"{_direction(scaling.last_decision)}: {scaling.last_decision.reason}"


def _change(decision: ScaleDecision) -> str:
    return f"{_direction(decision)} {decision.workers_before:,} -> {decision.workers:,}: {decision.reason}"


def _direction(decision: ScaleDecision) -> str:
    return scaling_pb2.ScaleDirection.Name(decision.direction).removeprefix("SCALE_DIRECTION_").lower()


def _seconds(wait: Any) -> str:
    return f"{wait.ToTimedelta().total_seconds():.1f}"


def _document(scaling: Scaling) -> dict[str, Any]:
    def decision(one: ScaleDecision) -> dict[str, Any]:
        return {
            "decided_at": one.decided_at.ToJsonString(),
            "direction": _direction(one),
            "workers_before": one.workers_before,
            "workers": one.workers,
            "reason": one.reason,
        }

    return {
        "executor": scaling.executor,
        "workers": scaling.workers,
        "min_workers": scaling.rule.min_workers,
        "max_workers": scaling.rule.max_workers,
        "working": scaling.working,
        "queue_depth": scaling.queue_depth,
        "waiting_for_worker": scaling.waiting_for_worker,
        "waiting_for_newer": scaling.waiting_for_newer,
        "oldest_wait_ms": scaling.oldest_wait.ToMilliseconds(),
        "p95_wait_ms": scaling.p95_wait.ToMilliseconds(),
        "utilisation": round(scaling.utilisation, 4),
        "decisions": scaling.decisions,
        "ups": scaling.ups,
        "downs": scaling.downs,
        "direction_changes": scaling.direction_changes,
        "last_decision": decision(scaling.last_decision) if scaling.HasField("last_decision") else None,
        "changes": [decision(one) for one in scaling.changes],
    }
