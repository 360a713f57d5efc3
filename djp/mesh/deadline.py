"""How much time is left for the work at hand, so that no nested call outlives the caller's deadline."""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_deadline: ContextVar[float | None] = ContextVar("djp_deadline", default=None)  # in time.monotonic() seconds


def remaining_s() -> float | None:
    """Seconds left for the current call (never negative), or None when it has no deadline."""
    deadline = _deadline.get()
    return None if deadline is None else max(0.0, deadline - time.monotonic())


@contextmanager
def deadline_scope(timeout_s: float | None) -> Iterator[None]:
    """Give the block `timeout_s` seconds for its outgoing calls; None lifts any deadline.

    A task started by a handler inherits the handler's deadline with its context: work that is meant to outlive the call
    (a run in the background) does it inside `deadline_scope(None)`.
    """
    token = _deadline.set(None if timeout_s is None else time.monotonic() + timeout_s)
    try:
        yield
    finally:
        _deadline.reset(token)


def bounded_timeout(own_s: float | None) -> float | None:
    """The timeout of an outgoing call, in seconds: the smaller of its own and what is left of the current call's."""
    left = remaining_s()
    if left is None:
        return own_s
    return left if own_s is None else min(own_s, left)
