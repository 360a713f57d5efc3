"""The loads that an autoscaler is tried with, and when their runs arrive."""

from __future__ import annotations

import random
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Load(StrEnum):
    """How the rate of runs goes over time."""

    SUSTAIN = "sustain"
    BURST = "burst"
    RAMP = "ramp"
    DROP = "drop"


SETTLED = {Load.SUSTAIN: (0.2, 1.0), Load.BURST: (0.6, 1.0), Load.RAMP: (0.5, 1.0), Load.DROP: (0.1, 0.5)}
"""The part of each load, as shares of its time, in which a pool should have found its size."""
FALLS = {Load.BURST: 0.4, Load.DROP: 0.5}
"""When a load falls for good, as a share of its time."""

_BASE = 0.02
"""What there is before and after a burst, as a share of its peak."""


def share_of_peak(load: Load, part: float) -> float:
    """The rate of runs as a share of the highest, when that part (0 to 1) of the load's time is over."""
    match load:
        case Load.SUSTAIN:
            return 1.0
        case Load.BURST:
            return 1.0 if 0.3 <= part < 0.4 else _BASE
        case Load.RAMP:
            return min(1.0, 2 * part)
        case Load.DROP:
            return 1.0 if part < 0.5 else 0.0


def arrivals(load: Load, *, rate: float, seconds: float, seed: int) -> Iterator[float]:
    """The seconds at which runs arrive, at random with `rate` a second at the peak; the same for the same seed."""
    chance = random.Random(seed)  # noqa: S311  a model, no secret
    now = chance.expovariate(rate)
    while now < seconds:
        if chance.random() < share_of_peak(load, now / seconds):
            yield now
        now += chance.expovariate(rate)
