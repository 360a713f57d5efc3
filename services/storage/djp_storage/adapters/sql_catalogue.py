"""The catalogue: which artifacts there are, in a SQL database."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, func, insert, select, tuple_, update

from djp.database import from_us, to_us
from djp.mesh.errors import AlreadyExists, NotFound, RequestIdReused, Unavailable
from djp.mesh.paging import bad_page_token, page_token, read_page_token
from djp.upserts import insert_if_new
from djp_storage.adapters.rows import artifact_row, key_columns, key_values, of_key, place_columns, to_artifact
from djp_storage.adapters.sql_events import append_event
from djp_storage.adapters.sql_lists import beyond_few, list_order, list_query
from djp_storage.adapters.sql_strays import SqlStrays, holder, turn_out
from djp_storage.adapters.tables import artifacts, holds, tombstones
from djp_storage.adapters.transactions import answer_of, claim_request, find_request, remember
from djp_storage.errors import LegalHold, Moved
from djp_storage.model import Artifact, ArtifactKey, Page, Tier, Total

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.model import By, Filter, RequestKey

_HELD_S = 1.0

# Statements are built once: building one costs as much as running it.
_FIND, _FIND_TOMBSTONE = select(artifacts).where(of_key(artifacts)), select(tombstones).where(of_key(tombstones))
_THIS_OBJECT = and_(
    of_key(artifacts), artifacts.c.object_id == bindparam("was_object"), artifacts.c.tier == bindparam("was_tier")
)
_MOVE = update(artifacts).where(_THIS_OBJECT)
_ERASE = delete(artifacts).where(_THIS_OBJECT)
_RAISE = delete(tombstones).where(of_key(tombstones))
_BURY = insert(tombstones).inline()
_HELD = select(holds.c.tenant).where(holds.c.tenant == bindparam("by_tenant"))
_HOLD_ONE = update(artifacts).where(of_key(artifacts))
_LIFT_TENANT = delete(holds).where(holds.c.tenant == bindparam("by_tenant"))


class SqlCatalogue(SqlStrays):
    """A Catalogue on SQLAlchemy Core; one transaction a call."""

    _held: Collection[str] = ()
    _held_until = 0.0

    async def add(self, artifact: Artifact, request: RequestKey, by: By) -> Artifact:
        async def work(connection: AsyncConnection) -> Artifact:
            key = artifact.key
            known = await claim_request(connection, request, key, by)
            if known is None and await _enter(connection, artifact, by):
                return artifact
            found = await _find(connection, key)
            if found is None:
                raise await _gone(connection, key)
            if not found.same_content(artifact):
                if known is not None:  # of the first release, whose requests have no hash
                    raise RequestIdReused.by(request.request_id, "header.request_id")
                raise AlreadyExists(
                    f"artifact {key.artifact!r} of workflow {key.workflow!r} exists with other content; an artifact is "
                    "never overwritten: choose another name",
                    field="header.key.artifact",
                )
            if known is None and found.tier is Tier.TRASH:
                back = replace(artifact, created_at=found.created_at, modified_at=found.modified_at, hold=found.hold)
                return await _move(connection, found, back, "undeleted", replace(by, reason="put again"))
            return found

        return await self._transactions.change(work)

    async def get(self, key: ArtifactKey) -> Artifact:
        """One indexed read."""

        async def work(connection: AsyncConnection) -> Artifact:
            found = await _find(connection, key)
            if found is None:
                raise await _gone(connection, key)
            return found

        return await self._transactions.look(work)

    async def list(self, tenant: str, wanted: Filter, *, size: int, token: str, largest_first: bool) -> Page:
        """A page starts where the one before ended, so its cost does not grow with its number."""
        many = await self._many(tenant, wanted, largest_first)
        query = list_query(tenant, wanted, largest_first=largest_first, many=many)
        if place := read_page_token(token, bool, int, str, str):
            if place[0] is not largest_first:
                raise bad_page_token()
            query = query.where(tuple_(*list_order(largest_first)) < tuple_(*place[1:]))
        query = query.limit(size + 1)
        rows = await self._transactions.rows(query)
        more = ""
        if len(rows) > size:
            rows = rows[:size]
            last = rows[-1]
            more = page_token(
                largest_first, last.size if largest_first else last.created_us, last.workflow, last.artifact
            )
        return Page([to_artifact(row) for row in rows], more)

    async def _many(self, tenant: str, wanted: Filter, largest_first: bool) -> bool:
        """Whether there are so many artifacts in a span of time that its largest are met soon among the largest."""
        if not largest_first or wanted.run_id or not (wanted.since or wanted.until):
            return False
        return bool(await self._transactions.rows(beyond_few(tenant, wanted)))

    async def totals(self, tenant: str | None, *, by_workflow: bool) -> Sequence[Total]:
        """One scan of the tenant's rows."""
        group = [artifacts.c.tier, artifacts.c.tenant, *([artifacts.c.workflow] if by_workflow else [])]
        query = (
            select(
                *group,
                func.count().label("count_"),
                func.sum(artifacts.c.size).label("bytes_"),
                func.min(artifacts.c.created_us).label("oldest_us"),
            )
            .group_by(*group)
            .order_by(*group)
        )
        if tenant is not None:
            query = query.where(artifacts.c.tenant == tenant)
        return [
            Total(
                Tier(row.tier),
                row.tenant,
                row.workflow if by_workflow else "",
                row.count_,
                int(row.bytes_),
                from_us(row.oldest_us),
            )
            for row in await self._transactions.rows(query)
        ]

    async def answered(self, request: RequestKey, key: ArtifactKey) -> tuple[Artifact | None, Artifact]:
        async def work(connection: AsyncConnection) -> tuple[Artifact | None, Artifact]:
            known = await find_request(connection, request, key)
            found = await _find(connection, key)
            if known is not None:
                first = answer_of(known)
                return first, found or first
            if found is None:
                raise await _gone(connection, key)
            return None, found

        return await self._transactions.look(work)

    async def answer(self, request: RequestKey, artifact: Artifact, by: By) -> Artifact:
        async def work(connection: AsyncConnection) -> Artifact:
            if (known := await claim_request(connection, request, artifact.key, by)) is not None:
                return answer_of(known)
            await remember(connection, request, artifact)
            return artifact

        return await self._transactions.change(work)

    async def move(self, was: Artifact, now: Artifact, action: str, by: By, request: RequestKey | None) -> Artifact:
        async def work(connection: AsyncConnection) -> Artifact:
            if request:
                known = await claim_request(connection, request, was.key, by)
                if known is not None:
                    return answer_of(known)
            moved = await _move(connection, was, now, action, by)
            if request:
                await remember(connection, request, moved)
            return moved

        return await self._transactions.change(work)

    async def erase(self, artifact: Artifact, by: By) -> None:
        async def work(connection: AsyncConnection) -> None:
            found = await _find(connection, artifact.key)
            if found is None and await _tombstone(connection, artifact.key) is not None:
                return  # a commit whose answer was lost
            if found is None or found.object_name != artifact.object_name:
                raise Moved(artifact)
            await _refuse_held(connection, found)
            if not (await connection.execute(_ERASE, _was(artifact))).rowcount:
                raise Moved(artifact)
            row = {
                **key_columns(artifact.key),
                "sha256": artifact.sha256,
                "size": artifact.size,
                "created_us": to_us(artifact.created_at),
                "erased_us": to_us(by.at),
            }
            await connection.execute(_BURY, row)
            await turn_out(connection, artifact.object_name, by.at)
            await append_event(connection, "erased", artifact.key, by, from_tier=artifact.tier)

        await self._transactions.change(work)

    async def hold(self, key: ArtifactKey, hold: bool, by: By, request: RequestKey) -> None:
        """The tenant's where the key names no artifact."""

        async def work(connection: AsyncConnection) -> None:
            if await claim_request(connection, request, key, by) is not None:
                return
            if key.artifact:
                if await _find(connection, key) is None:
                    raise await _gone(connection, key)
                await connection.execute(_HOLD_ONE, {**key_values(key), "hold": int(hold)})
            elif hold:
                row = {"tenant": key.tenant, "since_us": to_us(by.at), "reason": by.reason}
                await connection.execute(insert_if_new(connection.dialect.name, holds, holds.c.tenant), row)
            else:
                await connection.execute(_LIFT_TENANT, {"by_tenant": key.tenant})
            await append_event(connection, "hold_set" if hold else "hold_lifted", key, by)

        await self._transactions.change(work)
        self._held_until = 0.0

    async def held_tenants(self) -> Collection[str]:
        """As of a second ago at most; of the holds of this process, as of now."""
        if time.monotonic() > self._held_until:
            self._held_until = time.monotonic() + _HELD_S
            self._held = {row.tenant for row in await self._transactions.rows(select(holds.c.tenant))}
        return self._held


