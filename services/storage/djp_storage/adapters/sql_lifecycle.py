"""What is due in the catalogue, who claims it, and the jobs that move it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, delete, exists, func, insert, not_, select, tuple_, update

from djp.database import from_us, to_us
from djp.upserts import insert_if_new
from djp_storage.adapters.rows import key_columns, key_values, of_key, to_artifact
from djp_storage.adapters.sql_events import append_event
from djp_storage.adapters.tables import artifacts, claims, holds, jobs, requests
from djp_storage.adapters.transactions import claim_request
from djp_storage.model import KEPT, ArtifactKey, By, Job, Tier

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.ext.asyncio import AsyncConnection

    from djp_storage.adapters.transactions import Transactions
    from djp_storage.model import Artifact, RequestKey
    from djp_storage.retention import Branch

_UNCLAIM = delete(claims).where(of_key(claims), claims.c.worker == bindparam("by_worker"))
_UNCLAIM_ALL = delete(claims).where(claims.c.worker == bindparam("by_worker"))
_COUNTS = ("to_warm", "to_cold", "to_trash", "erased", "bytes_moved", "errors")
_NEW_JOB = insert(jobs).inline()
_SAVE = update(jobs).where(jobs.c.job_id == bindparam("by_job"))
_JOB = select(jobs).where(jobs.c.job_id == bindparam("by_job"))
_FORGET = delete(requests).where(requests.c.at_us < bindparam("before"), requests.c.at_us > 0)


_FEW = 10
"""So many may always be purged: a small tenant whose last artifacts grow old is no accident."""


class SqlLifecycle:
    """A Lifecycle on the catalogue's database."""

    def __init__(self, transactions: Transactions) -> None:
        self._transactions = transactions

    async def due(self, branch: Branch, after: Artifact | None, limit: int) -> Sequence[Artifact]:
        query = _due(branch, after).limit(limit)
        return [to_artifact(row) for row in await self._transactions.rows(query)]

    async def claim(
        self, worker: str, branch: Branch, after: Artifact | None, limit: int
    ) -> tuple[Sequence[Artifact], Artifact | None]:
        """On Postgres rows that another claims at this moment are skipped; on SQLite there is one writer."""
        claimed = exists().where(*(claims.c[name] == artifacts.c[name] for name in key_columns(_NO_KEY)))
        query = _due(branch, after).where(not_(claimed)).limit(limit).with_for_update(skip_locked=True)

        async def work(connection: AsyncConnection) -> tuple[Sequence[Artifact], Artifact | None]:
            found = [to_artifact(row) for row in (await connection.execute(query)).all()]
            new = insert_if_new(connection.dialect.name, claims, claims.c.artifact)
            mine = []
            for one in found:
                row = {**key_columns(one.key), "worker": worker}
                if (await connection.execute(new, row)).one_or_none() is not None:
                    mine.append(one)
            return mine, found[-1] if len(found) == limit else None

        return await self._transactions.change(work)

    async def unclaim(self, worker: str, keys: Sequence[ArtifactKey]) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_UNCLAIM, [{**key_values(key), "by_worker": worker} for key in keys])

        if keys:
            await self._transactions.change(work)

    async def unclaim_all(self, worker: str) -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_UNCLAIM_ALL, {"by_worker": worker})

        await self._transactions.change(work)

    async def claimed_by_others(self, worker: str, tenant: str) -> bool:
        query = select(claims.c.worker).where(claims.c.worker != worker).limit(1)
        return bool(await self._transactions.rows(query.where(claims.c.tenant == tenant) if tenant else query))

    async def shares(self, branch: Branch, share: float) -> Mapping[str, tuple[int, int]]:
        """Of each tenant of which the branch would purge more than that share: how many, and of how many at least."""
        due = select(artifacts.c.tenant, func.count().label("count_")).where(*_is_due(branch))
        over = {}
        for row in await self._transactions.rows(due.group_by(artifacts.c.tenant)):
            enough = int(row.count_ / share) + 1 if share else 1
            kept = [tier.value for tier in KEPT]
            of_tenant = select(artifacts.c.tier).where(artifacts.c.tenant == row.tenant, artifacts.c.tier.in_(kept))
            counted = select(func.count()).select_from(of_tenant.limit(enough).subquery())
            everything = (await self._transactions.rows(counted))[0][0]
            if row.count_ > max(_FEW, share * everything):
                over[row.tenant] = (row.count_, everything)
        return over

    async def start_job(self, job: Job, request: RequestKey, by: By) -> Job:
        async def work(connection: AsyncConnection) -> Job:
            known = await claim_request(connection, request, _NO_KEY, by)
            if known is not None and (row := await _job_row(connection, request.request_id)) is not None:
                return _job(row)
            await connection.execute(_NEW_JOB, {"job_id": job.job_id, **_job_columns(job)})
            return job

        return await self._transactions.change(work)

    async def save_job(self, job: Job, by: By | None = None) -> None:
        """With `by` it has ended, and an event tells how."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_SAVE, {"by_job": job.job_id, **_job_columns(job)})
            if by:
                await append_event(connection, "lifecycle_finished", ArtifactKey(job.tenant, "", ""), by)

        await self._transactions.change(work)

    async def last_jobs(self, tenant: str) -> tuple[Job | None, Job | None]:
        query = (
            select(jobs).where(jobs.c.tenant == tenant, jobs.c.live == 1).order_by(jobs.c.started_us.desc()).limit(1)
        )
        done = query.where(jobs.c.finished_us.is_not(None), jobs.c.stopped == 0)
        newest, finished = [await self._transactions.rows(one) for one in (query, done)]
        return _job(newest[0]) if newest else None, _job(finished[0]) if finished else None

    async def forget_requests(self, before: datetime) -> None:
        """Those answered before then; a put of the first release is remembered for ever."""

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(_FORGET, {"before": to_us(before)})

        await self._transactions.change(work)


_NO_KEY = ArtifactKey("", "", "")


def _is_due(branch: Branch) -> list[ColumnElement[bool]]:
    since = artifacts.c.tier_since_us if branch.from_tier else artifacts.c.created_us
    tiers = artifacts.c.tier == branch.from_tier.value if branch.from_tier else artifacts.c.tier != Tier.TRASH.value
    found: list[ColumnElement[bool]] = [tiers, since <= to_us(branch.before)]
    if branch.tenant:
        found.append(artifacts.c.tenant == branch.tenant)
    if branch.without:
        found.append(artifacts.c.tenant.not_in(branch.without))
    if branch.spares_held:
        found += [artifacts.c.hold == 0, artifacts.c.tenant.not_in(select(holds.c.tenant))]
    return found


def _due(branch: Branch, after: Artifact | None) -> Select[Any]:
    since = artifacts.c.tier_since_us if branch.from_tier else artifacts.c.created_us
    order = (since, artifacts.c.tenant, artifacts.c.workflow, artifacts.c.artifact)
    query = select(artifacts).where(*_is_due(branch)).order_by(*order)
    if after:
        us = to_us(after.tier_since if branch.from_tier else after.created_at)
        place = (us, after.key.tenant, after.key.workflow, after.key.artifact)
        query = query.where(and_(since >= us, tuple_(*order) > tuple_(*place)))
    return query


async def _job_row(connection: AsyncConnection, job_id: str) -> Any:
    return (await connection.execute(_JOB, {"by_job": job_id})).one_or_none()


def _job_columns(job: Job) -> dict[str, Any]:
    return {
        "tenant": job.tenant,
        "live": int(job.live),
        "started_us": to_us(job.started_at),
        "finished_us": to_us(job.finished_at) if job.finished_at else None,
        "stopped": int(job.stopped),
        **{name: getattr(job, name) for name in _COUNTS},
    }


def _job(row: Any) -> Job:
    return Job(
        job_id=row.job_id,
        tenant=row.tenant,
        started_at=from_us(row.started_us),
        finished_at=from_us(row.finished_us) if row.finished_us is not None else None,
        live=bool(row.live),
        stopped=bool(row.stopped),
        **{name: getattr(row, name) for name in _COUNTS},
    )
