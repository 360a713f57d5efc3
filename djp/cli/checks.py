"""One thing that `djp doctor` has looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """`broken` things stop djp from working, a `warning` takes something away; `remedy` says how to mend it."""

    name: str
    state: Literal["ok", "note", "warning", "broken"]
    found: str
    remedy: str = ""