async def _find(connection: AsyncConnection, key: ArtifactKey) -> Artifact | None:
    row = (await connection.execute(_FIND, key_values(key))).one_or_none()
    return to_artifact(row) if row else None


async def _tombstone(connection: AsyncConnection, key: ArtifactKey) -> Any:
    return (await connection.execute(_FIND_TOMBSTONE, key_values(key))).one_or_none()


async def _gone(connection: AsyncConnection, key: ArtifactKey) -> NotFound:
    row = await _tombstone(connection, key)
    told = f"there is no artifact {key.artifact!r} in workflow {key.workflow!r}"
    if row is not None:
        when = from_us(row.erased_us).isoformat(timespec="seconds")
        told = (
            f"artifact {key.artifact!r} of workflow {key.workflow!r} was erased at {when}; bring it back from a backup"
        )
        return NotFound(told, field="key.artifact")
    return NotFound(f"{told}; ListArtifacts shows those there are", field="key.artifact")


async def _enter(connection: AsyncConnection, artifact: Artifact, by: By) -> bool:
    """Whether the key was free. Another put of it that commits at this moment is waited for."""
    key = artifact.key
    new = insert_if_new(connection.dialect.name, artifacts, artifacts.c.artifact)
    if (await connection.execute(new, artifact_row(artifact))).one_or_none() is None:
        return False
    if (tombstone := await _tombstone(connection, key)) is not None:
        if tombstone.sha256 != artifact.sha256:
            raise AlreadyExists(
                f"artifact {key.artifact!r} of workflow {key.workflow!r} was erased, and it had other content; a name "
                "stands for one content for ever: choose another name",
                field="header.key.artifact",
            )
        await connection.execute(_RAISE, key_values(key))
    await _still_held(connection, artifact)
    await append_event(connection, "put", key, by, to_tier=artifact.tier)
    return True


