"""`djp scale config`: the autoscaler's rule in force."""

from __future__ import annotations

import json
from dataclasses import astuple
from typing import TYPE_CHECKING

from djp.cli.exits import Exit
from djp.cli.tables import Column, print_table
from djp.cli.terminal import say
from djp.scaling.settings import ScalingSettings

if TYPE_CHECKING:
    from djp.scaling.rule import Tuning


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
