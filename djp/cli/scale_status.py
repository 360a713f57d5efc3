"""`djp scale status` and `djp scale watch`: a gateway's queue, by its `/metrics`, under the rule."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import re
import urllib.request
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from djp.cli.exits import Exit
from djp.cli.scale import scaling_settings
from djp.cli.terminal import say
from djp.mesh.errors import FailedPrecondition, InvalidInput, Unavailable
from djp.mesh.settings import MeshSettings
from djp.scaling.rule import Observation, Rule, decide

if TYPE_CHECKING:
    from djp.scaling.rule import Tuning

_ADDRESS = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:]+\]):[0-9]{1,5}")
_TIMEOUT_S = 5.0
_MAX_BYTES = 4 << 20


@dataclass(frozen=True)
class Status:
    """What a gateway's gauges say, and what the rule says to that."""

    queue_depth: int
    oldest_wait_ms: float
    working: int
    inflight_requests: int
    workers: int
    wanted: int
    reason: str


async def print_status(metrics: str | None, tuning: Tuning | None, *, workers: int | None, as_json: bool) -> int:
    """Look once; without `workers` there are as many as MAX_WORKERS.

    Raises InvalidInput, FailedPrecondition without the gauges, Unavailable when nobody answers.
    """
    rule = scaling_settings(tuning).rule()
    status = await _look(_address(metrics), rule, workers or rule.max_workers)
    if as_json:
        print(json.dumps(asdict(status), indent=2))
    else:
        say(_line(status))
    return Exit.OK


async def watch_status(metrics: str | None, tuning: Tuning | None, *, workers: int | None) -> int:
    """Look every interval, until cancelled; a gateway that is away for a while is told, too."""
    rule, address = scaling_settings(tuning).rule(), _address(metrics)
    while True:
        try:
            told = _line(await _look(address, rule, workers or rule.max_workers))
        except Unavailable as error:
            told = error.message
        say(f"{datetime.now(UTC):%H:%M:%S} {told}")
        await asyncio.sleep(rule.interval_s)


def _address(given: str | None) -> str:
    if given is None:
        port = MeshSettings().metrics_port
        if port is None:
            raise InvalidInput("is not known; give it, or set DJP_METRICS_PORT as the gateway has it", field="metrics")
        return f"localhost:{port}"
    if not _ADDRESS.fullmatch(given):
        raise InvalidInput("is no host:port, such as localhost:9100", field="metrics")
    return given


async def _look(address: str, rule: Rule, workers: int) -> Status:
    gauges = _gauges(await asyncio.to_thread(_fetch, address), address)
    depth, working = int(gauges["djp_queue_depth"]), int(gauges["djp_runs_working"])
    oldest_ms = gauges["djp_queue_age_seconds"] * 1000  # no wait is longer, the p95 neither
    decision = decide(rule, Observation(depth, oldest_ms, min(1.0, working / workers)), workers, math.inf)
    inflight = int(gauges.get("djp_inflight_requests", 0))
    return Status(depth, oldest_ms, working, inflight, workers, decision.workers, decision.reason)


def _fetch(address: str) -> str:
    try:
        with urllib.request.urlopen(f"http://{address}/metrics", timeout=_TIMEOUT_S) as response:
            return bytes(response.read(_MAX_BYTES)).decode("utf-8", "replace")
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise Unavailable(
            f"no metrics at {address} ({type(error).__name__}); start the gateway with DJP_METRICS_PORT"
        ) from error


def _gauges(text: str, address: str) -> dict[str, float]:
    from prometheus_client.parser import text_string_to_metric_families

    wanted = ("djp_queue_depth", "djp_queue_age_seconds", "djp_runs_working")
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                ours = sample.name in wanted or sample.labels.get("service") == "gateway"
                if ours and sample.name.startswith("djp_") and math.isfinite(sample.value):
                    found[sample.name] = sample.value
    except Exception:  # whatever it is, it is no page of metrics; its parser says so in many ways
        found.clear()
    if missing := [name for name in wanted if name not in found]:
        raise FailedPrecondition(f"{address} is no gateway's /metrics: {', '.join(missing)} is missing there")
    return found


def _line(status: Status) -> str:
    return (
        f"{status.queue_depth:,} runs wait, the first for {status.oldest_wait_ms / 1000:.1f} s; "
        f"{status.inflight_requests:,} calls in flight; {status.working:,} of {status.workers:,} workers busy, wanted "
        f"{status.wanted:,}: "
        f"{status.reason}"
    )
