"""A page of runs: as many as were asked for, and no more than a message carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, Select, and_, or_, select

from djp.database import reading
from djp.mesh.paging import page_token, read_page_token
from djp_gateway.adapters.tables import runs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sqlalchemy import Column
    from sqlalchemy.ext.asyncio import AsyncEngine

PAGE_BYTES = 4 << 20  # a page is one message of at most 16 MiB; a run may have megabytes of text


async def read_page(
    engine: AsyncEngine, where: Sequence[ColumnElement[bool]], by: Column[int], *, size: int, token: str
) -> tuple[list[Row[Any]], str]:
    """The rows that fit, those with the highest `by` first, and the token of the next page, empty on the last one.

    A page has at most `size` rows and about `PAGE_BYTES`, but always one row. Raises InvalidInput for a bad token.
    """
    conditions = list(where)
    if place := read_page_token(token, int, str):
        last, run_id = place
        conditions.append(or_(by < last, and_(by == last, runs.c.run_id < run_id)))
    query = select(runs).where(*conditions).order_by(by.desc(), runs.c.run_id.desc())
    found, more = await fitting(engine, query, size, lambda row: len(row.sealed_spec) + len(row.sealed_run))
    return found, page_token(found[-1]._mapping[by], found[-1].run_id) if more else ""


async def fitting(
    engine: AsyncEngine, query: Select[Any], size: int, weight: Callable[[Row[Any]], int]
) -> tuple[list[Row[Any]], bool]:
    """The first rows of a query, at most `size` and about `PAGE_BYTES` of them by their weights, but always one; and
    whether there are more."""
    found: list[Row[Any]] = []
    more, taken = False, 0
    async with reading(engine).connect() as connection:
        rows = await connection.stream(query.limit(size + 1).execution_options(max_row_buffer=20))
        async for row in rows:
            taken += weight(row)
            if more := bool(found) and (len(found) == size or taken > PAGE_BYTES):
                break
            found.append(row)
        await rows.close()
    return found, more
