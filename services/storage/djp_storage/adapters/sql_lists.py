"""The queries of artifact lists: which index each of them is to go by, so that a page is quick among millions.

Every order has its index, and the narrow filters have one in either order. One case has none that serves both: the
largest of a span of time. Of a few, all in the span are sorted. Of many, the index of sizes is followed: the more there
are in the span, the sooner a page of them is met.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from djp.database import to_us
from djp_storage.adapters.tables import artifacts

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

    from djp_storage.model import Filter

_FEW = 5000  # so many are sorted in a few milliseconds


def list_order(largest_first: bool) -> tuple[ColumnElement[Any], ...]:
    """What a page's place is told by; all of it descends."""
    first = artifacts.c.size if largest_first else artifacts.c.created_us
    return first, artifacts.c.workflow, artifacts.c.artifact


def list_query(tenant: str, wanted: Filter, *, largest_first: bool, many: bool) -> Select[Any]:
    """All that fits, in order. `many`: there are more than a few in its span of time."""
    first, *rest = list_order(largest_first)
    spanned = bool(wanted.since or wanted.until)
    if largest_first and (wanted.run_id or (spanned and not many)):
        first = first + 0  # of a run's or a span's few artifacts: no planner is to take the index of all sizes for them
    order = [column.desc() for column in (first, *rest)]
    created = artifacts.c.created_us + 0 if largest_first and many else artifacts.c.created_us
    return select(artifacts).where(artifacts.c.tenant == tenant, *_conditions(wanted, created)).order_by(*order)


def beyond_few(tenant: str, wanted: Filter) -> Select[Any]:
    """Has a row if there are more than a few in the span; looks at no more than these."""
    created = artifacts.c.created_us
    query = select(created).where(artifacts.c.tenant == tenant, *_in_span(wanted, created))
    if wanted.workflow:
        query = query.where(artifacts.c.workflow == wanted.workflow)
    elif wanted.tier:
        query = query.where(artifacts.c.tier == wanted.tier.value)
    return query.order_by(created).offset(_FEW).limit(1)


def _conditions(wanted: Filter, created: ColumnElement[int]) -> list[ColumnElement[bool]]:
    found = _in_span(wanted, created)
    if wanted.workflow:
        found.append(artifacts.c.workflow == wanted.workflow)
    if wanted.tier:
        found.append(artifacts.c.tier == wanted.tier.value)
    if wanted.run_id:
        found.append(artifacts.c.run_id == wanted.run_id)
    return found


def _in_span(wanted: Filter, created: ColumnElement[int]) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.since:
        found.append(created >= to_us(wanted.since))
    if wanted.until:
        found.append(created < to_us(wanted.until))
    return found
