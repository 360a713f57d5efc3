"""`djp scale config` and `djp scale hpa`: the autoscaler's rule in force, for people and for Kubernetes."""

from __future__ import annotations

import json
import re
from dataclasses import astuple
from typing import TYPE_CHECKING

from djp.cli.exits import Exit
from djp.cli.tables import Column, print_table
from djp.cli.terminal import say
from djp.mesh.errors import InvalidInput
from djp.scaling.manifest import hpa_manifest
from djp.scaling.settings import ScalingSettings

if TYPE_CHECKING:
    from djp.scaling.rule import Tuning


_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


def scaling_settings(tuning: Tuning | None) -> ScalingSettings:
    """The settings in force, with the tuning that the command line names, if it does.

    Raises pydantic's ValidationError, which names the variable.
    """
    return ScalingSettings(tuning=tuning) if tuning else ScalingSettings()


def print_config(tuning: Tuning | None, *, as_json: bool) -> int:
    """Print every value of the rule with its origin."""
    settings = scaling_settings(tuning)
    origins, values = settings.origins(), astuple(settings.rule())
    if as_json:
        told = [
            {"variable": variable, "value": value, "origin": origin}
            for (variable, origin), value in zip(origins.items(), values, strict=True)
        ]
        print(json.dumps({"tuning": settings.tuning, "settings": told}, indent=2))
        return Exit.OK
    print_table(
        Column("setting", list(origins)),
        Column("value", [f"{value:,}" for value in values]),
        Column("from", list(origins.values()), align="left"),
    )
    say(f"The tuning is {settings.tuning}.", "dim")
    return Exit.OK


def print_hpa(tuning: Tuning | None, *, name: str, per_pod: int) -> int:
    """Print the manifest. Raises InvalidInput for a name that Kubernetes would refuse."""
    import yaml

    if not _NAME.fullmatch(name):
        raise InvalidInput(
            "give --deployment as Kubernetes has names: up to 253 of a-z, 0-9, '-' and '.'", field="deployment"
        )
    manifest = hpa_manifest(scaling_settings(tuning).rule(), name=name, per_pod=per_pod)
    fixed = f"MIN_WORKERS={per_pod} and MAX_WORKERS={per_pod}"
    print(f"# Written by `djp scale hpa --per-pod {per_pod}`; each pod is to have {fixed}.")
    print(yaml.safe_dump(manifest, sort_keys=False), end="")
    return Exit.OK
