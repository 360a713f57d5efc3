"""Whose turn it is to write: SQLite lets one write at a time, and all adapters of a database line up together."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from sqlalchemy import Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

_locks: WeakKeyDictionary[Engine, asyncio.Lock] = WeakKeyDictionary()


def turn_of(engine: AsyncEngine) -> AbstractAsyncContextManager[Any]:
    """What a writer holds while it writes. Those that wait inside SQLite sleep and look again, in no order."""
    if engine.dialect.name != "sqlite":
        return nullcontext()
    return _locks.setdefault(engine.sync_engine, asyncio.Lock())
