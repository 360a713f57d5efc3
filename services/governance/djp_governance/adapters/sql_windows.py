"""The windows' sums: read with their limits, locked in one order, and moved in one statement."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import BigInteger, and_, bindparam, literal, or_, select, tuple_, update

from djp.mesh.errors import FailedPrecondition
from djp.upserts import insert_if_new
from djp_governance.adapters.rows import filled, to_budget, window_id
from djp_governance.adapters.tables import budgets, windows
from djp_governance.model import MAX_SUM

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_governance.adapters.rows import WindowId
    from djp_governance.limits import Budget, Limits
    from djp_governance.model import Window, WindowKey

Change = tuple[int, int, int, int]
"""What is added to reserved and spent nano-dollars, and to reserved and spent tokens."""

AMOUNTS = ("reserved_nano", "spent_nano", "reserved_tokens", "spent_tokens")

# Everybody locks windows in this order, so no two transactions wait for each other; the row that all of them need comes
# last, so that it is held for the shortest time.
_LOCK_ORDER = (windows.c.scope == "global", windows.c.scope, windows.c.period, windows.c.starts_on)
_NAME = (windows.c.scope, windows.c.period, windows.c.starts_on)

# reserved + spent never passes MAX_SUM, so neither of these can overflow an int64 on its way.
_LEFT_NANO = literal(MAX_SUM) - windows.c.reserved_nano - windows.c.spent_nano
_LEFT_TOKENS = literal(MAX_SUM) - windows.c.reserved_tokens - windows.c.spent_tokens

# Statements are built once: building one costs as much as running it.
_BUDGETS = select(budgets).where(budgets.c.scope.in_(bindparam("scopes", expanding=True)))
_ADD = (
    update(windows)
    .where(
        bindparam("more_nano", type_=BigInteger) <= _LEFT_NANO,
        bindparam("more_tokens", type_=BigInteger) <= _LEFT_TOKENS,
    )
    .values({name: windows.c[name] + bindparam(f"more_{name}", type_=BigInteger) for name in AMOUNTS})
)


@cache
def _reading(many: int) -> Any:
    return select(windows).where(_is_one_of(many))


@cache
def _locking(many: int) -> Any:
    return _reading(many).order_by(*_LOCK_ORDER).with_for_update()


@cache
def _adding(many: int, *, locked: bool) -> Any:
    return _ADD.where(_is_one_of(many) if locked else tuple_(*_NAME).in_(_locking(many).with_only_columns(*_NAME)))


def _is_one_of(many: int) -> Any:
    """One of so many windows, whose keys are among the values (`_values`)."""
    keys: Any = [[bindparam(f"{column.name}_of_{place}") for column in _NAME] for place in range(many)]
    return or_(*(and_(*(one == key for one, key in zip(_NAME, of, strict=True))) for of in keys))


def _values(ids: Sequence[WindowId]) -> dict[str, str]:
    return {f"{column.name}_of_{n}": part for n, one in enumerate(ids) for column, part in zip(_NAME, one, strict=True)}


class WindowsMissing(Exception):  # noqa: N818  no error: they are made, and the work is done again
    """Windows that nobody has reserved in yet have no rows that could be locked."""


async def make_windows(connection: AsyncConnection, keys: Sequence[WindowKey]) -> None:
    """Empty rows for the windows that have none. A transaction of its own: it locks what it makes in its own order."""
    nothing = dict.fromkeys(AMOUNTS, 0)
    rows = [dict(zip(("scope", "period", "starts_on"), window_id(key), strict=True)) | nothing for key in keys]
    new = insert_if_new(connection.dialect.name, windows, windows.c.scope)
    await connection.execute(new, sorted(rows, key=lambda row: str(row["scope"])))


async def read_windows(connection: AsyncConnection, keys: Sequence[WindowKey], limits: Limits) -> list[Window]:
    """The windows as they are now, with their limits, in the order of the keys."""
    return await _read(connection, keys, limits, _reading(len(keys)))


async def lock_windows(connection: AsyncConnection, keys: Sequence[WindowKey], limits: Limits) -> list[Window]:
    """The same, and nobody else changes them, or their limits, until the transaction ends. Raises WindowsMissing."""
    return await _read(connection, keys, limits, _locking(len(keys)), whole=True)


async def lock_scope(connection: AsyncConnection, scope: str) -> None:
    """Let nobody reserve in the windows of a scope until the transaction ends."""
    await connection.execute(select(windows).where(windows.c.scope == scope).order_by(*_LOCK_ORDER).with_for_update())


async def set_budgets(connection: AsyncConnection, scopes: Iterable[str]) -> Mapping[str, Budget]:
    """Of these scopes, the limits that were set at run time."""
    rows = await connection.execute(_BUDGETS, {"scopes": list(scopes)})
    return {row.scope: to_budget(row) for row in rows}


async def move(connection: AsyncConnection, ids: Sequence[WindowId], change: Change, *, locked: bool = False) -> None:
    """Add to the sums of windows; `locked` where the transaction has locked them before.

    Raises FailedPrecondition when a window cannot count that far.
    """
    reserved, spent, reserved_tokens, spent_tokens = change
    values = {f"more_{name}": more for name, more in zip(AMOUNTS, change, strict=True)}
    values |= {"more_nano": reserved + spent, "more_tokens": reserved_tokens + spent_tokens}
    moved = await connection.execute(_adding(len(ids), locked=locked), {**_values(ids), **values})
    if moved.rowcount != len(ids):
        raise FailedPrecondition("a budget window would pass 2^63 - 1, the most that the ledger can count")


async def _read(
    connection: AsyncConnection, keys: Sequence[WindowKey], limits: Limits, query: Any, *, whole: bool = False
) -> list[Window]:
    found = await connection.execute(query, _values([window_id(key) for key in keys]))
    rows = {(row.scope, row.period, row.starts_on): row for row in found}
    if whole and len(rows) < len(keys):
        raise WindowsMissing
    # After the locks, in a statement of its own: so it sees what whoever had them before has set.
    chosen = await set_budgets(connection, {key.scope for key in keys})
    empty = [limits.window(key, chosen.get(key.scope) or limits.of(key.scope)) for key in keys]
    return [filled(window, rows.get(window_id(window.key))) for window in empty]
