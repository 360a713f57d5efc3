"""The catalogue as a whole, across tenants: for comparing it with the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, delete, select, tuple_, update

from djp.upserts import insert_if_new
from djp_storage.adapters.rows import artifact_row, key_values, of_key, place_columns, to_artifact
from djp_storage.adapters.sql_events import append_event
from djp_storage.adapters.sql_strays import turn_out
from djp_storage.adapters.tables import artifacts, holds, tombstones
from djp_storage.errors import LegalHold, Moved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import Artifact, ArtifactKey, By

_KEY = (artifacts.c.tenant, artifacts.c.workflow, artifacts.c.artifact)
_ERASED = select(tombstones.c.sha256).where(of_key(tombstones))
_THIS_OBJECT = and_(
    of_key(artifacts), artifacts.c.object_id == bindparam("was_object"), artifacts.c.tier == bindparam("was_tier")
)
_POINT = update(artifacts).where(_THIS_OBJECT)
_FORGET = delete(artifacts).where(_THIS_OBJECT, artifacts.c.hold == 0)
_HELD = select(holds.c.tenant).where(holds.c.tenant == bindparam("by_tenant"))


class SqlInventory:
    """An Inventory on SQLAlchemy Core."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def find(self, keys: Sequence[ArtifactKey]) -> Mapping[ArtifactKey, Artifact]:
        """One read by the primary key."""
        if not keys:
            return {}
        query = select(artifacts).where(tuple_(*_KEY).in_([(key.tenant, key.workflow, key.artifact) for key in keys]))
        found = map(to_artifact, await self._transactions.rows(query))
        return {artifact.key: artifact for artifact in found}

    async def after(self, key: ArtifactKey | None, limit: int) -> Sequence[Artifact]:
        """In the order of the primary key, so that the cost of a page does not grow with its number."""
        query = select(artifacts).order_by(*_KEY).limit(limit)
        if key is not None:
            query = query.where(tuple_(*_KEY) > tuple_(key.tenant, key.workflow, key.artifact))
        return [to_artifact(row) for row in await self._transactions.rows(query)]

    async def erased(self, key: ArtifactKey) -> str:
        """From its tombstone."""

        async def work(connection: AsyncConnection) -> str:
            row = (await connection.execute(_ERASED, key_values(key))).one_or_none()
            return str(row.sha256) if row else ""

        return await self._transactions.read(work)

    async def adopt(self, artifact: Artifact, by: By) -> None:
        """One that is there meanwhile stays as it is."""

        async def work(connection: AsyncConnection) -> None:
            new = insert_if_new(connection.dialect.name, artifacts, artifacts.c.artifact)
            if (await connection.execute(new, artifact_row(artifact))).one_or_none() is not None:
                await append_event(connection, "adopted", artifact.key, by, to_tier=artifact.tier)

        await self._transactions.change(work)

    async def point(self, was: Artifact, now: Artifact, by: By) -> None:
        """The old object becomes nobody's stray."""

        async def work(connection: AsyncConnection) -> None:
            if not (await connection.execute(_POINT, {**_at(was), **place_columns(now)})).rowcount:
                raise Moved(was)
            await turn_out(connection, was.object_name, by.at)
            await append_event(connection, "mended", was.key, by, from_tier=was.tier, to_tier=now.tier)

        await self._transactions.change(work)

    async def forget(self, artifact: Artifact, by: By) -> None:
        """What is held may be looked for elsewhere, so its entry stays."""

        async def work(connection: AsyncConnection) -> None:
            held = (await connection.execute(_HELD, {"by_tenant": artifact.key.tenant})).one_or_none() is not None
            if held or artifact.hold:
                raise LegalHold.of(artifact.key, whole_tenant=held)
            if not (await connection.execute(_FORGET, _at(artifact))).rowcount:
                raise Moved(artifact)
            await turn_out(connection, artifact.object_name, by.at)
            await append_event(connection, "lost", artifact.key, by, from_tier=artifact.tier)

        await self._transactions.change(work)


def _at(artifact: Artifact) -> dict[str, str]:
    return {**key_values(artifact.key), "was_object": artifact.object_id, "was_tier": artifact.tier.value}