async def _move(connection: AsyncConnection, was: Artifact, now: Artifact, action: str, by: By) -> Artifact:
    if now.tier is Tier.TRASH:
        await _refuse_held(connection, was)
    if not (await connection.execute(_MOVE, {**_was(was), **place_columns(now)})).rowcount:
        found = await _find(connection, was.key)
        if found is None:
            raise await _gone(connection, was.key)
        if found.object_name == now.object_name:
            return found  # a commit whose answer was lost
        raise Moved(was)
    await _still_held(connection, now)
    await turn_out(connection, was.object_name, by.at)
    await append_event(connection, action, was.key, by, from_tier=was.tier, to_tier=now.tier)
    return now


async def _still_held(connection: AsyncConnection, artifact: Artifact) -> None:
    if not await holder(connection, artifact.object_name.batch):
        raise Unavailable("it took so long that its object was taken for left over and removed; try again")


async def _refuse_held(connection: AsyncConnection, artifact: Artifact) -> None:
    """Raises LegalHold. What the artifact's row says must be of this transaction."""
    found = await _find(connection, artifact.key)
    tenants = (await connection.execute(_HELD, {"by_tenant": artifact.key.tenant})).one_or_none()
    if tenants or (found and found.hold):
        raise LegalHold.of(artifact.key, whole_tenant=bool(tenants))


def _was(artifact: Artifact) -> dict[str, str]:
    return {**key_values(artifact.key), "was_object": artifact.object_id, "was_tier": artifact.tier.value}
