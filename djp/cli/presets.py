"""`djp presets`, `djp policies` and `djp run --list-presets`: what a run may name."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from google.protobuf.json_format import MessageToDict

from djp.cli.exits import Exit
from djp.cli.session import connected
from djp.cli.terminal import one_line, out

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from djp.v1 import catalogue_pb2
    from djp_gateway.catalogue import Catalogue


async def show_presets(gateway: str | None, *, only: str = "", as_json: bool) -> int:
    """Print every preset with its settings, or one: the gateway's, or without one those of this installation."""
    if gateway:
        async with connected(gateway) as client:
            presets = _documents(await client.list_presets())
    else:
        presets = _catalogue().presets
    return _show("preset", presets, only, "Take one with --preset NAME; flags win over its settings.", as_json=as_json)


async def show_policies(gateway: str | None, *, only: str = "", as_json: bool) -> int:
    """Print every policy, or one: the gateway's, or without one those of this installation."""
    if gateway:
        async with connected(gateway) as client:
            policies = _documents(await client.list_policies())
    else:
        policies = _catalogue().policies
    return _show("policy", policies, only, "Take one with --policy NAME.", as_json=as_json)


def _catalogue() -> Catalogue:
    from djp_gateway.catalogue import load_catalogue
    from djp_gateway.settings import GatewaySettings

    settings = GatewaySettings()
    return load_catalogue(presets=settings.presets, policies=settings.policies)


def _documents(messages: Iterable[catalogue_pb2.Preset | catalogue_pb2.Policy]) -> Mapping[str, Mapping[str, Any]]:
    return {message.name: MessageToDict(message.document) for message in messages}


def _show(kind: str, known: Mapping[str, Mapping[str, Any]], only: str, hint: str, *, as_json: bool) -> int:
    """Raises InvalidInput if there is none of the name `only`; the message suggests the nearest."""
    from djp_gateway.catalogue import named

    plural = {"preset": "presets", "policy": "policies"}[kind]
    shown = {only: named(kind, only, known, "NAME")} if only else known
    if as_json:
        print(json.dumps(shown[only] if only else {plural: list(shown.values())}, indent=2))
        return Exit.OK
    for name, told in shown.items():
        out().print(one_line(name), style="bold")
        out().print(f"  {one_line(str(told.get('description', '')))}")
        settings = {key: value for key, value in told.items() if key not in ("name", "description")}
        out().print(
            "  " + ", ".join(f"{one_line(key)} {_value(value)}" for key, value in settings.items()), style="dim"
        )
    if not only:
        out().print()
        out().print(hint)
    return Exit.OK


def _value(value: object) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return one_line(json.dumps(value) if isinstance(value, list | dict) else str(value))
