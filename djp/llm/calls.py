"""What one model call used and cost, in plain values."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True)
class Usage:
    """Tokens of one call. Input includes the cached tokens and those written to the cache, output the reasoning tokens.

    Raises ValueError for a negative count or a part that is larger than its whole.
    """

    input_tokens: int
    cached_input_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    cache_write_tokens: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.cached_input_tokens <= self.input_tokens:
            raise ValueError(f"{self.cached_input_tokens} cached of {self.input_tokens} input tokens cannot be")
        if not 0 <= self.cache_write_tokens <= self.input_tokens - self.cached_input_tokens:
            raise ValueError(f"{self.cache_write_tokens} written to the cache of what is not cached already cannot be")
        if not 0 <= self.reasoning_tokens <= self.output_tokens:
            raise ValueError(f"{self.reasoning_tokens} reasoning of {self.output_tokens} output tokens cannot be")


@dataclass(frozen=True)
class ModelCall:
    """A charge in the making: the fields of `djp.v1.ModelCall`.

    `cost_nano_usd` is the actual cost, or the bound where `usage_unknown` says that the provider told no usage. `error`
    says why this attempt failed and is empty if it did not; `actor_id` is the debater's or the juror's id.
    """

    call_id: str
    stage: Literal["DEBATE", "JUDGE"]
    model: str
    usage: Usage
    cost_nano_usd: int
    bound_nano_usd: int
    started_at: datetime
    duration: timedelta
    actor_id: str
    attempt: int = 1
    offline: bool = False
    usage_unknown: bool = False
    error: str = ""


def call_id(run_id: str, *parts: object) -> str:
    """The id of the call that `parts` name within a run: the same whenever the call is reported, so it is charged once.

    Raises ValueError if `run_id` is no UUID.
    """
    return str(uuid.uuid5(uuid.UUID(run_id), json.dumps([str(part) for part in parts])))
