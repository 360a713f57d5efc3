"""What `/metrics` tells of the queue."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prometheus_client import REGISTRY

if TYPE_CHECKING:
    import pytest


async def test_what_waits_and_what_is_in_work_is_told(
    mesh: Any, leaves: Any, monkeypatch: pytest.MonkeyPatch, until: Any
) -> None:
    monkeypatch.setenv("DJP_METRICS_PORT", "1")  # which only the target itself opens
    monkeypatch.setattr("djp_gateway.metrics._LOOK_S", 0.05)  # five seconds otherwise
    gateway = await mesh.gateway(max_workers=1)
    gate = leaves.hold("Debate")
    first = await gateway.start()
    await gate.entered.wait()
    await gateway.start()
    last = await gateway.start()
    await until(lambda: REGISTRY.get_sample_value("djp_queue_depth") == 2)
    await until(lambda: (REGISTRY.get_sample_value("djp_queue_age_seconds") or 0) > 0)
    assert REGISTRY.get_sample_value("djp_runs_working") == 1
    gate.opened.set()
    for run in (first, last):
        await gateway.finish(run.run_id)
    await until(lambda: REGISTRY.get_sample_value("djp_queue_depth") == 0)
    await until(lambda: REGISTRY.get_sample_value("djp_runs_working") == 0)
