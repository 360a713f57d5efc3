"""How many connections and how much memory the REST bridge may have: nobody fills a machine by calling it."""

from __future__ import annotations

from typing import Any

LEAST_HEAP = 1 << 30
"""Bytes that Envoy may use, or as many as `_BODIES` of the longest bodies have, if that is more."""
_BODIES = 16
_CONNECTIONS = 10_000
_MONITORS = "envoy.resource_monitors"
_HEAP = f"{_MONITORS}.fixed_heap"


def bounds(longest_body: int) -> dict[str, Any]:
    """Envoy's overload manager. Bodies, of so many bytes at most, wait in memory until they are whole.

    When memory gets scarce, first the streams are reset that hold most of it, then new calls are refused with 503, and
    then new connections.
    """
    return {
        "refresh_interval": "0.1s",
        "buffer_factory_config": {"minimum_account_to_track_power_of_two": 20},  # streams that hold 1 MiB or more
        "resource_monitors": [
            _monitor(
                f"{_MONITORS}.global_downstream_max_connections",
                "downstream_connections.v3.DownstreamConnectionsConfig",
                max_active_downstream_connections=_CONNECTIONS,
            ),
            _monitor(
                _HEAP, "fixed_heap.v3.FixedHeapConfig", max_heap_size_bytes=max(LEAST_HEAP, _BODIES * longest_body)
            ),
        ],
        "actions": [
            _action("shrink_heap", threshold={"value": 0.8}),
            _action("reset_high_memory_stream", scaled={"scaling_threshold": 0.8, "saturation_threshold": 0.95}),
            _action("stop_accepting_requests", threshold={"value": 0.9}),
            _action("reject_incoming_connections", threshold={"value": 0.95}),
        ],
    }


def _monitor(name: str, message: str, **config: int) -> dict[str, Any]:
    kind = f"type.googleapis.com/envoy.extensions.resource_monitors.{message}"
    return {"name": name, "typed_config": {"@type": kind, **config}}


def _action(name: str, **trigger: Any) -> dict[str, Any]:
    return {"name": f"envoy.overload_actions.{name}", "triggers": [{"name": _HEAP, **trigger}]}
