"""The most that model calls can cost, fixed before any is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from djp.llm.prices import Price


@dataclass(frozen=True)
class Bound:
    """The most that a set of calls can cost: nano-dollars, input and output tokens, calls. Bounds add up."""

    nano_usd: int = 0
    tokens: int = 0
    calls: int = 0

    def __add__(self, other: Bound) -> Bound:
        return Bound(self.nano_usd + other.nano_usd, self.tokens + other.tokens, self.calls + other.calls)


def bound_call(price: Price, prompt_tokens: int, max_output_tokens: int) -> Bound:
    """The bound of one call with at most so many tokens in its prompt and its answer."""
    return Bound(price.highest_cost(prompt_tokens, max_output_tokens), prompt_tokens + max_output_tokens, 1)
