"""`djp run --list-presets`: the presets that a run may name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from djp.cli.exits import Exit
from djp.cli.terminal import one_line, out

if TYPE_CHECKING:
    from collections.abc import Mapping


async def show_presets(gateway: str | None, *, as_json: bool) -> int:
    """Print every preset with its settings: the gateway's, or without one those of this installation."""
    presets = await _of_gateway(gateway) if gateway else _installed()
    if as_json:
        print(json.dumps({"presets": list(presets.values())}, indent=2))
        return Exit.OK
    for name, preset in presets.items():
        out().print(one_line(name), style="bold")
        out().print(f"  {one_line(str(preset.get('description', '')))}")
        told = {key: value for key, value in preset.items() if key not in ("name", "description")}
        out().print("  " + ", ".join(f"{one_line(key)} {_value(value)}" for key, value in told.items()), style="dim")
    out().print()
    out().print("Take one with --preset NAME; flags win over its settings.")
    return Exit.OK


def _installed() -> Mapping[str, Mapping[str, Any]]:
    from djp_gateway.catalogue import load_catalogue

    return load_catalogue().presets


async def _of_gateway(gateway: str) -> Mapping[str, Mapping[str, Any]]:
    from google.protobuf.json_format import MessageToDict

    from djp.cli.session import connected

    async with connected(gateway) as client:
        return {preset.name: MessageToDict(preset.document) for preset in await client.list_presets()}


def _value(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return one_line(json.dumps(value) if isinstance(value, list | dict) else str(value))
