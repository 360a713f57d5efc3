"""The catalogue as a whole, across tenants: for comparing it with the objects."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, select, tuple_, update

from djp.upserts import insert_if_new
from djp_storage.adapters.rows import artifact_row, key_values, of_key, place_columns, to_artifact
from djp_storage.adapters.sql_events import append_event
from djp_storage.adapters.sql_strays import turn_out
from djp_storage.adapters.tables import artifacts, tombstones
from djp_storage.errors import Moved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import Artifact, ArtifactKey, By

_KEY = (artifacts.c.tenant, artifacts.c.workflow, artifacts.c.artifact)
_ERASED = select(tombstones.c.sha256).where(of_key(tombstones))
_POINT = update(artifacts).where(
    and_(of_key(artifacts), artifacts.c.object_id == bindparam("was_object"), artifacts.c.tier == bindparam("was_tier"))
)


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
            place = {"was_object": was.object_id, "was_tier": was.tier.value, **place_columns(now)}
            if not (await connection.execute(_POINT, {**key_values(was.key), **place})).rowcount:
                raise Moved(was)
            await turn_out(connection, was.object_name, by.at)
            await append_event(connection, "mended", was.key, by, from_tier=was.tier, to_tier=now.tier)

        await self._transactions.change(work)
