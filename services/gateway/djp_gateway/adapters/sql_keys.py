"""API keys, in the SQL database that has the runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import (
    ColumnElement,
    and_,
    insert,
    or_,
    select,
    true,
    update,
)

from djp.database import from_us, now_us, to_us
from djp.mesh.errors import NotFound
from djp.mesh.identity import ROLES
from djp.mesh.paging import page_token as token_of
from djp.mesh.paging import read_page_token
from djp_gateway.adapters.sql_audit import remember
from djp_gateway.adapters.sql_rates import MINUTE_US, full_after, room_after, seconds_of, time_there
from djp_gateway.adapters.tables import keys
from djp_gateway.callers import ApiKey, AuditEvent

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_gateway.adapters.transactions import Transactions


class SqlKeyStore:
    """A KeyStore on SQLAlchemy Core; one transaction a call."""

    def __init__(self, tables: Transactions) -> None:
        self._tables = tables

    async def add(self, key: ApiKey, secret_sha256: str, *, by: str) -> None:
        row = {
            "key_id": key.key_id,
            "secret_sha256": secret_sha256,
            "tenant": key.tenant,
            "role": ROLES.index(key.role),
            "name": key.name,
            "created_us": to_us(key.created_at),
            "created_by": by,
            "expires_us": None if key.expires_at is None else to_us(key.expires_at),
            "revoked_by": "",
            "rate_limit": key.rate_limit,
        }

        async def added(connection: AsyncConnection) -> None:
            await connection.execute(insert(keys), row)
            await remember(connection, AuditEvent("KEY_CREATED", key.tenant, by, key.key_id))

        await self._tables.change(added)

    async def find(self, secret_sha256: str) -> ApiKey | None:
        return await self._one(keys.c.secret_sha256 == secret_sha256)

    async def get(self, key_id: str) -> ApiKey:
        found = await self._one(keys.c.key_id == key_id.lower())
        if found is None:
            raise NotFound(f"there is no key {key_id}; `djp keys list` shows those there are", field="key_id")
        return found

    async def list(self, tenant: str, *, page_size: int, page_token: str) -> tuple[Sequence[ApiKey], str]:
        older: ColumnElement[bool] = true()
        if place := read_page_token(page_token, int, str):
            created_us, key_id = place
            older = or_(keys.c.created_us < created_us, and_(keys.c.created_us == created_us, keys.c.key_id < key_id))
        query = (
            select(keys)
            .where(keys.c.tenant == tenant if tenant else true(), older)
            .order_by(keys.c.created_us.desc(), keys.c.key_id.desc())
            .limit(page_size + 1)
        )
        rows = await self._tables.rows(query)
        page = rows[:page_size]
        token = token_of(page[-1].created_us, page[-1].key_id) if len(rows) > page_size else ""
        return [_opened(row) for row in page], token

    async def revoke(self, key_id: str, *, by: str) -> ApiKey:
        async def done(connection: AsyncConnection) -> None:
            revoked = await connection.execute(
                update(keys)
                .where(keys.c.key_id == key_id.lower(), keys.c.revoked_us.is_(None))
                .values(revoked_us=now_us(), revoked_by=by)
                .returning(keys.c.key_id, keys.c.tenant)
            )
            for row in revoked.all():
                await remember(connection, AuditEvent("KEY_REVOKED", row.tenant, by, row.key_id))

        await self._tables.change(done)
        return await self.get(key_id)

    async def used(self, key_id: str) -> None:
        used = update(keys).where(keys.c.key_id == key_id).values(last_used_us=now_us())

        async def noted(connection: AsyncConnection) -> None:
            await connection.execute(used)

        await self._tables.change(noted)

    async def take_calls(self, key_id: str, calls: int, a_minute: int) -> float:
        now = time_there(self._tables)
        full = full_after(keys.c.full_us, calls, a_minute, now)
        take = update(keys).where(keys.c.key_id == key_id, full <= now + MINUTE_US).values(full_us=full)
        room_us = room_after(keys.c.full_us, a_minute, now).where(keys.c.key_id == key_id)

        async def taken(connection: AsyncConnection) -> float:
            if (await connection.execute(take)).rowcount:
                return 0.0
            return seconds_of((await connection.execute(room_us)).one_or_none())

        return await self._tables.change(taken)

    async def _one(self, which: ColumnElement[bool]) -> ApiKey | None:
        rows = await self._tables.rows(select(keys).where(which))
        return _opened(rows[0]) if rows else None


def _opened(row: Any) -> ApiKey:
    return ApiKey(
        key_id=row.key_id,
        tenant=row.tenant,
        role=ROLES[row.role],
        name=row.name,
        created_at=from_us(row.created_us),
        expires_at=None if row.expires_us is None else from_us(row.expires_us),
        revoked_at=None if row.revoked_us is None else from_us(row.revoked_us),
        last_used_at=None if row.last_used_us is None else from_us(row.last_used_us),
        rate_limit=row.rate_limit,
    )
