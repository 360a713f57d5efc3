"""`djp alerts`: whether the runs of a time are as they should be; what is not is told, to a webhook as well."""

from __future__ import annotations

import asyncio
import json
import os
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from djp.cli.exits import Exit
from djp.cli.export import runs_of, time_since
from djp.cli.session import connected
from djp.cli.terminal import fail, out, say
from djp.money import NANO_PER_USD, parse_usd
from djp.run_states import TERMINAL_STATES
from djp.v1 import run_pb2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WEBHOOK = "WEBHOOK_URL"
_WEBHOOK_S = 10.0


@dataclass(frozen=True)
class Thresholds:
    """From where on something is told. Shares of runs from 0 to 1, `cost_usd` in dollars for a run."""

    advisory: float
    cost_usd: str
    failure: float
    grounded: float
    redacted: float


@dataclass(frozen=True)
class Figure:
    """What was found, beside its threshold. Shares from 0 to 1; of `average_cost` both are dollars."""

    name: str
    value: float
    threshold: float
    alert: bool
    told: str


async def watch_over(gateway: str | None, since: str, thresholds: Thresholds, *, as_json: bool) -> int:
    """Print the figures; exits with 1 when one is beyond its threshold. Raises InvalidInput."""
    times = time_since(since)
    most_nano_usd = parse_usd(thresholds.cost_usd, field="threshold_cost")
    async with connected(gateway) as client:
        runs = [run async for run in runs_of(client, times) if run.state in TERMINAL_STATES]
    figures = list(_figures(runs, thresholds, most_nano_usd))
    alerts = [one.told for one in figures if one.alert]
    if as_json:
        print(json.dumps({"since": since, "runs": len(runs), "figures": [asdict(one) for one in figures]}, indent=2))
    else:
        say(f"{len(runs)} run{'' if len(runs) == 1 else 's'} ended within {since}")
        for one in figures:
            say(f"[{'ALERT' if one.alert else 'OK'}] {one.told}", "red" if one.alert else "green")
        if not runs:
            out().print("There is nothing to look at; a longer --since finds older runs.")
    if alerts and (address := os.environ.get(WEBHOOK)):
        await asyncio.to_thread(_send, address, f"DJP: {len(runs)} runs within {since}\n" + "\n".join(alerts))
    return Exit.PROBLEM if alerts else Exit.OK


def _figures(runs: Sequence[run_pb2.Run], most: Thresholds, most_nano_usd: int) -> Iterator[Figure]:
    judged = [run for run in runs if run.state in (run_pb2.RUN_STATE_PUBLISHED, run_pb2.RUN_STATE_ADVISORY)]
    grounded = [run for run in judged if run.spec.corpus]
    counts = (
        ("advisory_rate", "advisory", judged, most.advisory, lambda run: run.state == run_pb2.RUN_STATE_ADVISORY),
        ("failure_rate", "failed", runs, most.failure, _failed),
        ("redacted_rate", "redacted", judged, most.redacted, lambda run: bool(run.result.redaction_counts)),
        (
            "grounded_rate",
            "grounded as asked",
            grounded,
            most.grounded,
            lambda run: not run.result.grounded_fail_reason,
        ),
    )
    for name, word, among, threshold, counted in counts:
        if not among:
            continue
        number = sum(map(counted, among))
        share, below = number / len(among), name == "grounded_rate"
        alert = share < threshold if below else share > threshold
        side = "at least" if below else "at most"
        told = f"{number} of {len(among)} runs are {word}: {share:.0%}, and should be {side} {threshold:.0%}"
        yield Figure(name, share, threshold, alert, told)
    if runs:
        average = Decimal(sum(run.result.total_nano_usd for run in runs)) / len(runs) / NANO_PER_USD
        limit = Decimal(most_nano_usd) / NANO_PER_USD
        told = f"a run costs ${average:.4f} on average, and should cost at most ${limit:.4f}"
        yield Figure("average_cost", float(average), float(limit), average > limit, told)


def _failed(run: run_pb2.Run) -> bool:
    return run.state in (run_pb2.RUN_STATE_FAILED, run_pb2.RUN_STATE_NO_RESULT)


def _send(address: str, text: str) -> None:
    """Post it as Slack wants it. That it could not be sent is told, without the address, which is a secret."""
    if not address.startswith(("https://", "http://")):
        fail(f"{WEBHOOK} is no address: it has to begin with https://")
        return
    body = json.dumps({"text": text}).encode()
    headers = {"Content-Type": "application/json"}
    try:
        request = urllib.request.Request(address, body, headers)  # noqa: S310  checked above
        with urllib.request.urlopen(request, timeout=_WEBHOOK_S):  # noqa: S310
            pass
    except (OSError, ValueError) as error:
        why = f"it answered {error.code}" if isinstance(error, urllib.error.HTTPError) else type(error).__name__
        fail(f"the alert could not be sent to {WEBHOOK}: {why}; mend the address or the network")
