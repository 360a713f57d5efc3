"""The catalogue: which artifacts there are, in a SQL database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, Row, func, insert, select, tuple_

from djp.database import from_us, reading, to_us
from djp.mesh.errors import AlreadyExists, NotFound, RequestIdReused
from djp.mesh.paging import bad_page_token, page_token, read_page_token
from djp_storage.adapters.tables import artifacts, requests
from djp_storage.model import Artifact, ArtifactKey, Page, Tier, Total

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from djp_storage.model import Filter


class SqlCatalogue:
    """A Catalogue on SQLAlchemy Core; one transaction a call."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, artifact: Artifact, request_id: str, place: Callable[[], Awaitable[None]]) -> Artifact:
        """The insert claims the key, the commit comes after the object: an object without a row, never the reverse."""
        key = artifact.key
        by_request = (requests.c.tenant == key.tenant) & (requests.c.request_id == request_id)
        async with self._engine.begin() as connection:
            request = (await connection.execute(select(requests).where(by_request))).one_or_none()
            if request is not None and (request.workflow, request.artifact) != (key.workflow, key.artifact):
                raise RequestIdReused.by(request_id, "header.request_id")
            found = await _find(connection, key)
            if found is None:
                await connection.execute(insert(artifacts).values(_columns(artifact)))
                await place()
            elif not found.same_content(artifact):
                if request is not None:
                    raise RequestIdReused.by(request_id, "header.request_id")
                raise AlreadyExists(
                    f"artifact {key.artifact!r} of workflow {key.workflow!r} exists with other content; an artifact is "
                    "never overwritten: choose another name",
                    field="header.key.artifact",
                )
            if request is None:
                row = {
                    "tenant": key.tenant,
                    "request_id": request_id,
                    "workflow": key.workflow,
                    "artifact": key.artifact,
                }
                await connection.execute(insert(requests).values(row))
        return found or artifact

    async def get(self, key: ArtifactKey) -> Artifact:
        """One indexed read."""
        async with reading(self._engine).connect() as connection:
            found = await _find(connection, key)
        if found is None:
            raise NotFound(
                f"there is no artifact {key.artifact!r} in workflow {key.workflow!r}; ListArtifacts shows those there "
                "are",
                field="key.artifact",
            )
        return found

    async def list(self, tenant: str, wanted: Filter, *, size: int, token: str, largest_first: bool) -> Page:
        """A page starts where the one before ended, so its cost does not grow with its number."""
        first = artifacts.c.size if largest_first else artifacts.c.created_us
        order = (first, artifacts.c.workflow, artifacts.c.artifact)
        query = select(artifacts).where(artifacts.c.tenant == tenant, *_conditions(wanted))
        if place := read_page_token(token, bool, int, str, str):
            if place[0] is not largest_first:
                raise bad_page_token()
            query = query.where(tuple_(*order) < tuple_(*place[1:]))
        query = query.order_by(*(column.desc() for column in order)).limit(size + 1)
        async with reading(self._engine).connect() as connection:
            rows = (await connection.execute(query)).all()
        more = ""
        if len(rows) > size:
            rows = rows[:size]
            last = rows[-1]
            more = page_token(
                largest_first, last.size if largest_first else last.created_us, last.workflow, last.artifact
            )
        return Page([_artifact(row) for row in rows], more)

    async def totals(self, tenant: str, *, by_workflow: bool) -> Sequence[Total]:
        """One scan of the tenant's rows."""
        group = (artifacts.c.tier, artifacts.c.workflow) if by_workflow else (artifacts.c.tier,)
        query = (
            select(
                *group,
                func.count().label("count_"),
                func.sum(artifacts.c.size).label("bytes_"),
                func.min(artifacts.c.created_us).label("oldest_us"),
            )
            .where(artifacts.c.tenant == tenant)
            .group_by(*group)
            .order_by(*group)
        )
        async with reading(self._engine).connect() as connection:
            rows = (await connection.execute(query)).all()
        return [
            Total(
                Tier(row.tier),
                row.workflow if by_workflow else "",
                row.count_,
                int(row.bytes_),
                from_us(row.oldest_us),
            )
            for row in rows
        ]


async def _find(connection: AsyncConnection, key: ArtifactKey) -> Artifact | None:
    query = select(artifacts).where(
        artifacts.c.tenant == key.tenant, artifacts.c.workflow == key.workflow, artifacts.c.artifact == key.artifact
    )
    row = (await connection.execute(query)).one_or_none()
    return _artifact(row) if row else None


def _conditions(wanted: Filter) -> list[ColumnElement[bool]]:
    found: list[ColumnElement[bool]] = []
    if wanted.workflow:
        found.append(artifacts.c.workflow == wanted.workflow)
    if wanted.tier:
        found.append(artifacts.c.tier == wanted.tier.value)
    if wanted.run_id:
        found.append(artifacts.c.run_id == wanted.run_id)
    if wanted.since:
        found.append(artifacts.c.created_us >= to_us(wanted.since))
    if wanted.until:
        found.append(artifacts.c.created_us < to_us(wanted.until))
    return found


def _columns(artifact: Artifact) -> dict[str, Any]:
    return {
        "tenant": artifact.key.tenant,
        "workflow": artifact.key.workflow,
        "artifact": artifact.key.artifact,
        "tier": artifact.tier.value,
        "size": artifact.size,
        "sha256": artifact.sha256,
        "content_type": artifact.content_type,
        "run_id": artifact.run_id,
        "tags": json.dumps(dict(artifact.tags), sort_keys=True),
        "created_us": to_us(artifact.created_at),
        "modified_us": to_us(artifact.modified_at),
        "tier_since_us": to_us(artifact.tier_since),
    }


def _artifact(row: Row[Any]) -> Artifact:
    return Artifact(
        key=ArtifactKey(row.tenant, row.workflow, row.artifact),
        tier=Tier(row.tier),
        size=row.size,
        sha256=row.sha256,
        content_type=row.content_type,
        run_id=row.run_id,
        tags=json.loads(row.tags),
        created_at=from_us(row.created_us),
        modified_at=from_us(row.modified_us),
        tier_since=from_us(row.tier_since_us),
    )
